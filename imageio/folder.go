package imageio

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/fidlab/fidlab/internal/cpu"
)

// file is one picture on disk.
type file struct {
	name  string // as shown
	path  string
	label int
}

// fileSource is a fixed list of files: a folder, an image list or one picture.
type fileSource struct {
	title   string
	files   []file
	found   Found
	classes []string
	opt     Options
}

func (s *fileSource) Describe() string  { return s.title }
func (s *fileSource) Len() int          { return len(s.files) }
func (s *fileSource) Found() Found      { return s.found }
func (s *fileSource) Classes() []string { return s.classes }

func (s *fileSource) Each(ctx context.Context, yield func(Item) error) error {
	for _, f := range s.files {
		if err := ctx.Err(); err != nil {
			return err
		}
		load := func(w *cpu.Worker) (*Image, error) { return loadFile(w, f.path, &s.opt) }
		item := Item{Name: f.name, Label: f.label, LoadOn: load, Load: func() (*Image, error) { return load(nil) }}
		if err := yield(item); err != nil {
			return err
		}
	}
	return nil
}

// fileBytes recycles the memory that files are read into.
var fileBytes = sync.Pool{New: func() any { return new([]byte) }}

func loadFile(w *cpu.Worker, path string, o *Options) (*Image, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, plainReason(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, plainReason(err)
	}
	if st.Size() > o.maxFileBytes() {
		return nil, fmt.Errorf("%d bytes; the limit is %d", st.Size(), o.maxFileBytes())
	}
	p := fileBytes.Get().(*[]byte)
	defer fileBytes.Put(p)
	*p = grow(*p, int(st.Size()))
	if n, err := io.ReadFull(f, *p); err != nil {
		return nil, fmt.Errorf("cut short: %d of %d bytes could be read: %w", n, st.Size(), err)
	}
	return DecodeOn(w, *p, o.Decode)
}

// plainReason drops the operation and path of an error: the path is said already.
func plainReason(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// newFileSource checks the files and makes them a source. Files that are no
// pictures are skipped, or bad when the user named each of them.
func newFileSource(title string, files []file, found Found, classes []string, named bool, o Options) (Source, error) {
	type verdict struct {
		keep, misnamed bool
		bad            error
	}
	verdicts := make([]verdict, len(files))
	if err := parallel(o.ctx, len(files), func(i int) {
		v := &verdicts[i]
		v.keep, v.misnamed, v.bad = checkFile(files[i].path, &o)
	}); err != nil {
		return nil, err
	}
	s := &fileSource{title: title, found: found, classes: classes, opt: o}
	images := 0
	for i, v := range verdicts {
		switch {
		case v.bad != nil:
			images++
			s.found.Bad = append(s.found.Bad, Bad{Path: files[i].name, Reason: v.bad.Error()})
		case !v.keep && named:
			images++
			s.found.Bad = append(s.found.Bad, Bad{Path: files[i].name, Reason: "not an image"})
		case !v.keep:
			s.found.other(kindOf(files[i].name))
		default:
			images++
			s.files = append(s.files, files[i])
			if v.misnamed {
				s.found.Misnamed++
			}
		}
	}
	s.found.Images = len(s.files)
	if err := verdictOn(title, &s.found, images, o.SkipBad); err != nil {
		return nil, err
	}
	return s, nil
}

// verdictOn is the error of an input that has bad files or no images.
func verdictOn(title string, f *Found, images int, skipBad bool) error {
	switch {
	case len(f.Bad) > 0 && !skipBad:
		return &BadFilesError{Input: title, Bad: f.Bad, Total: images}
	case f.Images == 0:
		return emptyError(title, f)
	}
	return nil
}

// checkFile looks at one file's head and skeleton.
func checkFile(path string, o *Options) (keep, misnamed bool, bad error) {
	st, err := os.Stat(path)
	if err != nil {
		return false, false, plainReason(err)
	}
	if !st.Mode().IsRegular() { // opening a pipe would wait for its writer
		return false, false, fmt.Errorf("is a %v; want a regular file", st.Mode().Type())
	}
	f, err := os.Open(path)
	if err != nil {
		return false, false, plainReason(err)
	}
	defer f.Close()
	head := make([]byte, sniffLen)
	n, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return false, false, plainReason(err)
	}
	format, misnamed, bad := classify(path, head[:n], st.Size())
	if bad != nil || format == "" {
		return false, false, bad
	}
	if st.Size() > o.maxFileBytes() {
		return false, false, fmt.Errorf("%d bytes; the limit is %d", st.Size(), o.maxFileBytes())
	}
	bad = checkStructure(format, f, st.Size(), o.Decode.MaxPixels)
	return bad == nil, misnamed, bad
}

func openFolder(dir string, o Options) (Source, error) {
	w := walker{ctx: o.ctx, seen: map[string]bool{}}
	real, err := filepath.EvalSymlinks(dir)
	if err == nil {
		real, err = filepath.Abs(real)
	}
	if err != nil {
		return nil, openError(dir, err)
	}
	if err := w.walk(dir, "", real); err != nil {
		return nil, err
	}
	w.followLinks(dir)
	slices.SortFunc(w.files, func(a, b file) int { return strings.Compare(a.name, b.name) })
	var classes []string
	if o.Labels {
		classes = labelByFolder(w.files)
	}
	title := filepath.Clean(dir) + string(filepath.Separator) + " (folder)"
	for i := range w.files {
		w.files[i].name = filepath.Join(dir, w.files[i].name)
	}
	return newFileSource(title, w.files, w.found, classes, false, o)
}

