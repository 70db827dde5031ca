package train

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/rng"
)

// testConfig is the Config of testJob.
type testConfig struct {
	Width int    `json:"width"`
	Data  string `json:"data"`
}

// examples are points near a circle, with their quadrant as a label.
func examples(n int) *Examples {
	e := &Examples{X: make([]float32, 2*n), Shape: []int{2}, Labels: make([]int32, n)}
	z := oracle.Normal(11, 2*n)
	for i := range n {
		a, b := float64(z[2*i]), float64(z[2*i+1])
		r := math.Hypot(a, b)
		e.X[2*i], e.X[2*i+1] = float32(a/r), float32(b/r)
		if a > 0 {
			e.Labels[i]++
		}
		if b > 0 {
			e.Labels[i] += 2
		}
	}
	return e
}

// settings of a short run with everything in it.
func settings(steps int) Settings {
	return Settings{Steps: steps, Batch: 8, Accum: 2, Rate: 1e-2, Schedule: "cosine", Warmup: 3, Decay: 0.01, Clip: 0.5, EMA: []float64{0.9, 0.99}, Seeds: SeedsOf(3)}
}

// testJob removes noise from points of a circle, with dropout, a figure, previews and scores.
func testJob(s Settings, width int) *Job {
	e := examples(37) // no multiple of the batch
	net := nn.NewParams(gpu.CPU(), gpu.Float32)
	first, last := nn.NewLinear(net.At("first"), 2, width), nn.NewLinear(net.At("last"), width, 2)
	net.Init(s.Seeds.Init)
	feed := NewFeed(e, gpu.CPU(), gpu.Float32, s.Batch)
	noise := gpu.CPU().Empty(s.Batch, 2)
	forward := func(x *nn.Var, m ops.Mask) *nn.Var { return last.Forward(first.Forward(x).SiLU().Dropout(m)) }
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	held := gpu.CPU().From(examples(64).X, 64, 2)
	score := func() (v float64) {
		tape.Run(func() {
			tape.NoGrad(func() { v = nn.MSE(forward(tape.Input(held), ops.Mask{}), tape.Input(held), nil).Item() })
		})
		return v
	}
	return &Job{
		Name: "circle", Config: testConfig{width, e.SHA256()},
		Nets: []*Network{{Name: "net", Params: net}}, Figures: []string{"radius"}, Scores: []string{"mse"},
		Loss: func(b *Batch) *nn.Var {
			x, _ := feed.Next(b)
			for i := range b.Size {
				b.Stream(b.Seeds.Noise, i, rng.Step).FillNormal32(noise.F32()[2*i : 2*i+2])
			}
			clean := b.Tape.Input(x)
			y := forward(clean.AddMul(b.Tape.Input(noise), b.Tape.Const(0.3, 1)), ops.Mask{Seed: b.Seeds.Dropout, Stream: b.First, P: 0.1})
			b.Figure("radius", math.Sqrt(ops.SumSquares(y.Value())/float64(b.Size)))
			return nn.MSE(y, clean, nil)
		},
		Evaluate: func(context.Context, int) ([]float64, error) { return []float64{score()}, nil },
		Sample: func(context.Context, int) (*imageio.Image, error) {
			return imageio.FromGray([]uint8{uint8(255 * min(1, score()))}, 1, 1, "test"), nil
		},
	}
}

// runDir trains the test's job into a folder.
func runDir(t *testing.T, ctx context.Context, job *Job, c Config) (*Result, error) {
	t.Helper()
	if c.LogEvery == 0 {
		c.LogEvery, c.SaveEvery, c.SampleEvery, c.EvalEvery = 5, 4, 20, 10
	}
	return Run(ctx, job, c)
}

// ends are the bytes of everything that must be the same after two runs.
func ends(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if name := filepath.Base(f); name != "clock.csv" {
			out[name] = b
		}
	}
	return out
}

func mustEqual(t *testing.T, name string, got, want map[string][]byte) {
	t.Helper()
	for f, b := range want {
		if !bytes.Equal(got[f], b) {
			t.Errorf("%s: %s differs: %d bytes, want %d", name, f, len(got[f]), len(b))
			if strings.HasPrefix(f, "log") {
				t.Logf("%s\nwant\n%s", got[f], b)
			}
		}
	}
	for f := range got {
		if want[f] == nil {
			t.Errorf("%s: %s is there, which the whole run has not", name, f)
		}
	}
}

