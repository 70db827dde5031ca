package main

import "math"

// Activations of a shard of b images are [C, b, H, W]: one matrix product then
// serves the whole shard, and bias and channel sums run over contiguous rows.

// im2col lays out the 3×3 neighbourhoods (zeros outside) of x [c, b, h, w] as
// the columns of col [c*9, b*h*w].
func im2col(col, x []float32, c, b, h, w int) {
	n := b * h * w
	for ch := range c {
		for k := range 9 {
			dy, dx := k/3-1, k%3-1
			row := col[(ch*9+k)*n:][:n]
			for r := range b * h {
				out, y := row[r*w:][:w], r%h+dy
				if y < 0 || y >= h {
					clear(out)
					continue
				}
				shiftRow(out, x[(ch*b*h+r+dy)*w:][:w], dx)
			}
		}
	}
}

// shiftRow writes out[i] = in[i+dx], zero outside.
func shiftRow(out, in []float32, dx int) {
	switch dx {
	case 0:
		copy(out, in)
	case 1:
		copy(out, in[1:])
		out[len(out)-1] = 0
	case -1:
		copy(out[1:], in[:len(in)-1])
		out[0] = 0
	}
}

// col2im is the transpose of im2col: it sums the columns back into dx [c, b, h, w].
func col2im(dx, col []float32, c, b, h, w int) {
	n := b * h * w
	clear(dx)
	for ch := range c {
		for k := range 9 {
			sy, sx := k/3-1, k%3-1
			row := col[(ch*9+k)*n:][:n]
			for r := range b * h {
				if y := r%h + sy; y < 0 || y >= h {
					continue
				}
				in, out := row[r*w:][:w], dx[(ch*b*h+r+sy)*w:][:w]
				switch sx {
				case 0:
					addTo(out, in)
				case 1:
					addTo(out[1:], in[:w-1])
				case -1:
					addTo(out[:w-1], in[1:])
				}
			}
		}
	}
}

func addTo(dst, src []float32) {
	src = src[:len(dst)]
	for i := range dst {
		dst[i] += src[i]
	}
}

// biasReLU adds bias[c] to row c of x [len(bias), n] and clips at zero.
func biasReLU(x, bias []float32, n int) {
	for c, b := range bias {
		row := x[c*n:][:n]
		for i, v := range row {
			row[i] = max(v+b, 0)
		}
	}
}

// reluBack zeroes the gradient where the output y of the rectifier is zero and
// adds the row sums of what is left to dbias.
func reluBack(dy, y, dbias []float32, n int) {
	for c := range dbias {
		d, v := dy[c*n:][:n], y[c*n:][:n]
		var s float32
		for i := range d {
			if v[i] <= 0 {
				d[i] = 0
			}
			s += d[i]
		}
		dbias[c] += s
	}
}

// maxPool takes the largest of each 2×2 cell of x [c*b, h, w]; at gets its index in x.
func maxPool(y []float32, at []int32, x []float32, planes, h, w int) {
	o := 0
	for p := range planes {
		for i := 0; i < h; i += 2 {
			for j := 0; j < w; j += 2 {
				k := (p*h+i)*w + j
				best := k
				for _, q := range [3]int{k + 1, k + w, k + w + 1} {
					if x[q] > x[best] {
						best = q
					}
				}
				y[o], at[o] = x[best], int32(best)
				o++
			}
		}
	}
}

// maxPoolBack sends each gradient to where its maximum came from.
func maxPoolBack(dx, dy []float32, at []int32) {
	clear(dx)
	for o, k := range at {
		dx[k] = dy[o]
	}
}

// flatten turns x [c, b, n] into y [b, c*n]; unflatten is its inverse.
func flatten(y, x []float32, c, b, n int) {
	for ch := range c {
		for i := range b {
			copy(y[(i*c+ch)*n:][:n], x[(ch*b+i)*n:][:n])
		}
	}
}

func unflatten(x, y []float32, c, b, n int) {
	for ch := range c {
		for i := range b {
			copy(x[(ch*b+i)*n:][:n], y[(i*c+ch)*n:][:n])
		}
	}
}

// crossEntropy replaces the logits [b, 10] by the gradient of the summed
// smoothed cross-entropy, scaled by scale, and returns that sum unscaled. The
// target is 1-smooth on the label and smooth/9 on every other class.
func crossEntropy(logits []float32, labels []uint8, smooth, scale float64) (loss float64, right int) {
	const k = 10
	for i, l := range labels {
		z := logits[i*k:][:k]
		best := 0
		for j, v := range z {
			if v > z[best] {
				best = j
			}
		}
		if best == int(l) {
			right++
		}
		top, sum := float64(z[best]), 0.0
		for _, v := range z {
			sum += math.Exp(float64(v) - top)
		}
		lse := top + math.Log(sum)
		for j, v := range z {
			target := smooth / (k - 1)
			if j == int(l) {
				target = 1 - smooth
			}
			logp := float64(v) - lse
			loss -= target * logp
			z[j] = float32(scale * (math.Exp(logp) - target))
		}
	}
	return loss, right
}
