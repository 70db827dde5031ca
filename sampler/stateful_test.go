package sampler_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/sampler"
)

// recalling says 0.01 for each state that it remembers of a sample, 1 more for the null class, and keeps a log.
type recalling struct {
	rows    int
	kept    []float64 // states taken in, of each row
	waiting bool
	log     []string
}

func (d *recalling) Remembers() bool { return true }
func (d *recalling) Reset()          { d.rows, d.waiting, d.log = 0, false, append(d.log, "reset") }

func (d *recalling) Commit() error {
	if !d.waiting {
		return fmt.Errorf("nothing to take in")
	}
	for i := range d.kept {
		d.kept[i]++
	}
	d.waiting, d.log = false, append(d.log, "commit")
	return nil
}

func (d *recalling) DenoiseAt(ctx context.Context, out, x *gpu.Tensor, at []diffusion.Point, c sampler.Cond) error {
	return d.Denoise(ctx, out, x, make([]float64, len(at)), c)
}

func (d *recalling) Denoise(_ context.Context, out, x *gpu.Tensor, sigma []float64, c sampler.Cond) error {
	if d.rows == 0 {
		d.rows, d.kept = len(sigma), make([]float64, len(sigma))
	}
	if d.rows != len(sigma) {
		return fmt.Errorf("%d samples, the state is that of %d", len(sigma), d.rows)
	}
	d.waiting, d.log = true, append(d.log, fmt.Sprint("ask ", len(sigma)))
	size := x.Len() / len(sigma)
	v := make([]float32, x.Len())
	for i := range v {
		row := i / size
		v[i] = float32(0.01 * d.kept[row])
		if c.Classes != nil && c.Classes[row] < 0 {
			v[i]++
		}
	}
	out.Set(v)
	return nil
}

func flowGrid(t *testing.T, steps int) *diffusion.Grid {
	t.Helper()
	g, err := diffusion.Build(diffusion.Flow{}, diffusion.Spec{Rule: "uniform", Steps: steps})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// The state is reset before each batch and goes on once a step, by solvers of one evaluation, of one with a memory, and with noise.
func TestStateGoesOnOnceAStep(t *testing.T) {
	for _, spec := range []string{"flow-sde", "ddim", "euler", "dpm++2m"} {
		s, err := sampler.ByName(spec)
		if err != nil {
			t.Fatal(err)
		}
		g := flowGrid(t, 3)
		if spec == "euler" || spec == "dpm++2m" { // it wants finite noise
			if g, err = diffusion.Build(diffusion.Flow{}, diffusion.Spec{Rule: "times", List: []float64{0.9, 0.6, 0.3}}); err != nil {
				t.Fatal(err)
			}
		}
		d := &recalling{}
		var last []float32
		r, err := sampler.Run(t.Context(), d, s, g, sampler.Options{N: 5, Batch: 2, Shape: []int{3}, Seed: 1})
		if err != nil {
			t.Fatal(spec, err)
		}
		last, err = r.X.Floats()
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		for _, n := range []int{2, 2, 1} {
			want = append(want, "reset")
			for range 3 {
				want = append(want, fmt.Sprint("ask ", n), "commit")
			}
		}
		if !slices.Equal(d.log, want) {
			t.Errorf("%s: %v, want %v", spec, d.log, want)
		}
		// The same samples in one batch: a state that stays from batch to batch would be seen.
		whole, err := sampler.Run(t.Context(), &recalling{}, s, g, sampler.Options{N: 5, Shape: []int{3}, Seed: 1})
		if err != nil {
			t.Fatal(err)
		}
		v, err := whole.X.Floats()
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(v, last) {
			t.Errorf("%s: samples depend on their batch: %v and %v", spec, last, v)
		}
	}
}

// committing is the midpoint method, which commits after its first evaluation, or as often as is asked.
type committing struct{ times int }

func (committing) Name() string                { return "committing" }
func (committing) Check(*diffusion.Grid) error { return nil }
func (committing) NFE(g *diffusion.Grid) int   { return 2 * len(g.Steps) }
func (committing) Commits() bool               { return true }
func (s committing) Start(like *gpu.Tensor) sampler.Stepper {
	return &committingStep{s.times, like.Like()}
}

type committingStep struct {
	times int
	d     *gpu.Tensor
}

func (s *committingStep) Step(e *sampler.Eval, x *gpu.Tensor, g *diffusion.Grid, i int) error {
	if err := e.Denoise(s.d, x, g.Steps[i].From); err != nil {
		return err
	}
	for range s.times {
		if err := e.Commit(); err != nil {
			return err
		}
	}
	if err := e.Denoise(s.d, x, g.Steps[i].From); err != nil {
		return err
	}
	ops.LinComb(x, []float64{1}, s.d)
	return nil
}

// liar promises one evaluation a step and makes two.
type liar struct{ committing }

func (liar) Name() string              { return "liar" }
func (liar) NFE(g *diffusion.Grid) int { return len(g.Steps) }
func (liar) Commits() bool             { return false }

// Solvers of several evaluations are refused, those before the run whose number tells, but for those that commit by themselves, once.
func TestStateRefusesSolvers(t *testing.T) {
	o := sampler.Options{N: 2, Shape: []int{3}}
	for spec, want := range map[string]string{
		"heun":      "heun evaluates 2 times in 1 of the 3 steps of grid",
		"rk4":       "in 1 of the 3 steps of grid",
		"dopri5":    "a number of times that varies",
		"flowturbo": "evaluates 2 times in 1 of the 3 steps", // 3 in all, but unevenly
	} {
		s, err := sampler.ByName(spec)
		if err != nil {
			t.Fatal(err)
		}
		g := flowGrid(t, 3)
		if spec == "flowturbo" {
			s = &sampler.FlowTurbo{Heun: 1}
		}
		d := &recalling{}
		_, err = sampler.Run(t.Context(), d, s, g, o)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "flow-sde") {
			t.Errorf("%s: error %v, want %q", spec, err, want)
		}
		if len(d.log) > 0 {
			t.Errorf("%s was asked before it was refused: %v", spec, d.log)
		}
	}
	if _, err := sampler.Run(t.Context(), &recalling{}, liar{}, flowGrid(t, 2), o); err == nil || !strings.Contains(err.Error(), "liar evaluated 2 times in step 0") {
		t.Errorf("error %v", err)
	}
	d := &recalling{}
	if _, err := sampler.Run(t.Context(), d, committing{1}, flowGrid(t, 2), o); err != nil {
		t.Error(err)
	}
	if want := []string{"reset", "ask 2", "commit", "ask 2", "ask 2", "commit", "ask 2"}; !slices.Equal(d.log, want) {
		t.Errorf("%v, want %v", d.log, want)
	}
	if _, err := sampler.Run(t.Context(), &recalling{}, committing{0}, flowGrid(t, 2), o); err == nil || !strings.Contains(err.Error(), "committed the state 0 times in step 0; want once") {
		t.Errorf("error %v", err)
	}
	if _, err := sampler.Run(t.Context(), &recalling{}, committing{2}, flowGrid(t, 2), o); err == nil || !strings.Contains(err.Error(), "nothing to take in") {
		t.Errorf("error %v", err)
	}
}

