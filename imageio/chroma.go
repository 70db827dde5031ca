package imageio

import "image"

// Libraries hand over lossy pictures as YCbCr with fewer chroma samples. How
// these are interpolated and converted decides the pixels, by tens of levels at
// edges; here that is done as libjpeg does (for Go's own JPEG decoder, which is
// used where TurboJPEG is missing) and as libwebp does.

// jpegYCbCr fills m as libjpeg does: triangle filters ("fancy upsampling") for
// 4:2:2, 4:4:0 and 4:2:0, repetition for other samplings and for pictures whose
// chroma has no more than two columns, then the conversion of JFIF in 16-bit
// fixed point.
func (m *Image) jpegYCbCr(s *image.YCbCr) {
	across, down := 1, 1
	switch s.SubsampleRatio {
	case image.YCbCrSubsampleRatio422:
		across = 2
	case image.YCbCrSubsampleRatio440:
		down = 2
	case image.YCbCrSubsampleRatio420:
		across, down = 2, 2
	case image.YCbCrSubsampleRatio444:
	default:
		m.ycbcr(s)
		return
	}
	cw, ch := (m.Width+across-1)/across, (m.Height+down-1)/down
	smooth := across == 1 || cw > 2
	sums := make([]int32, cw)
	var rows [2][]uint8
	rows[0], rows[1] = make([]uint8, across*cw), make([]uint8, across*cw)
	for y := range m.Height {
		for i, plane := range [2][]uint8{s.Cb, s.Cr} {
			cy := y / down
			near := plane[cy*s.CStride:][:cw]
			far := near
			if down == 2 && smooth {
				other := min(max(cy-1+2*(y&1), 0), ch-1)
				far = plane[other*s.CStride:][:cw]
			}
			switch {
			case !smooth:
				for x := range rows[i] {
					rows[i][x] = near[x/across]
				}
			case across == 1:
				bias := int32(1 + y&1)
				for x := range near {
					if down == 1 {
						rows[i][x] = near[x]
					} else {
						rows[i][x] = uint8((3*int32(near[x]) + int32(far[x]) + bias) >> 2)
					}
				}
			case down == 1:
				widen(rows[i], near, sums, near, 2)
			default:
				widen(rows[i], near, sums, far, 4)
			}
		}
		line := s.Y[y*s.YStride:][:m.Width]
		out := m.Pix[3*y*m.Width:][:3*m.Width]
		for x, luma := range line {
			jfif(out[3*x:][:3], luma, rows[0][x], rows[1][x])
		}
	}
}

// widen doubles a chroma row with weights 3/4 and 1/4. For shift 4 the row is
// first mixed 3:1 with its neighbour far. The biases alternate as libjpeg's do.
func widen(out, near []uint8, sums []int32, far []uint8, shift int) {
	even, odd := int32(1), int32(2)
	for x, v := range near {
		sums[x] = int32(v)
		if shift == 4 {
			sums[x] = 3*int32(v) + int32(far[x])
		}
	}
	if shift == 4 {
		even, odd = 8, 7
	}
	n := len(sums)
	for x, v := range sums {
		left, right := v, v // beyond the ends the sample itself: 3v + v = 4v
		if x > 0 {
			left = sums[x-1]
		}
		if x < n-1 {
			right = sums[x+1]
		}
		out[2*x] = uint8((3*v + left + even) >> shift)
		out[2*x+1] = uint8((3*v + right + odd) >> shift)
	}
}

// jfif converts one pixel: R = Y + 1.402 Cr, G = Y - 0.344136 Cb - 0.714136 Cr,
// B = Y + 1.772 Cb with Cb and Cr less 128.
func jfif(rgb []uint8, y, cb, cr uint8) {
	const half = 1 << 15
	l, b, r := int32(y), int32(cb)-128, int32(cr)-128
	rgb[0] = clamp8(l + (91881*r+half)>>16)
	rgb[1] = clamp8(l + (-22554*b-46802*r+half)>>16)
	rgb[2] = clamp8(l + (116130*b+half)>>16)
}

func clamp8(v int32) uint8 { return uint8(min(max(v, 0), 255)) }

// webpYCbCr fills m as libwebp does: rows in pairs that share two chroma rows,
// each chroma sample interpolated from its four neighbours by 9:3:3:1 in two
// rounded steps, and the conversion of studio range in 14-bit fixed point.
func (m *Image) webpYCbCr(s *image.YCbCr) {
	ch := (m.Height + 1) / 2
	top, bottom := make([]uint8, 2*m.Width), make([]uint8, 2*m.Width)
	for pair := 0; pair <= ch; pair++ { // rows 2·pair-1 and 2·pair
		above, below := max(pair-1, 0), min(pair, ch-1)
		for i, plane := range [2][]uint8{s.Cb, s.Cr} {
			o := i * m.Width
			diamond(top[o:][:m.Width], bottom[o:][:m.Width], plane[above*s.CStride:], plane[below*s.CStride:])
		}
		for k, chroma := range [2][]uint8{top, bottom} {
			y := 2*pair - 1 + k
			if y < 0 || y >= m.Height {
				continue
			}
			line, out := s.Y[y*s.YStride:][:m.Width], m.Pix[3*y*m.Width:][:3*m.Width]
			for x, luma := range line {
				studio(out[3*x:][:3], luma, chroma[x], chroma[m.Width+x])
			}
		}
	}
}

// diamond interpolates the chroma of two neighbouring rows from that of the
// sample rows above and below.
func diamond(top, bottom, above, below []uint8) {
	n := len(top)
	tl, l := int(above[0]), int(below[0])
	top[0], bottom[0] = uint8((3*tl+l+2)>>2), uint8((3*l+tl+2)>>2)
	for x := 1; x <= (n-1)/2; x++ {
		t, c := int(above[x]), int(below[x])
		sum := tl + t + l + c + 8
		rising, falling := (sum+2*(t+l))>>3, (sum+2*(tl+c))>>3
		top[2*x-1], top[2*x] = uint8((rising+tl)>>1), uint8((falling+t)>>1)
		bottom[2*x-1], bottom[2*x] = uint8((falling+l)>>1), uint8((rising+c)>>1)
		tl, l = t, c
	}
	if n&1 == 0 {
		top[n-1], bottom[n-1] = uint8((3*tl+l+2)>>2), uint8((3*l+tl+2)>>2)
	}
}

// studio converts one pixel of ITU-R BT.601 with luma 16..235.
func studio(rgb []uint8, y, u, v uint8) {
	hi := func(a uint8, c int32) int32 { return int32(a) * c >> 8 }
	l := hi(y, 19077)
	rgb[0] = clamp8((l + hi(v, 26149) - 14234) >> 6)
	rgb[1] = clamp8((l - hi(u, 6419) - hi(v, 13320) + 8708) >> 6)
	rgb[2] = clamp8((l + hi(u, 33050) - 17685) >> 6)
}
