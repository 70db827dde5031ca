package ddo

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/train"
)

// Net is a network with what fine-tuning asks of it.
type Net struct {
	Params *nn.Params
	// LogP makes the likelihood of batches of that many examples; each has memory of its own.
	LogP func(batch int) (train.LogP, error)
	// Draw draws n examples by the network's usual sampler, with the classes that they were asked for; example i is a function of the
	// seed and i alone.
	Draw func(ctx context.Context, seed uint64, n int) (*train.Examples, error)
}

// Base is a trained network that can be made as often as is wanted.
type Base struct {
	Job     string // of its checkpoint
	Config  json.RawMessage
	Sampler string // which one Draw is, for the header of pools
	// New makes the network, with the weights that it was trained to.
	New func() (*Net, error)
}

// Score is how far drawn examples are from what they should be, less is better: their FID.
type Score func(ctx context.Context, drawn *train.Examples) (float64, error)

// Options are those of Finetune.
type Options struct {
	// Settings are of each round. Of a batch's examples half are data and half the reference's.
	train.Settings
	Alpha, Beta float64
	Rounds      int
	Pool        int // examples that the reference of a round draws
	Every       int // steps from a look at drawn examples to the next
	Count       int // of a look
	// Likelihood, in place of the method, goes on with what the network was trained by, on data alone: what it is compared with.
	Likelihood bool
	// Dir gets a folder for each round; "": nothing is written. Resume goes on with what is in it, Overwrite begins anew.
	Dir               string
	Resume, Overwrite bool
	Version           string
	Progress          func(round int, p train.Progress)
	Note              func(text string)
}

// Look is how good the network was after that many steps of a round.
type Look struct {
	Step  int     `json:"step"`
	Score float64 `json:"score"`
}

// Round is what came of a round.
type Round struct {
	Looks  []Look `json:"looks"`  // the first one is at the reference
	Chosen Look   `json:"chosen"` // the best, whose weights the next round begins with
	// Seconds of this call.
	PoolSeconds  float64 `json:"pool_seconds"`
	TrainSeconds float64 `json:"train_seconds"` // with the looks
	LookSeconds  float64 `json:"look_seconds"`
}

// Check says which option cannot be.
func (o *Options) Check() error {
	switch {
	case o.Rounds < 1:
		return data.Errorf("ddo: %d rounds; want 1 or more", o.Rounds)
	case o.Batch < 2 || o.Batch%2 != 0:
		return data.Errorf("ddo: batches of %d; half of one are data and half the reference's: want an even number", o.Batch)
	case !o.Likelihood && o.Pool < o.Batch/2:
		return data.Errorf("ddo: a pool of %d for batches of %d, half of them the reference's; want %d or more", o.Pool, o.Batch, o.Batch/2)
	case !(o.Alpha >= 0) || math.IsInf(o.Alpha, 0):
		return data.Errorf("ddo: alpha %v, want a finite number, 0 or more", o.Alpha)
	case !o.Likelihood && (!(o.Beta > 0) || math.IsInf(o.Beta, 0)):
		return data.Errorf("ddo: beta %v, want a finite number above 0", o.Beta)
	case o.Every < 1 || o.Count < 1:
		return data.Errorf("ddo: looks every %d steps at %d examples; want 1 or more", o.Every, o.Count)
	}
	return o.Settings.Check()
}

// lookSeed is that of the examples that looks are at, the same ones each time.
const lookSeed = 0x6c6f6f6b

// Finetune fine-tunes a network on a set in rounds. In each, a pool of examples that the network as it stands has drawn is what it learns to
// tell from data, by its own likelihood against that of where the round began; the best weights seen, by score, begin the next one. It hands
// back the best network of the last round.
func Finetune(ctx context.Context, base *Base, set *train.Examples, score Score, o Options) (*Net, []Round, error) {
	o.Settings = o.Filled()
	if err := o.Check(); err != nil {
		return nil, nil, err
	}
	best, err := base.New()
	if err != nil {
		return nil, nil, err
	}
	var rounds []Round
	for k := range o.Rounds {
		r, err := newRound(base, best, set, score, &o, k)
		if err != nil {
			return nil, nil, err
		}
		if err := r.run(ctx); err != nil {
			return nil, nil, fmt.Errorf("ddo: round %d: %w", k+1, err)
		}
		best, rounds = r.best, append(rounds, r.Round)
	}
	return best, rounds, nil
}

// round is one on its way.
type round struct {
	Round
	o              *Options
	base           *Base
	set, pool      *train.Examples
	score          Score
	net, ref, best *Net
	// seen are the best score and its step, as a checkpoint keeps them.
	seen *nn.Params
	k    int
	dir  string
	sum  string // the SHA-256 of the reference's weights; "" without a folder
}

func newRound(base *Base, from *Net, set *train.Examples, score Score, o *Options, k int) (*round, error) {
	r := &round{o: o, base: base, set: set, score: score, ref: from, k: k}
	if o.Dir != "" {
		r.dir = filepath.Join(o.Dir, fmt.Sprintf("round-%d", k+1))
		var err error
		if r.sum, err = nn.Hash(from.Params.State()); err != nil {
			return nil, err
		}
	}
	for _, to := range []**Net{&r.net, &r.best} {
		n, err := base.New()
		if err != nil {
			return nil, err
		}
		n.Params.CopyFrom(from.Params)
		*to = n
	}
	r.seen = nn.NewParams(gpu.CPU(), gpu.Float64)
	r.seen.At("").Param("best", nn.Zeros, 2)
	r.seen.Init(0)
	return r, nil
}

