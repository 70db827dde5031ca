package assets

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fidlab/fidlab/tensor"
)

// maxTotal bounds what the repository carries.
const maxTotal = 40 << 20

// TestShipped: the folder has the files of the index and no others, with their hashes and sizes; what is built in lies
// where the index says.
func TestShipped(t *testing.T) {
	names, err := filepath.Glob("*.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	var total int64
	checked := 0
	for _, e := range List() {
		path := e.File
		if e.BuiltIn {
			path = filepath.Join("..", filepath.FromSlash(e.File))
		} else {
			total += e.Size
			names = slices.DeleteFunc(names, func(n string) bool { return n == e.File })
			if found, err := Find(e.Name); err != nil || filepath.Base(found) != e.File {
				t.Errorf("Find(%s) is %q, %v", e.Name, found, err)
			}
		}
		st, err := os.Stat(path)
		if err != nil {
			t.Errorf("%s: %v", e.Name, err)
			continue
		}
		sum, err := tensor.FileSHA256(path)
		if err != nil || sum != e.SHA256 || st.Size() != e.Size {
			t.Errorf("%s: %s has %d bytes and SHA-256 %s (%v); the index has %d and %s", e.Name, path, st.Size(), sum, err, e.Size, e.SHA256)
		}
		if e.Doc != "" {
			if _, err := os.Stat(filepath.Join("..", filepath.FromSlash(e.Doc))); err != nil {
				t.Errorf("%s: its page: %v", e.Name, err)
			}
		}
		checked++
	}
	if len(names) > 0 {
		t.Errorf("%q lie here and are not in the index", names)
	}
	if checked == 0 || total > maxTotal {
		t.Errorf("%d files of %d bytes; want at least one, and at most %d bytes", checked, total, maxTotal)
	}
}

// TestIndexIsWritten: the index is as Write writes it, so that an export changes its own lines only.
func TestIndexIsWritten(t *testing.T) {
	x, err := ReadIndex(IndexName)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), IndexName)
	if err := x.Write(path); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(path); !bytes.Equal(got, indexFile) {
		t.Errorf("index.json is not as Write writes it:\n%s", got)
	}
}

// sample is an entry of a file with the given contents.
func sample(name string, contents []byte) Entry {
	return Entry{
		Name: name, Kind: Generator, Text: "a test", File: name + ".safetensors", SHA256: fmt.Sprintf("%x", sha256.Sum256(contents)), Size: int64(len(contents)),
		Commands: []string{"fidlab train " + name, "fidlab models export"}, Data: Data{Name: "digits"},
	}
}

// world is a program, a checkout, and folders of assets, all empty.
type world struct {
	dir, flag, env, beside, above, checkout string
	finder                                  Finder
	contents                                []byte
}

func newWorld(t *testing.T) *world {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w := &world{
		dir: dir, flag: filepath.Join(dir, "flag"), env: filepath.Join(dir, "env"), beside: filepath.Join(dir, "app", "bin", "assets"),
		above: filepath.Join(dir, "app", "assets"), checkout: filepath.Join(dir, "src", "assets"), contents: []byte("the true one"),
	}
	for _, d := range []string{w.flag, w.env, w.beside, w.above, w.checkout, filepath.Join(dir, "src", "a", "b")} {
		if err := os.MkdirAll(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(dir, "src", "go.mod"), "module github.com/fidlab/fidlab\n\ngo 1.26\n")
	write(t, filepath.Join(dir, "src", "a", "go.mod"), "module github.com/fidlab/fidlab/tools // another one\n")
	write(t, filepath.Join(dir, "app", "bin", "fidlab"), "")
	w.finder = Finder{
		Dir: w.flag, Getenv: func(k string) string { return map[string]string{DirEnv: w.env}[k] }, Program: filepath.Join(dir, "app", "bin", "fidlab"),
		Working: filepath.Join(dir, "src", "a", "b"), Index: &Index{schema, []Entry{sample("tiny", w.contents)}},
	}
	return w
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
}

// TestFindOrder: each place in turn, from the last to the first.
func TestFindOrder(t *testing.T) {
	w := newWorld(t)
	_, err := w.finder.Find("tiny")
	var missing *MissingError
	if !errors.As(err, &missing) || !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("where no place has it: %v", err)
	}
	places := []string{w.flag, w.env, w.beside, w.above, w.checkout}
	for _, p := range append(places, "--assets", DirEnv, "fidlab train tiny && fidlab models export") {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("the error does not name %s: %v", p, err)
		}
	}
	for _, dir := range slices.Backward(places) {
		want := filepath.Join(dir, "tiny.safetensors")
		write(t, want, string(w.contents))
		if got, err := w.finder.Find("tiny"); err != nil || got != want {
			t.Errorf("Find is %q, %v; want %q", got, err, want)
		}
	}
}

