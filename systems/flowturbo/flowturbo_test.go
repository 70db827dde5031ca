package flowturbo

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle/proof"
	"github.com/fidlab/fidlab/models/dit"
	"github.com/fidlab/fidlab/models/mlp"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/systems/bases"
	"github.com/fidlab/fidlab/train"
)

// The proof runs through in its tiny tier, and twice to the same bits.
func TestTiny(t *testing.T) {
	proof.Tiny(t, "38", func(p *systems.Proof) {
		proof.Values(p.Record, func(experiment, arm, measure string, v float64) {
			if math.IsNaN(v) || math.IsInf(v, 0) || v < 0 {
				t.Errorf("%s, %s: %s is %g", experiment, arm, measure, v)
			}
		})
	})
}

// small is a flow of digits of 8×8 with weights drawn by a seed, whose last layer is not zero.
func small(t *testing.T, seed uint64) *bases.Network {
	t.Helper()
	c, err := dit.Preset("digits-dit")
	if err != nil {
		t.Fatal(err)
	}
	params := nn.NewParams(gpu.CPU(), gpu.Float32)
	net := dit.New(params.At(""), c)
	params.Init(seed)
	for _, p := range params.All() {
		if strings.HasPrefix(p.Name, "final_layer.linear") {
			for i := range p.Value.F32() {
				p.Value.F32()[i] = 0.05 * float32(i%7-3)
			}
		}
	}
	out := &bases.Network{Name: bases.DigitsFlow, Device: gpu.CPU(), Trained: &systems.Trained{Net: net, Path: diffusion.Flow{}, Pred: diffusion.PredFlow, Shape: []int{1, 8, 8}, Lo: -1, Hi: 1}}
	out.FLOPs = bases.FLOPs(net, out.Shape)
	return out
}

// A refiner begins with "the velocity as it was": blocks R of one without training are those of a frozen velocity, to the last bit, and
// its network is one block of its teacher's, told the velocity in as many channels again.
func TestUntrainedRefinerKeepsTheVelocity(t *testing.T) {
	net := small(t, 3)
	learn := &train.Examples{Shape: []int{1, 8, 8}, X: make([]float32, 4*64), Labels: []int32{1, 2, 3, 4}}
	task, _ := systems.FindTask(Task)
	k := task.Settings
	k.Batch = 2
	_, r, err := newJob(gpu.CPU(), k, net.Trained, teacher{}, learn, learn)
	if err != nil {
		t.Fatal(err)
	}
	of, c := net.Net.(*dit.Net).Config(), r.Config()
	if c.Depth != 1 || c.Extra != of.Channels || c.Dim != of.Dim || c.Heads != of.Heads || c.Patch != of.Patch || c.Classes != of.Classes {
		t.Errorf("a refiner %+v of %+v", c, of)
	}
	sub := &subject{net: net, refiner: &Refiner{Net: r}}
	refined, work, err := way{blocks: "H1P1R3"}.draw(context.Background(), sub, 1, 5, 4)
	if err != nil {
		t.Fatal(err)
	}
	kept, _, err := way{blocks: "H1P1R3", frozen: true}.draw(context.Background(), sub, 1, 5, 4)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(refined.X.F32(), kept.X.F32()) {
		t.Error("a refiner without training changes the velocity")
	}
	if work != 3 || refined.NFE != 3 {
		t.Errorf("%d evaluations, %g in all with a share of 0; want 3", refined.NFE, work)
	}
	sub.share = 0.25
	if _, work, err = (way{blocks: "H1P1R3"}).draw(context.Background(), sub, 1, 5, 4); err != nil || work != 3+5*0.25 {
		t.Errorf("work %g, %v; want that of five refinements too", work, err)
	}
}

// Velocities of the exact flow of one point are constant: nothing changes on the way; those of the network do.
func TestChanges(t *testing.T) {
	sub := &subject{net: small(t, 3)}
	got, err := changes(context.Background(), sub, 5, 3, 6)
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range got {
		if !(v > 0.001) {
			t.Errorf("third %d: change %g", i, v)
		}
	}
	params := nn.NewParams(gpu.CPU(), gpu.Float32)
	still := mlp.New(params.At(""), mlp.Config{Channels: 1, Height: 8, Width: 8, Hidden: 8, Blocks: 1, TimeFactor: 1})
	params.Init(1) // it says 0: the picture is black
	point := &bases.Network{Device: gpu.CPU(), Trained: &systems.Trained{Net: still, Path: diffusion.Flow{}, Pred: diffusion.PredX0, Shape: []int{1, 8, 8}}}
	if got, err = changes(context.Background(), &subject{net: point}, 5, 3, 6); err != nil {
		t.Fatal(err)
	}
	for i, v := range got {
		if v > 1e-5 {
			t.Errorf("third %d of a straight way: change %g", i, v)
		}
	}
}

// Even steps are the paper's grid, a shift is the usual one of flows, and none ends with a level beside zero.
func TestGrids(t *testing.T) {
	for shift, want := range map[float64][]float64{1: {1, 0.75, 0.5, 0.25, 0}, 3: {1, 0.9, 0.75, 0.5, 0}} {
		_, g, err := way{solver: "heun", steps: 4}.on(nil, shift)
		if err != nil {
			t.Fatal(err)
		}
		if len(g.Steps) != 4 || g.Space != diffusion.FlowSpace {
			t.Fatalf("grid %+v", g)
		}
		for i, s := range g.Steps {
			if math.Abs(s.From.B-want[i]) > 1e-12 || math.Abs(s.To.B-want[i+1]) > 1e-12 {
				t.Errorf("shift %g, step %d from %g to %g, want %g to %g", shift, i, s.From.B, s.To.B, want[i], want[i+1])
			}
		}
	}
}

// A refiner is of the one network that it was trained on, and of its samples.
func TestRefinerFits(t *testing.T) {
	r := &Refiner{Net: func() *dit.Net {
		c, err := netConfig(small(t, 1).Net)
		if err != nil {
			t.Fatal(err)
		}
		p := nn.NewParams(gpu.CPU(), gpu.Float32)
		n := dit.New(p.At(""), c)
		p.Init(1)
		return n
	}(), Of: strings.Repeat("ab", 32)}
	if err := r.Fits([]int{1, 8, 8}, r.Of); err != nil {
		t.Error(err)
	}
	for want, err := range map[string]error{
		"those of the network are [1 28 28]": r.Fits([]int{1, 28, 28}, r.Of),
		"this one has cd":                    r.Fits([]int{1, 8, 8}, strings.Repeat("cd", 32)),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	if _, err := r.For(diffusion.DefaultEDM(), 1, 0); err == nil || !strings.Contains(err.Error(), "straight path") {
		t.Errorf("on EDM's path: %v", err)
	}
	var _ sampler.Refiner = frozen{}
}