// whole is the uninterrupted run of 30 steps.
func whole(t *testing.T) map[string][]byte {
	t.Helper()
	dir := t.TempDir()
	s := settings(30)
	r, err := runDir(t, t.Context(), testJob(s, 16), Config{Settings: s, Dir: dir})
	if err != nil || r.Step != 30 || r.Stop != Done {
		t.Fatalf("%+v, %v", r, err)
	}
	want := ends(t, dir)
	for _, f := range []string{CheckpointName, "log.csv", "log.jsonl", "samples-0000020.png", "samples-0000030.png"} {
		if len(want[f]) == 0 {
			t.Fatalf("no %s", f)
		}
	}
	return want
}

// A run that is cancelled at any step, and goes on in a new process's place (a new job), ends in the same bytes.
func TestResumeIsExact(t *testing.T) {
	want := whole(t)
	s := settings(30)
	dir := t.TempDir()
	for at := 1; at < 30; at += 3 {
		ctx, cancel := context.WithCancel(t.Context())
		c := Config{Settings: s, Dir: dir, Resume: at > 1, Progress: func(p Progress) {
			if p.Step == at {
				cancel()
			}
		}}
		r, err := runDir(t, ctx, testJob(s, 16), c)
		if !errors.Is(err, context.Canceled) || r.Step != at || r.Stop != Interrupted {
			t.Fatalf("cancelled at step %d: %+v, %v", at, r, err)
		}
	}
	r, err := runDir(t, t.Context(), testJob(s, 16), Config{Settings: s, Dir: dir, Resume: true})
	if err != nil || r.Step != 30 {
		t.Fatal(r, err)
	}
	mustEqual(t, "resumed", ends(t, dir), want)
	// Once more does nothing.
	if r, err = runDir(t, t.Context(), testJob(s, 16), Config{Settings: s, Dir: dir, Resume: true}); err != nil || r.Step != 30 {
		t.Fatal(r, err)
	}
	mustEqual(t, "resumed at its end", ends(t, dir), want)
}

// A process that is killed, wherever it is, goes on in the same bytes; with lines of the log that its last
// checkpoint does not know, and a torn one.
func TestKilled(t *testing.T) {
	if dir := os.Getenv("FIDLAB_TEST_TRAIN_DIR"); dir != "" {
		s := settings(30)
		at, _ := strconv.Atoi(os.Getenv("FIDLAB_TEST_TRAIN_KILL"))
		c := Config{Settings: s, Dir: dir, Resume: at > 7, LogEvery: 5, SaveEvery: 4, SampleEvery: 20, EvalEvery: 10, Progress: func(p Progress) {
			if p.Step == at {
				syscall.Kill(os.Getpid(), syscall.SIGKILL)
			}
		}}
		_, err := Run(t.Context(), testJob(s, 16), c)
		t.Fatal("not killed", err)
	}
	want := whole(t)
	dir := t.TempDir()
	for _, at := range []int{7, 17, 26} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilled$")
		cmd.Env = append(os.Environ(), "FIDLAB_TEST_TRAIN_DIR="+dir, fmt.Sprint("FIDLAB_TEST_TRAIN_KILL=", at))
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	for name, tail := range map[string]string{"log.csv": "26,4", "log.jsonl": `{"step":26,"lo`, "." + CheckpointName + ".0badcafe.tmp": "torn"} {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o666)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(tail); err != nil || f.Close() != nil {
			t.Fatal(err)
		}
	}
	s := settings(30)
	if _, err := runDir(t, t.Context(), testJob(s, 16), Config{Settings: s, Dir: dir, Resume: true}); err != nil {
		t.Fatal(err)
	}
	mustEqual(t, "killed three times", ends(t, dir), want)
	if torn, _ := filepath.Glob(filepath.Join(dir, ".*")); len(torn) > 0 {
		t.Errorf("left behind: %v", torn)
	}
}

