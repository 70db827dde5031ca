package motion

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/fidlab/fidlab/data"
	kin "github.com/fidlab/fidlab/motion"
	"github.com/fidlab/fidlab/tensor"
)

// Folder is a data set of the user's in the layout of HumanML3D or KIT-ML:
//
//	new_joint_vecs/NAME.npy   rows, [n, 263] or [n, 251]
//	texts/NAME.txt            captions, see ParseTexts
//	Mean.npy, Std.npy         of the channels
//	train.txt, val.txt, …     names, one a line
type Folder struct {
	Dir    string
	Layout *kin.Layout
	Stats  *kin.Stats // nil: the folder has none, see OpenBare
}

// Lists are the names of the published splits.
var Lists = []string{"train", "val", "test", "train_val", "all"}

// The rules of the published loaders.
const (
	unitRows = 4   // lengths are cut to a multiple of it
	longest  = 196 // rows of the longest clip that models take
	tooLong  = 200 // rows from which on a motion is left out
)

// least is the number of rows below which a motion is left out: 2 seconds.
func least(l *kin.Layout) int {
	if l == kin.KIT {
		return 24
	}
	return 40
}

// OpenFolder opens a folder; the width of its Mean.npy says which layout it has. It
// refuses a folder without new_joint_vecs, texts, Mean.npy or Std.npy, and
// statistics that are not finite or have a deviation of zero.
func OpenFolder(dir string) (*Folder, error) {
	f, err := OpenBare(dir)
	if err != nil {
		return nil, err
	}
	if f.Stats == nil {
		return nil, data.Errorf("motion: %s: no Mean.npy and Std.npy there; copy those of the data set, or make them of the training split (ComputeStats)", dir)
	}
	return f, nil
}

// OpenBare is OpenFolder for a folder that may have neither Mean.npy nor Std.npy;
// its layout is then that of the first motion.
func OpenBare(dir string) (*Folder, error) {
	for _, sub := range []string{"new_joint_vecs", "texts"} {
		st, err := os.Stat(filepath.Join(dir, sub))
		if err != nil || !st.IsDir() {
			return nil, data.Errorf("motion: %s: no folder %s there; want the layout of HumanML3D: new_joint_vecs/NAME.npy, texts/NAME.txt, Mean.npy, Std.npy and train.txt", dir, sub)
		}
	}
	f := &Folder{Dir: dir}
	mean, err := f.channel("Mean.npy")
	if err != nil {
		return nil, err
	}
	std, err := f.channel("Std.npy")
	if err != nil {
		return nil, err
	}
	switch {
	case mean == nil && std == nil:
		return f, f.guessLayout()
	case mean == nil || std == nil:
		have, lacks := "Mean.npy", "Std.npy"
		if mean == nil {
			have, lacks = lacks, have
		}
		return nil, data.Errorf("motion: %s: %s is there but no %s; want both, or neither", dir, have, lacks)
	}
	if f.Layout, err = fullLayout(len(mean)); err != nil {
		return nil, data.Errorf("motion: %s: %w", filepath.Join(dir, "Mean.npy"), err)
	}
	f.Stats = &kin.Stats{Layout: f.Layout, Mean: mean, Std: std}
	if err := f.Stats.Check(); err != nil {
		return nil, data.Errorf("motion: %s: %w", dir, err)
	}
	return f, nil
}

func fullLayout(width int) (*kin.Layout, error) {
	l, err := kin.LayoutOf(width)
	if err == nil && !l.Full() {
		err = fmt.Errorf("rows of %d numbers; want 263 (HumanML3D) or 251 (KIT)", width)
	}
	return l, err
}

// channel reads Mean.npy or Std.npy; nil when it is not there.
func (f *Folder) channel(name string) ([]float64, error) {
	path := filepath.Join(f.Dir, name)
	x, err := readFloats(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if x.Len() != slices.Max(append(x.Shape, 1)) { // [263], and [1,263] too
		return nil, data.Errorf("motion: %s: shape %v; want one number of each channel", path, x.Shape)
	}
	return x.F64(), nil
}

func (f *Folder) guessLayout() error {
	dir := filepath.Join(f.Dir, "new_joint_vecs")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return data.Errorf("motion: %w", err)
	}
	for _, e := range entries {
		if filepath.Ext(e.Name()) != ".npy" {
			continue
		}
		x, err := readFloats(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		if len(x.Shape) != 2 {
			return data.Errorf("motion: %s: shape %v; want [rows, 263] or [rows, 251]", filepath.Join(dir, e.Name()), x.Shape)
		}
		if f.Layout, err = fullLayout(x.Shape[1]); err != nil {
			return data.Errorf("motion: %s: %w", filepath.Join(dir, e.Name()), err)
		}
		return nil
	}
	return data.Errorf("motion: %s: no .npy there; want NAME.npy of [rows, 263] or [rows, 251]", dir)
}

// readFloats reads an .npy of float32 or float64.
func readFloats(path string) (*tensor.Array, error) {
	x, err := tensor.ReadNPY(path)
	if err != nil {
		return nil, data.Errorf("motion: %w", err)
	}
	if x.DType != tensor.F32 && x.DType != tensor.F64 {
		return nil, data.Errorf("motion: %s: elements of %s; want float32 or float64", path, x.DType)
	}
	return x, nil
}

// readText reads a text file whole, up to one byte over the bound of its parser.
func readText(path string, most int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, data.Errorf("motion: %w", err)
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, most+1))
	if err != nil {
		return nil, data.Errorf("motion: %w", err)
	}
	return b, nil
}

