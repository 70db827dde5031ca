package cli

import (
	"context"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/systems/bases"
	"github.com/fidlab/fidlab/systems/symmflow"
	"github.com/fidlab/fidlab/tensor"
	"github.com/fidlab/fidlab/train"
)

func init() { systemVerbs = append(systemVerbs, newSymmFlow) }

func newSymmFlow(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "symmflow VERB",
		Short: "Draw pictures of labels and read labels of pictures by one network",
		Long: `Draw pictures of labels and read the labels of pictures by one network, which fidlab
train symmflow-shapes (masks), symmflow-digits or symmflow-mnist (classes) trains.`,
		Example: `  fidlab system symmflow generate --model runs/symmflow-mnist/checkpoint.safetensors --class 3 -n 16 -o threes/
  fidlab system symmflow segment scenes/ --model runs/symmflow-shapes/checkpoint.safetensors -o masks/`,
		Args: cobra.ArbitraryArgs,
		RunE: needsVerb,
	}
	cmd.AddCommand(newSymmFlowGenerate(a), newSymmFlowSegment(a), newSymmFlowClassify(a))
	return cmd
}

// symmflowModel is what all verbs are told of the network and of how to integrate.
type symmflowModel struct {
	model   string
	average float64
	symmflow.Options
}

func (o *symmflowModel) flags(cmd *cobra.Command, steps int) {
	f := cmd.Flags()
	f.StringVar(&o.model, "model", "", "the network: `FILE`, a checkpoint of symmflow-shapes, -digits or -mnist")
	f.Float64Var(&o.average, "average", -1, "take the average of weights of decay `D`; 0 for the weights themselves, default the run's first")
	f.IntVar(&o.Steps, "steps", steps, "take `N` equal steps")
	f.StringVar(&o.Solver, "solver", "euler", "integrate by `S`: "+strings.Join(symmflow.Solvers, ", "))
	f.Uint64Var(&o.Seed, "seed", 0, "noise from seed `S`")
	completes(cmd, "solver", symmflow.Solvers...)
}

// open checks the flags and opens the network.
func (o *symmflowModel) open(a *app) (*symmflow.Model, string, error) {
	switch {
	case o.model == "":
		return nil, "", usagef("want --model FILE, a checkpoint of fidlab train %s, %s or %s", symmflow.Shapes, symmflow.Digits, symmflow.MNIST)
	case o.Steps < 1:
		return nil, "", usagef("--steps %d: want 1 or more", o.Steps)
	case !slices.Contains(symmflow.Solvers, o.Solver):
		return nil, "", unknown("solver", o.Solver, slices.Clone(symmflow.Solvers))
	}
	dev, err := a.openDevice("cpu")
	if err != nil {
		return nil, "", err
	}
	saved, err := train.OpenSaved(o.model)
	if err != nil {
		return nil, "", inputf("model %s: %w; fidlab train %s, %s or %s makes one", o.model, pathless(err), symmflow.Shapes, symmflow.Digits, symmflow.MNIST)
	}
	defer saved.Close()
	o.average = averageOf(saved, o.average)
	m, err := symmflow.Open(dev, saved, o.average)
	if err != nil {
		return nil, "", &inputError{err}
	}
	sum, err := tensor.FileSHA256(o.model)
	return m, sum, err
}

// symmflowRun is the record beside what a verb wrote.
type symmflowRun struct {
	Version     string   `json:"version"`
	Verb        string   `json:"verb"`
	Model       string   `json:"model"`
	ModelSHA256 string   `json:"model_sha256"`
	Average     float64  `json:"average"`
	Solver      string   `json:"solver"`
	Steps       int      `json:"steps"`
	Seed        uint64   `json:"seed"`
	Input       string   `json:"input,omitempty"`
	N           int      `json:"n"`
	Classes     []int    `json:"classes,omitempty"` // asked for in turn
	MeanIoU     *float64 `json:"miou,omitempty"`    // where the truth is known
}

func (o *symmflowModel) record(verb, sum string) *symmflowRun {
	return &symmflowRun{Version: version, Verb: verb, Model: o.model, ModelSHA256: sum, Average: o.average, Solver: o.Solver, Steps: o.Steps, Seed: o.Seed}
}

// symmflowTarget is the folder that a verb writes.
type symmflowTarget struct {
	path      string
	overwrite bool
}

func (t *symmflowTarget) flags(f *pflag.FlagSet) {
	f.StringVarP(&t.path, "output", "o", "", "write pictures, grid.png and run.json into the folder `DIR`")
	f.BoolVar(&t.overwrite, "overwrite", false, "replace a folder that fidlab wrote")
}

func (t *symmflowTarget) check() error {
	if t.path == "" {
		return usagef("want -o DIR, the folder to write")
	}
	return checkOutDir(t.path, t.overwrite)
}

// write makes the folder of pictures and the record.
func (t *symmflowTarget) write(list []*imageio.Image, run *symmflowRun) error {
	return writeFolder(t.path, t.overwrite, &sampleKind{n: len(list), pictures: true}, func(out sampleSink) error {
		if err := out.put(sampleBatch{pictures: list}); err != nil {
			return err
		}
		return out.finish(runJSON(run))
	})
}

// named is a picture of an input.
type named struct {
	name  string
	label int // -1 where the input has none
	*imageio.Image
}

