package ddo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle/proof"
	"github.com/fidlab/fidlab/models/mlp"
	"github.com/fidlab/fidlab/models/unet"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/systems/bases"
	"github.com/fidlab/fidlab/train"
)

// The proof runs through in its tiny tier, and twice to the same bits.
func TestTiny(t *testing.T) {
	proof.Tiny(t, "33", func(p *systems.Proof) {
		proof.Values(p.Record, func(experiment, arm, measure string, v float64) {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				t.Errorf("%s, %s: %s is %g", experiment, arm, measure, v)
			}
		})
	})
}

// tinyBase is a network of pictures of 4×4 by class with weights of a seed, and what was drawn of it.
type drawn struct {
	seed    uint64
	n       int
	weights string
}

func tinyBase(t *testing.T, log *[]drawn) *Base {
	t.Helper()
	c := mlp.Config{Channels: 1, Height: 4, Width: 4, Hidden: 8, Blocks: 1, Classes: 3, TimeFactor: 100}
	return &Base{Job: "tiny", Sampler: SamplerOf(2), Config: []byte(`{"net": 1}`), New: func() (*Net, error) {
		n, net, err := small(c, 3, nil)
		if err != nil {
			return nil, err
		}
		n.Draw = func(ctx context.Context, seed uint64, count int) (*train.Examples, error) {
			if log != nil {
				sum, err := nn.Hash(n.Params.State())
				if err != nil {
					return nil, err
				}
				*log = append(*log, drawn{seed, count, sum})
			}
			return DrawDenoiser(ctx, net, seed, count, 2, 1)
		}
		return n, nil
	}}
}

func tinySet() *train.Examples {
	e := &train.Examples{Shape: []int{1, 4, 4}}
	for i := range 40 {
		for k := range 16 {
			e.X = append(e.X, float32(math.Sin(float64(i*k))))
		}
		e.Labels = append(e.Labels, int32(i%3))
	}
	return e
}

// meanSquare is a score without an encoder.
func meanSquare(_ context.Context, e *train.Examples) (float64, error) {
	var sum float64
	for _, v := range e.X {
		sum += float64(v) * float64(v)
	}
	return sum / float64(len(e.X)), nil
}

func tinyOptions(dir string) Options {
	return Options{
		Settings: train.Settings{Steps: 6, Batch: 8, Rate: 1e-2, EMA: []float64{0.5}, Seeds: train.SeedsOf(4)},
		Alpha:    1, Beta: 0.5, Rounds: 2, Pool: 20, Every: 2, Count: 10, Dir: dir,
	}
}

// A round's fakes are drawn once, by the weights that it began with: those of a pool that the network itself would draw anew at each step
// are another method. Looks are at other draws than pools, and the same ones each time.
func TestPoolIsTheReferences(t *testing.T) {
	var log []drawn
	base := tinyBase(t, &log)
	first, err := base.New()
	if err != nil {
		t.Fatal(err)
	}
	start, err := nn.Hash(first.Params.State())
	if err != nil {
		t.Fatal(err)
	}
	best, rounds, err := Finetune(context.Background(), base, tinySet(), meanSquare, tinyOptions(""))
	if err != nil {
		t.Fatal(err)
	}
	var pools, looks []drawn
	for _, d := range log {
		switch {
		case d.n == 20:
			pools = append(pools, d)
		case d.seed != lookSeed:
			t.Errorf("a look at seed %d", d.seed)
		default:
			looks = append(looks, d)
		}
	}
	if len(pools) != 2 || pools[0].weights != start || pools[0].seed == pools[1].seed || pools[0].seed == lookSeed {
		t.Errorf("the pools are %v; want two, the first by %s", pools, start)
	}
	if len(looks) != 2*4 || len(rounds) != 2 || len(rounds[0].Looks) != 4 {
		t.Errorf("%d looks in %d rounds, want 4 in each of 2", len(looks), len(rounds))
	}
	if looks[4].weights != pools[1].weights {
		t.Errorf("the second round looks first at %s, its pool is of %s", looks[4].weights, pools[1].weights)
	}
	for k, r := range rounds {
		least := r.Looks[0]
		for _, l := range r.Looks {
			if l.Score < least.Score {
				least = l
			}
		}
		if r.Chosen != least {
			t.Errorf("round %d chose %+v of %+v", k+1, r.Chosen, r.Looks)
		}
	}
	sum, err := nn.Hash(best.Params.State())
	if err != nil {
		t.Fatal(err)
	}
	at := 4 + rounds[1].Chosen.Step/2
	if looks[at].weights != sum {
		t.Errorf("the best network is %s, that of the best look %s", sum, looks[at].weights)
	}
}

