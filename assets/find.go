package assets

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fidlab/fidlab/tensor"
)

// DirEnv names the variable that names a folder of assets.
const DirEnv = "FIDLAB_ASSETS"

// modulePath tells a checkout of this project by its go.mod.
const modulePath = "github.com/fidlab/fidlab"

// Finder looks for files. The zero Finder has the program's index and the process's surroundings.
type Finder struct {
	Dir     string              // looked at first; "" for none
	Getenv  func(string) string // nil: os.Getenv
	Program string              // the program's path; "": os.Executable's
	Working string              // the working directory; "": the process's
	Index   *Index              // nil: the program's
}

var (
	standard   Finder
	standardMu sync.RWMutex
)

// SetDefault replaces the Finder of Find, which is the zero Finder at first.
func SetDefault(f Finder) {
	standardMu.Lock()
	defer standardMu.Unlock()
	standard = f
}

// Default is the Finder of Find.
func Default() Finder {
	standardMu.RLock()
	defer standardMu.RUnlock()
	return standard
}

// Find is where the file of an entry lies, by the default Finder: the first place that has it. Its hash was compared
// with the index's, once in a process as long as the file stays as it is. Errors are *UnknownError, *MissingError,
// *HashError, *PlaceError, and those of reading the file.
func Find(name string) (path string, err error) { return Default().Find(name) }

// UnknownError is the error for a name that is not in the index.
type UnknownError struct {
	Name  string
	Known []string
}

func (e *UnknownError) Error() string {
	if len(e.Known) == 0 {
		return fmt.Sprintf("assets: no %q: nothing ships with this program", e.Name)
	}
	return fmt.Sprintf("assets: no %q; there are: %s", e.Name, strings.Join(e.Known, " "))
}

// PlaceError is the error for a folder that was named and is none, or cannot be looked into.
type PlaceError struct {
	Path, From string // From: --assets or FIDLAB_ASSETS
	Err        error  // nil: it is no folder
}

func (e *PlaceError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("assets: %s (from %s): a file, want the folder that assets lie in; who means one file names it where the model's name stands", e.Path, e.From)
	}
	return fmt.Sprintf("assets: %s (from %s): %v; want a folder that can be read", e.Path, e.From, e.Err)
}

func (e *PlaceError) Unwrap() error { return e.Err }

// MissingError is the error for a file that no place has. It is an fs.ErrNotExist.
type MissingError struct {
	Entry  Entry
	Looked []Place
}

func (e *MissingError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "assets: %s is missing; looked for in", e.Entry.File)
	for i, p := range e.Looked {
		sep := ", "
		if i == 0 {
			sep = " "
		}
		b.WriteString(sep + p.Path + " (" + p.From + ")")
	}
	if len(e.Looked) == 0 {
		b.WriteString(" no folder, since there is none")
	}
	fmt.Fprintf(&b, ". It lies in assets/ of the repository and of a release: put that folder beside the program, or name it by --assets or %s. Or %s", DirEnv, e.Entry.rebuild())
	return b.String()
}

func (e *MissingError) Unwrap() error { return fs.ErrNotExist }

// rebuild says how the file is made anew.
func (e *Entry) rebuild() string {
	return "make it anew, and name it by its path, since other processors round otherwise: " + strings.Join(e.Commands, " && ")
}

// HashError is the error for a file that is not the one of the index.
type HashError struct {
	Entry Entry
	Path  string
	Got   string // SHA-256
	Size  int64  // bytes
}

func (e *HashError) Error() string {
	size := ""
	if e.Size != e.Entry.Size {
		size = fmt.Sprintf(", and %d bytes where it has %d", e.Size, e.Entry.Size)
		if e.Size < e.Entry.Size {
			size += " (cut?)"
		}
	}
	return fmt.Sprintf("assets: %s: SHA-256 %s, but the %s that ships with this program has %s%s; put the file of this release or commit there, or give the path in place of the name to use it as it is. Or %s",
		e.Path, e.Got, e.Entry.Name, e.Entry.SHA256, size, e.Entry.rebuild())
}

// Place is a folder that is looked at.
type Place struct {
	Path string `json:"path"`
	From string `json:"from"` // what named it
	// Err is why it could not be looked into, where that is more than that it lacks the file.
	Err error `json:"-"`
}

