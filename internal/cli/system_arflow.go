package cli

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/report"
	"github.com/fidlab/fidlab/systems/arflow"
	"github.com/fidlab/fidlab/tensor"
)

func init() { systemVerbs = append(systemVerbs, newARFlow) }

func newARFlow(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "arflow VERB",
		Short: "A flow with a state: what its past is worth, and latents of published weights",
		Long: `ARFlow learns from sequences of noised pictures of a class and draws with a state that
carries all earlier steps. fidlab train arflow makes one, and fidlab sample draws from it.`,
		Example: `  fidlab system arflow probe --model runs/arflow-hidden/checkpoint.safetensors
  fidlab system arflow sample --weights ARFlow-XL-2.safetensors --class 207 --guidance 4.5 -n 8 -o latents.npz`,
		Args: cobra.ArbitraryArgs,
		RunE: needsVerb,
	}
	cmd.AddCommand(newARFlowProbe(a), newARFlowSample(a))
	return cmd
}

type arflowProbe struct {
	model   string
	average float64
	n, seq  int
	seed    uint64
}

// arflowRow is a line of probe.
type arflowRow struct {
	Time  float64  `json:"time"`
	Alone float64  `json:"alone"`
	After float64  `json:"after"`
	Other *float64 `json:"other"` // null where there is one group alone
}

