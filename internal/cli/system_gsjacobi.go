package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/report"
	"github.com/fidlab/fidlab/systems/gsjacobi"
	"github.com/fidlab/fidlab/tensor"
)

func init() { systemVerbs = append(systemVerbs, newGSJacobi) }

func newGSJacobi(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "gsjacobi VERB",
		Aliases: []string{"tarflow"},
		Short:   "TarFlow: draw samples by Jacobi's iteration, and say which blocks are tough",
		Long: `A TarFlow is inverted token by token, or all tokens of a block at once by Jacobi's
iteration, in segments where a block converges slowly. fidlab train tarflow makes one.`,
		Example: `  fidlab system gsjacobi analyze --model runs/tarflow/checkpoint.safetensors
  fidlab system gsjacobi sample --model runs/tarflow/checkpoint.safetensors --class 3 -n 64 -o threes/`,
		Args: cobra.ArbitraryArgs,
		RunE: needsVerb,
	}
	cmd.AddCommand(newFlowAnalyze(a), newFlowSample(a))
	return cmd
}

// flowModel is the flags that name a flow.
type flowModel struct {
	path    string
	average float64
}

func (o *flowModel) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.path, "model", "", "the checkpoint `M` of fidlab train tarflow or tarflow-fine")
	f.Float64Var(&o.average, "average", -1, "take the average of decay `D` of its weights, 0 for the weights; default: the first that there is")
}

// open opens the flow.
func (o *flowModel) open() (*gsjacobi.Trained, string, error) {
	if o.path == "" {
		return nil, "", usagef("want --model M, a checkpoint of fidlab train %s", gsjacobi.Task)
	}
	saved, err := savedAt(o.path, "model "+o.path+": no such file; fidlab train "+gsjacobi.Task+" makes one")
	if err != nil {
		return nil, "", err
	}
	defer saved.Close()
	m, err := gsjacobi.Open(gpu.CPU(), saved, averageOf(saved, o.average))
	if err != nil {
		return nil, "", &inputError{err}
	}
	sum, err := tensor.FileSHA256(o.path)
	if err != nil {
		return nil, "", &inputError{err}
	}
	return m, sum, nil
}

// ofFlow gives errors of the sampler their kind.
func ofFlow(err error) error {
	var bad *gsjacobi.StrategyError
	var far *gsjacobi.OverflowError
	switch {
	case errors.As(err, &bad):
		return &usageError{err}
	case errors.As(err, &far):
		return &refusedError{err}
	}
	return err
}

func newFlowAnalyze(a *app) *cobra.Command {
	var o flowModel
	var n int
	var seed uint64
	var bound float64
	cmd := &cobra.Command{
		Use:   "analyze --model M",
		Short: "Tell which blocks of a flow are tough, where to start, and a strategy",
		Long: `Compute the two metrics of every block of a flow from training digits, in the order of
sampling, the last block first: CRM, which is large where a block takes many
iterations, and IGM of both starts, how far one iteration lands from the tokens.
ITERATIONS are those of the slowest of 32 digits.

The suggested strategies are what fidlab system gsjacobi sample does by
--strategy auto, with the fewest calls of the network that wait for one another, and
even, which cuts tough blocks further and so does less work in more calls.`,
		Example: "  fidlab system gsjacobi analyze --model runs/tarflow/checkpoint.safetensors",
		Args:    nargs("no arguments", 0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if n < 1 || n > 60000 {
				return usagef("-n %d: want 1 to 60000 digits", n)
			}
			if _, err := a.useDevice(); err != nil {
				return err
			}
			m, _, err := o.open()
			if err != nil {
				return err
			}
			r, err := m.Analyze(nn.NewTape(gpu.CPU(), gpu.Float32), n, seed, bound)
			if err != nil {
				return ofFlow(err)
			}
			return printFlowReport(a, r)
		},
	}
	o.flags(cmd)
	f := cmd.Flags()
	f.IntVarP(&n, "num", "n", 1000, "take the first `N` training digits")
	f.Uint64Var(&seed, "seed", 0, "draw their noise by seed `S`")
	f.Float64Var(&bound, "bound", gsjacobi.DefaultBound, "a segment is done where no number changes by more than `X`; 0: where none changes")
	f.SortFlags = false
	return cmd
}

