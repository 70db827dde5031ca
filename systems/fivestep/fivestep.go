// Package fivestep is the two-level grid of "Hyperparameters are all you need:
// Using five-step inference for an original diffusion model to generate images
// comparable to the latest distillation model" (arXiv 2510.02390, later
// "F-scheduler") and its proof.
//
// A steep Karras curve is cut early and the steps are spread anew over the time
// that is left; sampling stops at a small noise level, which the decoder of a
// latent model takes out. The grid is the rule two-level of package diffusion with
// the presets f5, f6 and f8; FreeU, which the paper adds as an option, is
// sampler.FreeU. Here is what they are worth where the score is exact.
//
// Kept: the grid, its settings for Stable Diffusion 1.5 (curve 8 of rho 5 cut at 6
// for up to six steps, 12 of rho 7 cut at 9 for more), first-order DPM-Solver++ for
// five and six steps, 2M for seven and more, guidance.
// Shrunk: Stable Diffusion to a Gaussian mixture of digits in 24 dimensions with
// its exact score, COCO's FID to the Fréchet distance to exact moments.
// Added: the distance to the exact end of the same noise, which tells apart a
// sampler that is right from one whose errors make up for each other; baselines
// tuned with as many trials as the method.
// Chosen, where the paper leaves it: a step to zero noise starts at the cut level
// (one level fewer); a class is a pair of the mixture's components; the decoder
// that removes noise is what least squares would make of one trained on latents
// with noise of one deviation, without training it.
package fivestep

import (
	"context"
	"fmt"

	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/systems/bases"
)

func init() {
	systems.Register(systems.Recipe{
		Number:   35,
		Name:     "fivestep",
		Source:   "Hyperparameters are all you need, 2025, arXiv 2510.02390",
		Idea:     "Cut a steep noise curve early, spread the steps anew over the time that is left, and leave the last noise to the decoder.",
		Needs:    map[string]string{bases.DigitMixture: "b3965fa64ea272c88cb0f3502ba0988611d0354e6ec0a073bdf3eb15363c6a83"},
		Headline: "first-order-5/beats the best usual grid",
		Plan:     plan,
		Parts:    parts(),
		Figures: []systems.Figure{
			{File: "first-fd", Experiment: "curves-first", Measure: "fd", Title: "First-order DPM-Solver++: distance of the samples", LogX: true, LogY: true, Cost: true},
			{File: "first-error", Experiment: "curves-first", Measure: "error", Title: "First-order DPM-Solver++: distance to the exact end", Y: "root mean square distance", LogX: true, LogY: true, Cost: true},
			{File: "second-fd", Experiment: "curves-second", Measure: "fd", Title: "DPM-Solver++ 2M: distance of the samples", LogX: true, LogY: true, Cost: true},
			{File: "second-error", Experiment: "curves-second", Measure: "error", Title: "DPM-Solver++ 2M: distance to the exact end", Y: "root mean square distance", LogX: true, LogY: true, Cost: true},
			{File: "guidance", Experiment: "curves-guidance", Measure: "error", Title: "Eight steps under guidance: distance to the exact end", Y: "root mean square distance", LogY: true},
			{File: "decoder", Experiment: "curves-decoder", Measure: "fd", Title: "Eight steps that stop at a noise level, decoded", LogY: true},
		},
		Remark: "for first-order steps; with second order and no guidance a tuned curve is as good",
		Sheets: []string{"first-order-5"},
		Open: []string{
			"A trained VAE as the decoder, the paper's own setting: no trained network is shipped yet. The decoders here are in closed form.",
			"FreeU's gain: it needs a U-Net that shows its skip features. The operation is there and tested (sampler.FreeU).",
			"FID of Stable Diffusion 1.5 and XL on COCO: the models run as ONNX files, the weights and prompts are the user's; the page has the command.",
			"A distilled network: its stand-in is the exact map from noise to data, the limit of distillation.",
		},
	})
}

// sizes of a tier: of comparisons of grids, of the decoders, whose distances are
// small and want many samples, and of figures.
func sizes(tier systems.Tier) (grids, decoders, figures systems.Size) {
	switch tier {
	case systems.Tiny:
		s := systems.Size{N: 64, Seeds: 2, Tune: 1}
		return s, s, systems.Size{N: 64, Seeds: 2}
	case systems.Short:
		return systems.Size{N: 1000, Seeds: 3, Tune: 1}, systems.Size{N: 4000, Seeds: 3, Tune: 1}, systems.Size{N: 1000, Seeds: 2}
	}
	return systems.Size{N: 2000, Seeds: 12, Tune: 2}, systems.Size{N: 8000, Seeds: 5, Tune: 1}, systems.Size{N: 2000, Seeds: 3}
}

func plan(ctx context.Context, env *systems.Env, tier systems.Tier) ([]systems.Experiment, error) {
	bed, err := systems.Use[*bases.Mixture](ctx, env, bases.DigitMixture)
	if err != nil {
		return nil, err
	}
	linear, err := newTask("digits", lawOf(bed), "vp")
	if err != nil {
		return nil, err
	}
	latent, err := newLatents(bed)
	if err != nil {
		return nil, err
	}
	guided, err := newGuided(bed)
	if err != nil {
		return nil, err
	}
	grids, decoders, figures := sizes(tier)
	solverSize := grids
	solverSize.Seeds = min(grids.Seeds, 5)
	var out []systems.Experiment
	for _, c := range pairs(tier) {
		out = append(out, schedule(linear, c.solver, c.steps, grids, tier))
	}
	for _, w := range weights(tier) {
		out = append(out, guided.experiment(w, solverSize, tier))
	}
	for _, steps := range []int{5, 8} {
		out = append(out, solvers(linear, fmt.Sprintf("solvers-%d", steps), systems.Params{"steps": steps}, solverSize, tier))
		if tier != systems.Tiny {
			out = append(out, solvers(guided.task, fmt.Sprintf("solvers-guided-%d", steps), systems.Params{"steps": steps, "guidance": 7.5}, solverSize, tier))
		}
	}
	for _, c := range pairs(tier) {
		if c.solver != "ddim" || c.steps == 5 { // the paper takes second order for eight steps
			out = append(out, latent.decoding(c.solver, c.steps, decoders, tier))
			if tier != systems.Tiny || c.steps == 8 {
				out = append(out, latent.pixels(c.solver, c.steps, decoders, tier))
			}
		}
	}
	return append(out, curves(linear, "ddim", figures, tier), curves(linear, "dpm++2m", figures, tier), guided.curves(figures, tier), latent.curves(figures, tier)), nil
}

// solverSteps is a solver and its number of steps.
type solverSteps struct {
	solver string
	steps  int
}

// pairs are the paper's own two in the tiny tier, else both solvers at both numbers.
func pairs(tier systems.Tier) []solverSteps {
	if tier == systems.Tiny {
		return []solverSteps{{"ddim", 5}, {"dpm++2m", 8}}
	}
	return []solverSteps{{"ddim", 5}, {"ddim", 8}, {"dpm++2m", 5}, {"dpm++2m", 8}}
}

// weights of guidance that are looked at closely: the ends of the paper's range.
func weights(tier systems.Tier) []float64 {
	if tier == systems.Full {
		return []float64{5, 7.5}
	}
	return []float64{7.5}
}
