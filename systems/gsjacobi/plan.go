package gsjacobi

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/models/flow"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/systems/bases"
	"github.com/fidlab/fidlab/train"
)

func init() {
	systems.Register(systems.Recipe{
		Number: 42, Name: "gsjacobi", Aliases: []string{"tarflow"},
		Source: "Liu and Qin 2025, Accelerate TarFlow Sampling with GS-Jacobi Iteration, arXiv 2505.12849",
		Idea: "The inverse of a TarFlow waits for every token. As an equation for all tokens of a block at once it can be iterated instead, and converges long before it is exact; blocks that " +
			"converge slowly are cut into segments. Two numbers, computed from pictures, tell which blocks those are and where to start.",
		Headline: "work/depth",
		Plan:     plan,
		Sheets:   []string{"samples"},
		Figures: []systems.Figure{
			{File: "iterations", Experiment: "iterations", Measure: "error", Title: "Errors of the worst and of the median block, 49 tokens", LogY: true},
			{File: "speedup", Experiment: "bounds", Measure: "speed-up", Title: "Fewer calls that wait for one another, 49 tokens", Y: "sequential calls over those", LogX: true},
			{File: "error", Experiment: "bounds", Measure: "off", Title: "And how far samples are from the sequential ones", Y: "greatest difference of a pixel", LogX: true, LogY: true},
		},
		Remark: "a tenth to a fifth of the dependent calls, the same samples; but CRM does not find the slow blocks of flows this small, and on a CPU the work costs more than the calls save",
		Open: []string{
			"whether CRM ranks the blocks of flows that are trained to the end: these are trained for a minute.",
			"the released weights at 64 and 128 pixels, and times on a GPU: neither was at hand. models/flow loads the released names; the published strategies are presets.",
			"bfloat16: iterates are float32 throughout.",
		},
	})
}

// sizes are the numbers of a tier.
type sizes struct {
	seeds                   int
	cuts                    int // every so many of the numbers of segments, from 1 on, and the last
	steps, batch            int // of the flow of 49 tokens
	fineSteps, fineBatch    int
	width, held             int // held: digits that bits are of
	pictures, finePictures  int // that metrics are of
	exact, work, n, metrics int // samples of the experiments
	reference               int
	clock                   bool // a proof whose values are compared has none
	bounds                  []float64
	iterations              []float64
}

var tiers = map[systems.Tier]sizes{
	systems.Tiny: {
		seeds: 1, cuts: 5, steps: 4, batch: 4, fineSteps: 2, fineBatch: 2, width: 16, held: bases.HeldBatch, pictures: 8, finePictures: 4, exact: 2, work: 2, n: 66, metrics: 2, reference: 100,
		bounds: []float64{1e-4, 1e-2}, iterations: []float64{1, 8},
	},
	systems.Short: {
		seeds: 2, cuts: 5, steps: 40, batch: 16, fineSteps: 6, fineBatch: 4, width: 32, held: heldCount, pictures: 32, finePictures: 16, exact: 1, work: 8, n: 66, metrics: 4, reference: 300, clock: true,
		bounds: []float64{1e-4, 1e-2}, iterations: []float64{1, 2, 4, 8, 16, 32},
	},
	systems.Full: {
		seeds: 3, cuts: 1, steps: 400, batch: 16, fineSteps: 250, fineBatch: 8, width: 96, held: heldCount, pictures: 400, finePictures: 100, exact: 1, work: 64, n: 256, metrics: 24, reference: 10000, clock: true,
		bounds: []float64{1e-5, 1e-4, 1e-3, 1e-2, 1e-1}, iterations: []float64{1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48},
	},
}

// coarse is the flow of 49 tokens: 8 blocks of 1 layer, so that there are enough to rank.
func (s sizes) coarse() flow.Config {
	c := flow.MNIST()
	c.Blocks, c.Layers, c.Width = 8, 1, s.width
	return c
}

// fine is the flow of 196 tokens: 4 blocks of 2 layers.
func (s sizes) fine() flow.Config {
	c := fine()
	c.Width = s.width
	return c
}

// fitted is a flow that was trained here, with what its metrics say.
type fitted struct {
	*Trained
	tape   *nn.Tape
	report *Report
	bits   float64 // a pixel of digits held out
}