// Places are the folders in the order in which they are looked at, each once. One that was named must be there.
func (f Finder) Places() ([]Place, error) {
	getenv := f.Getenv
	if getenv == nil {
		getenv = os.Getenv
	}
	var out []Place
	add := func(path, from string) {
		if abs, err := filepath.Abs(path); err == nil {
			path = abs
		}
		if !slices.ContainsFunc(out, func(p Place) bool { return p.Path == path }) {
			out = append(out, Place{Path: path, From: from})
		}
	}
	for _, named := range []Place{{Path: f.Dir, From: "--assets"}, {Path: getenv(DirEnv), From: DirEnv}} {
		if named.Path == "" {
			continue
		}
		switch st, err := os.Stat(named.Path); {
		case err != nil:
			return nil, &PlaceError{named.Path, named.From, pathless(err)}
		case !st.IsDir():
			return nil, &PlaceError{named.Path, named.From, nil}
		}
		add(named.Path, named.From)
	}
	if program := f.program(); program != "" {
		dir := filepath.Dir(program)
		add(filepath.Join(dir, "assets"), "beside the program")
		add(filepath.Join(filepath.Dir(dir), "assets"), "beside the program's folder")
	}
	if root := f.checkout(); root != "" {
		add(filepath.Join(root, "assets"), "of the checkout")
	}
	return out, nil
}

// program is the program's path without links; "" where it has none.
func (f Finder) program() string {
	path := f.Program
	if path == "" {
		var err error
		if path, err = os.Executable(); err != nil {
			return ""
		}
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	return path
}

var moduleLine = regexp.MustCompile(`(?m)^module\s+"?` + regexp.QuoteMeta(modulePath) + `"?\s*(//.*)?$`)

// checkout is the root of this project's checkout around the working directory, or "".
func (f Finder) checkout() string {
	dir := f.Working
	if dir == "" {
		var err error
		if dir, err = os.Getwd(); err != nil {
			return ""
		}
	}
	for {
		if text, err := os.ReadFile(filepath.Join(dir, "go.mod")); err == nil && moduleLine.Match(text) {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			return ""
		}
		dir = up
	}
}

// entry is the entry of a name.
func (f Finder) entry(name string) (Entry, error) {
	x := f.Index
	if x == nil {
		x = shipped()
	}
	e, ok := x.Lookup(name)
	if !ok {
		return e, &UnknownError{name, x.Names()}
	}
	return e, nil
}

// Lookup is the entry of a name in the Finder's index. The error is an *UnknownError.
func (f Finder) Lookup(name string) (Entry, error) { return f.entry(name) }

// Locate is where the file of an entry lies; nothing is read. Errors are those of Find but for the hash's.
func (f Finder) Locate(name string) (path string, err error) {
	e, err := f.entry(name)
	if err != nil {
		return "", err
	}
	if e.BuiltIn {
		return "", fmt.Errorf("assets: %s is built into the program; it is no file", name)
	}
	places, err := f.Places()
	if err != nil {
		return "", err
	}
	for i, p := range places {
		path := filepath.Join(p.Path, e.File)
		switch st, err := os.Stat(path); {
		case err == nil && !st.Mode().IsRegular():
			return "", fmt.Errorf("assets: %s: not a regular file; want the checkpoint %s", path, name)
		case err == nil:
			return path, nil
		case !errors.Is(err, fs.ErrNotExist):
			if p.From == "--assets" || p.From == DirEnv {
				return "", &PlaceError{p.Path, p.From, pathless(err)}
			}
			places[i].Err = pathless(err)
			places[i].From += ": " + places[i].Err.Error()
		}
	}
	return "", &MissingError{e, places}
}

// Find is Locate, and the file's hash is the index's.
func (f Finder) Find(name string) (path string, err error) {
	path, err = f.Locate(name)
	if err != nil {
		return "", err
	}
	e, _ := f.entry(name) // Locate found it
	sum, size, err := sumOf(path)
	if err != nil {
		return "", fmt.Errorf("assets: %s: %w", path, err)
	}
	if sum != e.SHA256 {
		return "", &HashError{e, path, sum, size}
	}
	return path, nil
}

// sums are the hashes of files that were read, for as long as they stay as they were.
var sums = struct {
	sync.Mutex
	of map[string]fileSum
}{of: map[string]fileSum{}}

type fileSum struct {
	size int64
	time time.Time
	sum  string
}

func sumOf(path string) (string, int64, error) {
	sums.Lock()
	defer sums.Unlock()
	st, err := os.Stat(path)
	if err != nil {
		return "", 0, pathless(err)
	}
	if s, ok := sums.of[path]; ok && s.size == st.Size() && s.time.Equal(st.ModTime()) {
		return s.sum, s.size, nil
	}
	sum, err := tensor.FileSHA256(path)
	if err != nil {
		return "", 0, pathless(err)
	}
	sums.of[path] = fileSum{st.Size(), st.ModTime(), sum}
	return sum, st.Size(), nil
}

// pathless drops the operation and the path that os puts before an error; the messages here name the path themselves.
func pathless(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
