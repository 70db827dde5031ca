package train

import (
	"fmt"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/rng"
)

// Refining is the loss of a velocity refiner (Zhao et al. 2024, FlowTurbo, arXiv 2409.18128): a small network r that learns by how much
// the velocity of a trained flow, the teacher, changes along the teacher's own way:
//
//	mean |r(x', τ', v) - (v(x', τ') - v)|²,   v = v(x, τ),  x = (1 - τ)·x0 + τ·n,  x' = x - (τ - τ')·v,
//
// τ uniform in [Floor, 1] and τ - τ' uniform in [0, Span], one of a batch, cut where τ' would be below Floor. Velocities are those
// towards noise, n - x0, or (x - x0)/τ of teachers that predict anything else; r gets v as the further channels of its input. r and the
// teacher are told the same classes, a share Drop of them none.
//
// The source has no Floor. But velocities have no limit at data without noise, and solvers never ask there: of the last step they take
// the first velocity alone. A refiner that learns those, which are the greatest changes of all, learns the others worse.
type Refining struct {
	Net     models.Net // Extra are the channels of v
	Teacher models.Net
	Path    diffusion.Path // of the teacher, in flow space
	Pred    diffusion.Pred
	Span    float64
	Drop    float64
	Floor   float64

	noise, x, v, next, change *gpu.Tensor // [B, C, H, W]
	times, later, ones        *gpu.Tensor // [B]
	classes                   *gpu.Tensor // Int32 [B], on the CPU; nil where there are none
	tau, to, timesOf          []float64
	c                         []float64 // coefficients of each example
}

// NewRefining makes the loss of batches of that many examples. It refuses teachers on other paths than the flow's, networks that do not
// fit them, and spans outside (0, 1].
func NewRefining(net, teacher models.Net, path diffusion.Path, pred diffusion.Pred, span, drop float64, batch int) (*Refining, error) {
	r, t := net.Takes(), teacher.Takes()
	switch {
	case path.Space() != diffusion.FlowSpace:
		return nil, fmt.Errorf("train: a refiner of a network on path %s; refiners are of velocities on the straight path of flows", path.Name())
	case t.Out != t.Channels || len(t.Tokens) > 0 || len(t.Vectors) > 0 || t.Extra > 0:
		return nil, fmt.Errorf("train: a refiner of a network that takes captions or more channels, or predicts variances; refiners are of networks by class, or of none")
	case r.Channels != t.Channels || r.Out != t.Channels || r.Extra != t.Channels || r.Height != t.Height || r.Width != t.Width || r.Classes != t.Classes:
		return nil, fmt.Errorf("train: a refiner of %d+%d channels to %d of %d×%d, %d classes, for a network of %d channels of %d×%d, %d classes; want those of the network, and its channels twice",
			r.Channels, r.Extra, r.Out, r.Height, r.Width, r.Classes, t.Channels, t.Height, t.Width, t.Classes)
	case !(span > 0 && span <= 1):
		return nil, fmt.Errorf("train: a refiner that looks %g ahead in time; want more than 0, at most 1", span)
	case !(drop >= 0 && drop <= 1) || drop > 0 && t.Classes == 0:
		return nil, fmt.Errorf("train: drop %v of a network with %d classes, want a share from 0 to 1, and 0 without classes", drop, t.Classes)
	}
	v := net.Params().Value()
	if w := teacher.Params().Value(); w.Device() != v.Device() || w.DType() != v.DType() {
		return nil, fmt.Errorf("train: a refiner of %v on %v for a network of %v on %v; want the same", v.DType(), v.Device(), w.DType(), w.Device())
	}
	l := &Refining{
		Net: net, Teacher: teacher, Path: path, Pred: pred, Span: span, Drop: drop, Floor: 0.05,
		times: v.Device().New(v.DType(), batch), later: v.Device().New(v.DType(), batch), ones: v.Device().New(v.DType(), batch),
		tau: make([]float64, batch), to: make([]float64, batch), timesOf: make([]float64, batch), c: make([]float64, 2*batch),
	}
	ops.Fill(l.ones, 1)
	if t.Classes > 0 {
		l.classes = gpu.CPU().New(gpu.Int32, batch)
	}
	return l, nil
}

// Loss is the loss of a batch of examples x0 [B, C, H, W], one number; classes are theirs, nil where there are none.
func (l *Refining) Loss(b *Batch, x0 *gpu.Tensor, classes []int32) *nn.Var {
	if b.Size != len(l.tau) || x0.Shape()[0] != b.Size {
		panic(fmt.Sprintf("train: Refining: a batch of %d, examples %v; it was made for %d", b.Size, x0.Shape(), len(l.tau)))
	}
	if l.x == nil || l.x.Len() != x0.Len() {
		l.noise, l.x, l.v, l.next, l.change = x0.Like(), x0.Like(), x0.Like(), x0.Like(), x0.Like()
	}
	step := l.Span * b.Stream(b.Seeds.Noise, 0, rng.Step).Float64()
	for i := range b.Size {
		l.tau[i] = l.Floor + (1-l.Floor)*b.Stream(b.Seeds.Noise, i, rng.Time).Float64()
		l.to[i] = max(l.tau[i]-step, l.Floor)
		l.c[2*i], l.c[2*i+1] = 1-l.tau[i], l.tau[i]
	}
	ops.Normals(l.noise, ops.ImageNoise(b.Seeds.Noise, b.First, rng.Noising))
	ops.LinCombRows(l.x, l.c, x0, l.noise)
	in := models.Inputs{Classes: b.Tell(l.classes, classes, l.Net.Takes().Classes, l.Drop)}
	l.velocity(b.Tape, l.v, l.x, l.times, l.tau, in)
	for i := range b.Size {
		l.c[2*i], l.c[2*i+1] = 1, l.to[i]-l.tau[i]
	}
	ops.LinCombRows(l.next, l.c, l.x, l.v)
	l.velocity(b.Tape, l.change, l.next, l.later, l.to, in)
	ops.LinComb(l.change, []float64{1, -1}, l.change, l.v)
	in.Extra = b.Tape.Input(l.v)
	return nn.SquaredError(l.Net.Forward(b.Tape.Input(l.next), b.Tape.Input(l.later), in), b.Tape.Input(l.change)).Mean()
}

// Changes are the changes that the last Loss was of, [B, C, H, W].
func (l *Refining) Changes() *gpu.Tensor { return l.change }

// velocity writes the teacher's at states x and times tau.
func (l *Refining) velocity(t *nn.Tape, v, x, times *gpu.Tensor, tau []float64, in models.Inputs) {
	for i, s := range tau {
		a := 1 - s
		l.timesOf[i] = l.Path.Time(s / a) // infinite at pure noise
		cx, cf := 0.0, 1.0                // of a velocity
		switch l.Pred {
		case diffusion.PredFlow:
		case diffusion.PredFlowReversed:
			cf = -1
		default:
			kx, kf, err := l.Pred.ToX0(a, s)
			if err != nil {
				panic(fmt.Sprintf("train: Refining: at time %g: %v", s, err))
			}
			cx, cf = (1-kx)/s, -kf/s
		}
		l.c[2*i], l.c[2*i+1] = cx, cf
	}
	ops.LinCombRows(times, l.timesOf, l.ones)
	t.NoGrad(func() {
		ops.LinCombRows(v, l.c, x, l.Teacher.Forward(t.Input(x), t.Input(times), in).Value())
	})
}
