package main

import (
	"fmt"
	"io"
	"math"

	"github.com/fidlab/fidlab/data/mnist"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/rng"
)

// recipe is everything that decides the weights; it is written into their file.
type recipe struct {
	Seed    uint64  `json:"seed"`
	Epochs  int     `json:"epochs"`
	Batch   int     `json:"batch"`   // a multiple of shard
	Rate    float64 `json:"rate"`    // Adam's step size after the warm-up, then falling to 0 along a half cosine
	WarmUp  int     `json:"warmup"`  // steps of linear increase
	Decay   float64 `json:"decay"`   // decoupled weight decay of the matrices
	Smooth  float64 `json:"smooth"`  // label smoothing
	Dropout float64 `json:"dropout"` // of the rectified features
	Shift   float64 `json:"shift"`   // augmentation: up to so many pixels in x and in y,
	Turn    float64 `json:"turn"`    // so many degrees,
	Zoom    float64 `json:"zoom"`    // and this share larger or smaller
}

// defaults is the recipe of the shipped weights.
var defaults = recipe{Seed: 1, Epochs: 6, Batch: 128, Rate: 2e-3, WarmUp: 200, Decay: 0.02, Smooth: 0.05, Dropout: 0.3, Shift: 2}

type trainer struct {
	recipe
	set    *mnist.Set
	w      *weights
	passes []*pass
	grad   []float32
	m, v   []float32 // Adam's moments
	step   int
	steps  int
}

func newTrainer(r recipe, set *mnist.Set) *trainer {
	if r.Batch%shard != 0 || r.Batch > len(set.Images) {
		panic(fmt.Sprintf("mnistenc: batch %d is no multiple of %d, or more than the %d images", r.Batch, shard, len(set.Images)))
	}
	t := &trainer{recipe: r, set: set, w: newWeights(), steps: r.Epochs * (len(set.Images) / r.Batch)}
	n := len(t.w.all)
	t.grad, t.m, t.v = make([]float32, n), make([]float32, n), make([]float32, n)
	for range r.Batch / shard {
		t.passes = append(t.passes, newPass())
	}
	t.w.initialise(rng.ForImage(r.Seed, 0, rng.Weights).Normal)
	return t
}

// run trains and reports every epoch to log.
func (t *trainer) run(log io.Writer) {
	for e := range t.Epochs {
		order := rng.ForImage(t.Seed, uint64(e), rng.Order).Perm(len(t.set.Images))
		var loss float64
		var right, seen int
		for len(order) >= t.Batch {
			l, r := t.batch(e, order[:t.Batch])
			loss, right, seen = loss+l, right+r, seen+t.Batch
			order = order[t.Batch:]
		}
		fmt.Fprintf(log, "epoch %d of %d: loss %.4f, accuracy in training %.2f %%\n", e+1, t.Epochs, loss/float64(seen), 100*float64(right)/float64(seen))
	}
}

// batch does one step of Adam on the given images.
func (t *trainer) batch(epoch int, idx []int) (loss float64, right int) {
	cpu.Each(len(t.passes), func(wk *cpu.Worker, s int) {
		g := gemm{wk}
		p := t.passes[s]
		for k, i := range idx[s*shard:][:shard] {
			// A stream per image and epoch: what an image looks like does not depend on where the shuffle put it.
			r := rng.ForImage(t.Seed, uint64(epoch*len(t.set.Images)+i), rng.Dropout)
			t.draw(r).apply(p.x[k*side*side:][:side*side], t.set.Images[i])
			p.labels[k] = t.set.Labels[i]
			for j := range dim {
				p.keep[k*dim+j] = 0
				if r.Float64() >= t.Dropout {
					p.keep[k*dim+j] = float32(1 / (1 - t.Dropout))
				}
			}
		}
		p.forward(g, t.w, true)
		p.backward(g, t.w, t.Batch, t.Smooth)
	})
	clear(t.grad)
	for _, p := range t.passes {
		addTo(t.grad, p.grad.all)
		loss, right = loss+p.loss, right+p.right
	}
	t.adam()
	return loss, right
}

