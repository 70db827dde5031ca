package cpu

import "math"

// The conversions around products keep the compiler from fusing them with the
// addition that follows, which some architectures would.

// goLinComb returns whether every result is finite.
func goLinComb[T float32 | float64](out []T, c []float64, x *[linOperands][]T) bool {
	switch len(c) {
	case 1:
		x0 := x[0][:len(out)]
		for i := range out {
			out[i] = T(c[0] * float64(x0[i]))
		}
	case 2:
		x0, x1 := x[0][:len(out)], x[1][:len(out)]
		for i := range out {
			out[i] = T(float64(c[0]*float64(x0[i])) + float64(c[1]*float64(x1[i])))
		}
	case 3:
		x0, x1, x2 := x[0][:len(out)], x[1][:len(out)], x[2][:len(out)]
		for i := range out {
			out[i] = T(float64(c[0]*float64(x0[i])) + float64(c[1]*float64(x1[i])) + float64(c[2]*float64(x2[i])))
		}
	default:
		for i := range out {
			s := float64(c[0] * float64(x[0][i]))
			for j := 1; j < len(c); j++ {
				s += float64(c[j] * float64(x[j][i]))
			}
			out[i] = T(s)
		}
	}
	var zero T // stays so: a finite value less itself is 0, any other is NaN
	for _, v := range out {
		zero += v - v
	}
	return zero == 0
}

func goTriad(out, a, b []float32, s float32) {
	for i := range out {
		out[i] = a[i] + float32(s*b[i])
	}
}

func goReLU32(out, x []float32) {
	for i, v := range x {
		if v < 0 {
			v = 0
		}
		out[i] = v
	}
}

// exp32 is exp16 of vec.c, one float at a time.
func exp32(x float32) float32 {
	if x < -104 {
		x = -104
	}
	if x > 89 {
		x = 89
	}
	const magic = 12582912
	shifted := float32(x*1.44269504) + magic
	n := shifted - magic
	e := int32(math.Float32bits(shifted)) - 0x4b400000
	half := e >> 1
	r := x - float32(n*0.693359375) - float32(n*-2.12194440e-4)
	p := float32(r*1.9875691500e-4) + 1.3981999507e-3
	p = float32(p*r) + 8.3334519073e-3
	p = float32(p*r) + 4.1665795894e-2
	p = float32(p*r) + 1.6666665459e-1
	p = float32(p*r) + 5.0000001201e-1
	p = float32(p*float32(r*r)) + r + 1
	return float32(p*math.Float32frombits(uint32(half+127)<<23)) * math.Float32frombits(uint32(e-half+127)<<23)
}

func goExp32(out, x []float32) {
	for i, v := range x {
		out[i] = exp32(v)
	}
}

func goSoftmax32(rows, cols int, out []float32, ldo int, x []float32, ldx int) {
	for r := range rows {
		o, v := out[r*ldo:][:cols], x[r*ldx:][:cols]
		top := float32(math.Inf(-1))
		for _, t := range v {
			if t > top {
				top = t
			}
		}
		var sum [16]float32
		for i, t := range v {
			e := exp32(t - top)
			o[i] = e
			sum[i%16] += e
		}
		for w := 8; w > 0; w /= 2 {
			for j := range w {
				sum[j] += sum[j+w]
			}
		}
		for i := range o {
			o[i] /= sum[0]
		}
	}
}
