//go:build native

package bases

import (
	"math"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/models/dit"
	"github.com/fidlab/fidlab/models/unet"
	"github.com/fidlab/fidlab/train"
)

// Small networks that are trained in bf16 end where those in float32 end: the two of a seed, which see the same examples under the same
// noise, are nearer to each other than the seeds are. The other flavour rounds alike, as the tests of nn and train say, and would take
// ten times as long.
func TestPrecisionTrainsAsWell(t *testing.T) {
	const steps, seeds = 90, 3
	transformer, err := dit.Preset("digits-dit")
	if err != nil {
		t.Fatal(err)
	}
	small := unet.Config{Channels: 1, Height: 8, Width: 8, Base: 16, Mult: []int{1, 2}, Blocks: 1, AttnAt: []int{2}, HeadWidth: 16, Embed: 64, Groups: 4, Classes: 10, NoneRow: true, ScaleShift: true}
	tasks := map[string]func(s train.Settings) (*train.Job, error){
		"unet": func(s train.Settings) (*train.Job, error) {
			d := mnistUNet()
			d.net, d.data = small, digitPictures
			return d.make(t.Context(), gpu.CPU(), s)
		},
		"dit": func(s train.Settings) (*train.Job, error) {
			d := mnistDiT()
			d.net, d.data = transformer, digitPictures
			return d.make(t.Context(), gpu.CPU(), s)
		},
	}
	for name, task := range tasks {
		var full, low []float64
		for seed := range uint64(seeds) {
			for _, precision := range train.Precisions() {
				s := train.Settings{Steps: steps, Batch: 32, Rate: 2e-3, Schedule: "cosine", Warmup: 20, Clip: 1, EMA: []float64{0.95}, Precision: precision, Seeds: train.SeedsOf(seed)}
				job, err := task(s)
				if err != nil {
					t.Fatal(err)
				}
				r, err := train.Run(t.Context(), job, train.Config{Settings: s})
				if err != nil {
					t.Fatal(err)
				}
				if job.Scores[0] != "held_out" || !(r.Scores[0] < 1) {
					t.Fatalf("%s, seed %d, %s: scores %q are %v", name, seed, precision, job.Scores, r.Scores)
				}
				if precision == "bf16" {
					low = append(low, r.Scores[0])
				} else {
					full = append(full, r.Scores[0])
				}
			}
		}
		var apart, mean, meanLow float64
		for i := range full {
			apart = max(apart, math.Abs(full[i]-low[i]))
			mean, meanLow = mean+full[i]/seeds, meanLow+low[i]/seeds
		}
		spread := 0.0
		for _, v := range full {
			spread += (v - mean) * (v - mean) / (seeds - 1)
		}
		spread = math.Sqrt(spread)
		t.Logf("%s: held out %.4f in float32, %.4f in bf16; standard deviation over seeds %.4f, the most between two of a seed %.4f", name, full, low, spread, apart)
		if !(math.Abs(mean-meanLow) < spread) || apart == 0 || !(apart < 3*spread) {
			t.Errorf("%s: held out %v in float32, %v in bf16: the means differ by %.4f, two of a seed by %.4f at most, the seeds by %.4f", name, full, low, math.Abs(mean-meanLow), apart, spread)
		}
	}
}
