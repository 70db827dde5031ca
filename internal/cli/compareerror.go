package cli

import (
	"context"
	"math"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/sampler"
)

const (
	// errorChunk images are compared at a time, which bounds the memory.
	errorChunk = 64
	// referenceMargin is how far the reference's own error must lie below the
	// smallest error compared.
	referenceMargin = 10
	// maxReferenceSteps is where the reference gives up.
	maxReferenceSteps = 8192
)

// refuseNoisy refuses samplers that draw noise on the way. They are found by
// their deeds, whatever their options say: from one start, under two seeds, a
// deterministic one ends at the same bits.
func refuseNoisy(ctx context.Context, cells []*cell) error {
	m, err := sampler.NewMixture(sampler.MixtureSpec{Weights: []float64{1}, Means: [][]float64{{0.5}}, Vars: []float64{1}})
	if err != nil {
		return err
	}
	for _, c := range cells {
		var end [2]float64
		for seed := range end {
			r, err := sampler.Run(ctx, m, c.solver, c.grid, sampler.Options{
				Seed: uint64(seed), N: 1, Shape: m.Shape(), Double: true, Noise: gpu.CPU().From64([]float64{0.8}, 1, 1),
			})
			if err != nil {
				return err
			}
			end[seed] = r.X.F64()[0]
		}
		if end[0] != end[1] {
			return usagef("%s draws noise during its steps, so no exact end belongs to its start; compare it by --measure fid --ref INPUT", c.solver.Name())
		}
	}
	return nil
}

// reference is the exact end of noise, by a solver of second order in many steps.
type reference struct {
	solver sampler.Solver
	build  func(steps int) (*diffusion.Grid, error)
	draw   func(s sampler.Solver, g *diffusion.Grid) (*sampler.Result, error)
	steps  int
	exact  []float64 // of the present chunk, in steps steps
	half   []float64 // and in half of them
}

// newReference walks the grid of rule: by Heun's method, or where that cannot
// start (infinite noise outside the flow) by DPM-Solver++(2M).
func newReference(build func(steps int) (*diffusion.Grid, error), atLeast int) (*reference, error) {
	r := &reference{solver: sampler.Heun{}, build: build, steps: 64}
	for r.steps < 2*atLeast {
		r.steps *= 2
	}
	g, err := build(r.steps)
	if err != nil {
		return nil, err
	}
	if r.solver.Check(g) != nil {
		r.solver, err = sampler.ByName("dpm++2m")
	}
	return r, err
}

func (r *reference) solve(steps int) ([]float64, error) {
	g, err := r.build(steps)
	if err != nil {
		return nil, err
	}
	res, err := r.draw(r.solver, g)
	if err != nil {
		return nil, err
	}
	return res.X.F64(), nil
}

// start solves the chunk in the present number of steps and in half of it.
func (r *reference) start() (err error) {
	if r.half, err = r.solve(r.steps / 2); err == nil {
		r.exact, err = r.solve(r.steps)
	}
	return err
}

// refine doubles the steps.
func (r *reference) refine() error {
	next, err := r.solve(2 * r.steps)
	if err != nil {
		return err
	}
	r.half, r.exact, r.steps = r.exact, next, 2*r.steps
	return nil
}

// squares is Σ (x-y)² of every image; y nil stands for 0.
func squares(x, y []float64, n int) []float64 {
	out, per := make([]float64, n), len(x)/n
	for i := range out {
		for j := i * per; j < (i+1)*per; j++ {
			d := x[j]
			if y != nil {
				d -= y[j]
			}
			out[i] += d * d
		}
	}
	return out
}

func sum(v []float64) (s float64) {
	for _, x := range v {
		s += x
	}
	return s
}

// powerRatio is (Σa/Σb)^power with its interval over the index, a and b paired. By
// the delta method its logarithm has the standard error power·sd(ψ)/√n with
// ψ_i = a_i/mean(a) - b_i/mean(b), and Student's t.
func powerRatio(a, b []float64, power, level float64) [3]float64 {
	ma, mb := sum(a)/float64(len(a)), sum(b)/float64(len(b))
	psi := make([]float64, len(a))
	for i := range psi {
		psi[i] = a[i]/ma - b[i]/mb
	}
	_, half := fid.MeanInterval(psi, level)
	v, f := math.Pow(ma/mb, power), math.Exp(power*half)
	return [3]float64{v, v / f, v * f}
}