// seed of something that a round draws.
func (r *round) seed() uint64 { return r.o.Seeds.Noise + uint64(r.k+1)<<40 }

func (r *round) run(ctx context.Context) error {
	if err := r.vacant(); err != nil {
		return err
	}
	began := time.Now()
	if !r.o.Likelihood {
		if err := r.makePool(ctx); err != nil {
			return err
		}
	}
	r.PoolSeconds = time.Since(began).Seconds()
	job, err := r.job()
	if err != nil {
		return err
	}
	c := train.Config{Settings: r.o.Settings, Dir: r.dir, EvalEvery: r.o.Every, SaveEvery: r.o.Every, SampleEvery: -1, LogEvery: max(1, r.o.Every/5), Overwrite: r.o.Overwrite, Version: r.o.Version, Note: r.o.Note}
	c.Seeds = train.SeedsOf(r.seed())
	if r.dir != "" && r.o.Resume {
		_, err := os.Stat(filepath.Join(r.dir, train.CheckpointName))
		c.Resume = err == nil
	}
	if r.o.Progress != nil {
		c.Progress = func(p train.Progress) { r.o.Progress(r.k+1, p) }
	}
	if err := r.start(ctx, c.Resume); err != nil {
		return err
	}
	began = time.Now()
	res, err := train.Run(ctx, job, c)
	if err != nil {
		return err
	}
	r.TrainSeconds = time.Since(began).Seconds()
	v := r.seen.Value().F64()
	r.Chosen = Look{Step: int(v[1]), Score: v[0]}
	if r.dir != "" {
		return r.export(res.Path)
	}
	return nil
}

// vacant tells, before anything is drawn, whether the folder has a round that is neither to go on nor to be replaced.
func (r *round) vacant() error {
	if r.dir == "" || r.o.Resume || r.o.Overwrite {
		return nil
	}
	for _, name := range []string{train.CheckpointName, PoolName} {
		if _, err := os.Lstat(filepath.Join(r.dir, name)); err == nil {
			return train.ErrExists
		}
	}
	return nil
}

// start looks at the reference, which is the best so far.
func (r *round) start(ctx context.Context, resumed bool) error {
	if resumed {
		return nil // the checkpoint has it
	}
	v, err := r.look(ctx, r.ref, 0)
	if err == nil {
		r.seen.Value().F64()[0] = v
	}
	return err
}

// look is the score of a network.
func (r *round) look(ctx context.Context, n *Net, step int) (float64, error) {
	began := time.Now()
	x, err := n.Draw(ctx, lookSeed, r.o.Count)
	if err != nil {
		return 0, err
	}
	v, err := r.score(ctx, x)
	if err != nil {
		return 0, err
	}
	r.LookSeconds += time.Since(began).Seconds()
	r.Looks = append(r.Looks, Look{step, v})
	return v, nil
}

// job is the round's training.
func (r *round) job() (*train.Job, error) {
	config, err := r.config()
	if err != nil {
		return nil, err
	}
	loss, err := r.loss()
	if err != nil {
		return nil, err
	}
	return &train.Job{
		Name: r.base.Job, Config: config,
		Nets:  []*train.Network{{Name: "net", Params: r.net.Params}},
		State: []nn.Part{{Prefix: chosenPart + ".", Of: r.best.Params}, {Prefix: "seen.", Of: r.seen}},
		Loss:  loss, Scores: []string{"fid"},
		Evaluate: func(ctx context.Context, step int) ([]float64, error) {
			v, err := r.look(ctx, r.net, step)
			if err != nil {
				return nil, err
			}
			if seen := r.seen.Value().F64(); v < seen[0] {
				seen[0], seen[1] = v, float64(step)
				r.best.Params.CopyFrom(r.net.Params)
			}
			return []float64{v}, nil
		},
	}, nil
}

// loss is that of a batch: DDO's, or the network's own.
func (r *round) loss() (func(b *train.Batch) *nn.Var, error) {
	dev, dt, size := r.net.Params.Device(), r.net.Params.DType(), r.o.Batch
	p, err := r.net.LogP(size)
	if err != nil {
		return nil, err
	}
	if r.o.Likelihood {
		feed, values := train.NewFeed(r.set, dev, dt, size), float64(len(r.set.X)/r.set.Len())
		return func(b *train.Batch) *nn.Var {
			x, labels := feed.Next(b)
			return p(b, x, labels).Mean().Scale(-1 / values)
		}, nil
	}
	ref, err := r.ref.LogP(size)
	if err != nil {
		return nil, err
	}
	d, err := train.NewDiscriminative(p, ref, r.o.Alpha, r.o.Beta)
	if err != nil {
		return nil, err
	}
	half := size / 2
	real, fake := train.NewFeed(r.set, dev, dt, half), train.NewFeed(r.pool, dev, dt, half)
	x := dev.New(dt, append([]int{size}, r.set.Shape...)...)
	var labels []int32
	if r.set.Labels != nil {
		labels = make([]int32, size)
	}
	return func(b *train.Batch) *nn.Var {
		part := *b
		part.First, part.Size = b.First/2, half
		for i, f := range []*train.Feed{real, fake} {
			v, l := f.Next(&part)
			x.Rows(i*half, (i+1)*half).Copy(v)
			copy(labels[min(i*half, len(labels)):], l)
		}
		return d.Loss(b, x, labels, half)
	}, nil
}
