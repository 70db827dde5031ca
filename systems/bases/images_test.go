package bases

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/data/folder"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/train"
)

// ownSet is n pictures, bright ones of class 0 and dark ones of class 1, or of no class.
func ownSet(n, size int, classes ...string) *folder.Set {
	s := &folder.Set{Title: "own", Size: size, Fit: folder.Crop, Resize: "pil-u8-lanczos", Classes: classes}
	for i := range n {
		s.Names = append(s.Names, fmt.Sprintf("%03d.png", i))
		level := float32(0.5)
		if len(classes) > 0 {
			s.Labels = append(s.Labels, int32(i%2))
			level -= float32(i % 2)
		}
		for k := range 3 * size * size {
			s.X = append(s.X, level+0.2*float32(math.Sin(float64(k+7*i))))
		}
	}
	return s
}

// A user's set is parted without loss, the same way each time, and its hash and names are in the checkpoint.
func TestOwnPictures(t *testing.T) {
	for _, c := range [][2]int{{2, 1}, {9, 1}, {40, 4}, {6000, 512}} {
		set := ownSet(c[0], 2, "a", "b")
		p, err := ownPictures(set)
		if err != nil || p.held.Len() != c[1] || p.train.Len() != c[0]-c[1] || len(p.train.Labels) != p.train.Len() || len(p.held.Labels) != c[1] {
			t.Fatalf("%d pictures: %d held out, want %d (%v)", c[0], p.held.Len(), c[1], err)
		}
		var sum, want float64
		for _, v := range append(append([]float32{}, p.train.X...), p.held.X...) {
			sum += float64(v)
		}
		for _, v := range set.X {
			want += float64(v)
		}
		if math.Abs(sum-want) > 1e-6*float64(len(set.X)) {
			t.Errorf("%d pictures: the parts sum to %v, the set to %v", c[0], sum, want)
		}
		for i, l := range p.train.Labels { // labels stay with their pictures
			var m float32
			for _, v := range p.train.X[12*i : 12*i+12] {
				m += v / 12
			}
			if (m < 0) != (l == 1) {
				t.Fatalf("a picture of mean %v has label %d", m, l)
			}
		}
		if p.config().SHA256 != set.SHA256() || p.config().Size != 2 || len(p.config().Classes) != 2 {
			t.Errorf("%+v", p.config())
		}
	}
	if _, err := ownPictures(ownSet(1, 2)); err == nil || !errors.Is(err, imageio.ErrInput) {
		t.Errorf("one picture: %v", err)
	}
}

// Networks fit the size, and sizes that they cannot halve or cut are refused with one that fits.
func TestImageSizes(t *testing.T) {
	for _, size := range []int{4, 8, 28, 32, 64, 128, 256} {
		c, err := unetFor(pixelUNet(), size, 2)
		if err == nil {
			err = c.Check()
		}
		if err != nil || c.Height != size || c.Classes != 2 {
			t.Errorf("unet of %d: %+v, %v", size, c, err)
		}
	}
	for _, size := range []int{8, 16, 32, 64, 256} {
		c, err := ditFor(mnistDiT().net, size, 0)
		if err == nil {
			err = c.Check()
		}
		if err != nil || c.Height/c.Patch != 8 {
			t.Errorf("dit of %d: %+v, %v", size, c, err)
		}
	}
	if _, err := unetFor(pixelUNet(), 66, 0); err == nil || !strings.Contains(err.Error(), "want a multiple of 16, such as 80") {
		t.Errorf("%v", err)
	}
	if _, err := ditFor(mnistDiT().net, 20, 0); err == nil || !strings.Contains(err.Error(), "want a multiple of 8, such as 24") {
		t.Errorf("%v", err)
	}
}

// The networks learn sets of one's own, one with classes and one without: the held-out loss falls, and the checkpoint has the names.
func TestImagesLearn(t *testing.T) {
	for name, classes := range map[string][]string{"image-unet": {"light", "dark"}, "image-dit": nil} {
		task, _ := systems.FindTask(name)
		s := task.Settings
		s.Steps, s.Batch, s.Warmup, s.Schedule, s.EMA = 60, 4, 5, "constant", []float64{0.9}
		job, err := task.MakeFrom(gpu.CPU(), s, ownSet(60, 8, classes...))
		if err != nil {
			t.Fatal(err)
		}
		job.Sample = nil
		before, err := job.Evaluate(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		r, err := train.Run(t.Context(), job, train.Config{Settings: s, Dir: dir, EvalEvery: 60})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s, classes %v: %.4g at the start, %.4g after %d steps", name, classes, before[0], r.Scores[0], r.Step)
		if !(r.Scores[0] < 0.7*before[0]) {
			t.Errorf("%s, classes %v: held-out loss %.4g, then %.4g; want below 0.7 of it", name, classes, before[0], r.Scores[0])
		}
		saved, err := train.OpenSaved(filepath.Join(dir, train.CheckpointName))
		if err != nil {
			t.Fatal(err)
		}
		defer saved.Close()
		got, err := task.Open(gpu.CPU(), saved, 0)
		if err != nil || len(got.Names) != len(classes) || got.Net.Takes().Classes != len(classes) {
			t.Errorf("%s: names %q of %d classes (%v)", name, got.Names, got.Net.Takes().Classes, err)
		}
		var c struct{ Data dataConfig }
		if err := json.Unmarshal(saved.Config, &c); err != nil || len(c.Data.SHA256) != 64 || c.Data.Size != 8 {
			t.Errorf("%s (%v)", saved.Config, err)
		}
	}
}
