package gpu_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/internal/oracle"
)

// The program of docs/gpu.md, in a module of its own that knows this one by its
// path alone, builds and runs in the plain flavour and in the one of this test.
func TestLinkedProgram(t *testing.T) {
	oracle.NeedsSources(t)
	doc, err := os.ReadFile(filepath.Join("..", "docs", "gpu.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(doc), "```go\n")
	program, _, ok2 := strings.Cut(rest, "```")
	if !ok || !ok2 || !strings.HasPrefix(program, "package main\n") {
		t.Fatal("docs/gpu.md does not begin with a program")
	}
	if n := strings.Count(program, "\n"); n > 20 {
		t.Errorf("the program has %d lines; at most 20 shall be enough", n)
	}
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	sums, err := os.ReadFile(filepath.Join(root, "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, text := range map[string]string{
		"main.go": program,
		"go.mod":  "module example.com/linked\n\ngo 1.26\n\nrequire github.com/fidlab/fidlab v0.0.0\n\nreplace github.com/fidlab/fidlab => " + root + "\n",
		"go.sum":  string(sums),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	dev := "cpu"
	if cuda.Available() == nil && !cuda.HostDevice() {
		dev = "cuda:0"
	}
	for _, c := range []struct{ tags, cgo, dev string }{{"", "0", "cpu"}, {tags, "1", dev}} {
		if c.tags == "" && c.cgo == "1" {
			continue // this test is of the plain flavour itself
		}
		t.Run("tags="+c.tags, func(t *testing.T) {
			bin := filepath.Join(dir, "linked")
			run := func(name string, args ...string) string {
				cmd := exec.Command(name, args...)
				cmd.Dir = dir
				cmd.Env = append(os.Environ(), "CGO_ENABLED="+c.cgo, "GOFLAGS=-mod=mod", "GOWORK=off", "GOPROXY=off")
				out, err := cmd.CombinedOutput()
				if err != nil {
					t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
				}
				return string(out)
			}
			run("go", "build", "-tags", c.tags, "-o", bin, ".")
			if got, want := run(bin), fmt.Sprintf("%s [0 1 2 3] <nil>\n", c.dev); got != want {
				t.Errorf("it prints %q, want %q", got, want)
			}
		})
	}
}
