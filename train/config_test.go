package train

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/tensor"
)

// A run goes on under the configuration that it began with; the error names the first field that differs.
func TestResumeRefuses(t *testing.T) {
	s := settings(6)
	dir := t.TempDir()
	if _, err := Run(t.Context(), testJob(s, 4), Config{Settings: s, Dir: dir}); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(filepath.Join(dir, CheckpointName))
	if err != nil {
		t.Fatal(err)
	}
	for field, change := range map[string]func(s *Settings, j *Job){
		"settings.rate":       func(s *Settings, _ *Job) { s.Rate = 0.02 },
		"settings.batch":      func(s *Settings, _ *Job) { s.Batch = 4 },
		"settings.ema":        func(s *Settings, _ *Job) { s.EMA = []float64{0.9} },
		"settings.seeds.data": func(s *Settings, _ *Job) { s.Seeds.Data++ },
		"settings.steps":      func(s *Settings, _ *Job) { s.Steps = 7 }, // the cosine depends on it
		"config.width":        func(_ *Settings, j *Job) { j.Config = testConfig{5, j.Config.(testConfig).Data} },
		"config.data":         func(_ *Settings, j *Job) { j.Config = testConfig{4, "0123"} },
		"config.more": func(_ *Settings, j *Job) {
			j.Config = map[string]any{"width": 4, "data": j.Config.(testConfig).Data, "more": 1}
		},
		"job": func(s *Settings, j *Job) { // whatever else differs
			j.Name, j.Config, s.Rate = "square", testConfig{5, "0123"}, 0.02
		},
	} {
		s := settings(6)
		j := testJob(s, 4)
		change(&s, j)
		_, err := Run(t.Context(), j, Config{Settings: s, Dir: dir, Resume: true})
		var differs *ConfigError
		if !errors.As(err, &differs) || differs.Field != field || !strings.Contains(err.Error(), field+" is ") {
			t.Errorf("%s: %v", field, err)
		}
	}
	if _, err := Run(t.Context(), testJob(s, 4), Config{Settings: s, Dir: dir}); !errors.Is(err, ErrExists) {
		t.Errorf("an existing checkpoint: %v", err)
	}
	if _, err := Run(t.Context(), testJob(s, 4), Config{Settings: s, Dir: t.TempDir(), Resume: true}); !errors.Is(err, ErrNoCheckpoint) {
		t.Errorf("nothing to resume: %v", err)
	}
	if after, _ := os.ReadFile(filepath.Join(dir, CheckpointName)); string(after) != string(before) {
		t.Error("a refusal changed the checkpoint")
	}
	for name, b := range map[string][]byte{"cut": before[:len(before)-5], "empty": nil} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, CheckpointName), b, 0o666); err != nil {
			t.Fatal(err)
		}
		if _, err := Run(t.Context(), testJob(s, 4), Config{Settings: s, Dir: dir, Resume: true}); err == nil || !strings.Contains(err.Error(), CheckpointName) {
			t.Errorf("%s: %v", name, err)
		}
	}
	dir2 := t.TempDir()
	if err := tensor.WriteSafetensors(filepath.Join(dir2, CheckpointName), []tensor.SafetensorsEntry{{Name: "a", Array: tensor.FromF32([]float32{1}, 1)}}, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(t.Context(), testJob(s, 4), Config{Settings: s, Dir: dir2, Resume: true}); err == nil || !strings.Contains(err.Error(), "not a checkpoint of a training run") {
		t.Errorf("another file: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "log.csv"), []byte("a,b\n1,2\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(t.Context(), testJob(s, 4), Config{Settings: s, Dir: dir, Resume: true}); err == nil || !strings.Contains(err.Error(), "not this run's log") {
		t.Errorf("another log: %v", err)
	}
	if _, err := Run(t.Context(), testJob(s, 4), Config{Settings: s, Dir: dir, Overwrite: true}); err != nil {
		t.Errorf("overwriting: %v", err)
	}
}

// A constant rate does not depend on the number of steps, which may grow.
func TestMoreSteps(t *testing.T) {
	s := settings(6)
	s.Schedule = "constant"
	dir := t.TempDir()
	if _, err := Run(t.Context(), testJob(s, 4), Config{Settings: s, Dir: dir}); err != nil {
		t.Fatal(err)
	}
	s.Steps = 9
	if r, err := Run(t.Context(), testJob(s, 4), Config{Settings: s, Dir: dir, Resume: true}); err != nil || r.Step != 9 {
		t.Fatal(r, err)
	}
	s.Steps = 8
	if _, err := Run(t.Context(), testJob(s, 4), Config{Settings: s, Dir: dir, Resume: true}); err == nil || !strings.Contains(err.Error(), "it has 9 steps, the run is of 8") {
		t.Errorf("fewer steps: %v", err)
	}
}

func TestSettingsCheck(t *testing.T) {
	for want, change := range map[string]func(s *Settings){
		"steps 0":         func(s *Settings) { s.Steps = 0 },
		"batch -1":        func(s *Settings) { s.Batch = -1 },
		"accum -1":        func(s *Settings) { s.Accum = -1 },
		"rate 0":          func(s *Settings) { s.Rate = 0 },
		"rate NaN":        func(s *Settings) { s.Rate = math.NaN() },
		`optimizer adams`: func(s *Settings) { s.Optimizer = "adams" },
		`schedule wavy`:   func(s *Settings) { s.Schedule = "wavy" },
		"warmup -1":       func(s *Settings) { s.Warmup = -1 },
		"decay -1":        func(s *Settings) { s.Decay = -1 },
		"clip -1":         func(s *Settings) { s.Clip = -1 },
		"skip -1":         func(s *Settings) { s.Skip = -1 },
		"ema [1]":         func(s *Settings) { s.EMA = []float64{1} },
		"ema [0.9 0.9]":   func(s *Settings) { s.EMA = []float64{0.9, 0.9} },
		"betas [0.9]":     func(s *Settings) { s.Betas = []float64{0.9} }, "betas [0.9 1]": func(s *Settings) { s.Betas = []float64{0.9, 1} },
		"decay 100, want a f": func(s *Settings) { s.Decay = 100 },
		"decay 200, want a f": func(s *Settings) { s.Optimizer, s.Decay = "lion", 200 },
	} {
		s := settings(5)
		change(&s)
		if err := s.Check(); err == nil || !strings.HasPrefix(err.Error(), "train: "+want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	for _, o := range Optimizers() {
		for _, sch := range Schedules() {
			s := settings(5)
			s.Optimizer, s.Schedule = o, sch
			if err := s.Check(); err != nil {
				t.Error(err)
			}
			r, err := Run(t.Context(), testJob(s, 4), Config{Settings: s})
			if err != nil || r.Step != 5 || !(r.Loss > 0) {
				t.Errorf("%s, %s: %+v, %v", o, sch, r, err)
			}
		}
	}
	if _, err := Run(t.Context(), testJob(settings(5), 4), Config{Settings: settings(5), Budget: -1}); err == nil {
		t.Error("a budget below zero is taken")
	}
	s := settings(5)
	job := testJob(s, 4)
	job.Evaluate = func(context.Context, int) ([]float64, error) { return nil, errors.New("asked") }
	if r, err := Run(t.Context(), job, Config{Settings: s, Dir: t.TempDir(), EvalEvery: -1, SampleEvery: -1}); err != nil || r.Scores != nil {
		t.Errorf("evaluated although never asked to: %v", err)
	}
}

// faulty is a job whose loss is the logarithm of a weight that the data pull below zero.
func faulty(from int) (*Job, *nn.Params) {
	net := nn.NewParams(gpu.CPU(), gpu.Float32)
	l := nn.NewLinearNoBias(net.At("scale"), 1, 1)
	l.W.Start = nn.Ones
	net.Init(0)
	x := gpu.CPU().From([]float32{1, 1}, 2, 1)
	return &Job{Name: "faulty", Nets: []*Network{{Name: "net", Params: net}}, Loss: func(b *Batch) *nn.Var {
		y := l.Forward(b.Tape.Input(x))
		if b.Step == from || b.Step == from+1 {
			y = y.Neg()
		}
		return y.Log().Mean()
	}}, net
}

// A number that is not finite ends the run, by the name of the operation, or is left out.
func TestFault(t *testing.T) {
	s := Settings{Steps: 10, Batch: 2, Rate: 1e-3}
	job, net := faulty(4)
	dir := t.TempDir()
	r, err := Run(t.Context(), job, Config{Settings: s, Dir: dir, SaveEvery: 2})
	var f *FaultError
	if !errors.As(err, &f) || f.Step != 4 || !math.IsNaN(f.Loss) || r.Stop != Faulty || r.Step != 4 {
		t.Fatalf("%+v, %v", r, err)
	}
	if !strings.Contains(f.What, "the result of Var.Log > Var.Map, [2 1], called in train.faulty.func1, config_test.go:") {
		t.Errorf("what: %s", f.What)
	}
	if _, ok := ops.Finite(net.Value()); !ok {
		t.Error("the weights are not finite")
	}
	if _, err := Run(t.Context(), job, Config{Settings: s, Dir: dir, Resume: true}); !errors.As(err, &f) || f.Step != 4 {
		t.Errorf("resumed: %v", err)
	}

	var notes []string
	s.Skip = 2
	job, _ = faulty(4)
	r, err = Run(t.Context(), job, Config{Settings: s, Note: func(text string) { notes = append(notes, text) }})
	if err != nil || r.Skipped != 2 || r.Step != 10 || len(notes) != 2 || !strings.Contains(notes[1], "step 5: the loss is NaN") {
		t.Errorf("%+v, %v, %q", r, err, notes)
	}
	s.Skip = 1
	job, _ = faulty(4)
	if _, err = Run(t.Context(), job, Config{Settings: s}); !errors.As(err, &f) || f.Step != 5 || f.Skipped != 1 {
		t.Errorf("one may be left out: %v", err)
	}
}

// Faults of the data, of the walk back, and of sums.
func TestFaultsByKind(t *testing.T) {
	for want, loss := range map[string]func(b *Batch, l *nn.Linear) *nn.Var{
		"an operand that no operation made, an input": func(b *Batch, l *nn.Linear) *nn.Var {
			return l.Forward(b.Tape.Input(gpu.CPU().From([]float32{float32(math.NaN())}, 1, 1))).Mean()
		},
		"the gradient that goes back from Var.Sqrt > Var.Map": func(b *Batch, l *nn.Linear) *nn.Var {
			return l.Forward(b.Tape.Const(0, 1, 1)).Sqrt().Mean()
		},
		"parameter net.weight": func(b *Batch, l *nn.Linear) *nn.Var {
			return l.Forward(b.Tape.Const(3e38, 1, 1)).Scale(2).Mean()
		},
		"squares is not": func(b *Batch, l *nn.Linear) *nn.Var { // 1e200² in float64
			return l.Forward(b.Tape.Const(1e30, 1, 1)).Scale(1e-10).Mean()
		},
	} {
		dt := gpu.Float32
		net := nn.NewParams(gpu.CPU(), dt)
		l := nn.NewLinearNoBias(net.At("net"), 1, 1)
		l.W.Start = nn.Ones
		net.Init(0)
		if want == "parameter net.weight" {
			l.W.Value.F32()[0] = float32(math.Inf(1))
		}
		job := &Job{Name: "kinds", Nets: []*Network{{Name: "net", Params: net}}, Loss: func(b *Batch) *nn.Var { return loss(b, l) }}
		_, err := Run(t.Context(), job, Config{Settings: Settings{Steps: 1, Batch: 1, Rate: 1}})
		var f *FaultError
		if want == "squares is not" { // float32 squares are summed in float64: no fault
			if err != nil {
				t.Errorf("a large gradient: %v", err)
			}
			continue
		}
		if !errors.As(err, &f) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// Two networks in turn: each is updated by its own loss alone, as often as its phase says, and both go on exactly.
func TestPhases(t *testing.T) {
	s := Settings{Steps: 12, Batch: 4, Rate: 0.1, Optimizer: "sgd", EMA: []float64{0.5}}
	type counts struct{ critic, maker int }
	make := func(seen *counts) *Job {
		critic, maker := nn.NewParams(gpu.CPU(), gpu.Float64), nn.NewParams(gpu.CPU(), gpu.Float64)
		c, m := nn.NewLinear(critic.At("c"), 2, 1), nn.NewLinear(maker.At("m"), 2, 2)
		critic.Init(1)
		maker.Init(2)
		e := examples(20)
		of := func() *Feed { return NewFeed(e, gpu.CPU(), gpu.Float64, 4) }
		f1, f2 := of(), of()
		var first, second []float64
		return &Job{Name: "pair",
			Nets: []*Network{{Name: "critic", Params: critic}, {Name: "maker", Params: maker, NoEMA: true, LR: nn.Constant(0.01)}},
			Phases: []Phase{
				{Name: "critic", Nets: []string{"critic"}, Times: 2, Loss: func(b *Batch) *nn.Var {
					seen.critic++
					x, _ := f1.Next(b)
					first = append(first[:0], x.F64()...)
					v := b.Tape.Input(x)
					h := m.Forward(v)
					if h.NeedsGrad() {
						t.Error("the maker is not constant in the critic's phase")
					}
					return c.Forward(h).Sub(c.Forward(v)).Softplus().Mean()
				}},
				{Name: "maker", Nets: []string{"maker"}, Every: 3, Loss: func(b *Batch) *nn.Var {
					seen.maker++
					x, _ := f2.Next(b)
					second = append(second[:0], x.F64()...)
					if b.First == 0 && second[0] == first[0] && second[2] == first[2] {
						t.Error("the phases draw the same examples")
					}
					return c.Forward(m.Forward(b.Tape.Input(x))).Neg().Mean()
				}},
			}}
	}
	var seen counts
	dir := t.TempDir()
	if _, err := Run(t.Context(), make(&seen), Config{Settings: s, Dir: dir, LogEvery: 2}); err != nil {
		t.Fatal(err)
	}
	if seen != (counts{24, 4}) {
		t.Errorf("updates %+v, want 24 and 4", seen)
	}
	want := ends(t, dir)
	if head := "step,examples,loss.critic,norm.critic,loss.maker,norm.maker,rate.critic,rate.maker,skipped\n2,16,"; !strings.HasPrefix(string(want["log.csv"]), head) {
		t.Errorf("log.csv:\n%s", want["log.csv"])
	}
	// The second line's steps, 2 and 3, have an update of the maker, the third's, 4 and 5, none.
	if lines := strings.Split(string(want["log.csv"]), "\n"); strings.Contains(lines[2], ",,") || !strings.Contains(lines[3], ",,,0.1") {
		t.Errorf("log.csv:\n%s", want["log.csv"])
	}
	f, err := tensor.OpenSafetensors(filepath.Join(dir, CheckpointName))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if !f.Has("ema0.5.critic.c.weight") || f.Has("ema0.5.maker.m.weight") || !f.Has("opt.maker.momentum") {
		t.Errorf("the checkpoint has %q", f.Names())
	}
	for _, at := range []int{1, 4, 9} {
		dir := t.TempDir()
		ctx, cancel := context.WithCancel(t.Context())
		_, err := Run(ctx, make(&seen), Config{Settings: s, Dir: dir, LogEvery: 2, Progress: func(p Progress) {
			if p.Step == at {
				cancel()
			}
		}})
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if _, err := Run(t.Context(), make(&seen), Config{Settings: s, Dir: dir, LogEvery: 2, Resume: true}); err != nil {
			t.Fatal(err)
		}
		mustEqual(t, "in turn", ends(t, dir), want)
	}
}

// An evaluation that is cancelled, or fails, is made by who resumes.
func TestCancelledEvaluation(t *testing.T) {
	s := settings(30)
	for name, end := range map[string]func(cancel func()) error{
		"cancelled": func(cancel func()) error { cancel(); return context.Canceled },
		"failed":    func(func()) error { return errors.New("no memory") },
	} {
		dir := t.TempDir()
		ctx, cancel := context.WithCancel(t.Context())
		job := testJob(s, 16)
		inner, calls := job.Evaluate, 0
		job.Evaluate = func(ctx context.Context, step int) ([]float64, error) {
			if calls++; calls == 2 {
				return nil, end(cancel)
			}
			return inner(ctx, step)
		}
		r, err := runDir(t, ctx, job, Config{Settings: s, Dir: dir})
		if err == nil || r.Step != 20 {
			t.Fatalf("%s: %+v, %v", name, r, err)
		}
		if r, err = runDir(t, t.Context(), testJob(s, 16), Config{Settings: s, Dir: dir, Resume: true}); err != nil || r.Step != 30 {
			t.Fatal(r, err)
		}
		mustEqual(t, name, ends(t, dir), whole(t))
		cancel()
	}
}

func TestJobsThatCannotBe(t *testing.T) {
	base := func() *Job { return testJob(settings(5), 4) }
	for want, change := range map[string]func(j *Job){
		"has no name":               func(j *Job) { j.Name = "" },
		"has no network":            func(j *Job) { j.Nets = nil },
		"either Loss or Phases":     func(j *Job) { j.Loss = nil },
		"Scores together":           func(j *Job) { j.Scores = nil },
		`name "net" is empty or`:    func(j *Job) { j.Nets = append(j.Nets, j.Nets[0]) },
		`name "mse" is empty or`:    func(j *Job) { j.Figures = []string{"mse"} },
		`no network "other"`:        func(j *Job) { j.Phases, j.Loss = []Phase{{Nets: []string{"other"}, Loss: j.Loss}}, nil },
		`"radius" is not among`:     func(j *Job) { j.Figures = nil },
		"the loss has shape [8 2]":  func(j *Job) { j.Loss = func(b *Batch) *nn.Var { return b.Tape.Const(1, 8, 2) } },
		"gives 1 scores, its names": func(j *Job) { j.Scores = []string{"a", "b"} },
	} {
		func() {
			defer func() {
				if got := fmt.Sprint(recover()); !strings.Contains(got, want) { // some come from a worker, with its stack
					t.Errorf("want a panic with %q, got %q", want, got)
				}
			}()
			j := base()
			change(j)
			Run(t.Context(), j, Config{Settings: settings(5)})
		}()
	}
	for name, f := range map[string]func(){
		"parts of examples": func() { NewFeed(&Examples{X: make([]float32, 5), Shape: []int{2}}, gpu.CPU(), gpu.Float32, 1) },
		"labels": func() {
			NewFeed(&Examples{X: make([]float32, 4), Shape: []int{2}, Labels: make([]int32, 1)}, gpu.CPU(), gpu.Float32, 1)
		},
		"another batch": func() {
			NewFeed(&Examples{X: make([]float32, 4), Shape: []int{2}}, gpu.CPU(), gpu.Float32, 2).Next(&Batch{Size: 1})
		},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

// An epoch has every example once; epochs differ; the order does not depend on the batch.
func TestFeed(t *testing.T) {
	const n = 10
	e := &Examples{X: make([]float32, n), Shape: []int{1}, Labels: make([]int32, n)}
	for i := range n {
		e.X[i], e.Labels[i] = float32(i), int32(i)
	}
	draw := func(batch int, dt gpu.DType) (out []float64) {
		f := NewFeed(e, gpu.CPU(), dt, batch)
		for first := 0; first < 6*n; first += batch {
			x, labels := f.Next(&Batch{First: uint64(first), Size: batch, Seeds: SeedsOf(5)})
			v := make([]float64, batch)
			if err := x.Read64(v); err != nil {
				t.Fatal(err)
			}
			for i, l := range labels {
				if float64(l) != v[i] {
					t.Fatalf("label %d with example %v", l, v[i])
				}
			}
			out = append(out, v...)
		}
		return out[:6*n]
	}
	want := draw(1, gpu.Float32)
	for epoch := range 6 {
		var seen [n]bool
		for _, v := range want[epoch*n : (epoch+1)*n] {
			seen[int(v)] = true
		}
		if seen != [n]bool{true, true, true, true, true, true, true, true, true, true} {
			t.Errorf("epoch %d: %v", epoch, want[epoch*n:(epoch+1)*n])
		}
	}
	same := 0
	for i := range n {
		if want[i] == want[n+i] {
			same++
		}
	}
	if same > n/2 {
		t.Error("two epochs have one order")
	}
	for _, batch := range []int{3, 7, 25} { // the last is more than two epochs
		for i, v := range draw(batch, gpu.Float64) {
			if v != want[i] {
				t.Fatalf("batches of %d: example %d is %v, want %v", batch, i, v, want[i])
			}
		}
	}
	a, b := &Examples{X: []float32{1, 2}, Shape: []int{1}}, &Examples{X: []float32{1, 2}, Shape: []int{2}}
	if a.SHA256() == b.SHA256() || e.SHA256() == (&Examples{X: e.X, Shape: e.Shape}).SHA256() {
		t.Error("the hash leaves out the shape or the labels")
	}
}

// Who uses a checkpoint gets the weights, or an average of them, that the run ended with.
func TestSaved(t *testing.T) {
	s := settings(6)
	dir := t.TempDir()
	job := testJob(s, 4)
	if _, err := Run(t.Context(), job, Config{Settings: s, Dir: dir, Version: "v1"}); err != nil {
		t.Fatal(err)
	}
	f, err := OpenSaved(filepath.Join(dir, CheckpointName))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Job != "circle" || f.Step != 6 || f.Version != "v1" || f.Settings.Rate != 1e-2 || !strings.Contains(string(f.Config), `"width":4`) {
		t.Errorf("%+v", f)
	}
	weights := append([]float32{}, job.Nets[0].Params.Value().F32()...)
	net := testJob(settings(6), 4).Nets[0].Params
	for _, decay := range []float64{0, 0.9, 0.99} {
		if err := f.Load(net, "net", decay); err != nil {
			t.Fatal(err)
		}
		want := weights
		if decay != 0 {
			e := job.Nets[0].emas[map[float64]int{0.9: 0, 0.99: 1}[decay]]
			e.Swap()
			want = append([]float32{}, job.Nets[0].Params.Value().F32()...)
			e.Swap()
		}
		for i, v := range net.Value().F32() {
			if v != want[i] || decay != 0 && i == 0 && v == weights[i] {
				t.Fatalf("decay %g: value %d is %v, want %v", decay, i, v, want[i])
			}
		}
	}
	if err := f.Load(net, "net", 0.5); err == nil || !strings.Contains(err.Error(), "no average of decay 0.5; it has [0.9 0.99]") {
		t.Errorf("another decay: %v", err)
	}
	if err := f.Load(net, "nit", 0); err == nil {
		t.Error("another network is loaded")
	}
	if err := f.Load(testJob(settings(6), 5).Nets[0].Params, "net", 0); err == nil || !strings.Contains(err.Error(), "first.weight: the file has [4 2], want [5 2]") {
		t.Errorf("another size: %v", err)
	}
}
