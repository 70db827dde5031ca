package ict

import (
	"math"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle/proof"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/systems/bases"
	"github.com/fidlab/fidlab/train"
)

// The proof runs through in its tiny tier, and twice to the same bits.
func TestTiny(t *testing.T) { proof.Tiny(t, "12") }

// Every stage of the curriculum is reached, the last one for as long as the others: a run of any length ends with Last + 1 levels.
func TestCurriculumEnds(t *testing.T) {
	for _, f := range []Form{{}, FirstForm, {First: 10, Last: 160, Fixed: true}} {
		for _, steps := range []int{8, 100, 6000} {
			g, err := f.filled(steps)
			if err != nil {
				t.Fatal(err)
			}
			last, _ := g.levels(steps-1, steps)
			want := g.Last + 1
			if f.Roots { // rises to the last step
				if last < want-g.Last/4 || last > want {
					t.Errorf("%+v: %d levels at the end of %d steps, want about %d", f, last, steps, want)
				}
				continue
			}
			if last != want {
				t.Errorf("%+v: %d levels at the end of %d steps, want %d", f, last, steps, want)
			}
		}
	}
	half, _ := Form{First: 10, Last: 160}.levels(3000, 6000)
	if half != 41 {
		t.Errorf("%d levels half way, want 41", half)
	}
}

// The teacher without an average is the network itself; with one it lags behind, and is kept in checkpoints.
func TestTeacher(t *testing.T) {
	k := settings(8, 16, 1e-3, 1)
	job, err := Form{}.Job(gpu.CPU(), k, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(job.State) != 0 || job.After != nil {
		t.Error("the improved form keeps a teacher")
	}
	if job, err = FirstForm.Job(gpu.CPU(), k, nil); err != nil {
		t.Fatal(err)
	}
	task, _ := systems.FindTask(Task)
	before := append([]float32{}, job.Nets[0].Params.Value().F32()...)
	if _, _, err := bases.TrainJob(t.Context(), task, job, k, false); err != nil {
		t.Fatal(err)
	}
	teacher, ok := job.State[0].Of.(*nn.Params)
	if !ok || job.State[0].Prefix != "teacher." {
		t.Fatalf("checkpoints keep %+v", job.State)
	}
	var moved, lag float64
	for i, v := range job.Nets[0].Params.Value().F32() {
		moved += math.Abs(float64(v - before[i]))
		lag += math.Abs(float64(v - teacher.Value().F32()[i]))
	}
	if moved == 0 || lag == 0 || lag >= moved {
		t.Errorf("the network moved by %g, the teacher is %g behind", moved, lag)
	}
}

func digits(t *testing.T) *train.Examples {
	t.Helper()
	set, _, err := bases.SmallDigits()
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func TestRefused(t *testing.T) {
	k := settings(8, 16, 1e-3, 1)
	for want, f := range map[string]Form{
		"levels from 20 to 10": {First: 20, Last: 10}, "levels from 0 to 5": {Last: 5}, "8 steps for a curriculum of 9 stages": {First: 1, Last: 256},
		"an average of decay 1": {Average: 1},
	} {
		if _, err := f.Job(gpu.CPU(), k, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", f, err, want)
		}
	}
	for _, c := range []struct {
		steps  int
		second float64
	}{{0, 1}, {3, 1}, {2, 0.002}, {2, 80}, {2, math.NaN()}} {
		if _, err := Grid(c.steps, c.second); err == nil || !strings.Contains(err.Error(), "want 1, or 2 by way of a level") {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// One step asks once and two twice, of the classes in turn.
func TestDrawCounts(t *testing.T) {
	job, net, err := Form{}.job(gpu.CPU(), settings(8, 16, 1e-3, 1), netConfig(), digits(t), nil)
	if err != nil || job == nil {
		t.Fatal(err)
	}
	for steps := 1; steps <= 2; steps++ {
		g, err := Grid(steps, secondLevel)
		if err != nil {
			t.Fatal(err)
		}
		if len(g.Steps) != steps || g.Sigmas()[0] != path.Max {
			t.Errorf("%d steps: the grid is %v", steps, g.Sigmas())
		}
		x, err := draw(t.Context(), net, 3, 20, steps, secondLevel)
		if err != nil || x.Shape()[0] != 20 {
			t.Errorf("%d steps: %v", steps, err)
		}
	}
}

// Exact draws are at no distance of each other, and the flow's ends are draws.
func TestRing(t *testing.T) {
	r, err := newRing()
	if err != nil {
		t.Fatal(err)
	}
	const n = 1500
	exact := r.energy(r.bed.Draws(5, n).F64(), 5)
	ends, err := r.bed.Fine(t.Context(), &systems.Env{}, r.grid, 5, n)
	if err != nil {
		t.Fatal(err)
	}
	got := r.energy(ends.F64(), 5)
	still := make([]float64, 2*n) // all in the middle
	if far := r.energy(still, 5); math.Abs(exact) > 3e-3 || math.Abs(got) > 3e-3 || far < 0.2 {
		t.Errorf("energy distances: %g of draws, %g of ends, %g of the middle", exact, got, far)
	}
}
