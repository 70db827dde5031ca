package gsjacobi

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/rng"
	"github.com/fidlab/fidlab/systems"
)

// near is the error, of any number of a batch, at which a block counts as solved where iterations are compared with its metrics.
const near = 1e-3

// traced is how a block of a flow converges on the way of samples: errors of Jacobi's iteration to its exact tokens, the greatest of the
// batch, from both starts and after every iteration.
type traced struct{ latent, zeros []float64 }

// of a start.
func (t *traced) of(s Start) []float64 {
	if s == FromZeros {
		return t.zeros
	}
	return t.latent
}

// reaches is the first iteration after which errors are near; where none is, as many as make it exact.
func reaches(errors []float64) int {
	for i, e := range errors {
		if e <= near {
			return i + 1
		}
	}
	return len(errors)
}

// traces follows all blocks, by their number, on the way of n samples.
func (f *fitted) traces(seed uint64, n int) ([]traced, error) {
	c := &f.Net.Config
	r := Request{}
	o := Options{}
	o.Classes = r.classes(c, 0, n)
	z := gpu.CPU().New(gpu.Float32, n, c.Tokens(), c.Dim())
	ops.Normals(z, ops.ImageNoise(seed, 0, rng.Init))
	out := make([]traced, c.Blocks)
	for k := c.Blocks - 1; k >= 0; k-- {
		b := f.Net.Blocks[k]
		x, err := b.Inverse(f.tape, z, o.InverseOptions)
		if err != nil {
			return nil, err
		}
		want := x.Like()
		if want.Copy(x); b.Reverse {
			ops.Flip(want, x, 1, false)
		}
		for _, start := range []Start{FromLatent, FromZeros} {
			errs := slices.Repeat([]float64{math.MaxFloat32}, c.Tokens()-1) // of iterations that an overflow leaves out
			s := newSolver(f.tape, f.Net, n, o)
			s.trace = func(_, iteration int, x *gpu.Tensor) { errs[iteration-1] = difference(x, want) }
			y := z.Like()
			y.Copy(z)
			if err := s.block(k, Setting{Segments: 1, Start: start}, y); err != nil {
				return nil, err
			}
			if last := slices.Max(s.stats.Iterations[k]); len(s.stats.Fallbacks) == 0 { // nothing changed any more
				for i := last; i < len(errs); i++ {
					errs[i] = errs[last-1]
				}
			}
			if start == FromZeros {
				out[k].zeros = errs
			} else {
				out[k].latent = errs
			}
		}
		z = x
	}
	return out, nil
}

// followed is the flow of a draw's seed and its traces, followed once for all arms.
func (s sizes) followed(ctx context.Context, d systems.Draw) (*fitted, []traced, error) {
	f, err := s.fit(ctx, d.Env, false, d.Seed)
	if err != nil {
		return nil, nil, err
	}
	list, err := systems.Memo(d.Env, fmt.Sprintf("gsjacobi traces %d %d", d.Seed, d.N), func() ([]traced, error) { return f.traces(d.Seed, d.N) })
	return f, list, err
}

// metricsStudy asks whether the two metrics say what they are for.
func (s sizes) metricsStudy() systems.Experiment {
	x := systems.Experiment{
		Name: "metrics", Question: "Do the metrics tell which blocks take long, and where to start? (8 blocks, 49 tokens)",
		Size: systems.Size{N: s.metrics, Seeds: s.seeds},
		Measures: []systems.Measure{
			{Name: "iterations", Text: "iterations until every token is within 1e-3, summed over the blocks"},
			{Name: "rank", Text: "Spearman's correlation of the blocks' CRM with their iterations", Higher: true},
			{Name: "right", Text: "share of the blocks that reach 1e-3 from this start in no more iterations than from the other", Higher: true},
		},
	}
	for _, w := range []way{
		{"by IGM", "each block starts as its IGM says"},
		{"from the latent", "every block starts from its latent"},
		{"from zeros", "every block starts from zeros"},
	} {
		x.Arms = append(x.Arms, systems.Arm{Name: w.name, Text: w.text, Run: func(ctx context.Context, d systems.Draw) (*systems.Outcome, error) {
			f, list, err := s.followed(ctx, d)
			if err != nil {
				return nil, err
			}
			var crm, took []float64
			var sum, right float64
			for _, b := range f.report.Blocks {
				start, t := b.Even.Start, &list[b.Block]
				switch w.name {
				case "from the latent":
					start = FromLatent
				case "from zeros":
					start = FromZeros
				}
				n := reaches(t.of(start))
				if n <= reaches(t.of(1-start)) {
					right++
				}
				sum += float64(n)
				crm, took = append(crm, b.CRM), append(took, float64(n))
			}
			return &systems.Outcome{Values: map[string]float64{"iterations": sum, "rank": spearman(crm, took), "right": right / float64(len(crm))}}, nil
		}})
	}
	x.Criteria = []systems.Criterion{
		{Name: "CRM", Claim: "CRM ranks the blocks by their iterations with a correlation of 0.6 or more", Measure: "rank", Arm: "by IGM", Form: systems.Value, Bound: 0.6, AtLeast: true},
		{Name: "IGM", Claim: "IGM picks the start of fewer iterations in 75 % of the blocks or more", Measure: "right", Arm: "by IGM", Form: systems.Value, Bound: 0.75, AtLeast: true},
		{Name: "against the latent", Claim: "in no more iterations than from the latent always", Measure: "iterations", Arm: "by IGM", Against: []string{"from the latent"}, Bound: 1, Shown: true},
		{Name: "against zeros", Claim: "and than from zeros always", Measure: "iterations", Arm: "by IGM", Against: []string{"from zeros"}, Bound: 1, Shown: true},
	}
	return x
}

