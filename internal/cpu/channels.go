package cpu

// The functions of this file are about rows of n channels each, one after another: the pixels
// of pictures whose channels are the last axis. They run where they are called, on one
// thread. silu asks for z·σ(z) of each z = a·x + b, else z itself.

// ChannelSquares adds to out[c] the sum over rows of (x - mean[c])².
func ChannelSquares[T Float](rows, n int, out, x, mean []T) {
	channelsReach("ChannelSquares", rows, n, [][]T{x}, [][]T{out, mean})
	if o, ok := any(out).([]float32); ok && nativeChannelSquares(rows, n, o, any(x).([]float32), any(mean).([]float32)) {
		return
	}
	for r := range rows {
		for c, v := range x[r*n:][:n] {
			out[c] += (v - mean[c]) * (v - mean[c])
		}
	}
}

// ChannelAffine sets y to f(a[c]·x + b[c]). y may be x.
func ChannelAffine[T Float](silu bool, rows, n int, y, x, a, b []T) {
	channelsReach("ChannelAffine", rows, n, [][]T{y, x}, [][]T{a, b})
	if o, ok := any(y).([]float32); ok && nativeChannelAffine(silu, rows, n, o, any(x).([]float32), any(a).([]float32), any(b).([]float32)) {
		return
	}
	for r := range rows {
		o := y[r*n:][:n]
		for c, v := range x[r*n:][:n] {
			z := a[c]*v + b[c]
			if silu {
				z *= T(sigmoid(float64(z)))
			}
			o[c] = z
		}
	}
}

// ChannelBackSums adds to sum[c] the sum over rows of d, the gradient by z where dy is that by
// f(z), and to along[c] that of d·(x - mean[c]).
func ChannelBackSums[T Float](silu bool, rows, n int, sum, along, x, dy, a, b, mean []T) {
	channelsReach("ChannelBackSums", rows, n, [][]T{x, dy}, [][]T{sum, along, a, b, mean})
	if o, ok := any(sum).([]float32); ok && nativeChannelBackSums(silu, rows, n, o, any(along).([]float32), any(x).([]float32), any(dy).([]float32),
		any(a).([]float32), any(b).([]float32), any(mean).([]float32)) {
		return
	}
	for r := range rows {
		g := dy[r*n:][:n]
		for c, v := range x[r*n:][:n] {
			d := g[c]
			if silu {
				d *= siluSlope(a[c]*v + b[c])
			}
			sum[c] += d
			along[c] += d * (v - mean[c])
		}
	}
}

// ChannelBack sets dx to p[c]·d + q[c]·x + r[c], d being as in ChannelBackSums, or adds that.
func ChannelBack[T Float](silu, acc bool, rows, n int, dx, x, dy, a, b, p, q, r []T) {
	channelsReach("ChannelBack", rows, n, [][]T{dx, x, dy}, [][]T{a, b, p, q, r})
	if o, ok := any(dx).([]float32); ok && nativeChannelBack(silu, acc, rows, n, o, any(x).([]float32), any(dy).([]float32),
		any(a).([]float32), any(b).([]float32), any(p).([]float32), any(q).([]float32), any(r).([]float32)) {
		return
	}
	for row := range rows {
		o, g := dx[row*n:][:n], dy[row*n:][:n]
		for c, v := range x[row*n:][:n] {
			d := g[c]
			if silu {
				d *= siluSlope(a[c]*v + b[c])
			}
			e := p[c]*d + q[c]*v + r[c]
			if acc {
				e += o[c]
			}
			o[c] = e
		}
	}
}

// channelsReach panics unless the operands have rows of n channels, and the others n elements.
func channelsReach[T Float](op string, rows, n int, xs, per [][]T) {
	for _, x := range xs {
		reach(op, "an operand", len(x), rows*n)
	}
	for _, x := range per {
		reach(op, "the channels' values", len(x), n)
	}
}

func siluSlope[T Float](z T) T {
	s := T(sigmoid(float64(z)))
	return s * (1 + z*(1-s))
}
