package gpu_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/internal/oracle"
)

// The program of docs/gpu.md, in a module of its own that knows this one by its
// path alone, builds and runs in the plain flavour and, where this test is native,
// with what make env prints.
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
	build := func(t *testing.T, set, want string) {
		// The settings are the shell's, as for who follows the page.
		cmd := exec.Command("sh", "-c", set+"\nGOFLAGS=\"$GOFLAGS -mod=mod\" go build -o linked . && ./linked")
		cmd.Dir = dir
		// A module cache that only this module filled lacks what another one reads of gorgonia.org/cu's requirements, which are old
		// and not pruned: their go.mod files may have to be got, as for the user.
		cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off")
		out, err := cmd.CombinedOutput()
		if want := want + " [0 1 2 3] <nil>\n"; err != nil || string(out) != want {
			t.Errorf("%v, it prints %q, want %q", err, out, want)
		}
	}
	t.Run("plain", func(t *testing.T) { build(t, "export CGO_ENABLED=0", "cpu") })
	if native {
		t.Run("native", func(t *testing.T) {
			env, err := exec.Command("make", "-s", "-C", root, "env").Output()
			if err != nil || !strings.Contains(string(env), "export CGO_CFLAGS=") {
				t.Fatalf("make env: %v\n%s", err, env)
			}
			build(t, string(env)+"unset FIDLAB_HOST_DEVICE", dev)
			if hostdev { // the same program on the kernels
				build(t, string(env)+"export GOFLAGS=-tags=native,hostdev FIDLAB_HOST_DEVICE=1", "cuda:0")
			}
		})
	}
}
