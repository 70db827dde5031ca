package cli

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/fidlab/fidlab/fid/extract"
	"github.com/fidlab/fidlab/onnx"
	"github.com/fidlab/fidlab/tensor"
)

// condition knows [root], [native] and [hostdev], the flavour, [onnx]: whether it finds onnxruntime, and [tmpfs]:
// whether a file system of a few KiB can be mounted.
func condition(name string) (bool, error) {
	switch name {
	case "root":
		return os.Geteuid() == 0, nil
	case "native":
		return flavour == "native", nil
	case "hostdev":
		return hostdev, nil
	case "onnx":
		_, err := onnx.FindLibrary(onnxEnv)
		return flavour == "native" && err == nil, nil
	case "tmpfs":
		return canMount(), nil
	}
	return false, fmt.Errorf("unknown condition %q", name)
}

// onnxEnv is the environment in which sessions look for onnxruntime: what make setup installed, unless another is named.
func onnxEnv(name string) string {
	if v := os.Getenv(name); v != "" || name != onnx.LibraryEnv {
		return v
	}
	if dir, err := filepath.Abs(filepath.Join("..", "..", ".onnx")); err == nil {
		if _, err := os.Stat(dir); err == nil {
			return dir
		}
	}
	return ""
}

var canMount = sync.OnceValue(func() bool {
	dir, err := os.MkdirTemp("", "fidlab-tmpfs")
	if err != nil {
		return false
	}
	defer os.Remove(dir)
	if mountTiny(dir) != nil {
		return false
	}
	return exec.Command("umount", dir).Run() == nil
})

func mountTiny(dir string) error {
	return exec.Command("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", dir).Run()
}

// tiny DIR makes a folder on a file system of 64 KiB.
func tiny(ts *testscript.TestScript, _ bool, args []string) {
	dir := ts.MkAbs(args[0])
	ts.Check(os.Mkdir(dir, 0o777))
	ts.Check(mountTiny(dir))
	ts.Defer(func() { exec.Command("umount", dir).Run() })
}

// recipe FILE.safetensors writes weights that the Inception network can read
// and nobody published.
func makeWeights(ts *testscript.TestScript, _ bool, args []string) {
	weights := extract.RecipeWeights("sessions")
	var entries []tensor.SafetensorsEntry
	for _, name := range slices.Sorted(maps.Keys(weights)) {
		entries = append(entries, tensor.SafetensorsEntry{Name: name, Array: weights[name]})
	}
	ts.Check(tensor.WriteSafetensors(ts.MkAbs(args[0]), entries, nil))
}

// watched collects what a process writes, for another goroutine to look at.
type watched struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

// interrupted GLOB REGEXP FIDLAB-ARGS... runs fidlab with a standard input that
// never says anything, sends it SIGINT as soon as a file matches GLOB and
// standard error REGEXP, and fails unless it then exits with 130.
func interrupted(ts *testscript.TestScript, _ bool, args []string) {
	stderr, err := signalled(ts, syscall.SIGINT, args)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != exitInterrupted {
		ts.Fatalf("interrupted: %v, want exit code %d\n%s", err, exitInterrupted, stderr)
	}
}

// killed is interrupted with SIGKILL, which nothing can answer.
func killed(ts *testscript.TestScript, _ bool, args []string) {
	if _, err := signalled(ts, syscall.SIGKILL, args); err == nil {
		ts.Fatalf("killed, but it exited with 0")
	}
}

func written(name string) bool {
	st, err := os.Stat(name)
	return err == nil && (st.IsDir() || st.Size() > 0)
}

func signalled(ts *testscript.TestScript, sig syscall.Signal, args []string) (stderr string, ended error) {
	name := ""
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		if p := filepath.Join(dir, "fidlab"); name == "" {
			if _, err := os.Stat(p); err == nil {
				name = p
			}
		}
	}
	stdin, keep, err := os.Pipe()
	ts.Check(err)
	defer keep.Close()
	var said watched
	cmd := exec.Command(name, args[2:]...)
	cmd.Dir, cmd.Stdin, cmd.Stderr = ts.MkAbs("."), stdin, &said
	cmd.Env = []string{"HOME=/no-home"}
	for _, k := range []string{"PATH", "FIDLAB_MNIST", "FIDLAB_CACHE", "TMPDIR"} {
		cmd.Env = append(cmd.Env, k+"="+ts.Getenv(k))
	}
	ts.Check(cmd.Start())
	stdin.Close()
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	want := regexp.MustCompile("(?m)" + args[1])
	hung := time.After(2 * time.Minute) // of a test that would otherwise never end
	for {
		select {
		case <-hung:
			cmd.Process.Kill()
			ts.Fatalf("nothing matches %s and %s:\n%s", args[0], args[1], said.String())
		case err := <-done:
			ts.Fatalf("ended (%v) before it could be interrupted:\n%s", err, said.String())
		case <-time.After(time.Millisecond):
		}
		found, err := filepath.Glob(ts.MkAbs(args[0]))
		ts.Check(err)
		// A file that was only made holds nothing yet.
		if slices.ContainsFunc(found, written) && want.MatchString(said.String()) {
			break
		}
	}
	ts.Check(cmd.Process.Signal(sig))
	select {
	case err = <-done:
	case <-hung:
		cmd.Process.Kill()
		ts.Fatalf("%v does not end it:\n%s", sig, said.String())
	}
	return said.String(), err
}