// fit trains the flow of a seed, once for all arms.
func (s sizes) fit(ctx context.Context, env *systems.Env, fine bool, seed uint64) (*fitted, error) {
	name, c, steps, batch, pictures := Task, s.coarse(), s.steps, s.batch, s.pictures
	if fine {
		name, c, steps, batch, pictures = FineTask, s.fine(), s.fineSteps, s.fineBatch, s.finePictures
	}
	return systems.Memo(env, fmt.Sprintf("gsjacobi %s %d %d %d %d", name, s.width, steps, batch, seed), func() (*fitted, error) {
		k := settings(steps, batch)
		k.Seeds = train.SeedsOf(seed)
		job, net, err := newJob(gpu.CPU(), name, k, c, s.held)
		if err != nil {
			return nil, err
		}
		evaluate := job.Evaluate
		job.Sample, job.Evaluate, job.Scores = nil, nil, nil
		if _, err := train.Run(ctx, job, train.Config{Settings: k}); err != nil {
			return nil, err
		}
		f := &fitted{Trained: &Trained{net, trainingNoise}, tape: nn.NewTape(gpu.CPU(), gpu.Float32)}
		bits, err := evaluate(ctx, steps)
		if err != nil {
			return nil, err
		}
		f.bits = bits[0]
		f.report, err = f.Analyze(f.tape, pictures, seed, DefaultBound)
		return f, err
	})
}

// way is one way to invert the flow.
type way struct{ name, text string }

// ways are the arms.
var ways = []way{
	{"sequential", "token by token, keys and values kept"},
	{"Jacobi from the latent", "every block at once from its latent"},
	{"Jacobi from zeros", "every block at once from zeros"},
	{"Jacobi", "every block at once from where its IGM says"},
	{"GS-Jacobi", "the automatic strategy: starts by IGM, tough blocks by CRM, cut so that the calls are fewest"},
	{"GS-Jacobi, even", "tough blocks cut until no segment takes more iterations than a block that is not tough"},
}

// strategy is a way's.
func (f *fitted) strategy(name string) Strategy {
	c := f.Net.Config
	switch name {
	case "sequential":
		return Uniform(c, Setting{})
	case "Jacobi from the latent":
		return Uniform(c, Setting{Segments: 1})
	case "Jacobi from zeros":
		return Uniform(c, Setting{Segments: 1, Start: FromZeros})
	case "Jacobi":
		s := f.report.Strategy(false)
		for i := range s {
			s[i].Segments = 1
		}
		return s
	}
	return f.report.Strategy(name == "GS-Jacobi, even")
}

// bounded are options of a bound.
func bounded(bound float64) Options { return Options{Bound: bound} }

// sequential draws by the flow's own inverse, whose code is not the solver's.
func (f *fitted) sequential(r Request) (*gpu.Tensor, error) {
	c := &f.Net.Config
	x, _, err := draw(f.tape, f.Trained, r, func(z *gpu.Tensor, o Options) (*gpu.Tensor, *Stats, error) {
		x, err := f.Net.Inverse(f.tape, z, o.InverseOptions)
		return x, &Stats{Calls: f.calls(), LayerTokens: int64(z.Shape()[0] * f.calls() * c.Layers)}, err
	})
	return x, err
}

// calls of the sequential inverse.
func (f *fitted) calls() int { return (f.Net.Config.Tokens() - 1) * f.Net.Config.Blocks }

// drawn is samples of a way beside the sequential ones of the same noise.
type drawn struct {
	x                *gpu.Tensor
	depth, work, off float64
	time             float64 // over that of a sequential draw just before
}

// pair draws a way's samples, batch of them at a time, and compares them with the sequential ones.
func (f *fitted) pair(env *systems.Env, key, name string, clocked bool, r Request) (*drawn, error) {
	want, err := systems.Memo(env, fmt.Sprintf("gsjacobi sequential %s %d %d", key, r.Seed, r.N), func() (*gpu.Tensor, error) { return f.sequential(r) })
	if err != nil {
		return nil, err
	}
	how := f.strategy(name) // that of two arms may be one
	return systems.Memo(env, fmt.Sprintf("gsjacobi %s %t %s %d %d %g", how, name == "sequential", key, r.Seed, r.N, r.Bound), func() (*drawn, error) {
		out := &drawn{x: want, depth: 1, work: 1}
		if name == "sequential" && !clocked {
			return out, nil
		}
		var base time.Duration
		if clocked {
			start := time.Now()
			if _, err := f.sequential(r); err != nil {
				return nil, err
			}
			base = time.Since(start)
		}
		start := time.Now()
		if name == "sequential" {
			if _, err := f.sequential(r); err != nil {
				return nil, err
			}
		} else {
			x, stats, err := Draw(f.tape, f.Trained, how, r)
			if err != nil {
				return nil, err
			}
			out = &drawn{x: x, off: difference(x, want)}
			for _, s := range stats {
				out.depth += float64(s.Calls) / float64(f.calls()*len(stats))
				out.work += float64(s.LayerTokens) / float64(f.calls()*f.Net.Config.Layers*r.N)
			}
		}
		if took := time.Since(start); clocked {
			out.time = took.Seconds() / base.Seconds()
		}
		return out, nil
	})
}

