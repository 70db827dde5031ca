package main

import (
	"math"
	"testing"

	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/rng"
)

// TestGradient compares backward with central differences of the formula of
// doc.go in float64, written without im2col or shards.
func TestGradient(t *testing.T) {
	r := rng.New(1, 2)
	w, p := newWeights(), newPass()
	w.initialise(r.Normal)
	for i := range w.b1 {
		w.b1[i] = float32(0.1 * r.Normal())
	}
	for i := range w.bf {
		w.bf[i] = float32(0.1 * r.Normal())
	}
	for i := range p.x {
		p.x[i] = float32(r.Float64())
	}
	for i := range p.keep {
		p.keep[i] = float32(r.Intn(2)) / 0.5
	}
	for i := range p.labels {
		p.labels[i] = uint8(r.Intn(class))
	}
	const smooth = 0.1
	cpu.Do(func(wk *cpu.Worker) {
		p.forward(gemm{wk}, w, true)
		p.backward(gemm{wk}, w, shard, smooth)
	})
	base := slowLoss(w, p, smooth, -1, 0)
	if math.Abs(p.loss/shard-base) > 1e-5*base {
		t.Fatalf("loss %v, formula %v", p.loss/shard, base)
	}
	ps, _ := params()
	checked := 0
	for _, q := range ps {
		var top float64
		for _, v := range p.grad.all[q.off:][:q.len] {
			top = max(top, math.Abs(float64(v)))
		}
		if top == 0 {
			t.Errorf("%s: gradient is zero everywhere", q.name)
		}
		for range 4 {
			i := q.off + r.Intn(q.len)
			const h = 1e-6
			var at [2]float64
			cpu.Each(2, func(_ *cpu.Worker, k int) { at[k] = slowLoss(w, p, smooth, i, h*float64(1-2*k)) })
			want := (at[0] - at[1]) / (2 * h)
			if got := float64(p.grad.all[i]); math.Abs(got-want) > 1e-4*top {
				t.Errorf("%s[%d]: gradient %v, differences give %v (largest of the tensor: %v)", q.name, i-q.off, got, want, top)
			}
			checked++
		}
	}
	if checked != 40 {
		t.Errorf("%d derivatives checked, want 40", checked)
	}
}

// slowLoss is the mean loss of p's shard with weight i moved by h.
func slowLoss(w *weights, p *pass, smooth float64, i int, h float64) float64 {
	v := make([]float64, len(w.all))
	for k, x := range w.all {
		v[k] = float64(x)
	}
	if i >= 0 {
		v[i] += h
	}
	ps, _ := params()
	at := func(k int) []float64 { return v[ps[k].off:][:ps[k].len] }
	var loss float64
	for b := range shard {
		x := make([]float64, 784)
		for k := range x {
			x[k] = float64(p.x[b*784+k])
		}
		x = slowPool(slowConv(x, at(0), at(1), 1, 28), ch1, 28)
		x = slowPool(slowConv(x, at(2), at(3), ch1, 14), ch2, 14)
		x = slowConv(x, at(4), at(5), ch2, 7)
		f := slowLinear(x, at(6), at(7))
		for k := range f {
			f[k] = max(f[k], 0) * float64(p.keep[b*dim+k])
		}
		z := slowLinear(f, at(8), at(9))
		var sum float64
		for _, e := range z {
			sum += math.Exp(e)
		}
		for k, e := range z {
			target := smooth / (class - 1)
			if k == int(p.labels[b]) {
				target = 1 - smooth
			}
			loss -= target * (e - math.Log(sum)) / shard
		}
	}
	return loss
}

func slowConv(x, w, b []float64, c, n int) []float64 {
	out := make([]float64, len(b)*n*n)
	for o := range b {
		for y := range n {
			for z := range n {
				s := b[o]
				for ch := range c {
					for k := range 9 {
						if i, j := y+k/3-1, z+k%3-1; i >= 0 && i < n && j >= 0 && j < n {
							s += w[(o*c+ch)*9+k] * x[(ch*n+i)*n+j]
						}
					}
				}
				out[(o*n+y)*n+z] = max(s, 0)
			}
		}
	}
	return out
}

func slowPool(x []float64, c, n int) []float64 {
	var out []float64
	for p := range c * n / 2 {
		for j := 0; j < n; j += 2 {
			k := 2*p*n + j
			out = append(out, max(x[k], x[k+1], x[k+n], x[k+n+1]))
		}
	}
	return out
}

func slowLinear(x, w, b []float64) []float64 {
	out := make([]float64, len(b))
	for o := range b {
		out[o] = b[o]
		for i, v := range x {
			out[o] += w[o*len(x)+i] * v
		}
	}
	return out
}
