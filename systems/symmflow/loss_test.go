package symmflow

import (
	"math"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle/proof"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/rng"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/train"
)

// The proof runs through in its tiny tier, and twice to the same bits.
func TestTiny(t *testing.T) { proof.Tiny(t, "03") }

// States and velocities are those of the paths; noise of picture and label is drawn apart; at t near 1 nothing of the label is left.
func TestStates(t *testing.T) {
	e := newExact(0.1)
	m := e.model(t)
	const batch = 64
	l := NewLoss(m, 0.7, batch)
	truth, x := e.masks(batch)
	var ids []uint8
	for _, m := range truth {
		ids = append(ids, m...)
	}
	b := &train.Batch{First: 100, Size: batch, Seeds: train.SeedsOf(3)}
	l.states(b, x.F32(), ids)
	var both, xx, yy, late, lateN float64
	for i := range batch {
		t0 := float64(l.time.Values[i])
		if !(t0 >= 0 && t0 < 1) {
			t.Fatalf("a time of %g", t0)
		}
		label := make([]float32, 3*16) // the same one, of the same stream
		if err := m.Coding.Encode(label, truth[i], rng.ForImage(3, uint64(100+i), rng.Label)); err != nil {
			t.Fatal(err)
		}
		zx, zy := m.parts(l.z.Values, i)
		ux, uy := m.parts(l.target.Values, i)
		a := 1 - (1-1e-4)*t0
		for p := range 16 {
			// From z = a·ξ + t·x and u = x - (1-s)·ξ follow both x and ξ.
			xi := (float64(zx[p]) - t0*float64(ux[p])) / (a + (1-1e-4)*t0)
			if got := float64(ux[p]) + (1-1e-4)*xi; math.Abs(got-float64(x.F32()[i*16+p])) > 1e-4 {
				t.Fatalf("example %d: state and velocity are of the pixel %g, which is %g", i, got, x.F32()[i*16+p])
			}
			for ch := range 3 {
				// Likewise z = a·y + t·ξ and u = ξ - (1-s)·y.
				k := ch*16 + p
				eta := ((1-1e-4)*float64(zy[k]) + a*float64(uy[k])) / (a + (1-1e-4)*t0)
				y := (eta - float64(uy[k])) / (1 - 1e-4)
				if math.Abs(y-float64(label[k])) > 1e-4 {
					t.Fatalf("example %d: state and velocity are of the label %g, which is %g", i, y, label[k])
				}
				if ch == 0 {
					both, xx, yy = both+xi*eta, xx+xi*xi, yy+eta*eta
				}
				if t0 > 0.95 {
					late, lateN = late+math.Abs(float64(zy[k])-t0*eta), lateN+1
				}
			}
		}
	}
	if r := both / math.Sqrt(xx*yy); math.Abs(r) > 5/math.Sqrt(batch*16) {
		t.Errorf("the noise of picture and label has a correlation of %g; shared it would be 1", r)
	}
	if v := xx / (batch * 16); math.Abs(v-1) > 0.2 {
		t.Errorf("noise of variance %g", v)
	}
	if lateN == 0 || late/lateN > 0.06 { // 1 - 0.95, and colours of 1; given as a condition it would be 1
		t.Errorf("%g of the label is left at t > 0.95 (%g values)", late/lateN, lateN)
	}
}

// The loss is w·mean of the picture's channels + (1-w)·mean of the label's, of the network's velocity and the target.
func TestLoss(t *testing.T) {
	e := newExact(0.1)
	m := e.model(t)
	truth, x := e.masks(8)
	var ids []uint8
	for _, m := range truth {
		ids = append(ids, m...)
	}
	for _, w := range []float64{0, 0.3, 0.7, 1} {
		l := NewLoss(m, w, 8)
		tape := nn.NewTape(gpu.CPU(), gpu.Float32)
		var got float64
		b := &train.Batch{Tape: tape, Size: 8, Seeds: train.SeedsOf(1)}
		tape.Run(func() { tape.NoGrad(func() { got = l.Of(b, x.F32(), ids).Item() }) })
		var px, py float64
		for i := range 8 {
			zx, zy := m.parts(l.z.Values, i)
			ux, uy := m.parts(l.target.Values, i)
			for p := range 16 {
				v := e.velocity([4]float64{float64(zx[p]), float64(zy[p]), float64(zy[16+p]), float64(zy[32+p])}, float64(l.time.Values[i]))
				px += math.Pow(v[0]-float64(ux[p]), 2) / (8 * 16)
				for ch := range 3 {
					py += math.Pow(v[1+ch]-float64(uy[ch*16+p]), 2) / (8 * 48)
				}
			}
		}
		if want := w*px + (1-w)*py; math.Abs(got-want) > 1e-4*(1+want) {
			t.Errorf("weight %g: %g, want %g", w, got, want)
		}
	}
}

