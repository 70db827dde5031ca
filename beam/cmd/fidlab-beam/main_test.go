package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/rng"
	"github.com/fidlab/fidlab/tensor"
)

// TestMain makes the test's binary the program when a test runs it as one.
func TestMain(m *testing.M) {
	if os.Getenv("FIDLAB_BEAM_PROGRAM") != "" {
		main()
	}
	os.Exit(m.Run())
}

// program runs fidlab-beam.
func program(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), "FIDLAB_BEAM_PROGRAM=1")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

const dim = 5

// lineOf is the rest of the line that begins with a name; number is a value as JSON has it, after the key.
func lineOf(text, name string) string {
	for _, l := range strings.Split(text, "\n") {
		if rest, ok := strings.CutPrefix(l, name); ok {
			return strings.ReplaceAll(rest, " ", "")
		}
	}
	return ""
}

func number(v float64) string {
	b, _ := json.Marshal(v)
	return `{"value":` + string(b)
}

func shards(t *testing.T, dir, name string, n int) *fid.Stats {
	t.Helper()
	var all []float32
	for k := range 3 {
		x := make([]float32, n*dim)
		rng.New(uint64(n), uint64(k)).FillNormal32(x)
		if err := tensor.WriteNPYFile(filepath.Join(dir, fmt.Sprintf("%s-%d.npy", name, k)), tensor.FromF32(x, n, dim)); err != nil {
			t.Fatal(err)
		}
		all = append(all, x...)
	}
	s, err := fid.FromFeatures(all, len(all)/dim, dim)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestProgram(t *testing.T) {
	dir := t.TempDir()
	ref, gen := shards(t, dir, "ref", 40), shards(t, dir, "gen", 30)
	res, err := fid.Compare(context.Background(), ref, gen, fid.Options{Metrics: []string{"fid", "kid-full"}, CI: true})
	if err != nil {
		t.Fatal(err)
	}
	want := res.Metrics["fid"].(fid.FIDValue)
	out := filepath.Join(dir, "out")

	stdout, stderr, code := program(t, "-o", out, dir+"/ref-*.npy", dir+"/gen-{0..2}.npy")
	if code != 0 || stdout != fmt.Sprintf("%.4f\n", want.Value) {
		t.Fatalf("exit code %d, %q, want %.4f\n%s", code, stdout, want.Value, stderr)
	}
	if interval := fmt.Sprintf("95 %% interval %.4f to %.4f", want.CI[0], want.CI[1]); !strings.Contains(stderr, interval) {
		t.Errorf("no %q in\n%s", interval, stderr)
	}

	if strings.Contains(stderr, "level=") {
		t.Errorf("the SDK's messages are shown though all went well:\n%s", stderr)
	}

	// The statistics that it wrote are a reference; KID needs the vectors of both sides, which a file of more vectors than features does not have.
	stdout, stderr, code = program(t, "-o", out, "--json", "--metrics", "fid", out+"/ref.npz", dir+"/gen-*.npy")
	var again struct{ Metrics struct{ FID fid.FIDValue } }
	if err := json.Unmarshal([]byte(stdout), &again); err != nil || code != 0 || again.Metrics.FID.Value != want.Value || again.Metrics.FID.CI != nil {
		t.Errorf("against statistics: exit code %d, %v, %s\n%s", code, err, stdout, stderr)
	}
	stdout, stderr, code = program(t, "-o", out, "--metrics", "fid,kid-full", dir+"/ref-*.npy", dir+"/gen-*.npy")
	kid := res.Metrics["kid-full"].(fid.MMDValue)
	if code != 0 || !strings.HasPrefix(lineOf(stdout, "kid-full "), number(kid.Value)) {
		t.Errorf("two metrics: exit code %d, %q; want kid-full %v\n%s", code, stdout, kid.Value, stderr)
	}
	stdout, stderr, code = program(t, "-o", filepath.Join(dir, "one"), dir+"/gen-*.npy")
	if code != 0 || stdout != filepath.Join(dir, "one")+"/ref.npz\n" {
		t.Errorf("one set: exit code %d, %q\n%s", code, stdout, stderr)
	}
	if s, err := fid.ReadStats(filepath.Join(dir, "one", "ref.npz")); err != nil || s.N != gen.N {
		t.Errorf("one set: %v", err)
	}
}

func TestProgramBad(t *testing.T) {
	dir := t.TempDir()
	shards(t, dir, "s", 10)
	set, out := dir+"/s-*.npy", dir+"/out"
	if err := os.WriteFile(dir+"/broken.tar", []byte("no tar"), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{}, 2, "0 arguments"},
		{[]string{"-o", out, set, set, set}, 2, "3 arguments"},
		{[]string{set, set}, 2, "give -o OUT"},
		{[]string{"-o", out, "--keep", "many", set, set}, 2, "--keep"},
		{[]string{"-o", out, "--keep", "12X", set, set}, 2, "--keep"},
		{[]string{"-o", out, "--metrics", "fdi", set, set}, 2, "unknown metric"},
		{[]string{"-o", out, "--metrics", "is", set, set}, 2, "use fidlab fid"},
		{[]string{"-o", out, "--features", "pixel", set, set}, 2, "no extractor"},
		{[]string{"--nonsense"}, 2, "nonsense"},
		{[]string{"--log", "loud", "-o", out, set, set}, 2, "--log"},
		{[]string{"-o", out, dir + "/none-*.tar", set}, 3, "nothing matches"},
		{[]string{"-o", out, set, dir + "/broken.tar"}, 3, "broken.tar"},
	} {
		stdout, stderr, code := program(t, c.args...)
		if code != c.code || !strings.Contains(stderr, c.want) || stdout != "" {
			t.Errorf("%v: exit code %d, want %d with %q; printed %q\n%s", c.args, code, c.code, c.want, stdout, stderr)
		}
	}
	if left, err := filepath.Glob(out + "/*"); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
	if stdout, _, code := program(t, "--version"); code != 0 || stdout != "fidlab-beam devel\n" {
		t.Errorf("--version: %d %q", code, stdout)
	}
}