// TestFindFromLink: a link to the program from elsewhere has the assets of the program.
func TestFindFromLink(t *testing.T) {
	w := newWorld(t)
	link := filepath.Join(w.dir, "fidlab")
	if err := os.Symlink(w.finder.Program, link); err != nil {
		t.Skip("no links here: ", err)
	}
	want := filepath.Join(w.beside, "tiny.safetensors")
	write(t, want, string(w.contents))
	f := Finder{Getenv: func(string) string { return "" }, Program: link, Working: w.dir, Index: w.finder.Index}
	if got, err := f.Find("tiny"); err != nil || got != want {
		t.Errorf("Find is %q, %v; want %q", got, err, want)
	}
}

// TestFindRefuses: what is there and is not the file, or cannot be looked at.
func TestFindRefuses(t *testing.T) {
	find := func(t *testing.T, w *world) error {
		t.Helper()
		path, err := w.finder.Find("tiny")
		if err == nil {
			t.Fatalf("Find is %s; want an error", path)
		}
		return err
	}
	says := func(t *testing.T, err error, words ...string) {
		t.Helper()
		for _, s := range words {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("the error lacks %q: %v", s, err)
			}
		}
	}
	t.Run("another file of that name", func(t *testing.T) {
		w := newWorld(t)
		at := filepath.Join(w.env, "tiny.safetensors")
		write(t, at, "some other one")
		write(t, filepath.Join(w.beside, "tiny.safetensors"), string(w.contents)) // it does not go on to this
		var bad *HashError
		if err := find(t, w); !errors.As(err, &bad) {
			t.Errorf("error %v, want a HashError", err)
		} else {
			says(t, err, at, bad.Entry.SHA256, fmt.Sprintf("%x", sha256.Sum256([]byte("some other one"))), "14 bytes where it has 12", "in place of the name", "fidlab train tiny")
		}
	})
	t.Run("cut", func(t *testing.T) {
		w := newWorld(t)
		write(t, filepath.Join(w.beside, "tiny.safetensors"), "the true")
		says(t, find(t, w), "8 bytes where it has 12 (cut?)")
	})
	t.Run("a folder of that name", func(t *testing.T) {
		w := newWorld(t)
		if err := os.Mkdir(filepath.Join(w.above, "tiny.safetensors"), 0o777); err != nil {
			t.Fatal(err)
		}
		says(t, find(t, w), "not a regular file")
	})
	t.Run("--assets is a file", func(t *testing.T) {
		w := newWorld(t)
		w.finder.Dir = w.finder.Program
		var bad *PlaceError
		if err := find(t, w); !errors.As(err, &bad) {
			t.Errorf("error %v, want a PlaceError", err)
		}
		says(t, find(t, w), w.finder.Program, "--assets", "a file, want the folder")
	})
	t.Run("FIDLAB_ASSETS is nowhere", func(t *testing.T) {
		w := newWorld(t)
		w.finder.Getenv = func(string) string { return filepath.Join(w.dir, "none") }
		says(t, find(t, w), filepath.Join(w.dir, "none"), DirEnv, "no such file")
	})
	t.Run("a link in a circle", func(t *testing.T) { // as a folder that may not be read, and also for root
		w := newWorld(t)
		loop := filepath.Join(w.beside, "tiny.safetensors")
		if err := os.Symlink(loop, loop); err != nil {
			t.Skip("no links here: ", err)
		}
		var missing *MissingError
		err := find(t, w)
		if !errors.As(err, &missing) {
			t.Errorf("error %v, want a MissingError", err)
		}
		says(t, err, w.beside+" (beside the program: ", w.above)
		w.finder.Dir = w.beside
		var bad *PlaceError
		if err := find(t, w); !errors.As(err, &bad) {
			t.Errorf("named: error %v, want a PlaceError", err)
		}
	})
	t.Run("a folder that may not be read", func(t *testing.T) {
		if os.Geteuid() == 0 || runtime.GOOS == "windows" {
			t.Skip("root reads everything, and Windows has other permissions")
		}
		w := newWorld(t)
		if err := os.Chmod(w.flag, 0); err != nil {
			t.Fatal(err)
		}
		defer os.Chmod(w.flag, 0o777)
		says(t, find(t, w), w.flag, "permission denied")
	})
	t.Run("an unknown name", func(t *testing.T) {
		w := newWorld(t)
		_, err := w.finder.Find("tony")
		var unknown *UnknownError
		if !errors.As(err, &unknown) {
			t.Fatalf("error %v, want an UnknownError", err)
		}
		says(t, err, `"tony"`, "tiny")
	})
	t.Run("built in", func(t *testing.T) {
		_, err := Finder{}.Find("mnist")
		if err == nil {
			t.Fatal("mnist is no file")
		}
		says(t, err, "built into the program")
	})
}

