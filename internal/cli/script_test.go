package cli

import (
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/fidlab/fidlab/data/mnist"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/onnx"
)

// update rewrites the golden texts inside the sessions: go test ./internal/cli -run TestScript -update.
var update = flag.Bool("update", false, "rewrite golden texts of testdata/script")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"fidlab": func() { os.Exit(Main(os.Args[1:], System())) },
	})
}

// TestScript runs every session of testdata/script.
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/script",
		UpdateScripts: *update,
		Cmds:          makers,
		Condition:     condition,
		Setup: func(env *testscript.Env) error {
			dir, err := mnist.Dir() // sessions have another home, so no module cache
			env.Setenv("FIDLAB_MNIST", dir)
			env.Setenv(onnx.LibraryEnv, onnxEnv(onnx.LibraryEnv))
			env.Setenv("ONNX", filepath.Dir(oracle.Golden(t, "onnx", "unet.onnx")))
			env.Setenv("ENCODERS", filepath.Dir(oracle.Golden(t, "onnxencoder", "plain.onnx")))
			shipped, absErr := filepath.Abs("../../assets") // sessions are outside the checkout
			env.Setenv("ASSETS", shipped)
			env.Setenv("FIDLAB_CACHE", filepath.Join(env.WorkDir, ".tmp", "cache"))
			return errors.Join(err, absErr)
		},
	})
}

// exits CODE COMMAND ARGS... runs a command of which the exit code is known to the
// digit, or one of several, 0|4.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND ARGS...")
	}
	err := ts.Exec(args[1], args[2:]...)
	if got := codeOf(err); !slices.Contains(strings.Split(args[0], "|"), got) {
		ts.Fatalf("exit code %s, want %s (%v)\n%s", got, args[0], err, ts.ReadFile("stderr"))
	}
}

func codeOf(err error) string {
	if err == nil {
		return "0"
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return strconv.Itoa(exit.ExitCode())
	}
	return err.Error()
}