// flowReport is analyze's JSON.
type flowReport struct {
	*gsjacobi.Report
	Auto string `json:"auto"`
	Even string `json:"even"`
}

func printFlowReport(a *app, r *gsjacobi.Report) error {
	out := flowReport{r, r.Strategy(false).String(), r.Strategy(true).String()}
	if a.json {
		return a.printJSON(out)
	}
	t := report.Table{Columns: report.Columns("block", "CRM>", "share>", "IGM latent>", "IGM zeros>", "start", "iterations>", "kind", "auto", "even")}
	for _, b := range r.Blocks {
		kind := "simple"
		if b.Tough {
			kind = "tough"
		}
		t.Rows = append(t.Rows, []string{
			fmt.Sprint(b.Block), fmt.Sprintf("%.4g", b.CRM), fmt.Sprintf("%.1f %%", 100*b.Share), fmt.Sprintf("%.4g", b.FromLatent), fmt.Sprintf("%.4g", b.FromZeros),
			b.Start, fmt.Sprint(b.Iterations), kind, gsjacobi.Strategy{b.Fewest}.String(), gsjacobi.Strategy{b.Even}.String(),
		})
	}
	if err := t.WriteText(a.stdout); err != nil {
		return err
	}
	a.printf("\n--strategy %s\n", out.Auto)
	if out.Even != out.Auto {
		a.printf("--strategy %s does less work in more calls\n", out.Even)
	}
	return nil
}

// flowSample is what sample was asked for.
type flowSample struct {
	flowModel
	solver, strategy string
	given            func(flag string) bool
	n, batch, first  int
	seed             uint64
	classes          []int
	named            classList
	bound, clamp     float64
	guidance         float64
	anneal           bool
	denoise          float64
	out              sampleTarget
}

func newFlowSample(a *app) *cobra.Command {
	var o flowSample
	cmd := &cobra.Command{
		Use:   "sample --model M -n K -o OUT",
		Short: "Draw samples from a flow",
		Long: `Draw samples from a flow, into OUT as fidlab sample does.

--strategy says how each block is solved, in the order of sampling, the last block
first: SEGMENTS[:MOST][:zeros|:latent][*BLOCKS] with commas between, where SEGMENTS
divides the tokens, 0 is token by token, MOST is how many iterations a segment takes at
most, and the iteration starts from zeros or from the latent: 8:32,1:10*7. auto and
even choose by the metrics of 64 training digits (fidlab system gsjacobi analyze).
The published strategies are ` + strings.Join(gsjacobi.Presets(), ", ") + `.

Without MOST a segment is iterated until it has converged. Where an iterate would
overflow, its segment is solved token by token, which is said.`,
		Example: `  fidlab system gsjacobi sample --model runs/tarflow/checkpoint.safetensors --class 3 -n 64 -o threes/
  fidlab system gsjacobi sample --model runs/tarflow/checkpoint.safetensors --strategy 7:5,1:10*3 --guidance 1 -n 64 -o digits/
  fidlab system gsjacobi sample --model runs/tarflow/checkpoint.safetensors --solver sequential -n 64 -o exact/`,
		Args: nargs("no arguments", 0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.given = cmd.Flags().Changed
			return runFlowSample(cmd.Context(), a, &o)
		},
	}
	o.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&o.solver, "solver", "gs-jacobi", "invert the flow by `S`: gs-jacobi, jacobi, sequential")
	f.StringVar(&o.strategy, "strategy", "auto", "solve the blocks as `LIST` says, or auto, even, or a published one")
	f.Float64Var(&o.bound, "bound", gsjacobi.DefaultBound, "a segment is done where no number changes by more than `X`; 0: where none changes")
	f.Float64Var(&o.clamp, "clamp", 0, "keep iterates within `±X`, as the published code does with 3; it changes what is solved. 0: off")
	f.IntVarP(&o.n, "num", "n", 16, "draw `K` samples")
	f.IntVar(&o.first, "first", 0, "start at sample number `I` of the seed")
	f.Uint64Var(&o.seed, "seed", 0, "draw the noise of seed `S`")
	f.IntVar(&o.batch, "batch", 64, "draw `N` samples at a time")
	o.named.flag(f, &o.classes)
	f.Float64Var(&o.guidance, "guidance", 0, "lead away from no class by `G`")
	f.BoolVar(&o.anneal, "anneal", false, "let the guidance grow from the first token to the last")
	f.Float64Var(&o.denoise, "denoise", 1, "after sampling, step along the score by `F` times the variance of the noise of training; 0: not at all")
	f.StringVarP(&o.out.path, "output", "o", "", "write to `OUT`: a folder, FILE.tar, FILE.npz or -")
	f.BoolVar(&o.out.overwrite, "overwrite", false, "replace the folder if fidlab wrote it, and files")
	f.SortFlags = false
	completes(cmd, "solver", flowSolvers...)
	completes(cmd, "strategy", append([]string{"auto", "even"}, gsjacobi.Presets()...)...)
	return cmd
}

