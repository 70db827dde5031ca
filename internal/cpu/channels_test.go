package cpu

import (
	"fmt"
	"math"
	"testing"
)

func TestChannels(t *testing.T) {
	t.Run("float32", func(t *testing.T) { channels[float32](t, 0x1p-23) })
	t.Run("float64", func(t *testing.T) { channels[float64](t, 0x1p-52) })
}

// channels compares all four functions with their formulas in float64.
func channels[T Float](t *testing.T, eps float64) {
	for _, n := range []int{1, 15, 16, 17, 70} {
		const rows = 9
		x, dy, mean := draw[T](1, rows*n), draw[T](2, rows*n), draw[T](3, n)
		a, b, p, q, r := draw[T](4, n), draw[T](5, n), draw[T](6, n), draw[T](7, n), draw[T](8, n)
		for _, silu := range []bool{false, true} {
			z := func(i int) float64 { return float64(a[i%n])*float64(x[i]) + float64(b[i%n]) }
			value := func(i int) float64 {
				if silu {
					return z(i) / (1 + math.Exp(-z(i)))
				}
				return z(i)
			}
			d := func(i int) float64 {
				if silu {
					s := 1 / (1 + math.Exp(-z(i)))
					return float64(dy[i]) * s * (1 + z(i)*(1-s))
				}
				return float64(dy[i])
			}
			column := func(f func(i int) float64) func(c int) float64 {
				return func(c int) (s float64) {
					for k := range rows {
						s += f(k*n + c)
					}
					return s
				}
			}
			what := fmt.Sprint(n, " channels, silu ", silu)
			size := func(i int) float64 { return 30 }

			y := make([]T, rows*n)
			ChannelAffine(silu, rows, n, y, x, a, b)
			near(t, what+": affine", y, 1, eps, value, size)
			copy(y, x)
			ChannelAffine(silu, rows, n, y, y, a, b)
			near(t, what+": affine in place", y, 1, eps, value, size)

			sum, along := draw[T](9, n), draw[T](10, n)
			sum0, along0 := append([]T(nil), sum...), append([]T(nil), along...)
			ChannelBackSums(silu, rows, n, sum, along, x, dy, a, b, mean)
			near(t, what+": sums", sum, 4, eps, func(c int) float64 { return float64(sum0[c]) + column(d)(c) }, size)
			near(t, what+": sums along x", along, 4, eps, func(c int) float64 {
				return float64(along0[c]) + column(func(i int) float64 { return d(i) * (float64(x[i]) - float64(mean[i%n])) })(c)
			}, size)

			for _, acc := range []bool{false, true} {
				dx := draw[T](11, rows*n)
				dx0 := append([]T(nil), dx...)
				ChannelBack(silu, acc, rows, n, dx, x, dy, a, b, p, q, r)
				near(t, what+": back", dx, 2, eps, func(i int) float64 {
					e := float64(p[i%n])*d(i) + float64(q[i%n])*float64(x[i]) + float64(r[i%n])
					if acc {
						e += float64(dx0[i])
					}
					return e
				}, size)
			}
		}
		out := draw[T](12, n)
		out0 := append([]T(nil), out...)
		ChannelSquares(rows, n, out, x, mean)
		near(t, fmt.Sprint(n, " channels: squares"), out, 4, eps, func(c int) float64 {
			s := float64(out0[c])
			for k := range rows {
				e := float64(x[k*n+c]) - float64(mean[c])
				s += e * e
			}
			return s
		}, func(int) float64 { return 30 })
	}
}

func TestChannelsRefuseShortSlices(t *testing.T) {
	x, v := make([]float32, 6), make([]float32, 2)
	for name, f := range map[string]func(){
		"ChannelSquares":  func() { ChannelSquares(4, 2, v, x, v) },
		"ChannelAffine":   func() { ChannelAffine(false, 3, 2, x, x, v[:1], v) },
		"ChannelBackSums": func() { ChannelBackSums(true, 3, 2, v, v, x, x[:5], v, v, v) },
		"ChannelBack":     func() { ChannelBack(true, false, 3, 2, x, x, x, v, v, v, v, v[:0]) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s took a slice that is too short", name)
				}
			}()
			f()
		}()
	}
}
