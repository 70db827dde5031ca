package sampler

import (
	"fmt"
	"math"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/rng"
)

// brownian gives the noise of steps as increments of one Brownian path of every
// image (rng.Brownian has its law): a matter of seed, image and levels, not of
// how many steps lead there. Runs of n and of 2n steps follow the same path.
//
// A question costs a normal per halving of the levels that the last question did
// not share; BenchmarkIncrement measures it. The memory is a state's for every
// halving, 20 in all.
type brownian struct {
	noise ops.Noise // of the batch's first image
	batch walker    // of all images together
	each  []walker  // of each image, where levels differ
}

// begin starts the paths of another batch.
func (b *brownian) begin(n ops.Noise) {
	b.noise = n
	b.batch.have, b.batch.set = 0, false
	for i := range b.each {
		b.each[i].have, b.each[i].set = 0, false
	}
}

// rows fills each image's z from its own levels; those whose step has no path keep what they have.
func (b *brownian) rows(z *gpu.Tensor, from, to []diffusion.Point, churn func(diffusion.Point) float64) error {
	if len(b.each) != len(from) {
		b.each = make([]walker, len(from))
	}
	for i := range from {
		c := churn(from[i])
		if c == 0 || to[i].B == 0 {
			continue
		}
		n := b.noise
		n.Stream += uint64(i)
		if err := b.each[i].step(z.Rows(i, i+1), n, from[i], to[i], c); err != nil {
			return err
		}
	}
	return nil
}

// walker is the path of some images, all at one level.
type walker struct {
	rate  float64
	knots []rng.Knot    // of the last question
	at    []*gpu.Tensor // the path's value at each
	have  int           // how many of them hold
	next  []rng.Knot
	end   *gpu.Tensor // the path's value where the last step ended,
	endV  float64     // at this ln sigma
	set   bool        // when there was one
	c     [2]float64
}

// step fills z with the unit normals of a step.
func (w *walker) step(z *gpu.Tensor, n ops.Noise, from, to diffusion.Point, rate float64) error {
	if w.rate != rate {
		w.rate, w.have, w.set = rate, 0, false
	}
	path := rng.Brownian{Rate: rate}
	v, v1 := math.Log(from.Sigma()), math.Log(to.Sigma())
	if math.IsInf(v, 1) { // the path starts at 0 there, in its clock
		if err := w.find(z, n, path, v1); err != nil {
			return err
		}
		z.Copy(w.at[len(w.knots)-1])
		w.keep(z, v1)
		return nil
	}
	if !w.set || w.endV != v {
		if err := w.find(z, n, path, v); err != nil {
			return err
		}
		w.keep(z, v)
	}
	if err := w.find(z, n, path, v1); err != nil {
		return err
	}
	w.c[0], w.c[1] = path.Increment(v - v1)
	ops.LinComb(z, w.c[:], w.end, w.at[len(w.knots)-1])
	w.keep(z, v1)
	return nil
}

// keep makes the value just found the end of the step; the knot's is lost.
func (w *walker) keep(like *gpu.Tensor, v float64) {
	if w.end == nil {
		w.end = like.Like()
	}
	last := len(w.knots) - 1
	w.end, w.at[last], w.have = w.at[last], w.end, last
	w.endV, w.set = v, true
}

// find computes the knots that lead to v, but for those of the last question.
func (w *walker) find(like *gpu.Tensor, n ops.Noise, path rng.Brownian, v float64) error {
	if !(v >= rng.BrownianMin && v <= rng.BrownianMax) {
		return fmt.Errorf("sampler: Brownian noise at sigma %.4g; wanted %.2g to %.2g, or an infinite start: use independent noise, or another grid",
			math.Exp(v), math.Exp(rng.BrownianMin), math.Exp(rng.BrownianMax))
	}
	if w.at == nil {
		w.next, w.knots = make([]rng.Knot, 0, rng.BrownianKnots), make([]rng.Knot, 0, rng.BrownianKnots)
		for range rng.BrownianKnots {
			w.at = append(w.at, like.Like())
		}
	}
	w.next = path.Knots(w.next[:0], v)
	same := 0
	for same < w.have && w.next[same] == w.knots[same] {
		same++
	}
	w.knots, w.next = w.next, w.knots
	for i := same; i < len(w.knots); i++ {
		k := w.knots[i]
		n.From = k.ID << 32
		if k.Left == 0 && k.Right == 0 {
			ops.Normals(w.at[i], n)
			continue
		}
		w.c[0], w.c[1] = k.Left, k.Right
		ops.LinComb(w.at[i], w.c[:], w.at[k.L], w.at[k.R])
		if k.Dev > 0 {
			w.c[0], w.c[1] = 1, k.Dev
			ops.AddNoise(w.at[i], w.at[i], w.c[:], n)
		}
	}
	w.have = len(w.knots)
	return nil
}

// Increment fills z with the unit normals of a step's noise, each image's from
// its own stream: independent draws, or with Options.Brownian those of the
// image's path, for an equation of the given churn (DDIM with eta 1 has 1). A
// step to zero noise, where no path leads, gets independent ones. A step in
// several parts asks for each in turn.
func (e *Eval) Increment(z *gpu.Tensor, from, to diffusion.Point, churn float64) error {
	if e.path == nil || to.B == 0 || churn == 0 {
		e.Noise(z)
		return nil
	}
	return e.path.batch.step(z, e.path.noise, from, to, churn)
}

// incrementEach is Increment with levels of each image.
func (e *Eval) incrementEach(z *gpu.Tensor, from, to []diffusion.Point, churn func(diffusion.Point) float64) error {
	e.Noise(z)
	if e.path == nil {
		return nil
	}
	return e.path.rows(z, from, to, churn)
}

// incrementOn is Increment at churn 1 with levels of all images or of each, as there are.
func (e *Eval) incrementOn(z *gpu.Tensor, from, to []diffusion.Point) error {
	if len(from) == 1 {
		return e.Increment(z, from[0], to[0], 1)
	}
	return e.incrementEach(z, from, to, churnOne)
}

func churnOne(diffusion.Point) float64 { return 1 }

// churner is a noisy solver of an equation whose churn is not 1, or changes with the level.
type churner interface {
	// churn is that of a step that starts at p; 0 draws no noise.
	churn(p diffusion.Point) float64
}

// churnOf is a solver's churn.
func churnOf(s Solver) func(diffusion.Point) float64 {
	if c, ok := s.(churner); ok {
		return c.churn
	}
	return churnOne
}
