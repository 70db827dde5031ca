package folder

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/internal/cpu"
)

// Where classes come from, besides a file of labels.
const (
	// Auto is the dataset.json of a folder or zip where there is one, else the first-level folders where there are some, else no classes.
	Auto    = "auto"
	Folders = "folders" // the first-level folder's name
	Prefix  = "prefix"  // the file's name up to its first underscore, as in ADM's scripts
	None    = "none"    // there are no classes
)

// Options say how a set is read.
type Options struct {
	Input  string // a folder, an archive, a list: what imageio.Open opens
	Size   int    // height and width that pictures get
	Fit    string // Crop, Squash or ADM; "" is Crop
	Resize string // an imageio.ResizeKind by name; "" is pil-u8-lanczos, and ADM has its own
	Labels string // Auto, Folders, Prefix, None or the path of a .json, .csv, .jsonl or .parquet; "" is Auto
	// Captions are where pictures have texts: Beside, or the path of a .jsonl or .parquet; "" reads none.
	Captions string
	Skip     int // items left out at most that cannot be used

	Stdin        io.Reader // what the input "-" reads
	MaxFileBytes int64     // of a picture's file; 0 is 64 MiB
	MaxPixels    int       // width times height of a picture; 0 is 1<<26
	MaxBytes     int64     // of all resized pictures in memory, 12·size² each; 0 is 16 GiB

	Progress func(done, total int) // total is -1 where only reading tells
}

// Set is a training set in memory.
type Set struct {
	Title    string
	Size     int
	Fit      string
	Resize   string // the last one that pictures went through
	Names    []string
	X        []float32 // [n, 3, Size, Size], v/127.5 − 1
	Labels   []int32   // [n], numbers of Classes; nil without classes
	Classes  []string
	Captions [][]string     // of each picture at least one, in their order; nil where none are read
	Skipped  []imageio.Bad  // what was left out, at most Options.Skip, by path
	Aside    map[string]int // files that are no pictures, by kind
}

// Len is the number of pictures.
func (s *Set) Len() int { return len(s.Names) }

// Counts are the pictures of each class.
func (s *Set) Counts() []int {
	out := make([]int, len(s.Classes))
	for _, l := range s.Labels {
		out[l]++
	}
	return out
}

