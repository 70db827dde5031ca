package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/tensor"
)

type dataCheckOptions struct {
	dataRange
	in     string
	totals bool
	noise  float64
	blur   int
	worn   bool // --noise or --blur is given
}

func newDataCheck(a *app) *cobra.Command {
	var o dataCheckOptions
	cmd := &cobra.Command{
		Use:   "check SET",
		Short: "Read pictures with the set's exact reader, and judge the reader",
		Long: `Read pictures with the exact reader of a set and print what each shows, then the
totals. --in DIR reads a folder: of data gen with its truth, or of any pictures of
that size, such as samples of a model, without: scenes of shapes that fidlab sample
drew by captions are then compared with these (prompts.jsonl), and shares have Wilson's
interval at 95 %; of motions a folder of .npy, of which
what needs no truth is told. Without --in the reader itself is
judged: generated items are read clean, with Gaussian noise and blurred, and
a row each says how much of the truth was read.`,
		Example: `  fidlab data check shapes
  fidlab data check shapes --in scenes/ --totals
  fidlab data check shapes --split ref -n 1000 --noise 0.05`,
		Args: nargs("one data set", 1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.worn = cmd.Flags().Changed("noise") || cmd.Flags().Changed("blur")
			e, s, err := openSet(args[0], o.seed)
			if err != nil {
				return err
			}
			if !(o.noise >= 0 && o.noise <= 1) {
				return usagef("--noise %g: want 0 to 1", o.noise)
			}
			if o.blur < 0 || o.blur > 100 {
				return usagef("--blur %d: want 0 to 100 passes", o.blur)
			}
			if o.in == "" {
				r, err := o.items(cmd, s)
				if err != nil {
					return err
				}
				return runDataAccuracy(cmd.Context(), a, e, s, r, &o)
			}
			for _, f := range []string{"split", "num", "from", "seed"} {
				if cmd.Flags().Changed(f) {
					return usagef("--%s chooses items to generate; with --in the folder says what is read", f)
				}
			}
			return runDataCheck(cmd.Context(), a, e, s, &o)
		},
	}
	o.flags(cmd, 400)
	f := cmd.Flags()
	f.StringVar(&o.in, "in", "", "read the pictures of the folder `DIR`")
	f.BoolVar(&o.totals, "totals", false, "print the totals alone")
	f.Float64Var(&o.noise, "noise", 0, "add noise of standard deviation `S` (0 to 1) before reading")
	f.IntVar(&o.blur, "blur", 0, "blur in `N` passes of a 3×3 box before reading")
	return cmd
}

// runDataAccuracy judges the reader on generated items.
func runDataAccuracy(ctx context.Context, a *app, e data.Entry, s data.Served, r data.Args, o *dataCheckOptions) error {
	type row struct {
		Input   string        `json:"input"`
		N       int           `json:"n"`
		OK      int           `json:"ok"`
		Counts  []data.Count  `json:"counts"`
		MeanIoU *float64      `json:"mean_iou"`
		Errors  []data.Spread `json:"errors"`
	}
	damages := data.Damages
	if o.worn {
		damages = []data.Damage{{Noise: o.noise, Blur: o.blur}}
	}
	it, err := s.Item(r.Split, r.From)
	if err != nil {
		return err
	}
	if len(it.Pictures()) == 0 { // nothing to damage
		if o.worn {
			return usagef("--noise and --blur are for pictures; items of %s are none", s.Name())
		}
		damages = damages[:1]
	}
	p := a.progress("reading "+s.Name(), "items", r.N*len(damages))
	defer p.End()
	var rows []row
	for k, d := range damages {
		var t data.Totals
		err := data.InOrder(ctx, r.N, func(i int) (data.Check, error) {
			it, err := s.Item(r.Split, r.From+i)
			if err != nil {
				return data.Check{}, err
			}
			g, err := data.Give(it)
			if err != nil {
				return data.Check{}, err
			}
			return s.Check(d.Apply(g, r.From+i))
		}, func(i int, c data.Check) error {
			t.Add(c)
			p.Set(k*r.N + i + 1)
			return nil
		})
		if err != nil {
			return err
		}
		w := row{Input: d.String(), N: t.Items, OK: t.OK, Counts: t.Counts(), Errors: t.Spreads()}
		if v, ok := t.MeanIoU(); ok {
			w.MeanIoU = &v
		}
		rows = append(rows, w)
	}
	p.End()
	if a.json {
		return a.printJSON(map[string]any{"set": s.Name(), "split": r.Split, "from": r.From, "n": r.N, "seed": r.Seed, "rows": rows, "note": e.Note})
	}
	a.noteReader(e)
	tw := tabwriter.NewWriter(a.stdout, 0, 8, 2, ' ', 0)
	fmt.Fprint(tw, "INPUT\tITEMS\tRIGHT")
	for _, c := range rows[0].Counts {
		if !c.IsIoU() {
			fmt.Fprintf(tw, "\t%s", c.Name)
		}
	}
	if rows[0].MeanIoU != nil {
		fmt.Fprint(tw, "\tmIoU")
	}
	for _, e := range rows[0].Errors {
		fmt.Fprintf(tw, "\t%s: p99", e.Name)
	}
	fmt.Fprintln(tw)
	for _, w := range rows {
		fmt.Fprintf(tw, "%s\t%d\t%s", w.Input, w.N, share(w.OK, w.N))
		for _, c := range w.Counts {
			if !c.IsIoU() {
				fmt.Fprintf(tw, "\t%s", share(c.Hits, c.Of))
			}
		}
		if w.MeanIoU != nil {
			fmt.Fprintf(tw, "\t%.3f", *w.MeanIoU)
		}
		for _, e := range w.Errors {
			fmt.Fprintf(tw, "\t%.3g", e.P99)
		}
		fmt.Fprintln(tw)
	}
	return tw.Flush()
}