// The bits depend on the number of threads no more than on anything else.
func TestBitsAtAnyNumberOfThreads(t *testing.T) {
	if dir := os.Getenv("FIDLAB_TEST_TRAIN_DIR"); dir != "" {
		n, _ := strconv.Atoi(os.Getenv("FIDLAB_TEST_TRAIN_THREADS"))
		cpu.SetThreads(n)
		s := settings(6)
		s.Batch, s.Precision = 300, os.Getenv("FIDLAB_TEST_TRAIN_PRECISION")
		if _, err := Run(t.Context(), testJob(s, 200), Config{Settings: s, Dir: dir, LogEvery: 2}); err != nil {
			t.Fatal(err)
		}
		return
	}
	wants := map[string]map[string][]byte{}
	for i := range 6 {
		n, precision := i/2+1, Precisions()[i%2]
		dir := t.TempDir()
		cmd := exec.Command(os.Args[0], "-test.run=^TestBitsAtAnyNumberOfThreads$")
		cmd.Env = append(os.Environ(), "FIDLAB_TEST_TRAIN_DIR="+dir, fmt.Sprint("FIDLAB_TEST_TRAIN_THREADS=", n), "FIDLAB_TEST_TRAIN_PRECISION="+precision)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		got := ends(t, dir)
		if wants[precision] == nil {
			wants[precision] = got
		}
		mustEqual(t, fmt.Sprint(n, " threads, ", precision), got, wants[precision])
	}
	if bytes.Equal(wants["bf16"]["log.csv"], wants["float32"]["log.csv"]) {
		t.Error("bf16 is float32")
	}
}

// Two small batches are one large one, up to rounding.
func TestAccumulation(t *testing.T) {
	loss := func(batch, accum int) []float64 {
		s := settings(10)
		s.Batch, s.Accum, s.EMA, s.Optimizer = batch, accum, nil, "sgd"
		e := examples(16 * 10)
		net := nn.NewParams(gpu.CPU(), gpu.Float64)
		l := nn.NewLinear(net.At("l"), 2, 2)
		net.Init(1)
		feed := NewFeed(e, gpu.CPU(), gpu.Float64, batch)
		job := &Job{Name: "sum", Nets: []*Network{{Name: "net", Params: net}}, Loss: func(b *Batch) *nn.Var {
			x, _ := feed.Next(b)
			return nn.MSE(l.Forward(b.Tape.Input(x)), b.Tape.Input(x), nil)
		}}
		if _, err := Run(t.Context(), job, Config{Settings: s}); err != nil {
			t.Fatal(err)
		}
		return net.Value().F64()
	}
	want := loss(16, 1)
	for i, v := range loss(4, 4) {
		if math.Abs(v-want[i]) > 1e-14 {
			t.Errorf("parameter %d is %v, want %v", i, v, want[i])
		}
	}
	if start := loss(16, 1)[0]; start == 0 || math.Abs(start) > 10 {
		t.Errorf("the weights are %v", want)
	}
}

// The log is what pandas reads: as many cells in each line, the means over the steps since the last one, the learning
// rates of the schedule; and log.jsonl says the same.
func TestLog(t *testing.T) {
	s := settings(30)
	var losses []float64
	dir := t.TempDir()
	c := Config{Settings: s, Dir: dir, Progress: func(p Progress) { losses = append(losses, p.Loss) }}
	if _, err := runDir(t, t.Context(), testJob(s, 16), c); err != nil {
		t.Fatal(err)
	}
	got := ends(t, dir)
	lines, err := csv.NewReader(bytes.NewReader(got["log.csv"])).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"step", "examples", "loss", "norm", "rate", "skipped", "radius", "mse"}; !slices.Equal(lines[0], want) || len(lines) != 7 {
		t.Fatalf("%d lines, columns %q, want %q", len(lines), lines[0], want)
	}
	lr := s.LR()
	json1 := bytes.Split(bytes.TrimSpace(got["log.jsonl"]), []byte("\n"))
	for i, line := range lines[1:] {
		step := 5 * (i + 1)
		cell := func(k int) float64 {
			v, err := strconv.ParseFloat(line[k], 64)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
		mean := 0.0
		for _, v := range losses[step-5 : step] {
			mean += v
		}
		mean /= 5
		if cell(0) != float64(step) || cell(1) != float64(16*step) || cell(2) != mean || cell(4) != lr(step-1) || cell(5) != 0 || !(cell(3) > 0) || !(cell(6) > 0) {
			t.Errorf("line %q at step %d, want loss %v and rate %v", line, step, mean, lr(step-1))
		}
		if (line[7] != "") != (step%10 == 0) {
			t.Errorf("step %d has the score %q", step, line[7])
		}
		var obj map[string]float64
		if err := json.Unmarshal(json1[i], &obj); err != nil {
			t.Fatal(err)
		}
		for k, name := range lines[0] {
			if v, has := obj[name]; has != (line[k] != "") || has && v != cell(k) {
				t.Errorf("step %d: %s is %v in log.jsonl, %q in log.csv", step, name, v, line[k])
			}
		}
	}
	clock, err := os.ReadFile(filepath.Join(dir, "clock.csv"))
	if err != nil || bytes.Count(clock, []byte("\n")) != 7 || !bytes.HasPrefix(clock, []byte("step,seconds\n5,")) {
		t.Errorf("clock.csv: %v\n%s", err, clock)
	}
}

