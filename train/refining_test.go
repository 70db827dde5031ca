package train

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/rng"
)

// refining is the network affine that also gets a velocity, of which it says a half.
type refining struct{ *affine }

func (r refining) Takes() models.Takes {
	k := r.affine.Takes()
	k.Extra = 1
	return k
}

func (r refining) Forward(x, time *nn.Var, in models.Inputs) *nn.Var {
	v := in.Extra
	in.Extra = nil
	return r.affine.Forward(x, time, in).AddMul(v, x.Tape().Const(0.5, 1, 1, 1, 1))
}

// The loss is its formula in float64: the second point is the teacher's own step away, not the data's straight line; both networks are
// told the same classes; its gradient goes through the refiner alone. Whatever the teacher predicts, it is the velocity that counts.
func TestRefiningIsItsFormula(t *testing.T) {
	const n, first, span, seed = 6, 30, 0.9, 6
	x0 := pictures64(n)
	for _, pred := range []diffusion.Pred{diffusion.PredFlow, diffusion.PredFlowReversed, diffusion.PredX0} {
		t.Run(pred.String(), func(t *testing.T) {
			net, teacher := refining{newAffine(gpu.Float64, 3)}, newAffine(gpu.Float64, 3)
			teacher.net.Value().F64()[0] = -0.4 // or what differs from the refiner's own slope would cancel
			l, err := NewRefining(net, teacher, diffusion.Flow{}, pred, span, 0.5, n)
			if err != nil {
				t.Fatal(err)
			}
			classes := []int32{0, 1, 2, 0, 1, 2}
			velocity := func(x, tau float64, class int32) float64 {
				f := -0.4*x + 0.1*tau + 0.01*float64(class)
				switch pred {
				case diffusion.PredFlow:
					return f
				case diffusion.PredFlowReversed:
					return -f
				}
				return (x - f) / tau
			}
			var told []int32
			formula := func(student float64, straight bool) (sum float64) {
				step := span * rng.ForImage(seed, first, rng.Step).Float64()
				told = told[:0]
				for i := range n {
					at := uint64(first + i)
					tau := 0.05 + 0.95*rng.ForImage(seed, at, rng.Time).Float64()
					to := math.Max(tau-step, 0.05)
					class := classes[i]
					if rng.ForImage(seed, at, rng.Label).Float64() < 0.5 {
						class = 3
					}
					told = append(told, class)
					noise := make([]float64, 6)
					rng.ForImage(seed, at, rng.Noising).FillNormal64(noise)
					for j := range 6 {
						data := x0.F64()[6*i+j]
						x := (1-tau)*data + tau*noise[j]
						v := velocity(x, tau, class)
						next := x + (to-tau)*v
						if straight {
							next = (1-to)*data + to*noise[j]
						}
						r := student*next + 0.1*to + 0.01*float64(class) + 0.5*v
						d := r - (velocity(next, to, class) - v)
						sum += d * d / (6 * n)
					}
				}
				return sum
			}
			tape := nn.NewTape(gpu.CPU(), gpu.Float64)
			loss := l.Loss(&Batch{Tape: tape, First: first, Size: n, Seeds: SeedsOf(seed)}, x0, classes)
			want := formula(start, false)
			if got := loss.Item(); math.Abs(got-want) > 1e-9*want {
				t.Errorf("loss %v, want %v", got, want)
			}
			if naive := formula(start, true); math.Abs(naive-want) < 0.01*want {
				t.Errorf("points of the data's line give %v, as good as the teacher's own: nothing is tested", naive)
			}
			for i, seen := range [][]int32{net.seen, teacher.seen[:n], teacher.seen[n:]} {
				if !slices.Equal(seen, told) {
					t.Errorf("network %d was told the classes %v, want %v", i, seen, told)
				}
			}
			if !slices.Contains(told, 3) || slices.Min(told) == 3 {
				t.Errorf("all were told %v: nothing is tested", told)
			}
			tape.Backward(loss)
			const h = 1e-5
			if got, want := net.w.Grad().F64()[0], (formula(start+h, false)-formula(start-h, false))/(2*h); math.Abs(got-want) > 1e-6*math.Abs(want) {
				t.Errorf("gradient %v, want %v, that of the refiner", got, want)
			}
			if g := teacher.w.Grad(); g != nil && g.F64()[0] != 0 {
				t.Errorf("the teacher has the gradient %v", g.F64()[0])
			}
		})
	}
}

func TestRefiningRefuses(t *testing.T) {
	net, teacher := refining{newAffine(gpu.Float32, 3)}, newAffine(gpu.Float32, 3)
	for want, make := range map[string]func() error{
		"looks 0 ahead":        func() error { return refused(net, teacher, diffusion.Flow{}, 0, 0) },
		"looks 1.5 ahead":      func() error { return refused(net, teacher, diffusion.Flow{}, 1.5, 0) },
		"looks NaN ahead":      func() error { return refused(net, teacher, diffusion.Flow{}, math.NaN(), 0) },
		"on path edm":          func() error { return refused(net, teacher, diffusion.DefaultEDM(), 0.1, 0) },
		"of 1+0 channels":      func() error { return refused(teacher, teacher, diffusion.Flow{}, 0.1, 0) },
		"3 classes, for":       func() error { return refused(net, newAffine(gpu.Float32, 2), diffusion.Flow{}, 0.1, 0) },
		"drop 2":               func() error { return refused(net, teacher, diffusion.Flow{}, 0.1, 2) },
		"float64 on":           func() error { return refused(net, newAffine(gpu.Float64, 3), diffusion.Flow{}, 0.1, 0) },
		"captions or more cha": func() error { return refused(net, net, diffusion.Flow{}, 0.1, 0) },
	} {
		if err := make(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	defer func() {
		if got := fmt.Sprint(recover()); !strings.Contains(got, "it was made for 4") {
			t.Errorf("another batch: %s", got)
		}
	}()
	l, err := NewRefining(net, teacher, diffusion.Flow{}, diffusion.PredFlow, 0.1, 0, 4)
	if err != nil {
		t.Fatal(err)
	}
	l.Loss(&Batch{Tape: nn.NewTape(gpu.CPU(), gpu.Float32), Size: 3}, gpu.CPU().New(gpu.Float32, 3, 1, 2, 3), make([]int32, 3))
}

func refused(net, teacher models.Net, path diffusion.Path, span, drop float64) error {
	_, err := NewRefining(net, teacher, path, diffusion.PredFlow, span, drop, 4)
	return err
}