var flowSolvers = []string{"gs-jacobi", "jacobi", "sequential"}

func (o *flowSample) check(a *app) error {
	switch {
	case o.out.path == "":
		return usagef("want -o OUT, the folder or file to write")
	case o.n < 1 || o.n > 1e6 || o.first < 0:
		return usagef("-n %d, --first %d: want 1 to 1000000 samples, from 0 on", o.n, o.first)
	case o.batch < 1:
		return usagef("--batch %d: want 1 or more", o.batch)
	case o.solver != "gs-jacobi" && o.given("strategy"):
		return usagef("--strategy is for --solver gs-jacobi; --solver %s has none", o.solver)
	case o.anneal && o.guidance == 0:
		return usagef("--anneal is for --guidance, and there is none")
	case o.out.form() == "stdout" && a.json:
		return usagef("-o -: the tar has standard output to itself; leave out --json")
	}
	if !slices.Contains(flowSolvers, o.solver) {
		return unknown("solver", o.solver, slices.Clone(flowSolvers))
	}
	if o.solver == "gs-jacobi" && o.strategy != "auto" && o.strategy != "even" {
		if _, err := gsjacobi.ParseStrategy(o.strategy); err != nil {
			return usagef("--strategy: %w", err)
		}
	}
	return o.out.check()
}

// calibration is how many digits auto and even look at.
const calibration = 64

// settle is the strategy.
func (o *flowSample) settle(t *nn.Tape, m *gsjacobi.Trained) (gsjacobi.Strategy, error) {
	c := m.Net.Config
	switch {
	case o.solver == "sequential":
		return gsjacobi.Uniform(c, gsjacobi.Setting{}), nil
	case o.solver == "jacobi":
		return gsjacobi.Uniform(c, gsjacobi.Setting{Segments: 1}), nil
	case o.strategy == "auto" || o.strategy == "even":
		r, err := m.Analyze(t, calibration, 0, o.bound)
		if err != nil {
			return nil, err
		}
		return r.Strategy(o.strategy == "even"), nil
	}
	return gsjacobi.ParseStrategy(o.strategy)
}

// flowRun is run.json of sample.
type flowRun struct {
	Version     string   `json:"version"`
	Model       string   `json:"model"`
	ModelSHA256 string   `json:"model_sha256"`
	Solver      string   `json:"solver"`
	Strategy    string   `json:"strategy"`
	Bound       float64  `json:"bound"`
	Clamp       float64  `json:"clamp,omitempty"`
	Guidance    float64  `json:"guidance,omitempty"`
	Anneal      bool     `json:"anneal,omitempty"`
	Denoise     float64  `json:"denoise"`
	Seed        uint64   `json:"seed"`
	First       int      `json:"first"`
	N           int      `json:"n"`
	Classes     []int    `json:"classes"`
	Shape       []int    `json:"shape"`
	Calls       int      `json:"calls"`        // that wait for one another, of all batches
	Sequential  int      `json:"sequential"`   // what token by token takes
	LayerTokens int64    `json:"layer_tokens"` // through how many layers a token went
	Notes       []string `json:"notes"`
}