// readNamed reads at most n pictures of an input, all of them where n is 0, of w×h pixels.
func readNamed(ctx context.Context, a *app, arg string, n, w, h int, labels bool) ([]named, error) {
	src, err := imageio.OpenContext(ctx, arg, imageio.Options{Stdin: a.env.Stdin, Labels: labels})
	if err != nil {
		return nil, err
	}
	var out []named
	err = src.Each(ctx, func(it imageio.Item) error {
		m, err := it.Load()
		if err != nil {
			return err
		}
		if m.Width != w || m.Height != h {
			return inputf("%s: %d×%d pixels; the network takes %d×%d: resize it first (fidlab resize)", it.Name, m.Width, m.Height, w, h)
		}
		if out = append(out, named{it.Name, it.Label, m}); len(out) == n {
			return io.EOF // enough
		}
		return nil
	})
	if err != nil && err != io.EOF {
		return nil, err
	}
	if len(out) == 0 {
		return nil, inputf("%s: no pictures", arg)
	}
	return out, nil
}

// planes are pictures as a network takes them, [n, channels, H, W] from -1 to 1.
func planes(list []named, channels int) (*gpu.Tensor, error) {
	pixels := list[0].Width * list[0].Height
	x := gpu.CPU().New(gpu.Float32, len(list), channels, list[0].Height, list[0].Width)
	for i, m := range list {
		to := x.F32()[i*channels*pixels:]
		for p := range pixels {
			v := m.Pix[3*p:][:3]
			if channels == 1 && (v[1] != v[0] || v[2] != v[0]) {
				return nil, inputf("%s: has colours, and the network takes one channel; convert it first", m.name)
			}
			for c := range channels {
				to[c*pixels+p] = float32(v[c])/127.5 - 1
			}
		}
	}
	return x, nil
}

type symmflowGenerate struct {
	symmflowModel
	out     symmflowTarget
	classes []int
	masks   string
	n       int
}

func newSymmFlowGenerate(a *app) *cobra.Command {
	var o symmflowGenerate
	cmd := &cobra.Command{
		Use:   "generate --model FILE (--class C | --mask INPUT) -o DIR",
		Short: "Draw pictures of classes or masks",
		Long: `Draw pictures of classes, or of masks in the colours of the network's palette, taken
in turn. Picture i depends on the seed, its label and i, whatever the others are.`,
		Example: `  fidlab system symmflow generate --model digits.safetensors --class 0,1,2 -n 30 -o digits/
  fidlab system symmflow generate --model scenes.safetensors --mask masks/ --steps 25 -o scenes/`,
		Args: nargs("no arguments", 0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return runSymmFlowGenerate(cmd.Context(), a, &o) },
	}
	f := cmd.Flags()
	o.flags(cmd, 25)
	f.IntSliceVar(&o.classes, "class", nil, "draw class `C`, or several in turn (0,1,2)")
	f.StringVar(&o.masks, "mask", "", "draw the masks of `INPUT`, a folder, archive or picture")
	f.IntVarP(&o.n, "count", "n", 0, "draw `N` pictures; default 16 of classes, as many as there are masks")
	o.out.flags(f)
	f.SortFlags = false
	return cmd
}

// labels are those to be drawn.
func (o *symmflowGenerate) labels(ctx context.Context, a *app, m *symmflow.Model) ([][]uint8, error) {
	if m.Coding.PerPixel() != (o.masks != "") || (o.masks != "") == (len(o.classes) > 0) {
		want := "--class C and no --mask: the network draws classes"
		if m.Coding.PerPixel() {
			want = "--mask INPUT and no --class: the network draws masks"
		}
		return nil, usagef("want %s", want)
	}
	var out [][]uint8
	for _, c := range o.classes {
		if c < 0 || c >= m.Coding.Classes {
			return nil, usagef("--class %d: the network has the classes 0 to %d", c, m.Coding.Classes-1)
		}
		out = append(out, []uint8{uint8(c)})
	}
	if o.masks != "" {
		h, w := m.Size()
		list, err := readNamed(ctx, a, o.masks, o.n, w, h, false)
		if err != nil {
			return nil, err
		}
		for _, p := range list {
			mask, err := m.Coding.Palette.Read(p.Image)
			if err != nil {
				return nil, inputf("%s: %w", p.name, err)
			}
			out = append(out, mask.IDs)
		}
	}
	n := o.n
	if n == 0 && o.masks == "" {
		n = 16
	}
	for i := len(out); i < n; i++ {
		out = append(out, out[i%len(out)])
	}
	if n > 0 {
		out = out[:n]
	}
	return out, nil
}

func runSymmFlowGenerate(ctx context.Context, a *app, o *symmflowGenerate) error {
	if err := o.out.check(); err != nil {
		return err
	}
	if o.n < 0 {
		return usagef("-n %d: want 1 or more", o.n)
	}
	m, sum, err := o.open(a)
	if err != nil {
		return err
	}
	labels, err := o.labels(ctx, a, m)
	if err != nil {
		return err
	}
	x, err := m.Generate(ctx, labels, o.Options)
	if err != nil {
		return err
	}
	run := o.record("generate", sum)
	run.Input, run.N, run.Classes = o.masks, len(labels), o.classes
	if err := o.out.write(bases.Pictures(x.F32(), x.Shape()[1:]), run); err != nil {
		return err
	}
	return o.done(a, run, o.out.path)
}

// done prints what was written.
func (o *symmflowModel) done(a *app, run *symmflowRun, path string) error {
	if a.json {
		return a.printJSON(run)
	}
	a.printf("%s\n", path)
	a.say("%s: %d pictures in %d steps of %s", path, run.N, run.Steps, run.Solver)
	return nil
}