// adam is one step of AdamW (Loshchilov and Hutter 2019).
func (t *trainer) adam() {
	const b1, b2, eps = 0.9, 0.999, 1e-8
	t.step++
	rate := t.rate(t.step)
	c1, c2 := 1-math.Pow(b1, float64(t.step)), 1-math.Pow(b2, float64(t.step))
	ps, _ := params()
	for _, q := range ps {
		decay := 0.0
		if q.fanIn > 0 {
			decay = t.Decay
		}
		for i := q.off; i < q.off+q.len; i++ {
			g := float64(t.grad[i])
			m := b1*float64(t.m[i]) + (1-b1)*g
			v := b2*float64(t.v[i]) + (1-b2)*g*g
			t.m[i], t.v[i] = float32(m), float32(v)
			t.w.all[i] -= float32(rate * (m/c1/(math.Sqrt(v/c2)+eps) + decay*float64(t.w.all[i])))
		}
	}
}

// rate is the step size of step i, counted from 1.
func (t *trainer) rate(i int) float64 {
	if i <= t.WarmUp {
		return t.Rate * float64(i) / float64(t.WarmUp)
	}
	return t.Rate / 2 * (1 + math.Cos(math.Pi*float64(i-t.WarmUp)/float64(t.steps-t.WarmUp)))
}

// warp is a small change of an image: turned by Angle (radians) and enlarged
// by Zoom about the centre, then moved by (DX, DY) pixels.
type warp struct{ Angle, Zoom, DX, DY float64 }

// draw chooses the change of an example.
func (t *trainer) draw(r *rng.Stream) warp {
	u := func(limit float64) float64 { return limit * (2*r.Float64() - 1) }
	return warp{u(t.Turn * math.Pi / 180), 1 + u(t.Zoom), u(t.Shift), u(t.Shift)}
}

// apply writes the changed image in [0,1], interpolated linearly, zero outside.
func (a warp) apply(out []float32, img []uint8) {
	const mid = (side - 1) / 2.0
	c, s := math.Cos(a.Angle)/a.Zoom, math.Sin(a.Angle)/a.Zoom
	at := func(y, x int) float64 {
		if y < 0 || y >= side || x < 0 || x >= side {
			return 0
		}
		return float64(img[y*side+x])
	}
	for i := range side {
		for j := range side {
			u, v := float64(j)-mid-a.DX, float64(i)-mid-a.DY
			x, y := mid+c*u+s*v, mid-s*u+c*v
			fx, fy := math.Floor(x), math.Floor(y)
			k, l, p, q := int(fx), int(fy), x-fx, y-fy
			top := at(l, k)*(1-p) + at(l, k+1)*p
			low := at(l+1, k)*(1-p) + at(l+1, k+1)*p
			out[i*side+j] = float32((top*(1-q) + low*q) / 255)
		}
	}
}

// scale writes img in [0,1].
func scale(out []float32, img []uint8) {
	for i, v := range img {
		out[i] = float32(v) / 255
	}
}

// accuracy is the share of set that the head classifies right.
func accuracy(w *weights, set *mnist.Set) float64 {
	n := (len(set.Images) + shard - 1) / shard
	right := make([]int, n)
	cpu.Each(n, func(wk *cpu.Worker, s int) {
		g := gemm{wk}
		p := newPass()
		rows := set.Images[s*shard : min((s+1)*shard, len(set.Images))]
		for k, img := range rows {
			scale(p.x[k*side*side:][:side*side], img)
		}
		p.forward(g, w, false)
		_, right[s] = crossEntropy(p.logits[:len(rows)*class], set.Labels[s*shard:][:len(rows)], 0, 1)
	})
	sum := 0
	for _, r := range right {
		sum += r
	}
	return float64(sum) / float64(len(set.Images))
}
