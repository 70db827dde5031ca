package cli

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/imageio/survey"
	"github.com/fidlab/fidlab/report"
	"github.com/fidlab/fidlab/tensor"
)

type inspectOptions struct {
	fidOptions
	top      int
	each     target
	clusters int
	hygiene  bool
}

func newInspect(a *app) *cobra.Command {
	var o inspectOptions
	cmd := &cobra.Command{
		Use:   "inspect REF GEN",
		Short: "Find the images, clusters and classes that make FID bad, copies of the reference, and files that differ",
		Long: `Say of every generated image by how much FID would fall without it (its effect),
and which reference image is nearest to it. Tables go to standard output: the
images of the greatest effect; those nearest to being copies; clusters of both
sets, with what the generated set lacks or has too much of; and, where both sets
have classes (sub-folders, digits), the distance of each class and what FID would
lose without the generated images of that class.

Effects are those of leaving one image out, computed together and exactly. Of a
group they do not add up: every image of a mode that the reference lacks has an
effect of its own, and all of them together more or less than the sum.

nearest/own is the distance to the nearest reference image over the distance of
that one from its own nearest neighbour: below 1 the image is nearer to a real
one than that is to any other; a copy has 0.

What the files are (formats, sizes, JPEG quality, copies, enlarged pictures) and
what of it shifts FID goes to standard error in short, and into the page. With
--hygiene only that is looked at, without any network, of one set or of two.

` + inputHelp,
		Example: `  fidlab inspect mnist:train digits/ --report digits.html
  fidlab inspect real/ fake/ --top 30 --clusters 20
  fidlab inspect --hygiene real/ fake/
  fidlab inspect real/ fake/ --each effects.jsonl && jq -s 'sort_by(-.effect)[:20][].image' effects.jsonl`,
		Args: nargs("a reference and a generated set", 1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 && !o.hygiene {
				return usagef("want a reference and a generated set, got 1 argument; --hygiene looks at the files of one set")
			}
			o.ref, o.gen, o.metrics, o.splits, o.ciLevel = args[0], args[len(args)-1], []string{"fid"}, 10, 0.95
			if o.hygiene {
				if err := o.checkHygiene(args, cmd.Flags().Changed); err != nil {
					return err
				}
				return runHygiene(cmd.Context(), a, &o, args)
			}
			o.x.labels = true
			return runInspect(cmd.Context(), a, &o)
		},
	}
	o.x.flags(cmd)
	f := cmd.Flags()
	f.IntVar(&o.top, "top", 10, "list `N` images in a table; the page shows as many")
	f.IntVar(&o.clusters, "clusters", 8, "part the images of both sets into `K` clusters by their features; 0 makes none")
	f.BoolVar(&o.hygiene, "hygiene", false, "look at the files alone, of one set or two: no features, no network")
	f.StringVar(&o.each.path, "each", "", "write what was found of every image to `FILE.jsonl`")
	f.StringVar(&o.report.path, "report", "", "write a page with the images to `FILE.html`")
	f.BoolVar(&o.report.overwrite, "overwrite", false, "replace files that exist")
	return cmd
}

func (o *inspectOptions) check() error {
	o.each.overwrite = o.report.overwrite
	if o.top < 1 {
		return usagef("--top %d: want 1 or more", o.top)
	}
	if o.clusters < 0 || o.clusters == 1 {
		return usagef("--clusters %d: want 2 or more, or 0 for none", o.clusters)
	}
	if o.each.path != "" {
		if err := o.each.check(); err != nil {
			return err
		}
	}
	if o.report.path != "" && (o.ref == "-" || o.gen == "-") {
		return usagef("--report shows images, and - is read once; unpack it, or leave the page out")
	}
	return o.fidOptions.check()
}

// checkHygiene refuses what --hygiene has no use for.
func (o *inspectOptions) checkHygiene(args []string, given func(flag string) bool) error {
	for _, flag := range []string{"features", "preset", "weights", "precision", "clusters", "each", "force"} {
		if given(flag) {
			return usagef("--%s is of features, and --hygiene looks at files alone", flag)
		}
	}
	if len(args) == 1 {
		o.gen = "" // - may be there once
	}
	return o.check()
}

// inspectedSet is a set with what its rows are of.
type inspectedSet struct {
	*input
	members []fid.Member // nil where there are features alone
	classes []string     // names; nil where the source has none
	summary imageio.Summary
}

// name is what row i is called.
func (s *inspectedSet) name(i int) string {
	switch {
	case s.members == nil:
		return fmt.Sprintf("row %d", i)
	case s.members[i].Piece > 0:
		return fmt.Sprintf("%s, piece %d", s.members[i].Name, s.members[i].Piece)
	}
	return s.members[i].Name
}

// class is the class of row i; "" for none.
func (s *inspectedSet) class(i int) string {
	if s.members == nil {
		return ""
	}
	switch l := s.members[i].Label; {
	case l < 0:
		return ""
	case l < len(s.classes):
		return s.classes[l]
	default:
		return fmt.Sprint(l)
	}
}

