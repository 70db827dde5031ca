package bases

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/models/codec"
	"github.com/fidlab/fidlab/models/critic"
	"github.com/fidlab/fidlab/train"
)

// criticisedAt is a task with a small critic that is heard from a step on.
func criticisedAt(t shapesCodec, from int) shapesCodec {
	t = t.criticised()
	r := *t.recipe.Critic
	r.Net, r.From = critic.PatchConfig{Channels: 3, Width: 8, Layers: 2, Norm: critic.Group}, from
	t.recipe.Critic = &r
	return t
}

// A critic that is not heard yet leaves the codec as it is without one; one that is heard does not, by the weight that is asked for.
func TestCriticIsHeardFrom(t *testing.T) {
	small := tinyCodecs()
	small[0].recipe.KL = &codec.Config{Channels: 3, Latent: 4, Widths: []int{8, 8, 8}, Groups: 8, NoMiddle: true}
	for _, plain := range small {
		weights := func(task shapesCodec) ([]float32, *train.Job) {
			task.Settings.Betas = []float64{0.5, 0.9}
			task.Settings.Steps = 4
			job, err := task.make(t.Context(), gpu.CPU(), task.Settings)
			if err != nil {
				t.Fatal(err)
			}
			job.Evaluate, job.Scores, job.Sample = nil, nil, nil
			dir := t.TempDir()
			if _, err := train.Run(t.Context(), job, train.Config{Settings: task.Settings, Dir: dir, LogEvery: 1}); err != nil {
				t.Fatal(err)
			}
			if task.recipe.Critic != nil {
				log, err := os.ReadFile(filepath.Join(dir, "log.csv"))
				if err != nil {
					t.Fatal(err)
				}
				checkCriticWeights(t, string(log), task.recipe.Critic.From)
			}
			return slices.Clone(job.Nets[0].Params.Value().F32()), job
		}
		want, _ := weights(plain)
		if got, _ := weights(criticisedAt(plain, 4)); !slices.Equal(got, want) {
			t.Errorf("%s: a critic that is not heard changes the codec", plain.Name)
		}
		got, job := weights(criticisedAt(plain, 3))
		if slices.Equal(got, want) {
			t.Errorf("%s: a critic that is heard changes nothing", plain.Name)
		}
		moved := 0.0
		again := criticisedAt(plain, 3)
		start, err := again.make(t.Context(), gpu.CPU(), plain.Settings)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range job.Nets[1].Params.Value().F32() {
			moved = max(moved, math.Abs(float64(v-start.Nets[1].Params.Value().F32()[i])))
		}
		if moved == 0 {
			t.Errorf("%s: the critic does not learn", plain.Name)
		}
	}
}

// checkCriticWeights reads from a log with a line a step that the weight is there from a step on.
func checkCriticWeights(t *testing.T, log string, from int) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(log), "\n")
	at := slices.Index(strings.Split(lines[0], ","), "critic_weight")
	for step, line := range lines[1:] {
		cell := strings.Split(line, ",")[at]
		v, err := strconv.ParseFloat(cell, 64)
		if step < from && cell != "" || step >= from && (err != nil || !(v > 0)) {
			t.Errorf("step %d has the weight %q of a critic that is heard from step %d on", step, cell, from)
		}
	}
}

// A critic learns to tell scenes from what an untrained codec makes of them.
func TestCriticLearns(t *testing.T) {
	task := criticisedAt(tinyCodecs()[1], 1000)
	s := task.Settings
	s.Steps, s.Batch = 40, 6
	job, err := task.make(t.Context(), gpu.CPU(), s)
	if err != nil {
		t.Fatal(err)
	}
	job.Evaluate, job.Scores, job.Sample = nil, nil, nil
	dir := t.TempDir()
	if _, err := train.Run(t.Context(), job, train.Config{Settings: s, Dir: dir, LogEvery: 20}); err != nil {
		t.Fatal(err)
	}
	log, err := os.ReadFile(filepath.Join(dir, "log.csv"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(log)), "\n")
	names, cells := strings.Split(lines[0], ","), strings.Split(lines[2], ",")
	value := func(name string) float64 {
		v, err := strconv.ParseFloat(cells[slices.Index(names, name)], 64)
		if err != nil {
			t.Fatal(name, err)
		}
		return v
	}
	if real, made, loss := value("real"), value("made"), value("loss.critic"); !(real > made+0.5) || !(loss < 0.75) {
		t.Errorf("real scenes %.3g, made ones %.3g, loss %.3g; want them half apart and the loss, 1 at first, below 0.75", real, made, loss)
	}
}
