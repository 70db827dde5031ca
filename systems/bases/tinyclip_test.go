package bases

import (
	"context"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/data/shapes"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/nn/tower"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/train"
)

// tinyClipJob is tiny-clip on few scenes.
func tinyClipJob(t *testing.T, s train.Settings, scenes int) *train.Job {
	t.Helper()
	job, err := clipJob(t.Context(), gpu.CPU(), s, clipNet(), clipData{train: scenes, test: 300})
	if err != nil {
		t.Fatal(err)
	}
	return job
}

func clipSettings(steps, batch int) train.Settings {
	task, _ := systems.FindTask(TinyCLIP)
	s := task.Settings
	s.Steps, s.Batch, s.Warmup, s.Schedule = steps, batch, 10, "constant"
	return s
}

// It learns: the loss falls well below that of guessing, and captions of pictures that it has not seen are found far more often
// than one time in 64.
func TestTinyCLIPLearns(t *testing.T) {
	s := clipSettings(80, 64)
	job := tinyClipJob(t, s, 512)
	before, err := job.Evaluate(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	r, err := train.Run(t.Context(), job, train.Config{Settings: s, LogEvery: 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%v: %.3f before, %.3f after, loss %.3f, guessing %.3f", job.Scores, before, r.Scores, r.Loss, math.Log(64))
	if before[0] > 0.1 || r.Loss > 0.75*math.Log(64) || r.Scores[0] < 0.15 || r.Scores[1] < 0.15 {
		t.Errorf("%v: %.3f before, %.3f after, loss %.3f; want 0.15 or more after, a loss below %.3f", job.Scores, before, r.Scores, r.Loss, 0.75*math.Log(64))
	}
}

// A run in two pieces is the run in one, to the bit; the checkpoint opens as the pair that was trained, and as a text tower.
func TestTinyCLIPResumes(t *testing.T) {
	s := clipSettings(6, 16)
	run := func(dir string, steps int, resume bool) *train.Job {
		job := tinyClipJob(t, s, 64)
		job.Evaluate, job.Scores = nil, nil
		c := train.Config{Settings: s, Dir: dir, Resume: resume, LogEvery: 3}
		c.Steps = steps // the rate is constant
		if _, err := train.Run(t.Context(), job, c); err != nil {
			t.Fatal(err)
		}
		return job
	}
	whole, parts := t.TempDir(), t.TempDir()
	want := run(whole, 6, false)
	run(parts, 3, false)
	got := run(parts, 6, true)
	if !slices.Equal(want.Nets[0].Params.Value().F32(), got.Nets[0].Params.Value().F32()) {
		t.Error("the weights of a run that was resumed differ from those of one that was not")
	}
	saved, err := train.OpenSaved(filepath.Join(parts, train.CheckpointName))
	if err != nil {
		t.Fatal(err)
	}
	defer saved.Close()
	pair, params, err := OpenCLIP(gpu.CPU(), saved)
	if err != nil || !slices.Equal(params.Value().F32(), want.Nets[0].Params.Value().F32()) {
		t.Fatalf("%v, or other weights", err)
	}
	words, err := openText(gpu.CPU(), saved)
	if err != nil {
		t.Fatal(err)
	}
	captions := []string{"a red circle", "a blue square at the top left on a dark plain background", ""}
	states, err := words.encode(captions)
	if err != nil {
		t.Fatal(err)
	}
	ids, err := encode(captions, 64)
	if err != nil {
		t.Fatal(err)
	}
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	all, _ := pair.Text.Forward(tape, ids)
	near(t, "the text tower alone", states.F32(), all.Value().F32())
	if trial, err := newRetrieval(t.Context(), pair, params, 300); err != nil || len(trial.groups) == 0 {
		t.Errorf("%v", err)
	}
	saved.Job = "mnist-dit"
	if _, _, err := OpenCLIP(gpu.CPU(), saved); err == nil || !strings.Contains(err.Error(), "want one of tiny-clip") {
		t.Errorf("another task's checkpoint: %v", err)
	}
	if _, err := openText(gpu.CPU(), saved); err == nil || !strings.Contains(err.Error(), "no text tower") {
		t.Errorf("another task's checkpoint: %v", err)
	}
}

// near holds values to others within the rounding of products of another size.
func near(t *testing.T, what string, got, want []float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	for i, w := range want {
		if math.Abs(float64(got[i]-w)) > 1e-5 {
			t.Fatalf("%s: value %d is %v, want %v", what, i, got[i], w)
		}
	}
}

// Groups are full, of distinct content, and no scene is in two of them.
func TestDistinctGroups(t *testing.T) {
	set, err := captionedScenes(t.Context(), data.Test, 400, nil)
	if err != nil {
		t.Fatal(err)
	}
	groups := distinctGroups(set.scenes)
	if len(groups) < 3 {
		t.Fatalf("%d groups", len(groups))
	}
	used := map[int]bool{}
	for _, g := range groups {
		seen := map[string]bool{}
		for _, i := range g {
			if c := content(set.scenes[i]); seen[c] || used[i] {
				t.Errorf("scene %d, %s, is there twice", i, c)
			} else {
				seen[c], used[i] = true, true
			}
		}
		if len(g) != retrievalWays {
			t.Errorf("a group of %d", len(g))
		}
	}
	a := &shapes.Scene{Objects: []shapes.Object{{Kind: shapes.Circle, Color: shapes.Red}, {Kind: shapes.Cross, Color: shapes.Green}}}
	b := &shapes.Scene{Objects: []shapes.Object{a.Objects[1], a.Objects[0]}}
	if content(a) != "green cross, red circle" || content(a) != content(b) {
		t.Errorf("%q and %q", content(a), content(b))
	}
}

// Pictures are the set's, moved as a whole by up to two pixels, with the border repeated; every move occurs.
func TestCaptionFeed(t *testing.T) {
	set, err := captionedScenes(t.Context(), data.Enc, 8, nil)
	if err != nil {
		t.Fatal(err)
	}
	const batch, side = 4, 32
	still, moved := newCaptionFeed(set, gpu.CPU(), batch, 0), newCaptionFeed(set, gpu.CPU(), batch, 2)
	moves := map[[2]int]bool{}
	for first := uint64(0); first < 400; first += batch {
		b := &train.Batch{First: first, Size: batch, Seeds: train.SeedsOf(9)}
		x, ids := still.next(b)
		y, also := moved.next(b)
		if !slices.Equal(ids.I32(), also.I32()) {
			t.Fatal("moved pictures have other captions")
		}
		for i := range batch {
			truth, _, _, _ := shapes.New(data.DefaultSeed).At(data.Enc, still.at[i]).Tensor()
			one := x.F32()[i*len(truth):][:len(truth)]
			near(t, "a picture", one, truth)
			var fits [][2]int
			for dy := -2; dy <= 2; dy++ {
				for dx := -2; dx <= 2; dx++ {
					same := true
					for p := 0; p < len(truth) && same; p++ {
						c, r, col := p/(side*side), p/side%side, p%side
						sy, sx := min(side-1, max(0, r-dy)), min(side-1, max(0, col-dx))
						same = y.F32()[i*len(truth)+p] == one[(c*side+sy)*side+sx]
					}
					if same {
						fits = append(fits, [2]int{dx, dy})
					}
				}
			}
			if len(fits) == 0 {
				t.Fatalf("example %d of batch %d is no moved picture", i, first)
			}
			if len(fits) == 1 {
				moves[fits[0]] = true
			}
		}
	}
	if len(moves) != 25 {
		t.Errorf("%d of 25 moves occur: %v", len(moves), moves)
	}
}

// Captions are refused with the word that does not fit.
func TestEncodeRefuses(t *testing.T) {
	for caption, want := range map[string]string{
		"a rad circle":                     `did you mean "red"`,
		"a red elephant":                   `"elephant" is not among`,
		"a red zobi":                       `"zobi" is a word of glyphs`,
		strings.Repeat("a red circle ", 5): "15 words needs 17 slots",
	} {
		if _, err := encode([]string{"a red circle", caption}, 64); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", caption, err, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := captionedScenes(ctx, data.Enc, 0, nil); err == nil {
		t.Error("reading that is cancelled goes on")
	}
	if _, err := captionedScenes(t.Context(), data.Val, 0, func(int, *shapes.Scene) bool { return false }); err == nil || !strings.Contains(err.Error(), "no scene") {
		t.Errorf("%v", err)
	}
	if c := clipNet(); c.Check() != nil {
		t.Error(c.Check())
	}
	var _ tower.ImageTower = (*tower.Plain)(nil)
}