// spearman is the correlation of ranks, equals with the mean of theirs; 0 where all are equal.
func spearman(x, y []float64) float64 {
	a, b := ranks(x), ranks(y)
	mid := float64(len(x)-1) / 2
	var xy, xx, yy float64
	for i := range a {
		u, v := a[i]-mid, b[i]-mid
		xy, xx, yy = xy+u*v, xx+u*u, yy+v*v
	}
	if xx == 0 || yy == 0 {
		return 0
	}
	return xy / math.Sqrt(xx*yy)
}

func ranks(x []float64) []float64 {
	out := make([]float64, len(x))
	for i, v := range x {
		for _, w := range x {
			switch {
			case w < v:
				out[i]++
			case w == v:
				out[i] += 0.5
			}
		}
		out[i] -= 0.5 // itself
	}
	return out
}

// iterationCurves is the worst block's error after so many iterations.
func (s sizes) iterationCurves() systems.Experiment {
	x := systems.Experiment{
		Name: "iterations", Question: "How fast does the iteration converge, each block from its exact latent?",
		Size:     systems.Size{N: s.metrics, Seeds: s.seeds},
		Measures: []systems.Measure{{Name: "error", Text: "greatest error of a token's number"}},
		Sweep:    &systems.Sweep{Param: "iterations", Label: "iterations", Values: s.iterations},
	}
	for _, which := range []string{"worst", "median"} {
		for _, start := range []Start{FromLatent, FromZeros} {
			from := "the latent"
			if start == FromZeros {
				from = "zeros"
			}
			x.Arms = append(x.Arms, systems.Arm{Name: which + " block, from " + from, Text: "of the 8 blocks", Run: func(ctx context.Context, d systems.Draw) (*systems.Outcome, error) {
				_, list, err := s.followed(ctx, d)
				if err != nil {
					return nil, err
				}
				var errs []float64
				for i := range list {
					errs = append(errs, list[i].of(start)[d.Params.Int("iterations")-1])
				}
				slices.Sort(errs)
				v := errs[len(errs)-1]
				if which == "median" {
					v = errs[len(errs)/2]
				}
				return &systems.Outcome{Values: map[string]float64{"error": max(v, 1e-8)}}, nil // exact has no place on the axis
			}})
		}
	}
	return x
}

// boundCurves is error and speed-up over the bound.
func (s sizes) boundCurves() systems.Experiment {
	x := systems.Experiment{
		Name: "bounds", Question: "What does the bound of the change buy? (whole flow, 49 tokens)",
		Size: systems.Size{N: s.metrics, Seeds: s.seeds},
		Measures: []systems.Measure{
			{Name: "speed-up", Text: "sequential calls over the calls that wait for one another", Higher: true},
			{Name: "off", Text: "greatest difference of a pixel to the sequential samples"},
		},
		Sweep: &systems.Sweep{Param: "bound", Label: "change at which a segment is done", Values: s.bounds},
	}
	for _, w := range ways[1:] {
		x.Arms = append(x.Arms, systems.Arm{Name: w.name, Text: w.text, Run: func(ctx context.Context, d systems.Draw) (*systems.Outcome, error) {
			f, err := s.fit(ctx, d.Env, false, d.Seed)
			if err != nil {
				return nil, err
			}
			p, err := f.pair(d.Env, Task+" curve", w.name, false, Request{Seed: d.Seed, N: d.N, Options: bounded(d.Params.Num("bound"))})
			if err != nil {
				return nil, err
			}
			return &systems.Outcome{Values: map[string]float64{"speed-up": 1 / p.depth, "off": max(p.off, 1e-8)}}, nil
		}})
	}
	return x
}
