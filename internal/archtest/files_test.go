package archtest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const maxLines = 500

// tracked lists the files that git would commit; outside a checkout (a module
// unpacked from an archive), every file.
func tracked(t *testing.T) []string {
	t.Helper()
	dir := root(t)
	cmd := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	cmd.Dir = dir
	out, err := cmd.Output()
	if err == nil {
		return strings.FieldsFunc(string(out), func(r rune) bool { return r == 0 })
	}
	var files []string
	err = filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		files = append(files, rel)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestFileSize(t *testing.T) {
	dir, n := root(t), 0
	for _, f := range tracked(t) {
		if !slices.Contains([]string{".go", ".c", ".cc", ".h", ".cu", ".cuh", ".py", ".sh"}, filepath.Ext(f)) || strings.HasPrefix(filepath.Base(f), "z") {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, f))
		if os.IsNotExist(err) {
			continue // deleted, not yet committed
		}
		if err != nil {
			t.Fatal(err)
		}
		n++
		if lines := bytes.Count(b, []byte("\n")); lines > maxLines {
			t.Errorf("%s has %d lines; at most %d: split it by what it does", f, lines, maxLines)
		}
	}
	if n < 20 {
		t.Errorf("only %d source files were seen", n)
	}
}

// TestNativeTag: a C file without the build tag breaks the plain flavour.
func TestNativeTag(t *testing.T) {
	dir := root(t)
	for _, f := range tracked(t) {
		if strings.HasPrefix(f, "scripts/") || !slices.Contains([]string{".c", ".cc", ".h"}, filepath.Ext(f)) {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, f))
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		first, _, _ := strings.Cut(string(b), "\n")
		if filepath.Ext(f) != ".h" && !strings.HasPrefix(first, "//go:build native && cgo") {
			t.Errorf("%s: the first line is %q; want //go:build native && cgo", f, first)
		}
	}
}

// TestPackageDocs: every package says what it is.
func TestPackageDocs(t *testing.T) {
	for _, p := range list(t, "", "0") {
		files, err := filepath.Glob(filepath.Join(p.Dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, f := range files {
			if strings.HasSuffix(f, "_test.go") {
				continue
			}
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(b, []byte("\n// Package ")) || bytes.HasPrefix(b, []byte("// Package ")) ||
				bytes.Contains(b, []byte("\n// Command ")) || bytes.HasPrefix(b, []byte("// Command ")) {
				found = true
			}
		}
		if !found {
			t.Errorf("%s: no package comment", p.rel())
		}
	}
}

// generated files and the command, run in the module's root, that prints each.
var generated = []struct {
	file string
	gen  []string
}{
	{"docs/cli.md", []string{"go", "run", "./scripts/clidoc"}},
	{"docs/SAMPLERS.md", []string{"go", "run", "./scripts/samplerdoc"}},
	{"docs/SYSTEMS.md", []string{"go", "run", "./scripts/systemsdoc"}},
	{"docs/models.md", []string{"go", "run", "./scripts/modelsdoc"}},
	{"docs/gpu/ROOFLINE.md", []string{"go", "run", "./scripts/gpubench", "-roofline"}},
}

// TestGenerated: what is committed is what the generator prints today.
func TestGenerated(t *testing.T) {
	dir := root(t)
	for _, g := range generated {
		cmd := exec.Command(g.gen[0], g.gen[1:]...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		want, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %v\n%s", g.gen, err, stderr.Bytes())
		}
		got, err := os.ReadFile(filepath.Join(dir, g.file))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is stale: run make generate", g.file)
		}
	}
}

// TestPages: the results in the systems' pages are those of their records, the curves of models those of the files.
func TestPages(t *testing.T) {
	for _, generator := range []string{"./scripts/systemsdoc", "./scripts/modelsdoc"} {
		cmd := exec.Command("go", "run", generator, "-check")
		cmd.Dir = root(t)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", generator, err, out)
		}
	}
}
