package nn_test

import (
	"math"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/nn"
)

// The rows of buckets are those that transformers takes for T5.
func TestGoldenBucketBias(t *testing.T) {
	var want struct {
		Cases []struct {
			Buckets, Most int
			Both          bool
			From          int // the first distance of a key, key less query
			Rows          []int32
		}
	}
	oracle.GoldenJSON(t, &want, "relativebias", "buckets.json")
	count := 0
	for _, c := range want.Cases {
		net := nn.NewParams(gpu.CPU(), gpu.Float64)
		b := nn.NewBucketBias(net.At(""), 1, c.Buckets, c.Most, c.Both)
		net.Init(1)
		for i := range b.W.Value.F64() {
			b.W.Value.F64()[i] = float64(i)
		}
		n := len(c.Rows)
		tape := nn.NewTape(gpu.CPU(), gpu.Float64)
		y := floats(b.Forward(tape, n, n).Value())
		for i := range n {
			for j := range n {
				at := j - i - c.From
				if at < 0 || at >= n {
					continue
				}
				count++
				if got := int32(y[i*n+j]); got != c.Rows[at] {
					t.Fatalf("%d rows up to %d, both ways %v: key %d from the query has row %d, want %d", c.Buckets, c.Most, c.Both, j-i, got, c.Rows[at])
				}
			}
		}
	}
	if len(want.Cases) != 5 || count < 500000 {
		t.Errorf("%d cases, %d comparisons", len(want.Cases), count)
	}
}

// relativeAttention is attention with a bias of places in a grid of 2 by 3, made of leaves, and
// its definition.
func relativeAttention() opCase {
	const b, l, h, d, w, rows = 2, 6, 2, 4, 3, 15
	place := func(i, j int) int { return (i/w-j/w+1)*(2*w-1) + i%w - j%w + w - 1 }
	ids := make([]int32, l*l)
	for r := range ids {
		ids[r] = int32(place(r/l, r%l))
	}
	return opCase{
		shapes: [][]int{{b, l, h, d}, {b, l, h, d}, {b, l, h, d}, {rows, h}},
		f: func(t *nn.Tape, x vars) *nn.Var {
			bias := x[3].Rows(gpu.CPU().FromInt32(ids, l*l)).Permute(1, 0).Reshape(1, h, l, l)
			return nn.Attention(x[0], x[1], x[2], 0, nn.AttnMask{Bias: bias})
		},
		want: func(x [][]float64) []float64 {
			y := make([]float64, b*l*h*d)
			at := func(s, i, g, c int) int { return ((s*l+i)*h+g)*d + c }
			for r := range b * h * l {
				s, g, i := r/(h*l), r/l%h, r%l
				var sum float64
				for j := range l {
					score := x[3][place(i, j)*h+g]
					for c := range d {
						score += x[0][at(s, i, g, c)] * x[1][at(s, j, g, c)] / math.Sqrt(d)
					}
					p := math.Exp(score)
					sum += p
					for c := range d {
						y[at(s, i, g, c)] += p * x[2][at(s, j, g, c)]
					}
				}
				for c := range d {
					y[at(s, i, g, c)] /= sum
				}
			}
			return y
		},
	}
}

func TestRelativeAttention(t *testing.T) {
	c := relativeAttention()
	c.check(t)
}

// The layers choose the row that their comments say, and the table's gradient is the sum over the
// pairs of a row, on every device.
func TestRelativeBias(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, c := range []struct {
			name   string
			layer  func(s nn.Scope) *nn.RelativeBias
			lq, lk int
			row    func(i, j int) int
		}{
			{"sequence", func(s nn.Scope) *nn.RelativeBias { return nn.NewRelativeBias(s, 3, 4) }, 5, 9, func(i, j int) int {
				return 3 + min(max(i+4-j, -3), 3)
			}},
			{"grid", func(s nn.Scope) *nn.RelativeBias { return nn.NewRelativeBias2D(s, 2, 2, 3) }, 6, 6, func(i, j int) int {
				return (i/3-j/3+1)*5 + i%3 - j%3 + 2
			}},
		} {
			net := nn.NewParams(dev, gpu.Float32)
			b := c.layer(net.At("bias"))
			net.Init(7)
			heads := b.W.Shape()[1]
			g := oracle.Normal(3, heads*c.lq*c.lk)
			tape := nn.NewTape(dev, gpu.Float32)
			var y *gpu.Tensor
			for range 2 { // the second time places are known
				net.ZeroGrad()
				tape.Run(func() {
					v := b.Forward(tape, c.lq, c.lk)
					y = gpu.CPU().New(gpu.Float32, v.Shape()...)
					y.Copy(v.Value())
					tape.BackwardFrom(v, dev.From(g, v.Shape()...))
				})
			}
			w, grad := floats(b.W.Value), make([]float64, b.W.Value.Len())
			for r := range y.Len() {
				h, i, j := r/(c.lq*c.lk), r/c.lk%c.lq, r%c.lk
				at := c.row(i, j)*heads + h
				if float64(y.F32()[r]) != w[at] {
					t.Fatalf("%s: head %d, query %d, key %d: %v, want %v", c.name, h, i, j, y.F32()[r], w[at])
				}
				grad[at] += float64(g[r])
			}
			oracle.Close64(t, floats(b.W.Grad()), oracle.Tol{Abs: 1e-5}, func(i int) float64 { return grad[i] })
		}
	})
}

func TestRelativeBiasRefuses(t *testing.T) {
	s := nn.NewParams(gpu.CPU(), gpu.Float32).At("b")
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	oracle.Refuses(t, map[string]func(){
		"0 heads and 7 places":                   func() { nn.NewRelativeBias(s.At("1"), 0, 4) },
		"2 heads and -1 places":                  func() { nn.NewRelativeBias(s.At("2"), 2, 0) },
		"2 rows up to a distance of 128":         func() { nn.NewBucketBias(s.At("3"), 2, 2, 128, true) },
		"32 rows up to a distance of 8":          func() { nn.NewBucketBias(s.At("4"), 2, 32, 8, true) },
		"5 queries and 6 keys, want 6 of both":   func() { nn.NewRelativeBias2D(s.At("5"), 2, 2, 3).Forward(tape, 5, 6) },
		"0 queries and 3 keys, want 0 of both, ": func() { nn.NewRelativeBias(s.At("6"), 2, 3).Forward(tape, 0, 3) },
	})
}
