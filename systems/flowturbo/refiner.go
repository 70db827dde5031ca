package flowturbo

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/models/dit"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/sampler/network"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/systems/bases"
	"github.com/fidlab/fidlab/tensor"
	"github.com/fidlab/fidlab/train"
)

// Task is the refiner's name in fidlab train.
const Task = "refiner"

const (
	span = 0.2 // of time: a step of a five-step grid. The paper takes 0.12, for nine steps and more.
	drop = 0.1
	pool = 2000 // pictures that a teacher draws whose own data are not here
)

// config is the job's part of a checkpoint.
type config struct {
	Net     dit.Config `json:"net"`
	Teacher teacher    `json:"teacher"`
	Data    string     `json:"data_sha256"`
}

// teacher says which network a refiner was made for.
type teacher struct {
	Path    string  `json:"path"` // where it was; not looked at where only the refiner is used
	SHA256  string  `json:"sha256"`
	Job     string  `json:"job"`
	Average float64 `json:"average"`
}

func init() {
	systems.RegisterTask(systems.Task{
		Name: Task, Text: "how the velocity of a trained flow changes (--on), a transformer of one block: for --sampler flowturbo --blocks",
		Source:   "Zhao et al. 2024",
		Settings: train.Settings{Steps: 3000, Batch: 16, Rate: 1e-3, Schedule: "cosine", Warmup: 100, Clip: 1, EMA: []float64{0.998}, Span: span},
		LogEvery: 50, SaveEvery: 250, EvalEvery: 500,
		On: bases.MNISTDiT, MakeOn: makeOn, Spans: true,
	})
}

// makeOn makes the job of the teacher in base, or of the one that the run in base was of.
func makeOn(ctx context.Context, dev *gpu.Device, s train.Settings, base *train.Saved) (*train.Job, error) {
	var of teacher
	if base.Job == Task {
		var c config
		if err := json.Unmarshal(base.Config, &c); err != nil {
			return nil, data.Errorf("flowturbo: %s: the configuration of %s: %w", base.Path, base.Job, err)
		}
		of = c.Teacher
		saved, err := train.OpenSaved(of.Path)
		if err != nil {
			return nil, data.Errorf("flowturbo: %s refines %s, which is not where it was: %w; say where with --on", base.Path, of.Path, err)
		}
		defer saved.Close()
		base = saved
	}
	sum, err := tensor.FileSHA256(base.Path)
	if err != nil {
		return nil, err
	}
	if of.SHA256 != "" && of.SHA256 != sum {
		return nil, data.Errorf("flowturbo: %s has SHA-256 %.12s…, the refiner is of %.12s…; go on with the network that it was begun on", base.Path, sum, of.SHA256)
	}
	task, ok := systems.FindTask(base.Job)
	if !ok || task.Open == nil {
		return nil, data.Errorf("flowturbo: %s is of %s, which draws no pictures; want a network on the flow's path", base.Path, base.Job)
	}
	of = teacher{Path: base.Path, SHA256: sum, Job: base.Job, Average: base.Averages()[0]}
	net, err := task.Open(dev, base, of.Average)
	if err != nil {
		return nil, err
	}
	learn, held, err := pictures(ctx, task, &bases.Network{Name: task.Name, Trained: net, Device: dev}, s.Seeds.Data)
	if err != nil {
		return nil, err
	}
	job, _, err := newJob(dev, s, net, of, learn, held)
	return job, err
}

// pictures are the teacher's own data, or what it draws.
func pictures(ctx context.Context, task systems.Task, net *bases.Network, seed uint64) (learn, held *train.Examples, err error) {
	if task.Data != nil {
		return task.Data()
	}
	r, err := net.Heun(ctx, net.Path, net.Rule(), 12, net.Options(seed, pool))
	if err != nil {
		return nil, nil, err
	}
	x, err := r.X.Floats()
	if err != nil {
		return nil, nil, err
	}
	of := func(lo, hi int) *train.Examples {
		size := len(x) / pool
		e := &train.Examples{Shape: net.Shape, X: x[lo*size : hi*size]}
		if c := net.Cond(pool).Classes; c != nil {
			for _, k := range c[lo:hi] {
				e.Labels = append(e.Labels, int32(k))
			}
		}
		return e
	}
	return of(0, pool-pool/10), of(pool-pool/10, pool), nil
}

// netConfig is a refiner's network for a teacher: one block of the teacher's kind where that is a transformer.
func netConfig(of models.Net) (dit.Config, error) {
	k := of.Takes()
	c := dit.Config{Dim: 96, Heads: 3, Patch: 4, TimeFactor: 1000, Norm: dit.RMS, MLP: dit.SwiGLU, QKNorm: nn.QKRMS, Rotary: true}
	if t, ok := of.(*dit.Net); ok {
		c = t.Config()
		c.Blocks, c.LongSkips, c.FinalConv, c.Stem, c.Grid = nil, false, false, 0, 0
		if c.Sigma == dit.DropSigma {
			c.Sigma = dit.NoSigma
		}
	} else if k.Height%4 != 0 || k.Width%4 != 0 {
		c.Patch = 2
	}
	c.Channels, c.Extra, c.Height, c.Width, c.Classes, c.Depth = k.Channels, k.Channels, k.Height, k.Width, k.Classes, 1
	if err := c.Check(); err != nil {
		return c, data.Errorf("flowturbo: a refiner of a network of %d×%d: %w", k.Height, k.Width, err)
	}
	return c, nil
}