// inspected is what was found of one generated image.
type inspected struct {
	Image    string  `json:"image"`
	Class    string  `json:"class,omitempty"`
	Effect   float64 `json:"effect"`
	Nearest  string  `json:"nearest"`
	Distance float64 `json:"distance"`
	Own      float64 `json:"nearest_own"` // of the nearest reference image from its own neighbour

	row, ref int
	ratio    float64
}

// inspectedClass is what was found of a class. Value and Effect are nil where there are not two images to compare.
type inspectedClass struct {
	Class  string   `json:"class"`
	Ref    int      `json:"ref"`
	Gen    int      `json:"gen"`
	FID    *float64 `json:"fid"`
	Effect *float64 `json:"effect"`
}

// inspection is everything that was found.
type inspection struct {
	*fid.Result
	Images  []inspected      `json:"images"` // by falling effect
	Classes []inspectedClass `json:"classes"`
	// Clusters and Hygiene are null where they were not asked for, or could not be had.
	Clusters []inspectedCluster `json:"clusters"`
	Hygiene  *hygiene           `json:"hygiene"`

	ref, gen *inspectedSet
	effects  []float64
	nearest  []fid.Nearest
}

func runInspect(ctx context.Context, a *app, o *inspectOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	ins, closeAll, err := a.openSets(ctx, &o.fidOptions, o.ref, o.gen)
	if err != nil {
		return err
	}
	defer closeAll()
	surveys := map[*input]*survey.Survey{}
	for _, in := range ins {
		if in.src != nil {
			surveys[in] = survey.New()
		}
	}
	sets, read, err := a.collectRows(ctx, o, surveys, ins)
	if err != nil {
		return err
	}
	found, err := inspect(ctx, a, o, sets[0], sets[1])
	if err != nil {
		return err
	}
	if len(surveys) == 2 {
		if found.Hygiene, err = hygieneOf(ctx, []string{o.ref, o.gen}, []*survey.Survey{surveys[ins[0]], surveys[ins[1]]}); err != nil {
			return err
		}
	}
	addReading(found.Result, read...)
	if o.each.path != "" {
		if err := found.writeEach(&o.each); err != nil {
			return err
		}
		a.say("%s: %d images", o.each.path, len(found.Images))
	}
	if o.report.path != "" {
		if err := writeInspection(ctx, o, found); err != nil {
			return err
		}
		a.say("report: %s", o.report.path)
	}
	if a.json {
		return a.printJSON(found)
	}
	a.sayResult(&o.fidOptions, found.Result)
	if found.Hygiene != nil {
		for _, v := range found.Hygiene.Advice {
			a.say("files: %s; it %s", v.What, v.Effect)
		}
	}
	return a.printTables(found.tables(o.top))
}

// collectRows extracts what is still pictures, with all rows kept and named.
func (a *app) collectRows(ctx context.Context, o *inspectOptions, surveys map[*input]*survey.Survey, ins []*input) ([]*inspectedSet, []*fid.Collected, error) {
	read, err := a.collectAll(ctx, &o.x, keeping{metric: true, members: true, surveys: surveys}, ins...)
	if err != nil {
		return nil, nil, err
	}
	sets := make([]*inspectedSet, len(ins))
	for i, in := range ins {
		sets[i] = &inspectedSet{input: in}
		if read[i] != nil {
			sets[i].members, sets[i].summary = read[i].Members, read[i].Summary
		}
		if c, ok := in.src.(imageio.Classed); ok {
			sets[i].classes = c.Classes()
		}
	}
	return sets, read, nil
}

func inspect(ctx context.Context, a *app, o *inspectOptions, ref, gen *inspectedSet) (*inspection, error) {
	opt, err := o.compare(a)
	if err != nil {
		return nil, err
	}
	opt.CI = false
	result, err := fid.Compare(ctx, ref.stats, gen.stats, opt)
	if err != nil {
		return nil, err
	}
	effects, err := fid.Effects(ref.stats, gen.stats)
	if err != nil {
		return nil, err
	}
	nearest, err := fid.NearestOn(ctx, opt.Device, ref.stats, gen.stats)
	if err != nil {
		return nil, err
	}
	found := &inspection{Result: result, ref: ref, gen: gen, Classes: []inspectedClass{}, effects: effects, nearest: nearest}
	for i, e := range effects {
		n := nearest[i]
		found.Images = append(found.Images, inspected{
			Image: gen.name(i), Class: gen.class(i), Effect: e, Nearest: ref.name(n.Ref), Distance: n.Distance, Own: n.Reach,
			row: i, ref: n.Ref, ratio: n.Ratio(),
		})
	}
	slices.SortStableFunc(found.Images, func(p, q inspected) int { return cmp.Compare(q.Effect, p.Effect) })
	if err := found.cluster(ctx, o); err != nil {
		return nil, err
	}
	return found, found.compareClasses(ctx)
}

