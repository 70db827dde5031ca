package bases

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/models/codec"
	"github.com/fidlab/fidlab/models/vq"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/rng"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/train"
)

// tinyCodecs are the tasks of scenes with small networks on few scenes.
func tinyCodecs() []shapesCodec {
	vae, vit := shapesVAE(), shapesVQ()
	vae.recipe.KL = &codec.Config{Channels: 3, Latent: 4, Widths: []int{16, 16, 16}, Groups: 8}
	vit.recipe.ViT = &codec.ViTConfig{
		Channels: 3, Size: 32, Patch: 4, Width: 32, Heads: 2, Depth: 1, Latent: 8,
		Codes: &vq.Config{Codes: 32, Width: 8, Normalize: true, Average: true, Start: vq.FirstBatch},
	}
	for _, t := range []*shapesCodec{&vae, &vit} {
		t.train, t.held, t.scale = 64, 16, 20
		t.Settings = train.Settings{Steps: 8, Batch: 4, Rate: 3e-3, Schedule: "cosine", Warmup: 3, Clip: 1, Seeds: train.SeedsOf(5)}
	}
	return []shapesCodec{vae, vit}
}

// meanError is the squared error of held-out scenes against the mean of those that are learned.
func meanError(set *scenes) float64 {
	const size = 3 * 32 * 32
	mean := make([]float64, size)
	for i, v := range set.train.X {
		mean[i%size] += float64(v) / float64(set.train.Len())
	}
	var sum float64
	for _, it := range set.held {
		x, _, _, _ := it.Tensor()
		for i, v := range x {
			sum += (float64(v) - mean[i]) * (float64(v) - mean[i])
		}
	}
	return sum / float64(size*len(set.held))
}