// Names are the motions of a list, such as train.
func (f *Folder) Names(list string) ([]string, error) {
	path := filepath.Join(f.Dir, list+".txt")
	if strings.ContainsAny(list, `/\`) {
		return nil, data.Unknown("motion", "list", list, Lists)
	}
	b, err := readText(path, maxList)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, data.Errorf("motion: %s: no such list; want one of %s with the names of motions, one a line: %w", path, strings.Join(Lists, ", "), err)
	}
	if err != nil {
		return nil, err
	}
	return ParseList(path, b)
}

// Motion is one motion of a folder as it is on disk.
type Motion struct {
	Name     string
	Mirrored bool      // it is the mirror image of the motion without the M
	Rows     []float32 // [n, width], not normalised
	Captions []Caption
}

// Read reads a motion with its captions. It refuses rows of another width than the
// folder's and numbers that are not finite.
func (f *Folder) Read(name string) (*Motion, error) {
	rows, err := f.readRows(name)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(f.Dir, "texts", name+".txt")
	b, err := readText(path, maxTexts)
	if err != nil {
		return nil, err
	}
	captions, err := ParseTexts(path, b)
	if err != nil {
		return nil, err
	}
	mirrored := len(name) > 1 && name[0] == 'M' && name[1] >= '0' && name[1] <= '9'
	return &Motion{Name: name, Mirrored: mirrored, Rows: rows, Captions: captions}, nil
}

func (f *Folder) readRows(name string) ([]float32, error) {
	if !filepath.IsLocal(name) || strings.ContainsAny(name, `/\`) {
		return nil, data.Errorf("motion: %q is no name of a motion; want one without folders and ending, such as 000021", name)
	}
	path := filepath.Join(f.Dir, "new_joint_vecs", name+".npy")
	x, err := readFloats(path)
	if err != nil {
		return nil, err
	}
	if len(x.Shape) != 2 || x.Shape[1] != f.Layout.Width {
		return nil, data.Errorf("motion: %s: shape %v; want [rows, %d], the width of the folder's %s layout", path, x.Shape, f.Layout.Width, f.Layout.Name)
	}
	rows := x.F32()
	if _, err := kin.Rows(f.Layout, rows); err != nil {
		return nil, data.Errorf("motion: %s: %w", path, err)
	}
	return rows, nil
}

// Clip is a motion, or a part of one, with the captions that are about it.
type Clip struct {
	Name     string // of a part: a letter before the motion's, as in A_000021
	Mirrored bool
	Len      int       // rows
	Rows     []float32 // [Len, width], not normalised
	Captions []Caption
}

// Fit is the clip's length as models take it: a multiple of 4 rows, at most 196.
func (c *Clip) Fit() int { return min(c.Len, longest) / unitRows * unitRows }

// Clips cuts a motion as the published loaders do: one clip of all rows with the
// captions of the whole, if there are any, and one for each caption of a part, of the
// rows ⌊start·fps⌋ to ⌊end·fps⌋−1. Clips shorter than 40 rows (KIT: 24) or of 200
// rows or more are left out, with all of a motion of such a length; skipped says why.
// Parts are named by letters in the order of the lines, where those loaders draw one.
func (f *Folder) Clips(m *Motion) (clips []Clip, skipped []string) {
	width := f.Layout.Width
	check := func(what string, n int) bool {
		if n >= least(f.Layout) && n < tooLong {
			return true
		}
		skipped = append(skipped, fmt.Sprintf("%s has %d rows; want %d to %d", what, n, least(f.Layout), tooLong-1))
		return false
	}
	n := len(m.Rows) / width
	if !check("the motion", n) {
		return nil, skipped
	}
	whole := Clip{Name: m.Name, Mirrored: m.Mirrored, Len: n, Rows: m.Rows}
	var parts []Clip
	for i, c := range m.Captions {
		if c.Whole() {
			whole.Captions = append(whole.Captions, c)
			continue
		}
		// Times of a day and more are far beyond the end, and must not overflow.
		from, to := min(n, int(min(c.From, 1e6)*f.Layout.Skeleton.FPS)), min(n, int(min(c.To, 1e6)*f.Layout.Skeleton.FPS))
		if !check(fmt.Sprintf("the part of caption %d, %g to %g s,", i+1, c.From, c.To), to-from) {
			continue
		}
		parts = append(parts, Clip{
			Name: partName(len(parts), m.Name), Mirrored: m.Mirrored, Len: to - from,
			Rows: m.Rows[from*width : to*width : to*width], Captions: []Caption{c},
		})
	}
	if len(whole.Captions) > 0 {
		clips = append(clips, whole)
	}
	return append(clips, parts...), skipped
}

// partName puts letter k of A to W before a name, and after 23 parts a number too.
func partName(k int, name string) string {
	letter := string(rune('A' + k%23))
	if k >= 23 {
		letter += fmt.Sprint(k / 23)
	}
	return letter + "_" + name
}

// Skip is something that was left out of a list, and why.
type Skip struct{ Name, Reason string }

// Summary says what Each found.
type Summary struct {
	Listed, Motions, Clips, Captions int
	Skipped                          []Skip
}

// Each reads the motions of a list on all processors and calls use with their clips
// in the order of the list. A motion that is not there or cannot be read is left out
// and named in the summary, as clips of a wrong length are: the published lists name
// motions that the published folders lack. It is an error when nothing is left.
func (f *Folder) Each(ctx context.Context, list string, use func(Clip) error) (*Summary, error) {
	names, err := f.Names(list)
	if err != nil {
		return nil, err
	}
	s := &Summary{Listed: len(names)}
	skip := func(name string, why error) { s.Skipped = append(s.Skipped, Skip{name, why.Error()}) }
	err = eachRead(ctx, names, f.Read, skip, func(name string, m *Motion) error {
		s.Motions++
		clips, skipped := f.Clips(m)
		for _, why := range skipped {
			s.Skipped = append(s.Skipped, Skip{name, why})
		}
		for _, c := range clips {
			s.Clips++
			s.Captions += len(c.Captions)
			if err := use(c); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return s, err
	}
	if s.Clips == 0 {
		first := s.Skipped[0]
		return s, data.Errorf("motion: %s: none of the %d motions of %s.txt is left; the first is left out because: %s", f.Dir, len(names), list, first.Reason)
	}
	return s, nil
}

// eachRead reads what names name on all processors and calls, in their order, use
// with what was read or skip with why it was not.
func eachRead[T any](ctx context.Context, names []string, read func(name string) (T, error), skip func(name string, why error), use func(name string, v T) error) error {
	type result struct {
		v   T
		err error
	}
	return data.InOrder(ctx, len(names), func(i int) (result, error) {
		v, err := read(names[i])
		return result{v, err}, nil
	}, func(i int, r result) error {
		if r.err == nil {
			return use(names[i], r.v)
		}
		skip(names[i], r.err)
		return nil
	})
}

// ComputeStats makes the statistics of all rows of the motions of a list, whatever
// their length; motions that cannot be read are left out.
func (f *Folder) ComputeStats(ctx context.Context, list string) (*kin.Stats, error) {
	names, err := f.Names(list)
	if err != nil {
		return nil, err
	}
	sums, n := kin.NewSums(f.Layout), 0
	var first error
	skip := func(_ string, why error) {
		if first == nil {
			first = why
		}
	}
	err = eachRead(ctx, names, f.readRows, skip, func(_ string, rows []float32) error {
		n++
		return sums.Add(rows)
	})
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, data.Errorf("motion: %s: none of the %d motions of %s.txt can be read; the first: %w", f.Dir, len(names), list, first)
	}
	stats, err := sums.Stats()
	if err != nil {
		return nil, data.Errorf("%w", err)
	}
	return stats, nil
}

// WriteStats writes Mean.npy and Std.npy, float32, into the folder. Existing files
// are refused.
func (f *Folder) WriteStats(s *kin.Stats) error {
	for _, c := range []struct {
		name string
		v    []float64
	}{{"Mean.npy", s.Mean}, {"Std.npy", s.Std}} {
		if err := tensor.WriteNPYFile(filepath.Join(f.Dir, c.name), tensor.FromF32(kin.Narrow(c.v), len(c.v))); err != nil {
			return fmt.Errorf("motion: %w", err)
		}
	}
	return nil
}
