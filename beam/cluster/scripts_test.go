package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/rng"
	"github.com/fidlab/fidlab/tensor"
)

var scripts, fidlab string

// TestMain builds the program that the scripts call.
func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "fidlab-cluster-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	if scripts, err = filepath.Abs("../../scripts"); err != nil {
		panic(err)
	}
	fidlab = filepath.Join(dir, "fidlab")
	build := exec.Command("go", "build", "-o", fidlab, "./cmd/fidlab")
	build.Dir = filepath.Dir(scripts)
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

const dim = 12

// data is a folder with eleven shards of vectors, their list, and a reference; whole is the set in one file.
type data struct {
	dir, list, ref string
	shards         []string
	whole          *fid.Stats
}

func newData(t *testing.T) data {
	t.Helper()
	d := data{dir: t.TempDir()}
	d.list, d.ref = filepath.Join(d.dir, "shards.txt"), filepath.Join(d.dir, "ref.npz")
	var all []float32
	for k := range 11 {
		x := make([]float32, (30+7*k)*dim)
		rng.New(7, uint64(k)).FillNormal32(x)
		for i := range x {
			x[i] = x[i]*float32(1+i%dim) + 50
		}
		path := filepath.Join(d.dir, fmt.Sprintf("shard %02d.npy", k)) // a name with a space
		if err := tensor.WriteNPYFile(path, tensor.FromF32(x, len(x)/dim, dim)); err != nil {
			t.Fatal(err)
		}
		d.shards, all = append(d.shards, path), append(all, x...)
	}
	var err, err2 error
	d.whole, err = fid.FromFeatures(all, len(all)/dim, dim)
	for i := range all {
		all[i] *= 1.1
	}
	ref, err2 := fid.FromFeatures(all, len(all)/dim, dim)
	if err = errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	err = errors.Join(fid.WriteStats(d.ref, ref), os.WriteFile(d.list, []byte("# shards\n"+strings.Join(d.shards, "\n")+"\n\n"), 0o666))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// sh runs a command with variables, and gives what it printed and its exit code.
func sh(t *testing.T, env []string, argv ...string) (string, int) {
	t.Helper()
	cmd := exec.Command("env", argv...) // which looks for the command in its own PATH
	cmd.Env = append(os.Environ(), append([]string{"FIDLAB=" + fidlab}, env...)...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// must is sh for what has to work.
func must(t *testing.T, env []string, argv ...string) string {
	t.Helper()
	out, code := sh(t, env, argv...)
	if code != 0 {
		t.Fatalf("%v: exit code %d\n%s", argv, code, out)
	}
	return out
}

// check compares joined statistics with those of the whole set, to 1e-10 of the deviations.
func (d *data) check(t *testing.T, path string) {
	t.Helper()
	got, err := fid.ReadStats(path)
	if err != nil {
		t.Fatal(err)
	}
	if got.N != d.whole.N {
		t.Fatalf("%d vectors, want %d", got.N, d.whole.N)
	}
	for i := range dim {
		si := d.whole.Sigma[i*dim+i]
		if e := math.Abs(got.Mu[i]-d.whole.Mu[i]) / math.Sqrt(si); !(e < 1e-10) {
			t.Errorf("mean %d is off by %.1e", i, e)
		}
		for j := range dim {
			if e := math.Abs(got.Sigma[i*dim+j]-d.whole.Sigma[i*dim+j]) / math.Sqrt(si*d.whole.Sigma[j*dim+j]); !(e < 1e-10) {
				t.Errorf("covariance (%d,%d) is off by %.1e", i, j, e)
			}
		}
	}
}

// checkResult compares the FID of a result with that of the whole set.
func (d *data) checkResult(t *testing.T, raw string) {
	t.Helper()
	var res struct {
		Metrics struct{ FID fid.FIDValue }
	}
	if err := json.Unmarshal([]byte(raw), &res); err != nil {
		t.Fatalf("%v in %s", err, raw)
	}
	ref, err := fid.ReadStats(d.ref)
	if err != nil {
		t.Fatal(err)
	}
	want, err := fid.Frechet(ref, d.whole)
	if err != nil {
		t.Fatal(err)
	}
	if e := math.Abs(res.Metrics.FID.Value/want.Value - 1); !(e < 1e-10) {
		t.Errorf("FID %.17g, of the whole set %.17g", res.Metrics.FID.Value, want.Value)
	}
}

// TestKubernetes runs the containers' own commands as pods with each index would, one of them killed in between.
func TestKubernetes(t *testing.T) {
	d := newData(t)
	bin := filepath.Join(d.dir, "bin")
	gen := filepath.Join(d.dir, "gen")
	if err := errors.Join(os.MkdirAll(bin, 0o777), os.MkdirAll(gen, 0o777), os.Symlink(fidlab, bin+"/fidlab"),
		os.Symlink(scripts+"/shards.sh", bin+"/shards.sh"), os.Rename(d.list, gen+"/shards.txt")); err != nil {
		t.Fatal(err)
	}
	here := func(words []string) []string { // the volume is a folder here, and vectors need no extractor
		var out []string
		for _, w := range words {
			out = append(out, strings.ReplaceAll(w, "/data/", d.dir+"/"))
		}
		return out
	}
	path := "PATH=" + bin + ":" + os.Getenv("PATH")
	stats := manifest(t, "stats.yaml").Spec
	c := stats.Template.Spec.Containers[0]
	env := func(i int32) []string {
		return []string{path, "SHARD_TASKS=" + variable(c, "SHARD_TASKS"), fmt.Sprintf("JOB_COMPLETION_INDEX=%d", i)}
	}
	argv := slices.Concat(c.Command, c.Args[:2]) // without the weights, which are not here
	for i := range *stats.Completions {
		must(t, env(i), here(argv)...)
	}
	lost := filepath.Join(gen, "parts", "part-000009.npz")
	if err := os.Remove(lost); err != nil {
		t.Fatal(err)
	}
	merge := manifest(t, "merge.yaml").Spec.Template.Spec.Containers[0]
	out, code := sh(t, []string{path}, here(slices.Concat(merge.Command, merge.Args))...)
	if code != 2 || !strings.Contains(out, "part-000009.npz, of "+d.shards[9]+", is not there") {
		t.Errorf("with a part missing: exit code %d\n%s", code, out)
	}
	kept, err := os.Stat(filepath.Join(gen, "parts", "part-000001.npz"))
	if err != nil {
		t.Fatal(err)
	}
	must(t, env(1), here(argv)...) // shards 1 and 9
	if again, err := os.Stat(filepath.Join(gen, "parts", "part-000001.npz")); err != nil || !again.ModTime().Equal(kept.ModTime()) {
		t.Errorf("a part that was there was made again (%v)", err)
	}
	out = must(t, []string{path}, here(slices.Concat(merge.Command, merge.Args))...)
	d.check(t, filepath.Join(gen, "gen.npz"))
	result, err := os.ReadFile(filepath.Join(gen, "result.json"))
	if err != nil || !strings.Contains(out, string(result)) {
		t.Fatalf("the log does not hold the result (%v):\n%s", err, out)
	}
	d.checkResult(t, string(result))
}

// fakeSbatch does what sbatch --parsable does, at once: it runs the script for every task of --array, or, with --dependency, only when
// the job it names went well.
const fakeSbatch = `#!/usr/bin/env bash
set -euo pipefail
array="" log=/dev/null dependency=""
while [[ $1 == -* ]]; do
	case $1 in
	--array=*) array=${1#--array=} ;;
	--dependency=afterok:*) dependency=${1#--dependency=afterok:} ;;
	-o) log=$2; shift ;;
	--parsable | --export=ALL) ;;
	-p) shift ;;
	*) echo "sbatch: unknown option $1" >&2; exit 1 ;;
	esac
	shift
done
export SLURM_CPUS_PER_TASK=2
if [ -n "$dependency" ]; then
	[ -e "$FAKE/$dependency.ok" ] || { echo "42;here"; exit 0; }
	SLURM_JOB_ID=42 bash "$@" > "$log" 2>&1
	echo "42;here"
	exit
fi
for ((i = ${array%-*}; i <= ${array#*-}; i++)); do
	SLURM_ARRAY_TASK_ID=$i SLURM_ARRAY_TASK_COUNT=$((${array#*-} + 1)) bash "$@" > "${log/\%a/$i}" 2>&1 || { echo "41;here"; exit 0; }
done
touch "$FAKE/41.ok"
echo "41;here"
`

func TestSlurm(t *testing.T) {
	d := newData(t)
	bin, out := filepath.Join(d.dir, "bin"), filepath.Join(d.dir, "out")
	if err := errors.Join(os.MkdirAll(bin, 0o777), os.WriteFile(bin+"/sbatch", []byte(fakeSbatch), 0o777)); err != nil {
		t.Fatal(err)
	}
	env := []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "FAKE=" + bin, "TASKS=4", "SBATCH=-p long"}
	if got := must(t, env, scripts+"/slurm/submit.sh", d.ref, d.list, out, "--features", "pixels"); got != "41 42\n" {
		t.Errorf("submit.sh printed %q, want the numbers of both jobs", got)
	}
	d.check(t, filepath.Join(out, "gen.npz"))
	result, err := os.ReadFile(filepath.Join(out, "result.json"))
	if err != nil {
		t.Fatal(err)
	}
	d.checkResult(t, string(result))
	if parts, err := filepath.Glob(out + "/part-*.npz"); err != nil || len(parts) != len(d.shards) {
		t.Errorf("%d parts of %d shards (%v)", len(parts), len(d.shards), err)
	}
	if logs, err := filepath.Glob(out + "/stats-*.log"); err != nil || len(logs) != 4 {
		t.Errorf("logs %v (%v)", logs, err)
	}
}

// TestJoinInRounds: more parts than are merged at a time, one of them left over.
func TestJoinInRounds(t *testing.T) {
	d := newData(t)
	var list []string
	var all []float32
	for k := range 17 {
		x := make([]float32, 15*dim)
		rng.New(8, uint64(k)).FillNormal32(x)
		path := filepath.Join(d.dir, fmt.Sprintf("s%02d.npy", k))
		if err := tensor.WriteNPYFile(path, tensor.FromF32(x, 15, dim)); err != nil {
			t.Fatal(err)
		}
		list, all = append(list, path), append(all, x...)
	}
	var err error
	if d.whole, err = fid.FromFeatures(all, len(all)/dim, dim); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.list, []byte(strings.Join(list, "\r\n")), 0o666); err != nil {
		t.Fatal(err)
	}
	out, joined := filepath.Join(d.dir, "out"), filepath.Join(d.dir, "joined.npz")
	must(t, []string{"SHARD_INDEX=0", "SHARD_TASKS=1"}, scripts+"/shards.sh", "share", d.list, out)
	if got := must(t, nil, scripts+"/shards.sh", "join", d.list, out, joined); strings.TrimSpace(got) == "" {
		t.Error("join printed nothing")
	}
	d.check(t, joined)
	if left, err := filepath.Glob(out + "/join.*"); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
}

func TestShardsBad(t *testing.T) {
	d := newData(t)
	out := filepath.Join(d.dir, "out")
	write := func(name, text string) string {
		path := filepath.Join(d.dir, name)
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		return path
	}
	task := []string{"SHARD_INDEX=0", "SHARD_TASKS=6"}
	broken := write("broken.tar", "no tar")
	for want, c := range map[string]struct {
		env  []string
		args []string
		code int
	}{
		"usage":                     {task, []string{"share", d.list}, 2},
		"want share or join":        {task, []string{"merge", d.list, out}, 2},
		"want a whole number":       {[]string{"SHARD_INDEX=x", "SHARD_TASKS=6"}, []string{"share", d.list, out}, 2},
		"SHARD_TASKS is ''":         {[]string{"SHARD_INDEX=1"}, []string{"share", d.list, out}, 2},
		"tasks are counted from 0":  {[]string{"SHARD_INDEX=6", "SHARD_TASKS=6"}, []string{"share", d.list, out}, 2},
		"no such list":              {task, []string{"share", d.dir + "/none.txt", out}, 2},
		"names no shard":            {task, []string{"share", write("empty.txt", "# none\n"), out}, 2},
		"is listed twice":           {task, []string{"share", write("twice.txt", "a\nb\na\n"), out}, 2},
		"is not there; run its":     {nil, []string{"join", d.list, out, d.dir + "/f.npz"}, 2},
		"has parts of another list": {task, []string{"share", write("other.txt", d.shards[0]+"\n"), out}, 2},
		broken:                      {task, []string{"share", write("bad.txt", broken+"\n"), filepath.Join(d.dir, "out2")}, 3},
	} {
		must(t, nil, "mkdir", "-p", out)
		if strings.HasPrefix(want, "has parts") {
			must(t, task, scripts+"/shards.sh", "share", d.list, out)
		}
		got, code := sh(t, c.env, append([]string{scripts + "/shards.sh"}, c.args...)...)
		if code != c.code || !strings.Contains(got, want) {
			t.Errorf("%v: exit code %d, want %d with %q:\n%s", c.args, code, c.code, want, got)
		}
	}
}
