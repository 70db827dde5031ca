package cli

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
}

// tree lists all files below dir with their contents.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		b.WriteString(filepath.ToSlash(name))
		if !d.IsDir() {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			b.WriteString("=" + string(text))
		}
		b.WriteString(" ")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(b.String())
}

func TestOutDir(t *testing.T) {
	for _, c := range []struct {
		name    string
		before  []string // files of the target
		empty   bool     // or an empty target
		replace bool
		refusal string
		after   string
	}{
		{name: "absent", after: "out out/a.png=new"},
		{name: "empty", empty: true, after: "out out/a.png=new"},
		{name: "full", before: []string{"out/run.json"}, refusal: "is not empty; choose another name or give --overwrite", after: "out out/run.json=old"},
		{name: "replaced", before: []string{"out/run.json", "out/b.png"}, replace: true, after: "out out/a.png=new"},
		{name: "foreign", before: []string{"out/thesis.tex"}, replace: true, refusal: "fidlab did not write it", after: "out out/thesis.tex=old"},
		{name: "file", before: []string{"out"}, replace: true, refusal: "is not a folder; choose another name", after: "out=old"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, f := range c.before {
				put(t, filepath.Join(dir, f), "old")
			}
			if c.empty {
				if err := os.Mkdir(filepath.Join(dir, "out"), 0o777); err != nil {
					t.Fatal(err)
				}
			}
			d, err := newOutDir(filepath.Join(dir, "out")+"/", c.replace)
			if err == nil {
				put(t, d.File("a.png"), "new")
				err = d.Commit()
				d.Abort() // does nothing after Commit
			}
			if c.refusal == "" && err != nil {
				t.Fatal(err)
			}
			if c.refusal != "" && (err == nil || !strings.Contains(err.Error(), c.refusal) || !errors.Is(err, fs.ErrExist)) {
				t.Errorf("error %v, want one with %q", err, c.refusal)
			}
			if got := tree(t, dir); got != c.after {
				t.Errorf("the folder holds %q, want %q", got, c.after)
			}
		})
	}
}

// An aborted folder leaves nothing, and the older one as it was.
func TestOutDirAbort(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "out", runFile), "old")
	d, err := newOutDir(filepath.Join(dir, "out"), true)
	if err != nil {
		t.Fatal(err)
	}
	put(t, d.File("a.png"), "half")
	d.Abort()
	if got := tree(t, dir); got != "out out/run.json=old" {
		t.Errorf("the folder holds %q", got)
	}
}

// A target that appears while the command works is not overwritten.
func TestOutDirRace(t *testing.T) {
	dir := t.TempDir()
	d, err := newOutDir(filepath.Join(dir, "out"), false)
	if err != nil {
		t.Fatal(err)
	}
	put(t, d.File("a.png"), "new")
	put(t, filepath.Join(dir, "out", "theirs"), "x")
	if err := d.Commit(); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Commit: %v, want that the target exists", err)
	}
	d.Abort()
	if got := tree(t, dir); got != "out out/theirs=x" {
		t.Errorf("the folder holds %q", got)
	}
}

func TestOutDirWithoutParent(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "file"), "x")
	for path, want := range map[string]string{"no/out": "no such folder to write to", "file/out": "is not a folder"} {
		if _, err := newOutDir(filepath.Join(dir, path), false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
}
