package gaussteleport

import (
	"context"
	"fmt"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/systems/bases"
)

func init() {
	systems.Register(systems.Recipe{
		Number: 2, Name: "gaussteleport",
		Source: "Wang and Vastola 2024, The Unreasonable Effectiveness of Gaussian Score Approximation for Diffusion Models and its Applications (TMLR)",
		Idea: "At high noise a diffusion model's score is nearly that of a Gaussian with the data's mean and covariance, whose flow has a closed form: one matrix product " +
			"replaces the first steps of any sampler, from the same noise. The same closed forms measure how much of a score is that simple, at every noise level and stage of training.",
		Needs:    map[string]string{bases.DigitMixture: "b3965fa64ea272c88cb0f3502ba0988611d0354e6ec0a073bdf3eb15363c6a83"},
		Headline: "skip/same distance",
		Plan:     plan,
		Parts:    parts(),
		Figures: []systems.Figure{
			{File: "skipped", Experiment: "skipped", Measure: "rmse", Title: "Error against skipped share of 18 steps", LogY: true},
			{File: "shares", Experiment: "shares", Measure: "unexplained", Title: "Share of the exact score that is left unexplained", LogX: true, LogY: true},
			{File: "training", Experiment: "training", Measure: "unexplained", Title: "A trained score at sigma 0.5", LogX: true, LogY: true},
		},
		Remark: "at few evaluations most of the gain is that of a grid that starts lower",
		Sheets: []string{"equal"},
		Open: []string{
			"the paper's FID on CIFAR-10 with published networks: the adapter is there (sample --model net.onnx --teleport), the weights are not",
		},
	})
}

// The sizes of the tiers.
type sizes struct {
	n, seeds    int     // of samples
	tune        int     // seeds of tuning
	sweep       int     // seeds of figures
	held, train int     // samples that scores are compared on, and made of
	width       int     // of the trained network
	steps       []int   // of training at which it is looked at; early is the second, late the most
	later       float64 // how much nearer to the truth than to the Gaussian it must be then
}

var tiers = map[systems.Tier]sizes{
	systems.Tiny:  {n: 64, seeds: 2, tune: 1, sweep: 1, held: 40, train: 400, width: 16, steps: []int{1, 4, 8}, later: 1},
	systems.Short: {n: 2000, seeds: 3, tune: 1, sweep: 1, held: 300, train: 4000, width: 96, steps: []int{1, 100, 2000}, later: 1},
	systems.Full:  {n: 2000, seeds: 6, tune: 2, sweep: 3, held: 1000, train: 8000, width: 128, steps: []int{1, 100, 10, 30, 300, 1000, 3000}, later: 0.8},
}

// bench is what the experiments share.
type bench struct {
	sizes
	env   *systems.Env
	bed   *bases.Mixture
	path  diffusion.Path
	whole *diffusion.Grid // from sigma 80, where exact ends start
	data  *gpu.Tensor     // the training set, [train, d]
	stats *fid.Spectrum   // of it
	law   *sampler.Gaussian
	v3    sampler.DPMSolverV3 // with the bed's statistics
}

// trainSeed draws the training set; the harness's seeds are others.
const trainSeed = 1 << 40

func newBench(ctx context.Context, env *systems.Env, bed *bases.Mixture, s sizes) (*bench, error) {
	b := &bench{sizes: s, env: env, bed: bed, path: diffusion.DefaultVE(), data: bed.Draws(trainSeed, s.train)}
	var err error
	if b.whole, err = diffusion.Build(b.path, diffusion.Spec{Rule: "karras", Steps: 18}); err != nil {
		return nil, err
	}
	if b.stats, err = fid.FitSpectrum(ctx, rowsOf(b.data.F64(), bed.Dims), bed.Dims, fid.SpectrumOptions{}); err != nil {
		return nil, err
	}
	if b.law, err = GaussianOf(b.stats.LowRank, MeanRest, nil); err != nil {
		return nil, err
	}
	return b, nil
}

// measure takes the bed's statistics for DPM-Solver-v3.
func (b *bench) measure(ctx context.Context) error {
	o := sampler.StatisticsOptions{Images: b.bed.Options(trainSeed+1, min(256, b.n))}
	if b.n < 1000 {
		o.Steps = 20
	}
	stats, err := sampler.EstimateStatistics(ctx, b.bed, b.path, o)
	b.v3 = sampler.DPMSolverV3{Stats: stats, Order: 3, Corrector: "pseudo", LowerFinal: true}
	return err
}

// rowsOf is vectors of d values in one array.
func rowsOf(x []float64, d int) fid.VectorSet {
	return func(_ context.Context, yield func(int, []float64) error) error {
		for ; len(x) > 0; x = x[d:] {
			if err := yield(-1, x[:d]); err != nil {
				return err
			}
		}
		return nil
	}
}

func plan(ctx context.Context, env *systems.Env, tier systems.Tier) ([]systems.Experiment, error) {
	bed, err := systems.Use[*bases.Mixture](ctx, env, bases.DigitMixture)
	if err != nil {
		return nil, err
	}
	b, err := newBench(ctx, env, bed, tiers[tier])
	if err != nil {
		return nil, err
	}
	if err := b.measure(ctx); err != nil {
		return nil, err
	}
	moved, err := newBench(ctx, env, moved(bed), tiers[tier])
	if err != nil {
		return nil, err
	}
	laws, err := moved.laws(ctx)
	if err != nil {
		return nil, err
	}
	scores, err := b.scores(ctx)
	if err != nil {
		return nil, err
	}
	plan := []systems.Experiment{b.equal(), b.skip(), b.tooFar(), b.solvers(), b.tuned(), moved.uncentred(), laws}
	plan = append(plan, scores...)
	plan = append(plan, b.learning()...)
	return append(plan, b.trained(), b.skipped()), nil
}

// moved is the testbed with its mean one deviation of the data from zero in every
// dimension. Principal coordinates have no mean, which flatters whoever starts
// from N(0, sigma²) at a low sigma; pictures have one.
func moved(bed *bases.Mixture) *bases.Mixture {
	spec := bed.Spec
	spec.Means = make([][]float64, len(bed.Spec.Means))
	for k, mu := range bed.Spec.Means {
		for _, v := range mu {
			spec.Means[k] = append(spec.Means[k], v+0.5)
		}
	}
	m, err := bases.NewMixture(spec)
	if err != nil {
		panic(fmt.Sprintf("gaussteleport: the testbed with another mean: %v", err))
	}
	return m
}
