package assets

import (
	"bytes"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/fidlab/fidlab/tensor"
)

//go:embed index.json
var indexFile []byte

// maxIndex bounds an index file that is read.
const maxIndex = 4 << 20

// IndexName is the index's name in a folder of assets.
const IndexName = "index.json"

// schema is the version of the index's form.
const schema = 1

// Kind says what a file is for.
type Kind string

// The kinds.
const (
	Generator Kind = "generator" // a checkpoint of fidlab train that pictures are drawn from
	Encoder   Kind = "encoder"   // turns pictures into features
	Tower     Kind = "tower"     // a checkpoint of another network that systems stand on
)

// Kinds are all of them.
func Kinds() []Kind { return []Kind{Generator, Encoder, Tower} }

// Index is what ships. Names are unique, and in order.
type Index struct {
	Schema  int     `json:"schema"`
	Entries []Entry `json:"entries"`
}

// Entry is one file.
type Entry struct {
	Name string `json:"name"`
	Kind Kind   `json:"kind"`
	Text string `json:"text"` // what it is, in a line
	// File is its name in a folder of assets. Of one that is built into the program it is the place in the repository.
	File    string `json:"file"`
	BuiltIn bool   `json:"built_in,omitempty"`
	SHA256  string `json:"sha256"`
	Size    int64  `json:"size"` // bytes
	// Commands make the file anew: training first.
	Commands []string `json:"commands"`
	Job      string   `json:"job,omitempty"` // the recipe of fidlab train
	Seed     uint64   `json:"seed"`
	Steps    int      `json:"steps"` // that it was trained
	Data     Data     `json:"data"`
	// Of exported checkpoints: the decay of the average (0: the weights themselves), how values are stored, and the
	// largest rounding error of that.
	Average  float64  `json:"average,omitempty"`
	Storage  string   `json:"storage,omitempty"`
	Rounding float64  `json:"rounding,omitempty"`
	Figures  []Figure `json:"figures"`       // measured with this very file
	Doc      string   `json:"doc,omitempty"` // a page that tells more
}

// Data is what was learnt.
type Data struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256,omitempty"` // of shapes, values and labels
}

// shipped is the program's own index. The tests read it too: one that cannot be read is a broken build.
var shipped = sync.OnceValue(func() *Index {
	x, err := parse("index.json (built in)", indexFile)
	if err != nil {
		panic(err)
	}
	return x
})

// List is what ships, by name.
func List() []Entry { return slices.Clone(shipped().Entries) }

// Lookup is the entry of a name.
func Lookup(name string) (Entry, bool) { return shipped().Lookup(name) }

// Lookup is the entry of a name.
func (x *Index) Lookup(name string) (Entry, bool) {
	i := slices.IndexFunc(x.Entries, func(e Entry) bool { return e.Name == name })
	if i < 0 {
		return Entry{}, false
	}
	return x.Entries[i], true
}

// Names are those of the entries.
func (x *Index) Names() []string {
	var out []string
	for _, e := range x.Entries {
		out = append(out, e.Name)
	}
	return out
}

// NewIndex is an empty index.
func NewIndex() *Index { return &Index{Schema: schema, Entries: []Entry{}} }

// Put adds an entry, or replaces the one of its name.
func (x *Index) Put(e Entry) {
	x.Entries = slices.DeleteFunc(x.Entries, func(o Entry) bool { return o.Name == e.Name })
	x.Entries = append(x.Entries, e)
	slices.SortFunc(x.Entries, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
}

// ReadIndex reads an index file.
func ReadIndex(path string) (*Index, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("assets: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxIndex+1))
	if err != nil {
		return nil, fmt.Errorf("assets: %w", err)
	}
	return parse(path, text)
}

// Write writes the index to a file, which it replaces.
func (x *Index) Write(path string) error {
	if err := x.check(); err != nil {
		return fmt.Errorf("assets: %s: %w", path, err)
	}
	return tensor.WriteAtomic(path, func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return e.Encode(x)
	}, tensor.Overwrite)
}

func parse(path string, text []byte) (*Index, error) {
	if len(text) > maxIndex {
		return nil, fmt.Errorf("assets: %s: more than %d bytes; an index of assets has less", path, maxIndex)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	var x Index
	err := d.Decode(&x)
	if err == nil {
		if _, end := d.Token(); !errors.Is(end, io.EOF) {
			err = errors.New("more than one JSON object")
		}
	}
	if err == nil {
		err = x.check()
	}
	if err != nil {
		return nil, fmt.Errorf("assets: %s: %w; it is no index of assets of this version", path, err)
	}
	return &x, nil
}

// names are what a shell and a file system leave as it is.
var names = regexp.MustCompile(`^[a-z0-9][a-z0-9-]*$`)

// ValidName tells whether an entry may have that name.
func ValidName(name string) bool { return names.MatchString(name) }

func (x *Index) check() error {
	if x.Schema != schema {
		return fmt.Errorf("schema %d, want %d", x.Schema, schema)
	}
	for i, e := range x.Entries {
		if err := e.check(); err != nil {
			return fmt.Errorf("entry %d, %q: %w", i, e.Name, err)
		}
		if i > 0 && x.Entries[i-1].Name >= e.Name {
			return fmt.Errorf("entry %d, %q, after %q: want different names in order", i, e.Name, x.Entries[i-1].Name)
		}
	}
	return nil
}

func (e *Entry) check() error {
	sum, err := hex.DecodeString(e.SHA256)
	switch {
	case !ValidName(e.Name):
		return errors.New("want a name of small letters, digits and -")
	case !slices.Contains(Kinds(), e.Kind):
		return fmt.Errorf("kind %q, want one of %v", e.Kind, Kinds())
	case e.Text == "" || len(e.Commands) == 0 || e.Data.Name == "":
		return errors.New("want text, commands and data")
	case err != nil || len(sum) != 32 || strings.ToLower(e.SHA256) != e.SHA256:
		return fmt.Errorf("sha256 %q, want 64 digits of small hexadecimal", e.SHA256)
	case e.Size < 1:
		return fmt.Errorf("size %d, want at least 1", e.Size)
	case !e.BuiltIn && e.File != e.Name+".safetensors":
		return fmt.Errorf("file %q, want %s.safetensors", e.File, e.Name)
	case e.BuiltIn && (e.File == "" || !filepath.IsLocal(e.File)):
		return fmt.Errorf("file %q, want a place in the repository", e.File)
	}
	for _, f := range e.Figures {
		if err := f.Check(); err != nil {
			return err
		}
	}
	return nil
}