func newARFlowProbe(a *app) *cobra.Command {
	var o arflowProbe
	cmd := &cobra.Command{
		Use:   "probe --model M",
		Short: "Tell what the past is worth, by time",
		Long: `Tell the squared error of velocities of held-out pictures at several times: of each
picture ALONE, as the first of its sequence; AFTER others of its group at earlier
times; and after as many of an OTHER group. Noise is the same in all three. Late times
ALONE are rare in training: what the past tells is the difference of AFTER and OTHER.`,
		Example: "  fidlab system arflow probe --model runs/arflow-hidden/checkpoint.safetensors -n 2000",
		Args:    nargs("no arguments", 0, 0),
		RunE:    func(cmd *cobra.Command, _ []string) error { return runARFlowProbe(cmd.Context(), a, &o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.model, "model", "", "the checkpoint `M` of fidlab train arflow or arflow-hidden")
	f.Float64Var(&o.average, "average", -1, "take the average of decay `D` of its weights, 0 for the weights; default: the first that there is")
	f.IntVarP(&o.n, "num", "n", 1000, "look at `N` pictures at each time")
	f.IntVar(&o.seq, "seq", 0, "look at the last picture of sequences of `N`; default: those of training, 5 where they were of one")
	f.Uint64Var(&o.seed, "seed", 0, "draw pictures, times and noise by seed `S`")
	f.SortFlags = false
	return cmd
}

func runARFlowProbe(ctx context.Context, a *app, o *arflowProbe) error {
	switch {
	case o.model == "":
		return usagef("want --model M, a checkpoint of fidlab train %s or %s", arflow.Task, arflow.Hidden)
	case o.n < 1:
		return usagef("-n %d: want 1 picture or more", o.n)
	case o.seq != 0 && o.seq < 2:
		return usagef("--seq %d: want sequences of 2 pictures or more", o.seq)
	}
	dev, err := a.openDevice("cpu")
	if err != nil {
		return err
	}
	saved, err := savedAt(o.model, "model "+o.model+": no such file; fidlab train "+arflow.Task+" makes one")
	if err != nil {
		return err
	}
	defer saved.Close()
	net, length, err := arflow.Open(dev, saved, averageOf(saved, o.average))
	if err != nil {
		return &inputError{err}
	}
	if o.seq > 0 {
		length = o.seq
	} else if length == 1 {
		length = 5
	}
	groups, err := arflow.HeldOut(saved.Job, length)
	if err != nil {
		return &inputError{err}
	}
	var rows []arflowRow
	t := report.Table{Columns: report.Columns("time>", "alone>", "after>", "other>", "after/alone>", "after/other>")}
	for _, at := range arflow.Matched(9) {
		l, err := arflow.Losses(ctx, net, groups, arflow.Probe{Length: length, N: o.n, Times: []float64{at}, Seed: o.seed})
		if err != nil {
			return err
		}
		r := arflowRow{Time: at, Alone: l.Alone, After: l.After}
		cells := []string{fmt.Sprintf("%.2f", at), fmt.Sprintf("%.4f", l.Alone), fmt.Sprintf("%.4f", l.After), "", fmt.Sprintf("%.4f", l.After/l.Alone), ""}
		if !math.IsNaN(l.Other) {
			r.Other = &l.Other
			cells[3], cells[5] = fmt.Sprintf("%.4f", l.Other), fmt.Sprintf("%.4f", l.After/l.Other)
		}
		rows, t.Rows = append(rows, r), append(t.Rows, cells)
	}
	if a.json {
		return a.printJSON(map[string]any{"model": o.model, "sequence": length, "n": o.n, "seed": o.seed, "times": rows})
	}
	return t.WriteText(a.stdout)
}

type arflowSample struct {
	weights, arch   string
	classes         []int
	steps, n, batch int
	first           int
	seed            uint64
	guidance        float64
	out             sampleTarget
}

func newARFlowSample(a *app) *cobra.Command {
	var o arflowSample
	cmd := &cobra.Command{
		Use:   "sample --weights FILE -n K -o OUT",
		Short: "Draw latents from published weights",
		Long: `Draw latents from weights of the authors' networks in a .safetensors file, which has
the names of their code: Euler-Maruyama in steps of equal length to time 0.96 and a
last one of 0.04, one state for each block, sample and half of the guidance. OUT is a
folder with samples.npy, or FILE.npz; what decodes latents is not part of this program.
Networks that are trained here are sampled by fidlab sample.`,
		Example: "  fidlab system arflow sample --weights ARFlow-XL-2.safetensors --arch ar-xl-2 --class 207,360 --guidance 4.5 --steps 250 -n 8 -o latents.npz",
		Args:    nargs("no arguments", 0, 0),
		RunE:    func(cmd *cobra.Command, _ []string) error { return runARFlowSample(cmd.Context(), a, &o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.weights, "weights", "", "the weights in `FILE`.safetensors")
	f.StringVar(&o.arch, "arch", "ar-xl-2", "they are of the network `A`: "+strings.Join(arflow.Presets(), ", "))
	f.IntSliceVar(&o.classes, "class", nil, "draw class `C`, or several in turn (207,360), -1 for none; default: all in turn")
	f.IntVar(&o.steps, "steps", 250, "take `N` steps")
	f.Float64Var(&o.guidance, "guidance", 1, "guide by weight `W`; 1: not at all")
	f.IntVarP(&o.n, "num", "n", 8, "draw `K` samples")
	f.IntVar(&o.first, "first", 0, "start at sample number `I` of the seed")
	f.Uint64Var(&o.seed, "seed", 0, "draw the noise of seed `S`")
	f.IntVar(&o.batch, "batch", 16, "draw `N` samples at a time")
	f.StringVarP(&o.out.path, "output", "o", "", "write to `OUT`: a folder or FILE.npz")
	f.BoolVar(&o.out.overwrite, "overwrite", false, "replace the folder if fidlab wrote it, and files")
	f.SortFlags = false
	completes(cmd, "arch", arflow.Presets()...)
	return cmd
}

// arflowRun is run.json of sample.
type arflowRun struct {
	Version       string  `json:"version"`
	Weights       string  `json:"weights"`
	WeightsSHA256 string  `json:"weights_sha256"`
	Arch          string  `json:"arch"`
	Steps         int     `json:"steps"`
	Guidance      float64 `json:"guidance"`
	Classes       []int   `json:"classes"`
	Seed          uint64  `json:"seed"`
	First         int     `json:"first"`
	N             int     `json:"n"`
	Shape         []int   `json:"shape"`
	Device        string  `json:"device"`
}

func (o *arflowSample) check() (arflow.Config, error) {
	switch form := o.out.form(); {
	case o.weights == "":
		return arflow.Config{}, usagef("want --weights FILE, a checkpoint of the authors' networks as .safetensors")
	case o.out.path == "" || form != "folder" && form != "npz":
		return arflow.Config{}, usagef("want -o OUT, a folder or FILE.npz to write latents to")
	case o.n < 1 || o.n > 1e6 || o.first < 0 || o.batch < 1:
		return arflow.Config{}, usagef("-n %d, --first %d, --batch %d: want 1 to 1000000 samples, from 0 on, 1 or more at a time", o.n, o.first, o.batch)
	case o.steps < 2:
		return arflow.Config{}, usagef("--steps %d: want 2 or more, the last of which is %g", o.steps, arflow.LastStep)
	case math.IsNaN(o.guidance) || math.IsInf(o.guidance, 0):
		return arflow.Config{}, usagef("--guidance %g: want a finite number", o.guidance)
	}
	if !slices.Contains(arflow.Presets(), o.arch) {
		return arflow.Config{}, unknown("network", o.arch, arflow.Presets())
	}
	c, err := arflow.Preset(o.arch)
	if err != nil {
		return c, err
	}
	for _, k := range o.classes {
		if k < -1 || k >= c.Classes {
			return c, usagef("--class %d: the network has the classes 0 to %d, and -1 for none", k, c.Classes-1)
		}
	}
	return c, o.out.check()
}

func runARFlowSample(ctx context.Context, a *app, o *arflowSample) error {
	c, err := o.check()
	if err != nil {
		return err
	}
	dev, err := a.openDevice("cpu")
	if err != nil {
		return err
	}
	net, err := arflow.LoadPublished(dev, o.weights, c)
	if err != nil {
		return &inputError{err}
	}
	sum, err := tensor.FileSHA256(o.weights)
	if err != nil {
		return &inputError{err}
	}
	run := &arflowRun{
		Version: version, Weights: o.weights, WeightsSHA256: sum, Arch: o.arch, Steps: o.steps, Guidance: o.guidance, Classes: o.classes, Seed: o.seed, First: o.first, N: o.n,
		Shape: []int{c.Channels, c.Height, c.Width}, Device: dev.String(),
	}
	k := kindOf(&model{name: o.weights, shape: run.Shape, lo: -1, hi: 1, chw: true}, o.n)
	k.keep, k.first, k.classes = true, o.first, inTurn(o.classes, o.n)
	p := a.progress("sampling "+o.weights, "samples", o.n)
	err = o.out.write(a, k, func(out sampleSink) error {
		_, err := arflow.Draw(ctx, net, arflow.Request{
			Seed: o.seed, First: o.first, N: o.n, Steps: o.steps, Guidance: o.guidance, Batch: o.batch, Classes: k.classes,
			Each: func(first int, x *gpu.Tensor) error {
				p.Add(x.Shape()[0])
				return out.put(k.batch(first, x))
			},
		})
		if err != nil {
			return err
		}
		return out.finish(runJSON(run))
	})
	seconds := p.End()
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(run)
	}
	a.printf("%s\n", o.out.path)
	a.say("%s: %d samples in %.1f s", o.out.path, o.n, seconds)
	return nil
}
