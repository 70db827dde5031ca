package main

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/sampler"
)

// stepRows are the solvers' updates against the limit that memory sets: the time
// of the operands' bytes at the bandwidth of the triad a + s·b, of the same size
// on as many threads in the same run. The target of at most 1.3 such passes is a
// ratio of at least 1/1.3.
func stepRows() []row {
	var out []row
	for _, s := range []struct {
		solver   string
		operands int // tensors that a step reads or writes
	}{{"ddim", 3}, {"heun", 3 + 4}, {"dpm++2m", 4}} {
		for _, side := range []int{32, 256} {
			r := row{
				name: fmt.Sprintf("%s step, 64x3x%dx%d, memory passes", s.solver, side, side), peer: "memory (own triad)",
				target: 1 / 1.3, rounds: 4, repeat: 500 * 32 * 32 / (side * side), limit: true,
				remark: "1/ratio is the step in memory passes, with the refusal of NaN; the target is at most 1.3",
			}
			r.ours = func(*peers) (runner, error) { return solverStep(s.solver, side) }
			r.theirs = func(*peers) (runner, error) { return memoryPass(64*3*side*side, s.operands), nil }
			out = append(out, r)
		}
	}
	return out
}

// schedulerRows are twenty steps against the same of diffusers' schedulers, from
// the same noise and for the same predictions, which cost nothing. Both sides
// turn the predicted noise into what their formulas want, and both look for
// nothing else but that: ours also refuses what is not finite.
func schedulerRows(job func(name string, threads int) func(*peers) (runner, error)) []row {
	var out []row
	for _, c := range []struct {
		solver, theirs string
		target         float64
	}{{"ddim", "ddim", 4}, {"dpm++2m", "dpm++2m", 8}, {"unipc:lower-final=always", "unipc", 20}, {"dpm++3m:third=published", "dpm++3m", 0}, {"euler", "euler", 0}} {
		name, _, _ := strings.Cut(c.solver, ":")
		r := row{
			name: name + ", 20 steps, 64x3x32x32", peer: "diffusers", target: c.target,
			tolerance: 1e-3, rounds: 5, repeat: 20,
			ours:   func(*peers) (runner, error) { return twentySteps(c.solver) },
			theirs: job("steps:"+c.theirs, threads()),
		}
		out = append(out, r)
	}
	return out
}

// constant is a network that always says the same noise.
type constant struct{ eps *gpu.Tensor }

func (c constant) Forward(_ context.Context, out, _ *gpu.Tensor, _ []float64, _ sampler.Cond) error {
	if out.F32()[0] != c.eps.F32()[0] { // nobody has written over the last answer
		out.Copy(c.eps)
	}
	return nil
}

func twentySteps(name string) (runner, error) {
	s, err := sampler.ByName(name)
	if err != nil {
		return nil, err
	}
	path, err := diffusion.PathByName("vp")
	if err != nil {
		return nil, err
	}
	g, err := diffusion.Build(path, diffusion.Spec{Rule: "trailing", Steps: 20})
	if err != nil {
		return nil, err
	}
	const images, size = 64, 3 * 32 * 32
	tensorOf := func(seed uint32) *gpu.Tensor { return gpu.CPU().From(spread(images*size, seed), images, 3, 32, 32) }
	start, x := tensorOf(1), tensorOf(1)
	st := s.Start(x)
	e := sampler.NewEval(context.Background(), sampler.Adapt(constant{tensorOf(2)}, path, diffusion.PredEps), x, sampler.Cond{}, func(int, *gpu.Tensor) {})
	o := own{work: func() (answer, error) {
		k := 1.0
		if name == "euler" { // whose states the peer keeps in VE scaling
			k = g.Steps[0].From.B
		}
		ops.LinComb(x, []float64{k}, start)
		for i := range g.Steps {
			if err := st.Step(e, x, g, i); err != nil {
				return answer{}, err
			}
		}
		mean := 0.0
		for _, v := range x.F32()[images*size-64:] {
			mean += math.Abs(float64(v)) / 64
		}
		return answer{Value: mean}, nil
	}}
	_, err = o.work() // warm
	return o, err
}

// free is a denoiser that costs nothing but its first answer into a tensor: what remains of a step is the solver.
type free struct{}

func (f free) Denoise(_ context.Context, out, _ *gpu.Tensor, _ []float64, _ sampler.Cond) error {
	if v := out.F32(); v[0] == 0 { // memory that was never written is one page of zeros, read from the cache
		fill(v, 0.5)
	}
	return nil
}

func (f free) DenoiseAt(ctx context.Context, out, x *gpu.Tensor, _ []diffusion.Point, c sampler.Cond) error {
	return f.Denoise(ctx, out, x, nil, c)
}

func solverStep(name string, side int) (runner, error) {
	s, err := sampler.ByName(name)
	if err != nil {
		return nil, err
	}
	g, err := diffusion.Build(diffusion.DefaultVE(), diffusion.Spec{Rule: "karras", Steps: 20})
	if err != nil {
		return nil, err
	}
	x := gpu.CPU().Empty(64, 3, side, side)
	fill(x.F32(), 1)
	st := s.Start(x)
	e := sampler.NewEval(context.Background(), free{}, x, sampler.Cond{}, func(int, *gpu.Tensor) {})
	i := 0
	return own{work: func() (answer, error) {
		i++
		return answer{}, st.Step(e, x, g, 1+i%18) // neither the first step, which has no history, nor the last
	}}, st.Step(e, x, g, 0)
}

// pass times the triad, and says what as many tensors as a step touches take.
type pass struct {
	a, b, c  []float32
	operands int
}

func memoryPass(n, operands int) runner {
	p := &pass{make([]float32, n), make([]float32, n), make([]float32, n), operands}
	for i, v := range [][]float32{p.a, p.b, p.c} { // written, as the step's operands are
		fill(v, float32(i))
	}
	return p
}

func (p *pass) run() (answer, error) {
	start := time.Now()
	cpu.Triad(nil, p.a, p.b, p.c, 0.5)
	return answer{Seconds: time.Since(start).Seconds() / 3 * float64(p.operands)}, nil
}

func (p *pass) close() {}

func fill(v []float32, x float32) {
	for i := range v {
		v[i] = x
	}
}