// labelByFolder numbers the first-level folders in order; files beside them get -1.
func labelByFolder(files []file) []string {
	classOf := func(name string) string {
		first, _, inside := strings.Cut(filepath.ToSlash(name), "/")
		if !inside {
			return ""
		}
		return first
	}
	var classes []string
	for _, f := range files {
		if c := classOf(f.name); c != "" {
			classes = append(classes, c)
		}
	}
	slices.Sort(classes)
	classes = slices.Compact(classes)
	for i := range files {
		files[i].label = -1
		if j, ok := slices.BinarySearch(classes, classOf(files[i].name)); ok {
			files[i].label = j
		}
	}
	return classes
}

// A folder that fidlab sample wrote has this record; the contact sheet in it
// shows pictures of the folder again and is none of them.
const sampleRecord, sampleSheet = "run.json", "grid.png"

// walker collects the files below a folder. Plain entries are taken first and
// links are followed afterwards, so that a file that is reachable both ways
// keeps its plain name. Every real path is taken once, which ends loops too.
type walker struct {
	ctx   context.Context
	files []file
	found Found
	seen  map[string]bool // real paths of folders entered and files taken
	links []link
}

type link struct{ rel, real string } // real: of the folder that holds the link

func (w *walker) walk(root, rel, real string) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	w.seen[real] = true
	entries, err := os.ReadDir(filepath.Join(root, rel))
	if err != nil {
		return openError(filepath.Join(root, rel), err)
	}
	sampled := slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == sampleRecord })
	for _, e := range entries {
		name := filepath.Join(rel, e.Name())
		switch {
		case strings.HasPrefix(e.Name(), "."):
			w.found.Hidden++
		case sampled && e.Name() == sampleSheet:
			w.found.other("contact sheet")
		case e.Type()&fs.ModeSymlink != 0:
			w.links = append(w.links, link{name, real})
		case e.IsDir():
			if err := w.walk(root, name, filepath.Join(real, e.Name())); err != nil {
				return err
			}
		case e.Type().IsRegular():
			w.take(root, name, filepath.Join(real, e.Name()))
		default:
			w.found.other("special file")
		}
	}
	return nil
}

func (w *walker) take(root, rel, real string) {
	if w.seen[real] {
		w.found.Duplicates++
		return
	}
	w.seen[real] = true
	w.files = append(w.files, file{name: rel, path: filepath.Join(root, rel), label: -1})
}

func (w *walker) followLinks(root string) {
	for len(w.links) > 0 {
		l := w.links[0]
		w.links = w.links[1:]
		path := filepath.Join(root, l.rel)
		real, err := filepath.EvalSymlinks(path)
		if err == nil {
			real, err = filepath.Abs(real)
		}
		var st fs.FileInfo
		if err == nil {
			st, err = os.Stat(real)
		}
		switch {
		case err != nil && promised(l.rel) != "":
			w.files = append(w.files, file{name: l.rel, path: path, label: -1}) // the check says what is wrong
		case errors.Is(err, fs.ErrNotExist):
			w.found.other("broken link")
		case err != nil:
			w.found.Loops++ // a link to itself
		case st.IsDir() && (l.real == real || strings.HasPrefix(l.real, real+string(filepath.Separator))):
			w.found.Loops++
		case st.IsDir() && w.seen[real]:
			w.found.Duplicates++
		case st.IsDir():
			if err := w.walk(root, l.rel, real); err != nil {
				w.files = append(w.files, file{name: l.rel, path: path, label: -1})
			}
		case st.Mode().IsRegular():
			w.take(root, l.rel, real)
		default:
			w.found.other("special file")
		}
	}
}

// maxListLine bounds a line of an image list; longer ones mean it is no list.
const maxListLine = 1 << 16

// openList reads a text file of one path a line, relative to the list's folder.
// Blank lines and lines beginning with # are skipped. Everything named in a
// list must be a picture.
func openList(path string, o Options) (Source, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, openError(path, err)
	}
	defer f.Close()
	var files []file
	var found Found
	seen := map[string]bool{}
	lines := bufio.NewScanner(f)
	lines.Buffer(make([]byte, 4096), maxListLine)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSuffix(lines.Text(), "\r")
		if strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if strings.ContainsRune(line, 0) {
			return nil, inputf("%s: line %d holds a zero byte; want one path a line", path, n)
		}
		p := filepath.FromSlash(line)
		if !filepath.IsAbs(p) {
			p = filepath.Join(filepath.Dir(path), p)
		}
		real, err := filepath.EvalSymlinks(p)
		if err != nil {
			real = p
		}
		if seen[real] {
			found.Duplicates++
			continue
		}
		seen[real] = true
		files = append(files, file{name: p, path: p, label: -1})
	}
	if err := lines.Err(); err != nil {
		return nil, inputf("%s: %w; want one path a line", path, err)
	}
	return newFileSource(path+" (list)", files, found, nil, true, o)
}