// difference is the greatest of two tensors of float32 on the CPU.
func difference(x, y *gpu.Tensor) (d float64) {
	for i, v := range x.F32() {
		d = max(d, math.Abs(float64(v)-float64(y.F32()[i]))) // NaN stays
	}
	return d
}

func plan(_ context.Context, _ *systems.Env, tier systems.Tier) ([]systems.Experiment, error) {
	s := tiers[tier]
	return []systems.Experiment{s.exactness(), s.workload(), s.samples(), s.metricsStudy(), s.iterationCurves(), s.boundCurves()}, nil
}

// exactness solves every block with as many iterations as make it exact, in every way to cut it and from both starts.
func (s sizes) exactness() systems.Experiment {
	x := systems.Experiment{
		Name: "exact", Question: "Do as many iterations as a segment has tokens give the sequential samples, however the tokens are cut?",
		Size:     systems.Size{N: s.exact, Seeds: s.seeds},
		Measures: []systems.Measure{{Name: "off", Text: "greatest difference of a pixel to the sequential samples, float32, pictures from -1 to 1"}, {Name: "ways", Text: "ways to cut and to start that were tried"}},
	}
	for i, name := range []string{"49 tokens", "196 tokens"} {
		x.Arms = append(x.Arms, systems.Arm{Name: name, Text: "every number of segments that divides them, from the latent and from zeros; the worst", Run: func(ctx context.Context, d systems.Draw) (*systems.Outcome, error) {
			f, err := s.fit(ctx, d.Env, i == 1, d.Seed)
			if err != nil {
				return nil, err
			}
			r := Request{Seed: d.Seed, N: d.N}
			want, err := f.sequential(r)
			if err != nil {
				return nil, err
			}
			out := &systems.Outcome{Values: map[string]float64{"off": 0}}
			list := divisors(f.Net.Config.Tokens())
			for i, segments := range list {
				if i%s.cuts != 0 && i != len(list)-1 {
					continue
				}
				for _, start := range []Start{FromLatent, FromZeros} {
					got, _, err := Draw(f.tape, f.Trained, Uniform(f.Net.Config, Setting{Segments: segments, Start: start}), r)
					if err != nil {
						return nil, err
					}
					out.Values["off"] = max(out.Values["off"], difference(got, want))
					out.Values["ways"]++
				}
			}
			return out, nil
		}})
		x.Criteria = append(x.Criteria, systems.Criterion{
			Name: name, Claim: "at most 1e-4", Measure: "off", Arm: name, Form: systems.Value, Bound: 1e-4,
		})
	}
	return x
}

// workload measures what inversion takes at 196 tokens.
func (s sizes) workload() systems.Experiment {
	x := systems.Experiment{
		Name: "work", Question: fmt.Sprintf("How many dependent calls, how much work and how much time does it take, 196 tokens, batches of %d, a change of 1e-4?", s.work),
		Size: systems.Size{N: s.work, Seeds: s.seeds},
		Measures: []systems.Measure{
			{Name: "depth", Text: "calls of the network that wait for one another, over the sequential inverse's 780"},
			{Name: "work", Text: "layers times tokens, over the sequential inverse's"},
			{Name: "off", Text: "greatest difference of a pixel to the sequential samples"},
			{Name: "bpd", Text: "bits a pixel of digits held out with the noise of training"},
		},
		Notes: []string{"Both sides keep keys and values. Depth counts both branches of guidance as one call; here is none."},
	}
	if s.clock {
		x.Measures = append(x.Measures, systems.Measure{Name: "time", Text: "time on one thread of a CPU, over that of the sequential inverse beside it"})
		x.Criteria = append(x.Criteria, systems.Criterion{Name: "time", Claim: "takes at most 0.7 of the sequential time", Measure: "time", Arm: "GS-Jacobi", Form: systems.Value, Bound: 0.7})
	}
	for _, w := range ways {
		if w.name == "Jacobi from zeros" {
			continue // the experiments of 49 tokens have it
		}
		x.Arms = append(x.Arms, systems.Arm{Name: w.name, Text: w.text, Run: func(ctx context.Context, d systems.Draw) (*systems.Outcome, error) {
			f, err := s.fit(ctx, d.Env, true, d.Seed)
			if err != nil {
				return nil, err
			}
			r := Request{Seed: d.Seed, N: d.N, Options: bounded(DefaultBound)}
			p, err := f.pair(d.Env, FineTask, w.name, s.clock, r)
			if err != nil {
				return nil, err
			}
			out := &systems.Outcome{Values: map[string]float64{"depth": p.depth, "work": p.work, "off": p.off, "bpd": f.bits}}
			if s.clock {
				out.Values["time"] = p.time
				out.Notes = append(out.Notes, fmt.Sprintf("seed %d: %s", d.Seed, f.strategy(w.name)))
			}
			return out, nil
		}})
	}
	x.Criteria = append(x.Criteria,
		systems.Criterion{Name: "depth", Claim: "at most 0.35 of the sequential calls", Measure: "depth", Arm: "GS-Jacobi", Form: systems.Value, Bound: 0.35},
		systems.Criterion{Name: "error", Claim: "samples are within 1e-3", Measure: "off", Arm: "GS-Jacobi", Form: systems.Value, Bound: 1e-3},
		systems.Criterion{Name: "fewer than Jacobi", Claim: "no more calls than Jacobi from the latent", Measure: "depth", Arm: "GS-Jacobi", Against: []string{"Jacobi from the latent"}, Bound: 1, Shown: true},
		systems.Criterion{Name: "less work than Jacobi", Claim: "cut evenly, at most 0.7 of the work of Jacobi from the latent", Measure: "work", Arm: "GS-Jacobi, even", Against: []string{"Jacobi from the latent"}, Bound: 0.7, Shown: true},
	)
	return x
}