// measureError fills the cells with E = √(Σ_i |x_i - y_i|² / Σ_i |y_i|²), where
// sampler and reference take the noise of image i to x_i and y_i.
func (r *comparison) measureError(ctx context.Context, a *app, entry *modelEntry) error {
	m, err := r.open(ctx, a, entry)
	if err != nil {
		return err
	}
	spec := r.spec
	spec.Rule = splitSpecs(r.o.grids)[0]
	most := 0.0
	for _, c := range r.cells {
		most = max(most, c.nfe)
	}
	ref, err := newReference(func(steps int) (*diffusion.Grid, error) {
		s := spec
		s.Steps = steps
		return diffusion.Build(r.path, s)
	}, int(most))
	if err != nil {
		return usagef("--grid: the reference: %w", err)
	}
	p := a.progress("comparing on "+m.name, "evaluations", -1)
	defer p.End()
	done := 0
	var norms, own []float64
	for lo := 0; lo < r.o.n; lo += errorChunk {
		n := min(errorChunk, r.o.n-lo)
		ref.draw = func(s sampler.Solver, g *diffusion.Grid) (*sampler.Result, error) {
			before := done
			den, err := r.denoiser(g)
			if err != nil {
				return nil, err
			}
			return sampler.Run(ctx, den, s, g, sampler.Options{
				Seed: r.o.seed, First: lo, N: n, Batch: n, Shape: m.shape, Kernel: m.kernel, Double: true, Cond: r.cond(lo, n), Progress: func(d, _ int) {
					done = before + d
					p.Set(done)
				},
			})
		}
		y, off, err := r.errorsOf(ref, n)
		if err != nil {
			return err
		}
		norms, own = append(norms, y...), append(own, off...)
		p.SetTotal(done / (lo + n) * r.o.n)
	}
	total := sum(norms)
	if !(total > 0) {
		return refusedf("the exact images of %s are all zero, so no error is relative to them", m.name)
	}
	smallest := math.Inf(1)
	var least *cell
	for _, c := range r.cells {
		v := powerRatio(c.sums, norms, 0.5, r.o.ciLevel)
		c.value, c.lo, c.hi = v[0], v[1], v[2]
		if c.value < smallest {
			smallest, least = c.value, c
		}
	}
	g, err := ref.build(ref.steps)
	if err != nil {
		return err
	}
	r.reference = &referenceInfo{Sampler: ref.solver.Name(), Grid: g.Name, Steps: ref.steps, NFE: ref.solver.NFE(g), Error: math.Sqrt(sum(own) / total)}
	if r.reference.Error*referenceMargin > smallest {
		return refusedf("the reference, %s, has an error of %.2g itself and the smallest error compared, of %s in %d steps, is %.2g; it must be %d times larger: take smaller budgets, or leave that sampler out",
			r.reference, r.reference.Error, least.solver.Name(), len(least.grid.Steps), smallest, referenceMargin)
	}
	rate(r.rows, func(c, best *cell) [3]float64 { return powerRatio(c.sums, best.sums, 0.5, r.o.ciLevel) })
	return nil
}

// errorsOf runs every cell on the chunk of ref and refines ref until its own
// error is small beside theirs. It returns Σ y² and the square of the reference's
// own error, by its last doubling, of every image.
func (r *comparison) errorsOf(ref *reference, n int) (norms, own []float64, err error) {
	if err := ref.start(); err != nil {
		return nil, nil, err
	}
	ends := make([][]float64, len(r.cells))
	for i, c := range r.cells {
		res, err := ref.draw(c.solver, c.grid)
		if err != nil {
			return nil, nil, err
		}
		ends[i] = res.X.F64()
		for _, each := range res.Each {
			c.nfe += float64(each.NFE) / float64(r.o.n)
		}
	}
	for {
		own = squares(ref.exact, ref.half, n)
		smallest := math.Inf(1)
		for _, x := range ends {
			smallest = min(smallest, sum(squares(x, ref.exact, n)))
		}
		if sum(own)*referenceMargin*referenceMargin <= smallest || 2*ref.steps > maxReferenceSteps {
			break
		}
		if _, err := ref.build(2 * ref.steps); err != nil {
			break // a table of times has an end; whether it suffices shows over all images
		}
		if err := ref.refine(); err != nil {
			return nil, nil, err
		}
	}
	for i, c := range r.cells {
		c.sums = append(c.sums, squares(ends[i], ref.exact, n)...)
	}
	return squares(ref.exact, nil, n), own, nil
}