// noteReader says how far the set's reader errs, where it is not exact.
func (a *app) noteReader(e data.Entry) {
	if e.Note != "" {
		a.say("%s: %s", e.Name, e.Note)
	}
}

func share(hits, of int) string {
	if of == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f %%", 100*float64(hits)/float64(of))
}

// runDataCheck reads a folder.
func runDataCheck(ctx context.Context, a *app, e data.Entry, s data.Served, o *dataCheckOptions) error {
	lines, bare, err := readItems(ctx, s, o.in)
	if err != nil {
		return err
	}
	captions := false
	if e.Captions && !bare && len(lines) > 0 && lines[0].Truth == nil {
		if lines, captions, err = withCaptions(o.in, lines); err != nil {
			return err
		}
	}
	type verdict struct {
		File string `json:"file"`
		data.Check
	}
	if bare && o.worn {
		return usagef("--noise and --blur are for pictures; items of %s are none", s.Name())
	}
	words, sum := map[bool]string{true: "ok", false: "wrong"}, "right"
	if bare { // nothing is known that it could be right about
		words, sum = map[bool]string{true: "read", false: "unreadable"}, "read"
	}
	d := data.Damage{Noise: o.noise, Blur: o.blur}
	list := []verdict{}
	var t data.Totals
	var first string
	p := a.progress("reading "+o.in, "items", len(lines))
	defer p.End()
	err = data.InOrder(ctx, len(lines), func(i int) (verdict, error) {
		g, err := readGiven(o.in, lines[i])
		if err != nil {
			return verdict{}, err
		}
		name := lines[i].Files[0].Path
		c, err := s.Check(d.Apply(g, i))
		if err != nil && bare && errors.Is(err, imageio.ErrInput) {
			return verdict{name, data.Check{Text: err.Error()}}, nil
		}
		if err != nil {
			return verdict{}, inputf("%s: %w", filepath.Join(o.in, name), err)
		}
		return verdict{name, c}, nil
	}, func(i int, v verdict) error {
		if t.Add(v.Check); i == 0 {
			first = v.Text
		}
		switch {
		case o.totals:
		case a.json:
			list = append(list, v)
		default:
			a.printf("%s\t%s\t%s\n", v.File, words[v.OK], v.Text)
		}
		p.Set(i + 1)
		return a.stdout.err
	})
	p.End()
	if err != nil {
		return err
	}
	if bare && t.OK == 0 {
		return inputf("%s: none of the %d items can be read; the first: %s", o.in, t.Items, first)
	}
	mean, has := t.MeanIoU()
	if a.json {
		all := map[string]any{"set": s.Name(), "folder": o.in, "n": t.Items, "ok": t.OK, "counts": t.Counts(), "errors": t.Spreads(), "items": list, "note": e.Note}
		if has {
			all["mean_iou"] = mean
		}
		if bare {
			all["truth"] = false // "ok" counts what could be read
		}
		if captions {
			all["counts"] = withIntervals(t.Counts())
		}
		return a.printJSON(all)
	}
	a.noteReader(e)
	a.printf("%s\n", data.Count{Name: sum, Hits: t.OK, Of: t.Items})
	for _, c := range t.Counts() {
		switch {
		case c.IsIoU():
		case captions && c.Of > 0:
			lo, hi := c.Interval()
			a.printf("%s (%.1f to %.1f)\n", c, 100*lo, 100*hi)
		default:
			a.printf("%s\n", c)
		}
	}
	if has {
		a.printf("mIoU: %.4f\n", mean)
	}
	for _, e := range t.Spreads() {
		a.printf("%s: mean %.3g, 99 %% below %.3g, largest %.3g\n", e.Name, e.Mean, e.P99, e.Max)
	}
	return nil
}

