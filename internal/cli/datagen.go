package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/tensor"
)

// truthFile holds a truthLine of every item of a folder that data gen wrote.
const truthFile = "truth.jsonl"

// truthLine is one item: its files and what is known of it.
type truthLine struct {
	Files []itemFile      `json:"files"`
	Truth json.RawMessage `json:"truth"`

	array   *tensor.Array // the item itself, where it was read already
	caption *string       // by which it was drawn
}

type itemFile struct {
	Path string `json:"path"`
	Name string `json:"name,omitempty"` // of the picture, among those of the item
}

func newDataGen(a *app) *cobra.Command {
	var o struct {
		dataRange
		target
	}
	cmd := &cobra.Command{
		Use:   "gen SET -o DIR",
		Short: "Write items as PNG (or .npy) with their truth",
		Long: `Write items of a set into a folder: pictures as PNG (an item without pictures as
.npy), named by their number in the split, one line of JSON an item with the
whole truth in truth.jsonl, and run.json, which says how it was made. The folder
appears when it is complete.`,
		Example: "  fidlab data gen shapes --split test -n 1000 -o scenes/\n  fidlab data gen 'shapes16?style=gray' --split train -n 64 -o small/",
		Args:    nargs("one data set", 1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, s, err := openSet(args[0], o.seed)
			if err != nil {
				return err
			}
			r, err := o.items(cmd, s)
			if err != nil {
				return err
			}
			if o.path == "" {
				return usagef("want -o DIR, the folder to write")
			}
			return runDataGen(cmd.Context(), a, args[0], s, r, &o.target)
		},
	}
	o.dataRange.flags(cmd, 400)
	f := cmd.Flags()
	f.StringVarP(&o.path, "output", "o", "", "write to the folder `DIR`")
	f.BoolVar(&o.overwrite, "overwrite", false, "replace the folder if fidlab wrote it")
	return cmd
}

// madeItem is an item with its files encoded.
type madeItem struct {
	line  truthLine
	bytes [][]byte
}

func makeItem(s data.Served, split data.Split, i int) (madeItem, error) {
	it, err := s.Item(split, i)
	if err != nil {
		return madeItem{}, err
	}
	g, err := data.Give(it)
	if err != nil {
		return madeItem{}, err
	}
	m := madeItem{line: truthLine{Truth: g.Truth}}
	add := func(f itemFile, b *bytes.Buffer) {
		m.line.Files = append(m.line.Files, f)
		m.bytes = append(m.bytes, b.Bytes())
	}
	for _, p := range g.Pictures {
		var b bytes.Buffer
		if err := imageio.EncodePNG(&b, p.Image); err != nil {
			return m, err
		}
		path := pictureName(i)
		if p.Name != "" {
			path = strings.TrimSuffix(path, ".png") + "-" + p.Name + ".png"
		}
		add(itemFile{path, p.Name}, &b)
	}
	if g.Array != nil {
		var b bytes.Buffer
		if err := tensor.WriteNPY(&b, g.Array); err != nil {
			return m, err
		}
		add(itemFile{Path: fmt.Sprintf("%06d.npy", i)}, &b)
	}
	return m, nil
}

func runDataGen(ctx context.Context, a *app, arg string, s data.Served, r data.Args, out *target) error {
	d, err := newOutDir(out.path, out.overwrite)
	if err != nil {
		return err
	}
	defer d.Abort()
	f, err := os.Create(d.File(truthFile))
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewWriter(f)
	enc := json.NewEncoder(lines)
	enc.SetEscapeHTML(false)
	p := a.progress("generating "+s.Name(), "items", r.N)
	files := 0
	err = data.InOrder(ctx, r.N, func(k int) (madeItem, error) { return makeItem(s, r.Split, r.From+k) }, func(k int, m madeItem) error {
		for i, b := range m.bytes {
			files++
			if err := os.WriteFile(d.File(m.line.Files[i].Path), b, 0o666); err != nil {
				return err
			}
		}
		p.Set(k + 1)
		return enc.Encode(m.line)
	})
	p.End()
	if err != nil {
		return err
	}
	if err := lines.Flush(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	run := runJSON(map[string]any{
		"made": "fidlab data gen", "version": thisVersion().Version, "set": arg, "split": r.Split, "from": r.From, "n": r.N, "seed": r.Seed,
	})
	if err := os.WriteFile(d.File(runFile), run, 0o666); err != nil {
		return err
	}
	if err := d.Commit(); err != nil {
		return err
	}
	if a.json {
		return a.printJSON(map[string]any{"folder": out.path, "set": arg, "split": r.Split, "from": r.From, "n": r.N, "seed": r.Seed, "files": files})
	}
	a.printf("%s\n", out.path)
	a.say("%s: items %d to %d of %s %s, %d files", out.path, r.From, r.From+r.N-1, arg, r.Split, files)
	return nil
}