// A run that is broken off goes on to the same bits, from the pool that is there, and another reference's pool is refused.
func TestRoundsGoOn(t *testing.T) {
	ctx := context.Background()
	whole, o := t.TempDir(), tinyOptions("")
	o.Dir = whole
	if _, _, err := Finetune(ctx, tinyBase(t, nil), tinySet(), meanSquare, o); err != nil {
		t.Fatal(err)
	}
	o.Dir = t.TempDir()
	stopped, stop := context.WithCancel(ctx)
	o.Progress = func(round int, p train.Progress) {
		if round == 2 && p.Step == 3 {
			stop()
		}
	}
	if _, _, err := Finetune(stopped, tinyBase(t, nil), tinySet(), meanSquare, o); !errors.Is(err, context.Canceled) {
		t.Fatalf("a run that was broken off: %v", err)
	}
	o.Progress = nil
	if _, _, err := Finetune(ctx, tinyBase(t, nil), tinySet(), meanSquare, o); !errors.Is(err, train.ErrExists) {
		t.Errorf("without resume: %v, want %v", err, train.ErrExists)
	}
	o.Resume = true
	if _, _, err := Finetune(ctx, tinyBase(t, nil), tinySet(), meanSquare, o); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"round-1/" + ModelName, "round-2/" + ModelName, "round-2/" + train.CheckpointName, "round-2/" + PoolName} {
		a, err := os.ReadFile(filepath.Join(whole, name))
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(o.Dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a, b) {
			t.Errorf("%s differs after the run went on", name)
		}
	}

	other := tinyBase(t, nil)
	other.Sampler = "euler"
	var bad *PoolError
	if _, _, err := Finetune(ctx, other, tinySet(), meanSquare, o); !errors.As(err, &bad) || bad.Field != "sampler" {
		t.Errorf("the pool of another sampler: %v", err)
	}
	base := tinyBase(t, nil)
	was := base.New
	base.New = func() (*Net, error) {
		n, err := was()
		n.Params.Value().F32()[0]++
		return n, err
	}
	if _, _, err := Finetune(ctx, base, tinySet(), meanSquare, o); !errors.As(err, &bad) || bad.Field != "reference" {
		t.Errorf("the pool of another reference: %v", err)
	}
}

// What is written is a checkpoint of the network's own task, with the best weights and the configuration that it had.
func TestModelIsTheBest(t *testing.T) {
	o := tinyOptions(t.TempDir())
	best, _, err := Finetune(context.Background(), tinyBase(t, nil), tinySet(), meanSquare, o)
	if err != nil {
		t.Fatal(err)
	}
	s, err := train.OpenSaved(filepath.Join(o.Dir, "round-2", ModelName))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	n, err := tinyBase(t, nil).New()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Load(n.Params, "net", s.Averages()[0]); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(n.Params.Value().F32(), best.Params.Value().F32()) {
		t.Error("the file's weights are not the best")
	}
	var c struct {
		Net int            `json:"net"`
		DDO map[string]any `json:"ddo"`
	}
	if err := json.Unmarshal(s.Config, &c); err != nil || c.Net != 1 || c.DDO["beta"] != 0.5 || s.Job != "tiny" {
		t.Errorf("job %s, configuration %s: %v", s.Job, s.Config, err)
	}
}

func TestFinetuneRefuses(t *testing.T) {
	for want, change := range map[string]func(o *Options, set *train.Examples){
		"0 rounds":                  func(o *Options, _ *train.Examples) { o.Rounds = 0 },
		"batches of 7":              func(o *Options, _ *train.Examples) { o.Batch = 7 },
		"a pool of 3 for batches":   func(o *Options, _ *train.Examples) { o.Pool = 3 },
		"beta 0":                    func(o *Options, _ *train.Examples) { o.Beta = 0 },
		"alpha -1":                  func(o *Options, _ *train.Examples) { o.Alpha = -1 },
		"looks every 0 steps":       func(o *Options, _ *train.Examples) { o.Every = 0 },
		"classes in the pool: true": func(_ *Options, e *train.Examples) { e.Labels = nil },
		"the reference draws":       func(_ *Options, e *train.Examples) { e.Shape = []int{1, 2, 8} },
	} {
		o, set := tinyOptions(""), tinySet()
		change(&o, set)
		if _, _, err := Finetune(context.Background(), tinyBase(t, nil), set, meanSquare, o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want an error with %q", err, want)
		}
	}
}

