package fivestep

import (
	"context"
	"fmt"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/systems"
)

// solverOf is the solver that the paper takes for a number of steps.
func solverOf(steps int) string {
	if steps <= 6 {
		return "ddim"
	}
	return "dpm++2m"
}

// candidates are the solvers that the tuned arms may choose from.
var candidates = []string{"ddim", "dpm++2m", "dpm++2m-heun", "dpm++3m", "unipc:variant=bh1", "unipc:variant=bh2", "deis"}

// solvers compares the paper's choice of grid and solver with a tuned solver on a
// usual grid, with a grid that was learned from exact trajectories, and with the
// limit of distillation. base has the number of steps, and the guidance's weight
// of a guided task.
func solvers(t *task, name string, base systems.Params, size systems.Size, tier systems.Tier) systems.Experiment {
	steps := base.Int("steps")
	two := settings(base, paper(steps), systems.Params{"solver": solverOf(steps)})
	question := fmt.Sprintf("is the two-level grid, or a better solver, what %d evaluations want?", steps)
	if base.Has("guidance") {
		question = fmt.Sprintf("and under guidance of weight %g?", base.Num("guidance"))
	}
	onGrids := trials(tier, each("solver", candidates...), each("rule", "karras", "exponential", "trailing"))
	onTwo := trials(tier, each("solver", candidates...), []systems.Params{{"base": 8, "base-rho": 5.0, "cut": 6}, {"base": 12, "base-rho": 7.0, "cut": 9}, {"base": 12, "base-rho": 12.0, "cut": 10}})
	learned := t.arm("learned grid", "levels chosen by dynamic programming over exact trajectories", settings(base, systems.Params{"solver": solverOf(steps)}))
	learned.Run = t.runLearned
	limit := systems.Arm{Name: "exact map", Text: "the limit of distillation: noise to data in one evaluation", Set: base, Cost: systems.Cost{NFE: 1}, Run: t.runExact}
	fixed := "the paper's settings stood before, the rival is tuned here: the comparison favours the rival"
	return systems.Experiment{
		Name: name, Question: question, Size: size, Measures: measures(),
		Arms: []systems.Arm{
			t.arm("two-level", "the paper's grid and solver, last step to zero", two),
			t.arm("two-level, noise kept", "the paper's grid, solver and end", settings(two, systems.Params{"end": "keep"})),
			t.tuned("two-level, solver tuned", "7 solvers on 3 two-level grids", settings(base, systems.Params{"rule": "two-level"}), onTwo),
			t.tuned("solver tuned", "7 solvers on 3 usual grids", base, onGrids),
			learned, limit,
		},
		Criteria: []systems.Criterion{
			{Name: "against a tuned solver", Claim: "the paper's grid and solver beat a tuned solver on a usual grid", Measure: "fd", Arm: "two-level", Against: []string{"solver tuned"}, Bound: 1, Unequal: fixed, Shown: true},
			{Name: "both tuned", Claim: "a tuned solver does better on a two-level grid than on a usual one", Measure: "fd", Arm: "two-level, solver tuned", Against: []string{"solver tuned"}, Bound: 1, Shown: true},
			{Name: "both tuned, error", Claim: "and ends nearer to the exact end", Measure: "error", Arm: "two-level, solver tuned", Against: []string{"solver tuned"}, Bound: 1, Shown: true},
			{Name: "against a learned grid", Claim: "the paper's grid beats one learned for this law", Measure: "fd", Arm: "two-level", Against: []string{"learned grid"}, Bound: 1, Shown: true},
			{
				Name: "against the limit of distillation", Claim: "the kept grid comes near what a perfect distilled model draws", Measure: "fd", Arm: "two-level, noise kept", Against: []string{"exact map"}, Bound: 1.25,
				Unequal: "a distilled model is trained so that one evaluation is enough; the arm is the limit of that", Shown: true,
			},
		},
	}
}

// learnSeed is the seed of the trajectories that a grid is learned from.
const learnSeed = 1 << 41

// runLearned draws along the chain of levels that leaves a first-order solver
// nearest to exact trajectories.
func (t *task) runLearned(ctx context.Context, d systems.Draw) (*systems.Outcome, error) {
	steps := d.Params.Int("steps")
	g, err := systems.Memo(d.Env, fmt.Sprintf("%s learned %d", t.key(d.Params), steps), func() (*diffusion.Grid, error) {
		fine, err := diffusion.Build(t.path, diffusion.Spec{Rule: "exponential", Steps: 96})
		if err != nil {
			return nil, err
		}
		g, _, err := sampler.LearnGrid(ctx, t.law.den(d.Params), fine, steps, t.law.options(learnSeed, 64))
		return g, err
	})
	if err != nil {
		return nil, err
	}
	solver, err := sampler.ByName(d.Params.Text("solver"))
	if err != nil {
		return nil, err
	}
	r, err := sampler.Run(ctx, t.law.den(d.Params), solver, g, t.law.options(d.Seed, d.N))
	if err != nil {
		return nil, err
	}
	return t.outcome(ctx, d, r.X, float64(r.NFE))
}

// runExact draws the exact ends themselves.
func (t *task) runExact(ctx context.Context, d systems.Draw) (*systems.Outcome, error) {
	x, err := t.exact(ctx, d.Env, d.Params, d.Seed, d.N)
	if err != nil {
		return nil, err
	}
	return t.outcome(ctx, d, x, 1)
}