func runFlowSample(ctx context.Context, a *app, o *flowSample) error {
	if err := o.check(a); err != nil {
		return err
	}
	if _, err := a.useDevice(); err != nil {
		return err
	}
	net, sum, err := o.open()
	if err != nil {
		return err
	}
	c := net.Net.Config
	m := &model{name: o.path, shape: []int{c.Channels, c.PictureHeight, c.PictureWidth}, lo: -1, hi: 1, chw: true}
	for k := range c.Classes {
		m.classes = append(m.classes, k)
	}
	if m.classes != nil {
		m.classes = append(m.classes, -1)
	}
	if err := o.named.fit(m); err != nil {
		return err
	}
	t := nn.NewTape(gpu.CPU(), gpu.Float32)
	s, err := o.settle(t, net)
	if err == nil {
		err = s.Check(c)
	}
	if err != nil {
		return ofFlow(err)
	}
	run := &flowRun{
		Version: version, Model: o.path, ModelSHA256: sum, Solver: o.solver, Strategy: s.String(), Bound: o.bound, Clamp: o.clamp, Guidance: o.guidance, Anneal: o.anneal, Denoise: o.denoise,
		Seed: o.seed, First: o.first, N: o.n, Classes: o.classes, Shape: m.shape, Notes: []string{},
	}
	a.say("%s: %d samples by %s, strategy %s", o.path, o.n, o.solver, s)
	return o.write(ctx, a, m, run, func(each func(first int, x *gpu.Tensor) error) error {
		r := gsjacobi.Request{Seed: o.seed, First: o.first, N: o.n, Batch: o.batch, Classes: inTurn(o.classes, o.n), Denoise: o.denoise, Each: each}
		r.Bound, r.Clamp, r.Guidance, r.Anneal = o.bound, o.clamp, o.guidance, o.anneal
		_, stats, err := gsjacobi.Draw(t, net, s, r)
		run.count(stats, (c.Tokens()-1)*c.Blocks)
		return ofFlow(err)
	})
}

// count adds up what the batches took.
func (r *flowRun) count(stats []*gsjacobi.Stats, sequential int) {
	open, change := 0, 0.0
	for _, s := range stats {
		r.Calls += s.Calls
		r.LayerTokens += s.LayerTokens
		r.Sequential += sequential
		open, change = open+s.Open, max(change, s.Change)
		for _, f := range s.Fallbacks {
			r.Notes = append(r.Notes, f.String())
		}
	}
	if open > 0 {
		r.Notes = append(r.Notes, fmt.Sprintf("%d segments of samples were ended before they converged, with changes of up to %.3g", open, change))
	}
}

// write draws into the target.
func (o *flowSample) write(ctx context.Context, a *app, m *model, run *flowRun, draw func(each func(first int, x *gpu.Tensor) error) error) error {
	k := kindOf(m, o.n)
	k.classes, k.first = inTurn(o.classes, o.n), o.first
	p := a.progress("sampling "+o.path, "samples", o.n)
	ended := false
	seconds := 0.0
	err := o.out.write(a, k, func(out sampleSink) error {
		err := draw(func(first int, x *gpu.Tensor) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			b := k.batch(o.first+first, x)
			p.Add(x.Shape()[0])
			return out.put(b)
		})
		seconds, ended = p.End(), true
		if err != nil {
			return err
		}
		return out.finish(runJSON(run))
	})
	if !ended {
		p.End()
	}
	if err != nil {
		return err
	}
	for _, n := range run.Notes {
		a.say("note: %s", n)
	}
	if a.json {
		return a.printJSON(struct {
			Dir string `json:"dir"`
			*flowRun
			Seconds float64 `json:"seconds"`
		}{o.out.path, run, seconds})
	}
	if o.out.form() != "stdout" {
		a.printf("%s\n", o.out.path)
	}
	a.say("%s: %d samples in %.1f s, %d calls of the network that wait for one another, token by token %d", o.out.path, o.n, seconds, run.Calls, run.Sequential)
	return nil
}