// Guidance asks for both conditions in one batch: both have rows of the state of their own, and both go on. What is guided in part of the
// levels is refused.
func TestGuidanceOfStates(t *testing.T) {
	d := &recalling{}
	g := &sampler.Guided{Den: d, Weight: 1.5}
	if !g.Remembers() || (&sampler.Guided{Den: sampler.Adapt(nil, diffusion.Flow{}, diffusion.PredFlow)}).Remembers() {
		t.Error("guidance remembers what its denoiser does")
	}
	s, err := sampler.ByName("ddim")
	if err != nil {
		t.Fatal(err)
	}
	o := sampler.Options{N: 2, Shape: []int{3}, Cond: sampler.Cond{Classes: []int{0, 1}}}
	r, err := sampler.Run(t.Context(), g, s, flowGrid(t, 4), o)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(d.log[:3], []string{"reset", "ask 4", "commit"}) || !slices.Equal(d.kept, []float64{4, 4, 4, 4}) {
		t.Errorf("%v, %v", d.log, d.kept)
	}
	// The last step leads to D = null + 1.5·(class - null) after three states: 0.03 for both, and 1 more of the null's.
	for _, v := range r.X.F32() {
		if want := 1.03 + 1.5*(0.03-1.03); float64(v)-want > 1e-6 || want-float64(v) > 1e-6 {
			t.Errorf("%v, want %v", v, want)
		}
	}
	for _, g := range []*sampler.Guided{{Den: d, Weight: 1.5, Hi: 2}, {Den: d, Weight: 1.5, Lo: 0.1}} {
		if _, err := sampler.Run(t.Context(), g, s, flowGrid(t, 4), o); err == nil || !strings.Contains(err.Error(), "of a denoiser with a state, which would lack the steps without") {
			t.Errorf("error %v", err)
		}
	}
}