// samples compares digits by FID, 49 tokens.
func (s sizes) samples() systems.Experiment {
	x := systems.Experiment{
		Name: "samples", Question: "Are the samples as good, 49 tokens, a change of 1e-4?",
		Size: systems.Size{N: s.n, Seeds: s.seeds},
		Measures: []systems.Measure{
			{Name: "fid", Text: "FID to the test digits in the features of mnist, after the denoising step", Least: bases.Features + 1},
			{Name: "floor", Text: "FID of as many training digits"},
			{Name: "change", Text: "difference of the FID to that of the sequential samples, over it"},
			{Name: "off", Text: "greatest difference of a pixel to the sequential samples"},
			{Name: "depth", Text: "dependent calls over the sequential inverse's 384"},
			{Name: "work", Text: "layers times tokens, over the sequential inverse's"},
			{Name: "bpd", Text: "bits a pixel of digits held out with the noise of training"},
		},
	}
	for _, w := range ways {
		x.Arms = append(x.Arms, systems.Arm{Name: w.name, Text: w.text, Run: func(ctx context.Context, d systems.Draw) (*systems.Outcome, error) {
			f, err := s.fit(ctx, d.Env, false, d.Seed)
			if err != nil {
				return nil, err
			}
			j, err := bases.OpenJudge(ctx, d.Env, s.reference)
			if err != nil {
				return nil, err
			}
			p, err := f.pair(d.Env, Task, w.name, false, Request{Seed: d.Seed, N: d.N, Batch: 64, Denoise: 1, Options: bounded(DefaultBound)})
			if err != nil {
				return nil, err
			}
			out := &systems.Outcome{Values: map[string]float64{"off": p.off, "depth": p.depth, "work": p.work, "bpd": f.bits}}
			if out.Values["fid"], err = j.FID(ctx, p.x); err != nil {
				return nil, err
			}
			if out.Values["floor"], err = j.Floor(ctx, d.Env, d.Seed, d.N); err != nil {
				return nil, err
			}
			base, err := systems.Memo(d.Env, fmt.Sprintf("gsjacobi fid %d %d", d.Seed, d.N), func() (float64, error) {
				q, err := f.pair(d.Env, Task, "sequential", false, Request{Seed: d.Seed, N: d.N, Batch: 64, Denoise: 1})
				if err != nil {
					return 0, err
				}
				return j.FID(ctx, q.x)
			})
			if err != nil {
				return nil, err
			}
			out.Values["change"] = math.Abs(out.Values["fid"]-base) / base
			if d.First {
				if out.Pictures, err = Pictures(p.x.Rows(0, min(12, d.N))); err != nil {
					return nil, err
				}
			}
			return out, nil
		}})
	}
	x.Criteria = []systems.Criterion{
		{Name: "fid", Claim: "the FID differs by at most 1 %", Measure: "change", Arm: "GS-Jacobi", Form: systems.Value, Bound: 0.01},
		{Name: "error", Claim: "samples are within 1e-3", Measure: "off", Arm: "GS-Jacobi", Form: systems.Value, Bound: 1e-3},
		{Name: "depth", Claim: "at most 0.35 of the sequential calls", Measure: "depth", Arm: "GS-Jacobi", Form: systems.Value, Bound: 0.35, Shown: true},
	}
	return x
}