const maxTruthLine = 8 << 20

// readTruth lists the items of a folder: those of its truth.jsonl, or, without
// one, its pictures in the order of their paths.
func readTruth(ctx context.Context, dir string) ([]truthLine, error) {
	path := filepath.Join(dir, truthFile)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return listPictures(ctx, dir)
	}
	if err != nil {
		return nil, &inputError{err}
	}
	defer f.Close()
	var lines []truthLine
	sc := bufio.NewScanner(f)
	sc.Buffer(make([]byte, 1<<16), maxTruthLine)
	for n := 1; sc.Scan(); n++ {
		var l truthLine
		if err := json.Unmarshal(sc.Bytes(), &l); err != nil {
			return nil, inputf("%s: line %d: %w; want lines as fidlab data gen writes them", path, n, err)
		}
		if len(l.Files) == 0 {
			return nil, inputf("%s: line %d names no file; want lines as fidlab data gen writes them", path, n)
		}
		for _, file := range l.Files {
			if !filepath.IsLocal(file.Path) {
				return nil, inputf("%s: line %d names %q; want a file inside the folder", path, n, file.Path)
			}
		}
		lines = append(lines, l)
	}
	if err := sc.Err(); err != nil {
		return nil, inputf("%s: %w; want lines as fidlab data gen writes them", path, err)
	}
	if len(lines) == 0 {
		return nil, inputf("%s: no lines; write the folder again with fidlab data gen", path)
	}
	return lines, nil
}

func listPictures(ctx context.Context, dir string) ([]truthLine, error) {
	if st, err := os.Stat(dir); err == nil && !st.IsDir() {
		return nil, inputf("%s: is not a folder; want one of pictures", dir)
	}
	src, err := imageio.OpenContext(ctx, dir, imageio.Options{})
	if err != nil {
		return nil, err
	}
	var lines []truthLine
	err = src.Each(ctx, func(it imageio.Item) error {
		rel, err := filepath.Rel(dir, it.Name)
		if err != nil || !filepath.IsLocal(rel) {
			rel = it.Name
		}
		lines = append(lines, truthLine{Files: []itemFile{{Path: rel}}})
		return nil
	})
	return lines, err
}

// readGiven reads the files of an item.
func readGiven(dir string, l truthLine) (data.Given, error) {
	g := data.Given{Truth: l.Truth, Array: l.array, Caption: l.caption}
	if l.array != nil {
		return g, nil
	}
	for _, f := range l.Files {
		path := filepath.Join(dir, f.Path)
		if filepath.Ext(path) == ".npy" {
			x, err := tensor.ReadNPY(path)
			if err != nil {
				return g, &inputError{err}
			}
			g.Array = x
			continue
		}
		b, err := readBounded(path, 64<<20)
		if err != nil {
			return g, &inputError{err}
		}
		m, err := imageio.Decode(b, imageio.DecodeOptions{})
		if err != nil {
			return g, inputf("%s: %w", path, err)
		}
		g.Pictures = append(g.Pictures, data.Picture{Name: f.Name, Image: m})
	}
	return g, nil
}

func readBounded(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var b bytes.Buffer
	n, err := io.Copy(&b, io.LimitReader(f, most+1))
	if err == nil && n > most {
		err = fmt.Errorf("%s: over %d bytes; want a small picture", path, most)
	}
	return b.Bytes(), err
}