// SHA256 is the hash of how pictures were resized, the classes, and each item's name, label, captions and values.
func (s *Set) SHA256() string {
	h := sha256.New()
	text := func(v string) { fmt.Fprintf(h, "%d:%s", len(v), v) }
	fmt.Fprintf(h, "%d %d %d ", s.Size, len(s.Classes), s.Len())
	text(s.Fit)
	text(s.Resize)
	for _, c := range s.Classes {
		text(c)
	}
	one := 3 * s.Size * s.Size
	buf := make([]byte, 0, 4*one)
	for i, name := range s.Names {
		text(name)
		if s.Labels != nil {
			fmt.Fprintf(h, "%d ", s.Labels[i])
		}
		if s.Captions != nil {
			fmt.Fprintf(h, "%d ", len(s.Captions[i]))
			for _, c := range s.Captions[i] {
				text(c)
			}
		}
		buf = buf[:0]
		for _, v := range s.X[i*one : (i+1)*one] {
			buf = binary.LittleEndian.AppendUint32(buf, math.Float32bits(v))
		}
		h.Write(buf)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// SkipError lists the items of a set that cannot be used, where there are more than were allowed. It is an imageio.ErrInput.
type SkipError struct {
	Input   string
	Bad     []imageio.Bad
	Allowed int
}

// shownBad is how many items an error names.
const shownBad = 20

func (e *SkipError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "folder: %s: %d items cannot be used, and %d may be left out; mend or remove them, or allow as many with --skip-bad %d", e.Input, len(e.Bad), e.Allowed, len(e.Bad))
	for i, f := range e.Bad {
		if i == shownBad {
			fmt.Fprintf(&b, "\n  and %d more", len(e.Bad)-i)
			break
		}
		fmt.Fprintf(&b, "\n  %q: %s", f.Path, f.Reason)
	}
	return b.String()
}

// Is makes the error an imageio.ErrInput.
func (e *SkipError) Is(target error) bool { return target == imageio.ErrInput }

// fill sets the defaults and refuses what cannot be.
func (o *Options) fill() error {
	switch {
	case o.Input == "":
		return data.Errorf("folder: no input; want a folder or an archive of pictures")
	case o.Size < 1 || o.Size > 4096:
		return data.Errorf("folder: the size %d; want 1 to 4096 pixels", o.Size)
	case o.Skip < 0:
		return data.Errorf("folder: %d items to be left out at most; want 0 or more", o.Skip)
	}
	o.Fit, o.Labels = cmp.Or(o.Fit, Crop), cmp.Or(o.Labels, Auto)
	if o.Resize == "" && o.Fit != ADM {
		o.Resize = imageio.PILU8(imageio.Lanczos).String()
	}
	o.MaxFileBytes, o.MaxPixels, o.MaxBytes = cmp.Or(o.MaxFileBytes, 64<<20), cmp.Or(o.MaxPixels, 1<<26), cmp.Or(o.MaxBytes, 16<<30)
	return nil
}

// Load reads a set. Errors about it are imageio.ErrInput.
func Load(ctx context.Context, o Options) (*Set, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	fit, err := newFitter(&o)
	if err != nil {
		return nil, err
	}
	src, err := imageio.OpenContext(ctx, o.Input, imageio.Options{
		Stdin: o.Stdin, SkipBad: true, Labels: true, MaxFileBytes: o.MaxFileBytes, Decode: imageio.DecodeOptions{MaxPixels: o.MaxPixels},
	})
	if err != nil {
		return nil, err
	}
	if c, ok := src.(io.Closer); ok {
		defer c.Close() // was only read
	}
	l := &loader{o: &o, fit: fit, src: src, one: 3 * o.Size * o.Size}
	if err := l.room(max(0, src.Len())); err != nil {
		return nil, err
	}
	if l.classer, err = newClasser(&o, src); err != nil {
		return nil, err
	}
	if l.captioner, err = newCaptioner(&o); err != nil {
		return nil, err
	}
	if n := src.Len(); n > 0 {
		l.x = make([]float32, 0, n*l.one)
	}
	sum, err := imageio.Batches(ctx, src, imageio.BatchOptions{SkipBad: true, Progress: func(done int) {
		if o.Progress != nil {
			o.Progress(done, src.Len())
		}
	}}, l.take)
	if err != nil && (ctx.Err() != nil || !errors.Is(err, imageio.ErrEmpty)) {
		return nil, err
	}
	return l.finish(&sum)
}

// loader is one call of Load.
type loader struct {
	o         *Options
	fit       *fitter
	src       imageio.Source
	one       int // values of a picture
	classer   *classer
	captioner *captioner // nil without captions

	mu    sync.Mutex
	x     []float32 // in the order in which pictures came
	items []item
	bad   []imageio.Bad // pictures without a class
}

type item struct {
	name     string
	label    int
	at       int // in x
	captions []string
}

// room refuses more pictures than memory was allowed for.
func (l *loader) room(n int) error {
	if need := int64(n) * int64(l.one) * 4; need > l.o.MaxBytes {
		return data.Errorf("folder: %s: %d pictures of %d×%d take %d MiB of memory, the limit is %d; take a smaller size or fewer pictures", l.o.Input, n, l.o.Size, l.o.Size, need>>20, l.o.MaxBytes>>20)
	}
	return nil
}

// take resizes a batch's pictures and keeps them.
func (l *loader) take(_ *cpu.Worker, b *imageio.Batch) error {
	plane := make([]float32, l.one)
	for i, m := range b.Images {
		name := l.classer.local(b.Names[i])
		label, reason := l.classer.class(name, b.Labels[i])
		var captions []string
		if reason == "" && l.captioner != nil {
			captions, reason = l.captioner.captions(name)
		}
		if reason == "" {
			l.fit.into(plane, m)
		}
		l.mu.Lock()
		if reason != "" {
			l.bad = append(l.bad, imageio.Bad{Path: name, Reason: reason})
			l.mu.Unlock()
			continue
		}
		l.items = append(l.items, item{name, label, len(l.items), captions})
		l.x = append(l.x, plane...)
		err := l.room(len(l.items))
		l.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// finish puts the items into the order of their names.
func (l *loader) finish(sum *imageio.Summary) (*Set, error) {
	for _, b := range sum.Bad {
		l.bad = append(l.bad, imageio.Bad{Path: l.classer.local(b.Path), Reason: b.Reason})
	}
	l.bad = append(l.bad, l.missing()...)
	slices.SortFunc(l.bad, func(a, b imageio.Bad) int { return strings.Compare(a.Path, b.Path) })
	switch {
	case len(l.bad) > l.o.Skip:
		return nil, &SkipError{Input: l.src.Describe(), Bad: l.bad, Allowed: l.o.Skip}
	case len(l.items) == 0:
		return nil, data.Errorf("folder: %s: no picture is left; %d were left out", l.src.Describe(), len(l.bad))
	}
	slices.SortFunc(l.items, func(a, b item) int { return strings.Compare(a.name, b.name) })
	s := &Set{
		Title: l.src.Describe(), Size: l.o.Size, Fit: l.o.Fit, Resize: l.fit.to.Kind.String(), Names: make([]string, len(l.items)),
		Classes: l.classer.classes, Skipped: l.bad, Aside: sum.Found.Other,
	}
	if s.Classes != nil {
		s.Labels = make([]int32, len(l.items))
	}
	for i, e := range l.items {
		if s.Names[i] = e.name; i > 0 && e.name == s.Names[i-1] {
			return nil, data.Errorf("folder: %s: two pictures are named %q; want names of their own, by which items are in order", s.Title, e.name)
		}
		if s.Labels != nil {
			s.Labels[i] = int32(e.label)
		}
		if l.captioner != nil {
			s.Captions = append(s.Captions, e.captions)
		}
	}
	arrange(l.x, l.items, l.one)
	s.X = l.x
	return s, nil
}

// arrange moves the values of item i to place i, in cycles: there is no memory for a second copy.
func arrange(x []float32, items []item, one int) {
	kept := make([]float32, one)
	done := make([]bool, len(items))
	for first := range items {
		if done[first] || items[first].at == first {
			continue
		}
		copy(kept, x[first*one:])
		to := first
		for !done[to] {
			done[to] = true
			from := items[to].at
			if from == first {
				copy(x[to*one:(to+1)*one], kept)
				break
			}
			copy(x[to*one:(to+1)*one], x[from*one:])
			to = from
		}
	}
}

// classer tells the classes of pictures.
type classer struct {
	root    string // what names begin with; ""
	mode    string
	table   *labels
	classes []string
	number  map[string]int // of prefixes
}

// local is an item's name within the set, with slashes.
func (c *classer) local(name string) string { return localName(c.root, name) }

func localName(root, name string) string {
	if root != "" {
		if rel, err := filepath.Rel(root, name); err == nil && filepath.IsLocal(rel) {
			name = rel
		}
	}
	return path.Clean(filepath.ToSlash(name))
}

// rootOf is what the names of an input's items begin with.
func rootOf(input string) string {
	if st, err := os.Stat(input); err == nil && st.IsDir() {
		return input
	}
	switch ext := strings.ToLower(filepath.Ext(input)); ext {
	case ".txt", ".list", ".lst":
		return filepath.Dir(input)
	}
	return ""
}

func newClasser(o *Options, src imageio.Source) (*classer, error) {
	c := &classer{mode: o.Labels, root: rootOf(o.Input)}
	st, err := os.Stat(o.Input)
	folder := err == nil && st.IsDir()
	var found []string
	if k, ok := src.(imageio.Classed); ok {
		found = k.Classes()
	}
	switch c.mode {
	case Auto:
		file, b, err := ownLabels(o.Input, folder)
		if err != nil {
			return nil, err
		}
		if b != nil {
			return c, c.read(file, b)
		}
		if f, ok := src.(imageio.Finder); ok && strings.HasSuffix(src.Describe(), "(tar)") && f.Found().Other[".json"] > 0 {
			return nil, data.Errorf("folder: %s: it has a .json, and labels inside a tar are not read; give the file with --labels, unpacked, or say %s, %s or %s", src.Describe(), Folders, Prefix, None)
		}
		if c.mode = Folders; len(found) == 0 {
			c.mode = None
		}
	case Folders:
		if len(found) == 0 {
			return nil, data.Errorf("folder: %s: no folder of a class in it; want pictures in a folder for each class, or a file of labels", src.Describe())
		}
	case Prefix, None:
	default:
		b, err := readBounded(c.mode, maxLabelBytes)
		if err != nil {
			return nil, data.Errorf("folder: labels: %w; want %s, %s, %s, %s or a file", err, Auto, Folders, Prefix, None)
		}
		return c, c.read(c.mode, b)
	}
	switch c.mode {
	case Folders:
		c.classes = found
	case Prefix:
		return c, c.prefixes(src)
	}
	return c, nil
}

// read takes the classes of a file of labels.
func (c *classer) read(file string, b []byte) error {
	t, err := parseLabels(file, b)
	if err != nil {
		return err
	}
	if c.mode = None; t != nil {
		c.mode, c.table, c.classes = file, t, t.classes
	}
	return nil
}
