package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/fidlab/fidlab/fid/measure"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/imageio/label"
	"github.com/fidlab/fidlab/systems/symmflow"
)

// readsLabel refuses a network whose labels are of the other kind than a verb reads.
func readsLabel(m *symmflow.Model, masks bool) error {
	switch {
	case m.Coding.PerPixel() == masks:
		return nil
	case masks:
		return inputf("the network tells classes, not masks; fidlab system symmflow classify reads them")
	}
	return inputf("the network tells masks, not classes; fidlab system symmflow segment reads them")
}

// pictures opens the network and reads the pictures whose labels it is to read: masks, or classes.
func (o *symmflowModel) pictures(ctx context.Context, a *app, arg string, masks, labels bool) (m *symmflow.Model, sum string, list []named, err error) {
	if m, sum, err = o.open(a); err != nil {
		return nil, "", nil, err
	}
	if err = readsLabel(m, masks); err != nil {
		return nil, "", nil, err
	}
	h, w := m.Size()
	list, err = readNamed(ctx, a, arg, 0, w, h, labels)
	return m, sum, list, err
}

// read reads the labels of pictures.
func (o *symmflowModel) read(ctx context.Context, m *symmflow.Model, list []named) ([][]uint8, error) {
	x, err := planes(list, m.Channels)
	if err != nil {
		return nil, err
	}
	return m.Label(ctx, x, o.Options)
}

type symmflowSegment struct {
	symmflowModel
	out   symmflowTarget
	truth string
}

func newSymmFlowSegment(a *app) *cobra.Command {
	var o symmflowSegment
	cmd := &cobra.Command{
		Use:   "segment INPUT --model FILE -o DIR",
		Short: "Read the masks of pictures",
		Long: `Read the masks of pictures, in one step or in several, and write them in the colours
of the network's palette, 000000.png for the first. With --truth, masks of the same
pictures in the same order, the mean intersection over union is printed, which is
over the pixels of all pictures together.`,
		Example: "  fidlab system symmflow segment scenes/ --model scenes.safetensors -o masks/\n  fidlab system symmflow segment scenes/ --model scenes.safetensors --steps 25 --truth true/ -o masks/",
		Args:    nargs("INPUT, pictures", 1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runSymmFlowSegment(cmd.Context(), a, &o, args[0])
		},
	}
	f := cmd.Flags()
	o.flags(cmd, 1)
	f.StringVar(&o.truth, "truth", "", "compare with the masks of `INPUT`, in the palette's colours")
	o.out.flags(f)
	f.SortFlags = false
	return cmd
}

func runSymmFlowSegment(ctx context.Context, a *app, o *symmflowSegment, arg string) error {
	if err := o.out.check(); err != nil {
		return err
	}
	m, sum, list, err := o.pictures(ctx, a, arg, true, false)
	if err != nil {
		return err
	}
	h, w := m.Size()
	var truth []named
	if o.truth != "" {
		if truth, err = readNamed(ctx, a, o.truth, 0, w, h, false); err != nil {
			return err
		}
		if len(truth) != len(list) {
			return inputf("--truth %s: %d masks for the %d pictures of %s; want one each", o.truth, len(truth), len(list), arg)
		}
	}
	said, err := o.read(ctx, m, list)
	if err != nil {
		return err
	}
	count := measure.NewConfusion(m.Coding.Classes)
	var masks []*imageio.Image
	for i, ids := range said {
		p, err := m.Coding.Palette.Picture(&label.Map{W: w, H: h, IDs: ids})
		if err != nil {
			return err
		}
		masks = append(masks, p)
		if truth == nil {
			continue
		}
		t, err := m.Coding.Palette.Read(truth[i].Image)
		if err != nil {
			return inputf("%s: %w", truth[i].name, err)
		}
		if err := count.Add(t.IDs, ids); err != nil {
			return err
		}
	}
	run := o.record("segment", sum)
	run.Input, run.N = arg, len(list)
	if truth != nil {
		v := count.MeanIoU()
		run.MeanIoU = &v
	}
	if err := o.out.write(masks, run); err != nil {
		return err
	}
	if truth != nil && !a.json {
		a.printf("%.4f\n", *run.MeanIoU)
		a.say("%s: %d masks in %d steps of %s; printed is their mean intersection over union", o.out.path, run.N, run.Steps, run.Solver)
		return nil
	}
	return o.done(a, run, o.out.path)
}

type symmflowClassify struct {
	symmflowModel
	labels bool
}

// classified is what classify tells of a picture.
type classified struct {
	Name  string `json:"name"`
	Class int    `json:"class"`
	True  *int   `json:"true,omitempty"`
}

func newSymmFlowClassify(a *app) *cobra.Command {
	var o symmflowClassify
	cmd := &cobra.Command{
		Use:   "classify INPUT --model FILE",
		Short: "Tell the classes of pictures",
		Long: `Tell the classes of pictures, in one step or in several: a line with name and class
each. Where the input knows the classes (mnist:test, or folders with --labels, in the
order of their names) the share that is right is said on standard error.`,
		Example: "  fidlab system symmflow classify mnist:test?n=500 --model digits.safetensors",
		Args:    nargs("INPUT, pictures", 1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runSymmFlowClassify(cmd.Context(), a, &o, args[0])
		},
	}
	f := cmd.Flags()
	o.flags(cmd, 1)
	f.BoolVar(&o.labels, "labels", false, "the first folders of INPUT are classes 0, 1, 2, …")
	f.SortFlags = false
	return cmd
}

func runSymmFlowClassify(ctx context.Context, a *app, o *symmflowClassify, arg string) error {
	m, sum, list, err := o.pictures(ctx, a, arg, false, o.labels)
	if err != nil {
		return err
	}
	said, err := o.read(ctx, m, list)
	if err != nil {
		return err
	}
	var out []classified
	right, known := 0, 0
	for i, p := range list {
		c := classified{Name: p.name, Class: int(said[i][0])}
		if p.label >= 0 {
			c.True = &list[i].label
			if known++; c.Class == p.label {
				right++
			}
		}
		out = append(out, c)
	}
	if a.json {
		run := o.record("classify", sum)
		run.Input, run.N = arg, len(list)
		return a.printJSON(map[string]any{"run": run, "pictures": out, "right": right, "known": known})
	}
	for _, c := range out {
		a.printf("%s\t%d\n", c.Name, c.Class)
	}
	if known > 0 {
		a.say("%d of %d right, %.2f %%, in %d steps of %s", right, known, 100*float64(right)/float64(known), o.Steps, o.Solver)
	}
	return nil
}
