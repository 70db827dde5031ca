package bases

import (
	"context"
	"math"
	"path/filepath"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/train"
)

// exported opens what the checkpoint exports as float16: its values are those of the average to half a unit of 11 bits, or
// of the least float16.
func exported(t *testing.T, task systems.Task, saved *train.Saved, decay float64) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "export.safetensors")
	if _, err := saved.Export(path, train.ExportOptions{Average: decay, Half: true}); err != nil {
		t.Fatal(err)
	}
	x, err := train.OpenSaved(path)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	want, err := task.Open(gpu.CPU(), saved, decay)
	if err != nil {
		t.Fatal(err)
	}
	got, err := task.Open(gpu.CPU(), x, x.Averages()[0])
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range want.Net.Params().Value().F32() {
		h := got.Net.Params().Value().F32()[i]
		if d := math.Abs(float64(v) - float64(h)); d > math.Max(math.Abs(float64(v))*0x1p-11, 0x1p-25) {
			t.Fatalf("value %d is %g, exported %g", i, v, h)
		}
	}
}

// Every task makes a job that runs, writes a checkpoint and is opened again, the network with the same weights.
func TestTasks(t *testing.T) {
	for _, task := range systems.Tasks() {
		if task.Open == nil || task.MakeOn != nil {
			continue // codecs, tiny-clip and what stands on it have tests of their own
		}
		t.Run(task.Name, func(t *testing.T) {
			s := task.Settings
			if err := s.Check(); err != nil {
				t.Fatal(err)
			}
			s.Steps, s.Batch = 2, 4
			s.Warmup = 0
			if task.MakeFrom != nil {
				task.Make = func(context.Context, *gpu.Device, train.Settings) (*train.Job, error) {
					return task.MakeFrom(gpu.CPU(), s, ownSet(12, 16, "cat", "dog"))
				}
			}
			job, err := task.Make(t.Context(), gpu.CPU(), s)
			if err != nil {
				t.Fatal(err)
			}
			start := append([]float32{}, job.Nets[0].Params.Value().F32()...)
			job.Evaluate, job.Scores, job.Sample = nil, nil, nil // they are slow
			dir := t.TempDir()
			r, err := train.Run(t.Context(), job, train.Config{Settings: s, Dir: dir})
			if err != nil || !(r.Loss > 0) {
				t.Fatal(r, err)
			}
			saved, err := train.OpenSaved(filepath.Join(dir, train.CheckpointName))
			if err != nil {
				t.Fatal(err)
			}
			defer saved.Close()
			got, err := task.Open(gpu.CPU(), saved, 0)
			if err != nil {
				t.Fatal(err)
			}
			if mean, err := task.Open(gpu.CPU(), saved, s.EMA[0]); err != nil {
				t.Errorf("the average: %v", err)
			} else {
				for i, n := range mean.Net.Params().State() { // buffers are those of the run
					want := job.Nets[0].Params.State()[i]
					if mean.Net.Params().Get(n.Name) == nil && n.Tensor.F32()[n.Tensor.Len()-1] != want.Tensor.F32()[n.Tensor.Len()-1] {
						t.Errorf("buffer %s differs", n.Name)
					}
				}
			}
			exported(t, task, saved, s.EMA[0])
			changed := false
			for i, v := range got.Net.Params().Value().F32() {
				if want := job.Nets[0].Params.Value().F32()[i]; v != want {
					t.Fatalf("value %d is %v in the file, %v in the run", i, v, want)
				} else if v != start[i] {
					changed = true
				}
			}
			if !changed {
				t.Error("two steps change no weight")
			}
			k := got.Net.Takes()
			if len(got.Shape) != 3 || got.Shape[0] != k.Channels || got.Shape[1] != k.Height || !(got.Lo < got.Hi) {
				t.Errorf("%+v", got)
			}
			tape := nn.NewTape(gpu.CPU(), gpu.Float32)
			in := models.Inputs{Classes: gpu.CPU().FromInt32([]int32{1, int32(k.Classes)}, 2)}
			if y := got.Net.Forward(tape.Const(0.1, 2, k.Channels, k.Height, k.Width), tape.Const(0.5, 2), in); y.Shape()[0] != 2 {
				t.Errorf("shape %v", y.Shape())
			}
		})
	}
	if n := len(systems.Tasks()); n < 14 {
		t.Errorf("%d tasks, want at least 14", n)
	}
}

// A short training of digits-mlp brings the held-out loss and the distance of what it draws well below those of its start.
func TestDigitsMLPLearns(t *testing.T) {
	d := digitsMLP()
	d.scoreCount = 100
	s := d.Settings
	s.Steps, s.Batch, s.Warmup, s.Schedule, s.EMA = 100, 32, 10, "constant", []float64{0.95}
	job, err := d.make(t.Context(), gpu.CPU(), s)
	if err != nil {
		t.Fatal(err)
	}
	before, err := job.Evaluate(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	r, err := train.Run(t.Context(), job, train.Config{Settings: s})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%v: %.4g at the start, %.4g after %d steps", job.Scores, before, r.Scores, r.Step)
	if r.Scores[0] > 0.8*before[0] || r.Scores[1] > 0.4*before[1] {
		t.Errorf("%v: %.4g at the start, %.4g after %d steps; want below 0.8 and 0.4 of it", job.Scores, before, r.Scores, r.Step)
	}
	// The same weights give the same scores.
	first, err := job.Evaluate(t.Context(), r.Step)
	if err != nil {
		t.Fatal(err)
	}
	again, err := job.Evaluate(t.Context(), r.Step)
	if err != nil || again[0] != first[0] || again[1] != first[1] {
		t.Errorf("%v, then %v (%v)", first, again, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := job.Evaluate(ctx, 0); err == nil {
		t.Error("an evaluation that is cancelled goes on")
	}
}

// The distance of pixels: a shift by its closed form, and the floor that docs/training.md and the task name.
func TestPixelDistance(t *testing.T) {
	set, err := digitPictures()
	if err != nil {
		t.Fatal(err)
	}
	floor, err := pixelDistance(subset(set.train, 1000, 1), set.held.X, 64)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("1000 training digits are at %.4f from the test digits", floor)
	if floor < 0.13 || floor > 0.19 {
		t.Errorf("the floor of 1000 digits is %.4f, the documentation has 0.16", floor)
	}
	shifted := append([]float32{}, set.held.X...)
	for i := range shifted {
		shifted[i] += 0.25
	}
	d, err := pixelDistance(shifted, set.held.X, 64)
	if err != nil || math.Abs(d-64*0.25*0.25) > 1e-3 {
		t.Errorf("a shift of 0.25 of 64 values is at %v, want 4 (%v)", d, err)
	}
	if _, err := pixelDistance(make([]float32, 64*64), set.held.X, 64); err == nil {
		t.Error("as many vectors as values are judged")
	}
}