// Binary digits come back from their tokens: a picture's pixel is the bit that the four pixels it was made of say.
func TestTokensArePictures(t *testing.T) {
	e := &train.Examples{Shape: []int{1, 28, 28}, X: make([]float32, 2*28*28), Labels: []int32{1, 2}}
	for i := range e.X {
		e.X[i] = float32(math.Sin(float64(i * i)))
	}
	back := binaryPictures(binaryTokens(e))
	for i := range 2 {
		for y := range 28 {
			for x := range 28 {
				var sum float32
				for _, k := range [][2]int{{0, 0}, {0, 1}, {1, 0}, {1, 1}} {
					sum += e.X[i*784+(y/2*2+k[0])*28+x/2*2+k[1]]
				}
				want := float32(-1)
				if sum > 0 {
					want = 1
				}
				if got := back.X[i*784+y*28+x]; got != want {
					t.Fatalf("picture %d, row %d, column %d: %g, want %g", i, y, x, got, want)
				}
			}
		}
	}
}

// A network of EDM's architecture for CIFAR-10, of a sixteenth of its width and with random weights, goes through a round: its first loss
// is (1 + α)·log 2 for every example, dropout of its training is off in the reference and in itself, and a step moves it.
func TestEDMsNetworkIsFineTuned(t *testing.T) {
	c, err := unet.Preset("edm-cifar10")
	if err != nil {
		t.Fatal(err)
	}
	c.Base, c.First, c.Waves.Width, c.Groups, c.Height, c.Width = 8, 8, 8, 4, 8, 8
	path, pred, err := edm.Convention()
	if err != nil {
		t.Fatal(err)
	}
	how := edm
	how.Drop = 0
	base := &Base{Job: "cifar", Sampler: SamplerOf(2), New: func() (*Net, error) {
		params := nn.NewParams(gpu.CPU(), gpu.Float32)
		net := unet.New(params.At(""), c)
		params.Init(5)
		for i, v := range params.Value().F32() {
			params.Value().F32()[i] = v + 0.02*float32(math.Sin(float64(i))) // its last layers begin at nearly zero
		}
		n := &bases.Network{Name: "cifar", Device: gpu.CPU(), Trained: &systems.Trained{Net: net, Path: path, Pred: pred, Shape: []int{3, 8, 8}, Lo: -1, Hi: 1}}
		return Denoiser(n, how, 2), nil
	}}
	set := &train.Examples{Shape: []int{3, 8, 8}, X: make([]float32, 8*3*64), Labels: []int32{0, 1, 2, 3, 4, 5, 6, 7}}
	for i := range set.X {
		set.X[i] = float32(math.Sin(float64(i)))
	}
	n, err := base.New()
	if err != nil {
		t.Fatal(err)
	}
	if n.Params.Count() < 10000 {
		t.Errorf("%d parameters", n.Params.Count())
	}
	ref, err := base.New()
	if err != nil {
		t.Fatal(err)
	}
	p, err := n.LogP(4)
	if err != nil {
		t.Fatal(err)
	}
	q, err := ref.LogP(4)
	if err != nil {
		t.Fatal(err)
	}
	l, err := train.NewDiscriminative(p, q, 1, 0.1)
	if err != nil {
		t.Fatal(err)
	}
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	tape.Run(func() {
		for i, v := range l.Each(&train.Batch{Tape: tape, Size: 4, Seeds: train.SeedsOf(1)}, gpu.CPU().From(set.X[:4*192], 4, 3, 8, 8), set.Labels[:4], 2).Value().F32() {
			if v != float32(math.Ln2) {
				t.Errorf("example %d: %g, want log 2", i, v)
			}
		}
	})
	o := tinyOptions("")
	o.Steps, o.Batch, o.Rounds, o.Pool, o.Every, o.Count = 2, 4, 1, 4, 2, 4
	_, rounds, err := Finetune(context.Background(), base, set, meanSquare, o)
	if err != nil {
		t.Fatal(err)
	}
	if k := rounds[0].Looks; len(k) != 2 || k[0].Score == k[1].Score {
		t.Errorf("two steps moved nothing: %v", k)
	}
}