// After few steps codecs give scenes back better than their mean does, and a book's codes are in use.
func TestCodecsLearn(t *testing.T) {
	for _, task := range tinyCodecs() {
		t.Run(task.Name, func(t *testing.T) {
			s := task.Settings
			s.Steps, s.Batch = 100, 8
			set, err := task.scenes(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			job, err := task.make(t.Context(), gpu.CPU(), s)
			if err != nil {
				t.Fatal(err)
			}
			r, err := train.Run(t.Context(), job, train.Config{Settings: s})
			if err != nil {
				t.Fatal(err)
			}
			mean := meanError(set)
			t.Logf("%v: %.4g; the mean's error is %.4g", job.Scores, r.Scores, mean)
			if !(r.Scores[0] < mean/2) {
				t.Errorf("error %.4g, that of the mean is %.4g; want less than half of it", r.Scores[0], mean)
			}
			// Rounding to 255 levels adds 1/12 of a level squared, clipping takes away.
			if bound := 10 * math.Log10(255*255/(r.Scores[0]*127.5*127.5+1./12)); r.Scores[1] < bound-0.01 {
				t.Errorf("psnr %.4g, want at least %.4g by the error", r.Scores[1], bound)
			}
			if len(r.Scores) > 3 && (r.Scores[3] < 0.5 || r.Scores[4] < 8) {
				t.Errorf("%.2g of 32 codes are used, perplexity %.3g; want half of them and 8", r.Scores[3], r.Scores[4])
			}
		})
	}
}

// tried is a task with small networks, and what its scale is measured on: n examples with so many latents each.
type tried struct {
	task    systems.Task
	n, each int
	batch   func(t *testing.T, n int) *gpu.Tensor
}

// A run that is resumed ends in the bytes of one that is not: the book's averages and the scale of latents too. Its codec has the weights
// of the run, and the scale is that of the formula.
func TestCodecCheckpoint(t *testing.T) {
	var all []tried
	plain := tinyCodecs()
	plain[0].recipe.KL = &codec.Config{Channels: 3, Latent: 4, Widths: []int{8, 8, 8}, Groups: 8, NoMiddle: true}
	for i := range plain {
		plain[i].Settings.Batch = 2
	}
	for _, c := range append(plain, criticisedAt(plain[0], 2), criticisedAt(plain[1], 2)) {
		c.Make = c.make
		all = append(all, tried{c.Task, c.scale, 64, func(t *testing.T, n int) *gpu.Tensor {
			set, err := c.scenes(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return gpu.CPU().From(set.train.X[:n*3*32*32], n, 3, 32, 32)
		}})
	}
	m := tinyMotion()
	m.Make = m.make
	all = append(all, tried{m.Task, m.scale, 10, func(t *testing.T, n int) *gpu.Tensor {
		set, err := m.clips(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var x []float32
		for i := range n {
			x = append(x, set.rows[set.from[i]:][:40*263]...)
		}
		return gpu.CPU().From(x, n, 40, 263)
	}})
	for _, c := range all {
		task := c.task
		t.Run(task.Name, func(t *testing.T) {
			run := func(dir string, steps int, resume bool) *train.Job {
				job, err := task.Make(t.Context(), gpu.CPU(), task.Settings)
				if err != nil {
					t.Fatal(err)
				}
				c := train.Config{Settings: task.Settings, Dir: dir, Resume: resume, LogEvery: 3, SaveEvery: 3, SampleEvery: 4, EvalEvery: 4}
				switch { // a kill after so many steps
				case steps > 0 && job.Phases != nil:
					job.Phases[0].After = stopAfter(job.Phases[0].After, steps)
				case steps > 0:
					job.After = stopAfter(job.After, steps)
				}
				if _, err := train.Run(t.Context(), job, c); err != nil {
					t.Fatal(err)
				}
				return job
			}
			whole, pieces := t.TempDir(), t.TempDir()
			job := run(whole, 0, false)
			func() {
				defer func() { recover() }()
				run(pieces, 5, false)
			}()
			path := filepath.Join(pieces, train.CheckpointName)
			early, err := train.OpenSaved(path)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := OpenCodec(gpu.CPU(), early); early.Step != 3 || err == nil || !strings.Contains(err.Error(), "stands at step 3 of 8") {
				t.Errorf("a codec of step %d opens, or: %v", early.Step, err)
			}
			early.Close()
			run(pieces, 0, true)
			for _, name := range []string{train.CheckpointName, "log.csv", "log.jsonl", "samples-0000008.png"} {
				a, errA := os.ReadFile(filepath.Join(whole, name))
				b, errB := os.ReadFile(filepath.Join(pieces, name))
				if errA != nil || errB != nil || !bytes.Equal(a, b) {
					t.Errorf("%s differs after a resumption (%v, %v)", name, errA, errB)
				}
			}
			saved, err := train.OpenSaved(path)
			if err != nil {
				t.Fatal(err)
			}
			defer saved.Close()
			got, err := OpenCodec(gpu.CPU(), saved)
			if err != nil {
				t.Fatal(err)
			}
			for i, v := range job.Nets[0].Params.Value().F32() {
				if got.Params.Value().F32()[i] != v {
					t.Fatalf("weight %d differs from the run's", i)
				}
			}
			checkScale(t, c, got)
			exportCodec(t, saved, got)
		})
	}
}

// stopAfter panics in place of the call that follows so many.
func stopAfter(f func(*train.Batch), calls int) func(*train.Batch) {
	return func(b *train.Batch) {
		if calls--; calls < 0 {
			panic("killed")
		}
		f(b)
	}
}

// checkScale compares the scale of a codec with two passes over all latents.
func checkScale(t *testing.T, of tried, c *Codec) {
	t.Helper()
	n, width := of.n*of.each, c.channels()
	var z, noise []float32
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	tape.Run(func() {
		x := tape.Input(of.batch(t, of.n))
		v, index := c.Encode(x)
		if c.KL != nil {
			noise, _ = c.KL.Encode(x).LogVar.Permute(0, 2, 3, 1).Value().Floats()
			v = v.Permute(0, 2, 3, 1)
		} else if index.Len() != n {
			t.Errorf("%d indices, want %d", index.Len(), n)
		}
		z, _ = v.Value().Floats()
		z, noise = slices.Clone(z), slices.Clone(noise)
	})
	if c.Scale.Latents != n || len(z) != n*width {
		t.Errorf("%d latents, want %d", c.Scale.Latents, n)
	}
	for k := range width {
		var mean, variance float64
		for i := k; i < len(z); i += width {
			mean += float64(z[i]) / float64(n)
		}
		for i := k; i < len(z); i += width {
			variance += (float64(z[i]) - mean) * (float64(z[i]) - mean) / float64(n)
			if len(noise) > 0 {
				variance += math.Exp(float64(noise[i])) / float64(n)
			}
		}
		// Batches of other sizes differ by the rounding of float32.
		if d := math.Abs(c.Scale.Mean[k] - mean); d > 1e-5 {
			t.Errorf("mean %d is %g, want %g", k, c.Scale.Mean[k], mean)
		}
		if d := math.Abs(c.Scale.Deviation[k] - math.Sqrt(variance)); d > 1e-5*math.Sqrt(variance)+1e-6 {
			t.Errorf("deviation %d is %g, want %g", k, c.Scale.Deviation[k], math.Sqrt(variance))
		}
	}
}

// exportCodec opens what a checkpoint exports as float16: the scale as it was, weights to half a unit of 11 bits.
func exportCodec(t *testing.T, saved *train.Saved, c *Codec) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "export.safetensors")
	if _, err := saved.Export(path, train.ExportOptions{Half: true}); err != nil {
		t.Fatal(err)
	}
	x, err := train.OpenSaved(path)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	got, err := OpenCodec(gpu.CPU(), x)
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range c.Params.Value().F32() {
		if d := math.Abs(float64(v - got.Params.Value().F32()[i])); d > math.Max(math.Abs(float64(v))*0x1p-11, 0x1p-25) {
			t.Fatalf("weight %d is %g, exported %g", i, v, got.Params.Value().F32()[i])
		}
	}
	for k, v := range c.Scale.Deviation {
		if got.Scale.Deviation[k] != v {
			t.Errorf("deviation %d is %g, exported %g", k, v, got.Scale.Deviation[k])
		}
	}
}

// What is no codec's checkpoint is refused.
func TestOpenCodecRefuses(t *testing.T) {
	d := digitsMLP()
	s := d.Settings
	s.Steps, s.Batch = 1, 2
	job, err := d.make(t.Context(), gpu.CPU(), s)
	if err != nil {
		t.Fatal(err)
	}
	job.Evaluate, job.Scores, job.Sample = nil, nil, nil
	dir := t.TempDir()
	if _, err := train.Run(t.Context(), job, train.Config{Settings: s, Dir: dir}); err != nil {
		t.Fatal(err)
	}
	saved, err := train.OpenSaved(filepath.Join(dir, train.CheckpointName))
	if err != nil {
		t.Fatal(err)
	}
	defer saved.Close()
	if _, err := OpenCodec(gpu.CPU(), saved); err == nil || !strings.Contains(err.Error(), "has 0 networks of codecs") {
		t.Errorf("a checkpoint of digits-mlp: %v", err)
	}
	bad := codec.ShapesViT()
	bad.Text = 8
	vae := codec.ShapesVAE()
	for want, r := range map[string]codecRecipe{"Text is 8": {ViT: &bad}, "has 2 networks": {ViT: &bad, KL: &vae}, "Widths is empty": {KL: &codec.Config{Latent: 1}}} {
		if _, err := newCodec(gpu.CPU(), "x", r); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// The loss of a codec with latents of normals, by hand: the error of the picture that goes through the drawn latents, and the divergence
// over the number of values.
func TestKLLoss(t *testing.T) {
	task := tinyCodecs()[0]
	c, err := newCodec(gpu.CPU(), task.Name, task.recipe)
	if err != nil {
		t.Fatal(err)
	}
	c.Params.Init(2)
	x := gpu.CPU().From(oracle.Normal(3, 2*3*32*32), 2, 3, 32, 32)
	var nats, mse, loss float64
	job := &train.Job{
		Name: "x", Config: 1, Nets: []*train.Network{{Name: "net", Params: c.Params}}, Figures: []string{"error", "nats"},
		Loss: func(b *train.Batch) *nn.Var {
			in := b.Tape.Input(x)
			_, _, first, rest := klLoss(b, c.KL, in, 0.25)
			l := first.Add(rest)
			loss = l.Item()
			g := c.KL.Encode(in)
			mean, _ := g.Mean.Value().Floats()
			logVar, _ := g.LogVar.Value().Floats()
			nats, mse = 0, 0
			z := gpu.CPU().New(gpu.Float32, g.Mean.Shape()...)
			size := len(mean) / 2
			for i := range 2 {
				n := make([]float32, size)
				b.Stream(b.Seeds.Noise, i, rng.Noising).FillNormal32(n)
				for k := i * size; k < (i+1)*size; k++ {
					m, v := float64(mean[k]), float64(logVar[k])
					nats += (m*m + math.Exp(v) - 1 - v) / 2 / 2
					z.F32()[k] = float32(m + math.Exp(v/2)*float64(n[k-i*size]))
				}
			}
			y, _ := c.KL.Decode(b.Tape.Input(z)).Value().Floats()
			for k, v := range y {
				mse += (float64(v) - float64(x.F32()[k])) * (float64(v) - float64(x.F32()[k])) / float64(len(y))
			}
			return l
		},
	}
	if _, err := train.Run(t.Context(), job, train.Config{Settings: train.Settings{Steps: 1, Batch: 2, Rate: 1e-3, Seeds: train.SeedsOf(8)}}); err != nil {
		t.Fatal(err)
	}
	if want := mse + 0.25*nats/(3*32*32); math.Abs(loss-want) > 1e-5*want {
		t.Errorf("loss %g, want %g = %g + 0.25·%g/3072", loss, want, mse, nats)
	}
}