// TestHashIsKept: a file is read once, and again when it has changed.
func TestHashIsKept(t *testing.T) {
	w := newWorld(t)
	path := filepath.Join(w.flag, "tiny.safetensors")
	write(t, path, string(w.contents))
	then := time.Now().Add(-time.Hour)
	touch := func(at time.Time) {
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	touch(then)
	if _, err := w.finder.Find("tiny"); err != nil {
		t.Fatal(err)
	}
	write(t, path, "the fake one")
	touch(then) // size and time are as before, so nobody looks
	if _, err := w.finder.Find("tiny"); err != nil {
		t.Errorf("the file was read again: %v", err)
	}
	touch(then.Add(time.Second))
	var bad *HashError
	if _, err := w.finder.Find("tiny"); !errors.As(err, &bad) {
		t.Errorf("a file that changed: %v, want a HashError", err)
	}
}

// TestDefault: what SetDefault says is what Find uses.
func TestDefault(t *testing.T) {
	w := newWorld(t)
	before := Default()
	SetDefault(w.finder)
	defer SetDefault(before)
	write(t, filepath.Join(w.flag, "tiny.safetensors"), string(w.contents))
	if path, err := Find("tiny"); err != nil || filepath.Dir(path) != w.flag {
		t.Errorf("Find is %q, %v", path, err)
	}
}

func TestPut(t *testing.T) {
	x := &Index{Schema: schema}
	for _, n := range []string{"c", "a", "b", "a"} {
		x.Put(sample(n, []byte(n)))
	}
	if got := x.Names(); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("names %v", got)
	}
	if _, ok := x.Lookup("d"); ok {
		t.Error("there is no d")
	}
}

// TestIndexRefuses: every field that the program relies on.
func TestIndexRefuses(t *testing.T) {
	backwards := func(e *Entry) {
		e.Figures = []Figure{{Name: "fid", Value: 1, Interval: &[2]float64{3, 2}, Level: 0.95}}
	}
	for want, spoil := range map[string]func(e *Entry){
		"want a name":        func(e *Entry) { e.Name = "Tiny" },
		"want one of":        func(e *Entry) { e.Kind = "thing" },
		"want text":          func(e *Entry) { e.Text = "" },
		"commands":           func(e *Entry) { e.Commands = nil },
		"data":               func(e *Entry) { e.Data.Name = "" },
		"64 digits":          func(e *Entry) { e.SHA256 = strings.ToUpper(e.SHA256) },
		"size 0":             func(e *Entry) { e.Size = 0 },
		"want tiny.safe":     func(e *Entry) { e.File = "../tiny.safetensors" },
		"a place in the":     func(e *Entry) { e.BuiltIn, e.File = true, "/etc/passwd" },
		"a name and a":       func(e *Entry) { e.Figures = []Figure{{Value: 1}} },
		"its ends in order":  backwards,
		"different names in": func(*Entry) {},
	} {
		e := sample("tiny", []byte("tiny"))
		spoil(&e)
		x := Index{schema, []Entry{e}}
		if want == "different names in" {
			x.Entries = append(x.Entries, e)
		}
		text, err := json.Marshal(x)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parse("x.json", text); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "x.json") {
			t.Errorf("%s: error %v", want, err)
		}
		if err := x.Write(filepath.Join(t.TempDir(), "x.json")); err == nil {
			t.Errorf("%s: it was written", want)
		}
	}
	for text, want := range map[string]string{
		`{"schema":2,"entries":[]}`:            "schema 2, want 1",
		`{"schema":1,"entries":[]}{}`:          "more than one",
		`{"schema":1,"entries":[],"other":1}`:  "unknown field",
		`nothing`:                              "invalid character",
		strings.Repeat(" ", maxIndex) + `{}`:   "more than",
		`{"schema":1,"entries":[{"name":"a"}]`: "unexpected EOF",
	} {
		if _, err := parse("x.json", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s: error %v, want %s", text, err, want)
		}
	}
	if _, err := ReadIndex(filepath.Join(t.TempDir(), "none.json")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an index that is not there: %v", err)
	}
}

// FuzzIndex: an index that is accepted is written and read to the same.
func FuzzIndex(f *testing.F) {
	f.Add(indexFile)
	f.Add([]byte(`{"schema":1,"entries":[]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		x, err := parse("fuzz", text)
		if err != nil {
			return
		}
		path := filepath.Join(t.TempDir(), "x.json")
		if err := x.Write(path); err != nil {
			t.Fatalf("accepted, but not written: %v", err)
		}
		y, err := ReadIndex(path)
		if err != nil {
			t.Fatal(err)
		}
		a, _ := json.Marshal(x)
		b, _ := json.Marshal(y)
		if !bytes.Equal(a, b) {
			t.Errorf("%s became %s", a, b)
		}
	})
}
