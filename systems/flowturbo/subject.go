package flowturbo

import (
	"context"
	"fmt"
	"time"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/systems/bases"
	"github.com/fidlab/fidlab/train"
)

// subject is a flow with its refiner, and who judges what they draw.
type subject struct {
	net     *bases.Network
	refiner *Refiner
	share   float64 // of an evaluation's operations that a refinement takes
	judge   *bases.Judge
}

// maker makes the subject of a seed.
type maker func(ctx context.Context, env *systems.Env, seed uint64) (*subject, error)

// trained is a flow of digits of 8×8 that is trained here, under a seed, with its refiner.
func (s sizes) trained(ctx context.Context, env *systems.Env, seed uint64) (*subject, error) {
	return systems.Memo(env, fmt.Sprintf("flowturbo %d %d %d", s.steps, s.refine, seed), func() (*subject, error) {
		task, ok := systems.FindTask(bases.DigitsFlow)
		if !ok {
			return nil, fmt.Errorf("flowturbo: no task %s", bases.DigitsFlow)
		}
		k := task.Settings
		k.Steps, k.Batch, k.Warmup, k.EMA, k.Seeds = s.steps, s.batch, min(k.Warmup, s.steps/4), k.EMA[:1], train.SeedsOf(seed)
		net, _, err := bases.TrainHere(ctx, task.Name, k, false)
		if err != nil {
			return nil, err
		}
		judge, err := bases.OpenSmallJudge(ctx, env, s.reference)
		if err != nil {
			return nil, err
		}
		return s.refined(ctx, net, judge, seed)
	})
}

// shipped is a network that ships, with its refiner.
func (s sizes) shipped(ctx context.Context, env *systems.Env, net *bases.Network) (*subject, error) {
	return systems.Memo(env, fmt.Sprintf("flowturbo %s %d", net.Name, s.refine), func() (*subject, error) {
		judge, err := bases.OpenJudge(ctx, env, s.reference)
		if err != nil {
			return nil, err
		}
		return s.refined(ctx, net, judge, 1<<41)
	})
}

// refined trains a refiner of net.
func (s sizes) refined(ctx context.Context, net *bases.Network, judge *bases.Judge, seed uint64) (*subject, error) {
	task, _ := systems.FindTask(Task)
	of, ok := systems.FindTask(net.Name)
	if !ok || of.Data == nil {
		return nil, fmt.Errorf("flowturbo: %s has no data to refine on", net.Name)
	}
	learn, held, err := of.Data()
	if err != nil {
		return nil, err
	}
	k := task.Settings
	k.Steps, k.Batch, k.Warmup, k.Seeds = s.refine, s.refineBatch, min(k.Warmup, s.refine/4), train.SeedsOf(seed)
	job, _, err := newJob(net.Device, k, net.Trained, teacher{Job: net.Name, SHA256: net.Entry.SHA256}, learn, held)
	if err != nil {
		return nil, err
	}
	job.Evaluate, job.Scores = nil, nil
	out := &subject{net: net, judge: judge}
	if _, err := bases.TrainThen(ctx, job, k, func(saved *train.Saved) (err error) {
		out.refiner, err = Open(net.Device, saved)
		return err
	}); err != nil {
		return nil, err
	}
	out.share = bases.FLOPs(out.refiner.Net, net.Shape) / net.FLOPs
	return out, nil
}

// way is how an arm draws: a solver of the registry, or blocks, in so many steps of time evenly, or as a shift places them.
type way struct {
	solver string // "" with blocks
	blocks string
	frozen bool // the refiner says "no change"
	compat bool
	steps  int
}

// frozen is the refiner that keeps the velocity.
type frozen struct{}

// Refine implements sampler.Refiner.
func (frozen) Refine(_ context.Context, out, _, _ *gpu.Tensor, _ diffusion.Point, _ sampler.Cond) error {
	ops.Fill(out, 0)
	return nil
}

// on is the way on a subject: solver and grid.
func (w way) on(sub *subject, shift float64) (sampler.Solver, *diffusion.Grid, error) {
	steps := w.steps
	var solver sampler.Solver
	var err error
	if w.blocks != "" {
		t := &sampler.FlowTurbo{Compat: w.compat}
		if t.Blocks, err = sampler.ParseBlocks(w.blocks); err != nil {
			return nil, nil, err
		}
		steps = len(t.Blocks)
		t.Refiner = frozen{}
		if !w.frozen && sub != nil {
			if t.Refiner, err = sub.refiner.For(sub.net.Path, 1, 0); err != nil {
				return nil, nil, err
			}
		}
		solver = t
	} else if solver, err = sampler.ByName(w.solver); err != nil {
		return nil, nil, err
	}
	times := make([]float64, steps)
	for i := range times {
		times[i] = diffusion.Shift(1-float64(i)/float64(steps), shift)
	}
	g, err := diffusion.Build(diffusion.Flow{}, diffusion.Spec{Rule: "times", List: times})
	return solver, g, err
}

// evaluations is what a way takes, and the refinements.
func (w way) evaluations(solver sampler.Solver, g *diffusion.Grid) (nfe, refinements float64) {
	if t, ok := solver.(*sampler.FlowTurbo); ok && !w.frozen {
		refinements = float64(t.Refinements(g))
	}
	return float64(solver.NFE(g)), refinements
}

// draw draws n samples of a seed's noise.
func (w way) draw(ctx context.Context, sub *subject, shift float64, seed uint64, n int) (*sampler.Result, float64, error) {
	solver, g, err := w.on(sub, shift)
	if err != nil {
		return nil, 0, err
	}
	r, err := sampler.Run(ctx, sub.net.Denoiser(), solver, g, sub.net.Options(seed, n))
	if err != nil {
		return nil, 0, err
	}
	_, refinements := w.evaluations(solver, g)
	return r, float64(r.NFE) + refinements*sub.share, nil
}

// rounds is how often times are taken; the least counts.
const rounds = 4

// clock is the time of a way over that of another one beside it, each the least of some, both warmed up.
func (s sizes) clock(ctx context.Context, sub *subject, w way, shift float64, base way, baseShift float64) (float64, error) {
	var least [2]time.Duration
	for i := range rounds + 1 {
		for k, one := range []func() error{
			func() error { _, _, err := w.draw(ctx, sub, shift, 1, s.timed); return err },
			func() error { _, _, err := base.draw(ctx, sub, baseShift, 1, s.timed); return err },
		} {
			start := time.Now()
			if err := one(); err != nil {
				return 0, err
			}
			if took := time.Since(start); i > 0 && (least[k] == 0 || took < least[k]) {
				least[k] = took
			}
		}
	}
	return least[0].Seconds() / least[1].Seconds(), nil
}
