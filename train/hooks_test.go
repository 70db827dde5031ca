package train

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/nn"
)

// After follows each batch of a finite loss, once, and Finish the last step, with the averages and before the checkpoint.
func TestAfterAndFinish(t *testing.T) {
	s := settings(4)
	job := testJob(s, 4)
	part := nn.NewParams(gpu.CPU(), gpu.Float64)
	part.At("").Param("first", nn.Zeros, 1)
	part.Init(0)
	kept := part.Get("first").Value
	job.State = []nn.Part{{Prefix: "kept.", Of: part}}
	var firsts []uint64
	job.After = func(b *Batch) { firsts = append(firsts, b.First) }
	job.Finish = func(context.Context) error {
		kept.F64()[0] = float64(job.Nets[0].Params.Value().F32()[0])
		return nil
	}
	dir := t.TempDir()
	r, err := Run(t.Context(), job, Config{Settings: s, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if want := []uint64{0, 8, 16, 24, 32, 40, 48, 56}; !slices.Equal(firsts, want) {
		t.Errorf("After followed batches %v, want %v", firsts, want)
	}
	saved, err := OpenSaved(r.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer saved.Close()
	kept.F64()[0] = 0
	if err := saved.Load(part, "kept", 0); err != nil {
		t.Fatal(err)
	}
	mean := nn.NewParams(gpu.CPU(), gpu.Float32)
	nn.NewLinear(mean.At("first"), 2, 4)
	nn.NewLinear(mean.At("last"), 4, 2)
	mean.Init(0)
	if err := saved.Load(mean, "net", s.EMA[0]); err != nil {
		t.Fatal(err)
	}
	if got, want := kept.F64()[0], float64(mean.Value().F32()[0]); got != want || got == float64(job.Nets[0].Params.Value().F32()[0]) {
		t.Errorf("the checkpoint has %v of Finish, want the average's %v", got, want)
	}
}

// What is not finite is not followed by After, nor is the step that is made again to find it.
func TestAfterOfAFault(t *testing.T) {
	s := settings(4)
	s.Skip = 1
	job := testJob(s, 4)
	loss, calls := job.Loss, 0
	job.Loss = func(b *Batch) *nn.Var {
		l := loss(b)
		if b.Step == 1 || b.Step == 3 {
			return l.Scale(math.Inf(1))
		}
		return l
	}
	job.After = func(b *Batch) {
		if b.Step%2 == 1 {
			t.Errorf("After follows step %d", b.Step)
		}
		calls++
	}
	var fault *FaultError
	if _, err := Run(t.Context(), job, Config{Settings: s}); !errors.As(err, &fault) || fault.Step != 3 {
		t.Error(err)
	}
	if calls != 4 {
		t.Errorf("After was called %d times, want 4: two batches in each of two steps", calls)
	}
}

// An error of Finish is the run's.
func TestFinishFails(t *testing.T) {
	s := settings(2)
	job := testJob(s, 4)
	broken := errors.New("broken")
	job.Finish = func(context.Context) error { return broken }
	if _, err := Run(t.Context(), job, Config{Settings: s}); !errors.Is(err, broken) {
		t.Error(err)
	}
}