// The budget is time of the call; the schedule stays one of steps.
func TestBudget(t *testing.T) {
	s := settings(30)
	dir := t.TempDir()
	now := time.Unix(0, 0)
	clock := func() time.Time { now = now.Add(time.Second); return now }
	var left time.Duration
	c := Config{Settings: s, Dir: dir, Budget: 20 * time.Second, Now: clock, Progress: func(p Progress) { left = p.Left }}
	r, err := runDir(t, t.Context(), testJob(s, 16), c)
	if err != nil || r.Stop != OutOfTime || r.Step < 3 || r.Step > 20 || left > 20*time.Second {
		t.Fatalf("%+v, %v", r, err)
	}
	for r.Stop == OutOfTime {
		c.Resume = true
		if r, err = runDir(t, t.Context(), testJob(s, 16), c); err != nil {
			t.Fatal(err)
		}
	}
	mustEqual(t, "in pieces by time", ends(t, dir), whole(t))
}

// A disk that is full keeps the checkpoint before, the run goes on, and what was not logged is when there is room.
func TestFullDisk(t *testing.T) {
	s := settings(30)
	dir := t.TempDir()
	var notes []string
	full := false
	c := Config{Settings: s, Dir: dir, Note: func(text string) { notes = append(notes, text) }}
	c.Progress = func(p Progress) { full = p.Step >= 10 && p.Step < 22 }
	c.save = func(f *checkpoint) error {
		if full {
			return fmt.Errorf("%s: %w", f.path, syscall.ENOSPC)
		}
		return f.write()
	}
	if r, err := runDir(t, t.Context(), testJob(s, 16), c); err != nil || r.Step != 30 {
		t.Fatal(r, err)
	}
	if len(notes) != 3 || !strings.Contains(notes[0], "step 12: ") || !strings.Contains(notes[0], "no space left") {
		t.Errorf("notes %q", notes)
	}
	want := whole(t)
	mustEqual(t, "full for a time", ends(t, dir), want)

	// Full to the end: an error, and the last whole checkpoint to go on from.
	dir = t.TempDir()
	c.Dir, full = dir, false
	c.Progress = func(p Progress) { full = p.Step >= 10 }
	if r, err := runDir(t, t.Context(), testJob(s, 16), c); !errors.Is(err, syscall.ENOSPC) || r.Step != 30 {
		t.Fatal(r, err)
	}
	if r, err := runDir(t, t.Context(), testJob(s, 16), Config{Settings: s, Dir: dir, Resume: true}); err != nil || r.Step != 30 {
		t.Fatal(r, err)
	}
	mustEqual(t, "full to the end, then resumed", ends(t, dir), want)

	// Full from the beginning: nothing is trained.
	full = true
	c.Dir = t.TempDir()
	c.Progress = func(Progress) { t.Error("a step was made") }
	if _, err := Run(t.Context(), testJob(s, 16), c); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
}

// A log that cannot be written keeps its lines.
func TestLogKeepsWhatItCannotWrite(t *testing.T) {
	dir := t.TempDir()
	l, err := openLog(dir, []string{"step", "examples", "skipped"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	for step := 1; step < 6; step++ {
		if step == 2 || step == 4 { // a file that cannot be written to, and one that can
			for _, f := range l.files {
				f.f.Close()
				flag := os.O_RDONLY
				if step == 4 {
					flag = os.O_WRONLY
				}
				if f.f, err = os.OpenFile(f.path, flag, 0); err != nil {
					t.Fatal(err)
				}
			}
		}
		l.add(row{step: step, examples: 8}, 1)
		if err := l.flush(); (err != nil) != (step == 2 || step == 3) {
			t.Errorf("step %d: %v", step, err)
		}
	}
	if err := l.close(); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(filepath.Join(dir, "log.csv")); string(b) != "step,examples,skipped\n1,8,0\n2,8,0\n3,8,0\n4,8,0\n5,8,0\n" {
		t.Errorf("log.csv:\n%s", b)
	}
}

func TestStepsAllocateNothing(t *testing.T) {
	for _, precision := range Precisions() {
		s := settings(1000)
		s.Precision = precision
		r := newRun(testJob(s, 16), Config{Settings: s.Filled()})
		step := func() {
			if err := r.advance(); err != nil {
				t.Fatal(err)
			}
		}
		step()
		step()
		if n := oracle.Allocations(50, step); n >= 1 {
			t.Errorf("%s: %v allocations a step", precision, n)
		}
	}
}