// newJob makes the job, and the refiner's network.
func newJob(dev *gpu.Device, s train.Settings, of *systems.Trained, from teacher, learn, held *train.Examples) (*train.Job, *dit.Net, error) {
	c, err := netConfig(of.Net)
	if err != nil {
		return nil, nil, err
	}
	share := drop
	if c.Classes == 0 {
		share = 0
	}
	params := nn.NewParams(dev, gpu.Float32)
	net := dit.New(params.At(""), c)
	params.Init(s.Seeds.Init)
	loss, err := train.NewRefining(net, of.Net, of.Path, of.Pred, s.Span, share, s.Batch)
	if err != nil {
		return nil, nil, data.Errorf("flowturbo: %w", err)
	}
	trial, err := newTrial(net, of, s.Span, held)
	if err != nil {
		return nil, nil, err
	}
	feed := train.NewFeed(learn, dev, gpu.Float32, s.Batch)
	return &train.Job{
		Name: Task, Config: config{Net: c, Teacher: from, Data: learn.SHA256()},
		Nets: []*train.Network{{Name: "net", Params: params}},
		Loss: func(b *train.Batch) *nn.Var {
			x, labels := feed.Next(b)
			return loss.Loss(b, x, labels)
		},
		Evaluate: trial.evaluate, Scores: []string{"held_out", "unexplained"},
	}, net, nil
}

// trial tries a refiner on pictures that it does not learn.
type trial struct {
	loss *train.Refining
	tape *nn.Tape
	feed *train.Feed
}

// The trial's pictures, and their noise, which is the same each time.
const (
	heldBatch, heldBatches = 32, 8
	heldSeed               = 0x7475726265
)

func newTrial(net *dit.Net, of *systems.Trained, span float64, held *train.Examples) (*trial, error) {
	loss, err := train.NewRefining(net, of.Net, of.Path, of.Pred, span, 0, heldBatch)
	if err != nil {
		return nil, err
	}
	v := net.Params().Value()
	return &trial{loss: loss, tape: nn.NewTape(v.Device(), v.DType()), feed: train.NewFeed(held, v.Device(), v.DType(), heldBatch)}, nil
}

// evaluate is the held-out loss, and its share of the loss of a refiner that says "as before".
func (t *trial) evaluate(ctx context.Context, _ int) ([]float64, error) {
	var sum, all float64
	for i := range heldBatches {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		var failed error
		t.tape.Run(func() {
			t.tape.NoGrad(func() {
				b := &train.Batch{Tape: t.tape, First: uint64(i * heldBatch), Size: heldBatch, Seeds: train.SeedsOf(heldSeed)}
				x, labels := t.feed.Next(b)
				sum += t.loss.Loss(b, x, labels).Item()
				changes, err := t.loss.Changes().Floats()
				if failed = err; err != nil {
					return
				}
				var squares float64
				for _, c := range changes {
					squares += float64(c) * float64(c)
				}
				all += squares / float64(len(changes))
			})
		})
		if failed != nil {
			return nil, failed
		}
	}
	return []float64{sum / heldBatches, sum / all}, nil
}

// Refiner is a trained refiner.
type Refiner struct {
	Net  *dit.Net
	Of   string  // SHA-256 of the file of the network that it was trained on
	Span float64 // of time that it was trained to look ahead
}

// Open makes the refiner of a checkpoint of Task, with its average. It refuses other checkpoints.
func Open(dev *gpu.Device, s *train.Saved) (*Refiner, error) {
	if s.Job != Task {
		return nil, data.Errorf("flowturbo: %s is of %s, no refiner; fidlab train %s --on MODEL makes one", s.Path, s.Job, Task)
	}
	var c config
	if err := json.Unmarshal(s.Config, &c); err != nil {
		return nil, data.Errorf("flowturbo: %s: the configuration of %s: %w", s.Path, s.Job, err)
	}
	if err := c.Net.Check(); err != nil {
		return nil, data.Errorf("flowturbo: %s: %w", s.Path, err)
	}
	params := nn.NewParams(dev, gpu.Float32)
	net := dit.New(params.At(""), c.Net)
	params.Init(0)
	if err := s.Load(params, "net", s.Averages()[0]); err != nil {
		return nil, err
	}
	return &Refiner{Net: net, Of: c.Teacher.SHA256, Span: s.Settings.Span}, nil
}

// For is the refiner for a network on a path that is guided by weight, 1 for not at all. It computes batch samples at a time, 0 stands
// for 16. It serves one goroutine at a time.
func (r *Refiner) For(path diffusion.Path, weight float64, batch int) (*network.Refiner, error) {
	if path.Space() != diffusion.FlowSpace {
		return nil, fmt.Errorf("flowturbo: refiners are of velocities on the flow's straight path; this is %s", path.Name())
	}
	return network.NewRefiner(r.Net, path, weight, network.Options{Batch: batch})
}

// Fits refuses samples of another shape, and another network than the one that the refiner was trained on, of which sum is the SHA-256 of
// the file: its velocities are others.
func (r *Refiner) Fits(shape []int, sum string) error {
	c := r.Net.Config()
	if want := []int{c.Channels, c.Height, c.Width}; !slices.Equal(shape, want) {
		return fmt.Errorf("flowturbo: a refiner of samples of shape %v; those of the network are %v", want, shape)
	}
	if r.Of != sum {
		return fmt.Errorf("flowturbo: the refiner was trained on the network of SHA-256 %.12s…, this one has %.12s…; train one with --on this network", r.Of, sum)
	}
	return nil
}