// compareClasses compares the classes by their names, where both sets have some.
func (f *inspection) compareClasses(ctx context.Context) error {
	var names []string
	var labels [2][]int
	for side, s := range []*inspectedSet{f.ref, f.gen} {
		some := false
		for i := range s.members {
			c := s.class(i)
			k := -1
			if c != "" {
				some = true
				if k = slices.Index(names, c); k < 0 {
					k = len(names)
					names = append(names, c)
				}
			}
			labels[side] = append(labels[side], k)
		}
		if !some {
			return nil
		}
	}
	found, err := fid.ByClass(ctx, f.ref.stats, f.gen.stats, labels[0], labels[1])
	if err != nil {
		return err
	}
	for _, c := range found {
		f.Classes = append(f.Classes, inspectedClass{names[c.Label], c.Ref, c.Gen, orNil(c.Value), orNil(c.Effect)})
	}
	slices.SortStableFunc(f.Classes, func(p, q inspectedClass) int { return cmp.Compare(valueOr(q.FID), valueOr(p.FID)) })
	return nil
}

// orNil is the value for JSON, which has no NaN.
func orNil(v float64) *float64 {
	if math.IsNaN(v) {
		return nil
	}
	return &v
}

// valueOr is the value; +Inf for none, so that it comes first.
func valueOr(v *float64) float64 {
	if v == nil {
		return math.Inf(1)
	}
	return *v
}

// nearCopies are the images by rising ratio.
func (f *inspection) nearCopies() []inspected {
	return slices.SortedStableFunc(slices.Values(f.Images), func(p, q inspected) int {
		return cmp.Or(cmp.Compare(p.ratio, q.ratio), cmp.Compare(p.row, q.row))
	})
}

// tables are those of the terminal and of the page, of so many images each.
func (f *inspection) tables(top int) []report.Table {
	top = min(top, len(f.Images))
	whole := f.Metrics["fid"].Number()
	raise := report.Table{Caption: fmt.Sprintf("Images that raise FID most; it is %s", valueText(whole)), Columns: report.Columns("#>", "image", "class", "effect>", "% of FID>", "nearest reference", "nearest/own>")}
	for i, m := range f.Images[:top] {
		share := ""
		if whole > 0 {
			share = fmt.Sprintf("%.2f", 100*m.Effect/whole)
		}
		raise.Rows = append(raise.Rows, []string{fmt.Sprint(i + 1), m.Image, m.Class, valueText(m.Effect), share, m.Nearest, ratioText(m.ratio)})
	}
	near := report.Table{Caption: "Images nearest to copies of the reference", Columns: report.Columns("#>", "image", "class", "nearest/own>", "distance>", "nearest reference")}
	for i, m := range f.nearCopies()[:top] {
		near.Rows = append(near.Rows, []string{fmt.Sprint(i + 1), m.Image, m.Class, ratioText(m.ratio), valueText(m.Distance), m.Nearest})
	}
	out := []report.Table{raise, near}
	if len(f.Clusters) > 0 {
		out = append(out, f.clusterTable())
	}
	if len(f.Classes) == 0 {
		return out
	}
	classes := report.Table{Caption: "Classes, the worst first; effect is what FID would lose without the class", Columns: report.Columns("class", "reference>", "generated>", "fid>", "effect>")}
	mean, n := 0.0, 0
	for _, c := range f.Classes {
		row := []string{c.Class, fmt.Sprint(c.Ref), fmt.Sprint(c.Gen), "", ""}
		if c.FID != nil {
			row[3] = valueText(*c.FID)
			mean, n = mean+*c.FID, n+1
		}
		if c.Effect != nil {
			row[4] = valueText(*c.Effect)
		}
		classes.Rows = append(classes.Rows, row)
	}
	if n > 0 {
		classes.Rows = append(classes.Rows, []string{fmt.Sprintf("mean of %d", n), "", "", valueText(mean / float64(n)), ""})
	}
	return append(out, classes)
}

func ratioText(v float64) string {
	if math.IsInf(v, 1) {
		return "-" // the reference has that image twice
	}
	return fmt.Sprintf("%.3f", v)
}

// writeEach writes a line for every image, in the order of the set.
func (f *inspection) writeEach(t *target) error {
	rows := slices.SortedFunc(slices.Values(f.Images), func(p, q inspected) int { return cmp.Compare(p.row, q.row) })
	return tensor.WriteAtomic(t.path, func(w io.Writer) error {
		b := bufio.NewWriter(w)
		for _, m := range rows {
			line, err := json.Marshal(m)
			if err != nil {
				return err
			}
			b.Write(append(line, '\n')) // Flush has the error
		}
		return b.Flush()
	}, t.options()...)
}

// command is a line that finds the same.
func (o *inspectOptions) command(r *fid.Result) string {
	return strings.Join(append([]string{"fidlab", "inspect"}, o.arguments(r)...), " ")
}