// A training falls, and its model opens again from the checkpoint with the same answers.
func TestTrains(t *testing.T) {
	r := sizes{tiny: true, learned: 40}.scenesRecipe()
	k := settings(40, 8, 5e-3, 1)
	job, m, err := r.job(Shapes, gpu.CPU(), k)
	if err != nil {
		t.Fatal(err)
	}
	held := newTrial(m, r.weight, heldScenes().part(0, 64))
	before, err := held.heldOut(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	res, err := train.Run(t.Context(), job, train.Config{Settings: k, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	saved, err := train.OpenSaved(res.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer saved.Close()
	if _, err := Open(gpu.CPU(), saved, 0); err != nil {
		t.Fatal(err)
	}
	opened, err := Open(gpu.CPU(), saved, 0)
	if err != nil {
		t.Fatal(err)
	}
	after, err := newTrial(opened, r.weight, heldScenes().part(0, 64)).heldOut(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	own, err := held.heldOut(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if own != after || !(after < 0.95*before) {
		t.Errorf("held-out losses: %g before, %g after, %g of the checkpoint", before, own, after)
	}
	if task, ok := systems.FindTask(Shapes); !ok || task.Draws == "" || task.Open != nil {
		t.Error("the task says that fidlab sample draws by it")
	}
}

// Results are of scenes that neither training nor tuning has seen.
func TestTriedApart(t *testing.T) {
	s := tiers[systems.Full]
	seen := map[string]string{}
	note := func(of *set, what string) {
		for i := range of.len() {
			seen[string(of.pix[i*of.size():][:of.size()])] = what
		}
	}
	note(heldScenes().part(0, s.held), "tuning")
	note(scenes("train", 0, 3000), "training")
	tried := s.tried()
	if tried.len() != s.n {
		t.Fatalf("%d scenes, want %d", tried.len(), s.n)
	}
	for i := range tried.len() {
		if what := seen[string(tried.pix[i*tried.size():][:tried.size()])]; what != "" {
			t.Fatalf("scene %d is one of %s", i, what)
		}
	}
	if s.learned > 40000-s.others { // of the training split's 40000
		t.Errorf("%d learned and %d others overlap", s.learned, s.others)
	}
}

// Times towards the ends are sin² of the angle, so a fifth of them lie beyond 0.9, where a tenth does otherwise.
func TestEnds(t *testing.T) {
	e := newExact(0.1)
	m := e.model(t)
	const batch = 4000
	truth, x := e.masks(batch)
	var ids []uint8
	for _, m := range truth {
		ids = append(ids, m...)
	}
	for ends, want := range map[bool]float64{false: 0.1, true: 2 / math.Pi * math.Asin(math.Sqrt(0.1))} {
		l := NewLoss(m, 0.5, batch)
		l.Ends = ends
		l.states(&train.Batch{Size: batch, Seeds: train.SeedsOf(3)}, x.F32(), ids)
		var late, early float64
		for _, v := range l.time.Values {
			if v > 0.9 {
				late += 1. / batch
			}
			if v < 0.1 {
				early += 1. / batch
			}
		}
		if off := 5 * math.Sqrt(want*(1-want)/batch); math.Abs(late-want) > off || math.Abs(early-want) > off {
			t.Errorf("ends %v: %g of the times below 0.1, %g above 0.9; want %g", ends, early, late, want)
		}
	}
}
