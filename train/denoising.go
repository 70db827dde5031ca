package train

import (
	"fmt"
	"math"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/rng"
)

// Diffusion is how a network is trained to remove noise, in names that a checkpoint keeps; the sampler of the
// network follows from the first two.
type Diffusion struct {
	Path   string  `json:"path"`             // of diffusion.PathByName
	Pred   string  `json:"pred"`             // of diffusion.PredByName
	Draw   string  `json:"draw"`             // of diffusion.DrawByName
	Weight string  `json:"weight"`           // of diffusion.WeightByName
	Huber  float64 `json:"huber,omitempty"`  // c of the pseudo-Huber distance; 0: the squared error
	Drop   float64 `json:"drop,omitempty"`   // share of examples that are told no class, for guidance
	Kernel string  `json:"kernel,omitempty"` // of diffusion.NoiseByName; "": Gaussian noise
}

// Denoising is the loss of a network that removes noise, on any path and for any prediction:
//
//	w·mean (net(a·x0 + b·n, t) - f)²
//
// with f = c0·x0 + cn·n what the prediction is of, a and b the path's Input at the level that is drawn and w the
// weight, and n the kernel's noise. With Huber = c it is w·(√(|net - f|² + c²) - c) in place of the mean of squares (Song and Dhariwal 2024,
// arXiv 2310.14189; c about 0.00054·√(values of an example) there).
type Denoising struct {
	Net  models.Net
	Path diffusion.Path
	Pred diffusion.Pred
	// Kernel is that of the noise.
	Kernel diffusion.Noise

	draw   diffusion.Draw
	weight diffusion.Weight
	huber  float64
	drop   float64

	noise, x, target   *gpu.Tensor // [B, ...]
	times, weights     *gpu.Tensor // [B], of the net's dtype; ones are what they are made of
	ones               *gpu.Tensor
	classes            *gpu.Tensor // Int32 [B] on the CPU; nil where the net takes none
	state, aim         []float64   // coefficients of each example
	timesOf, weightsOf []float64
}

// NewDenoising makes the loss of batches of that many examples. It says which of d's fields cannot be, and refuses
// predictions that the path's levels do not define.
func (d Diffusion) NewDenoising(net models.Net, batch int) (*Denoising, error) {
	l := &Denoising{Net: net, huber: d.Huber, drop: d.Drop}
	var err error
	if l.Path, l.Pred, err = d.Convention(); err != nil {
		return nil, err
	}
	if l.draw, err = diffusion.DrawByName(d.Draw); err != nil {
		return nil, fmt.Errorf("train: draw: %w", err)
	}
	if l.weight, err = diffusion.WeightByName(d.Weight); err != nil {
		return nil, fmt.Errorf("train: weight: %w", err)
	}
	k := net.Takes()
	if l.Kernel, err = diffusion.NoiseByName(d.Kernel, k.Channels*k.Height*k.Width); err != nil {
		return nil, fmt.Errorf("train: kernel: %w", err)
	}
	switch {
	case !(d.Huber >= 0) || math.IsInf(d.Huber, 0):
		return nil, fmt.Errorf("train: huber %v, want a finite number, 0 or more", d.Huber)
	case !(d.Drop >= 0 && d.Drop <= 1) || d.Drop > 0 && k.Classes == 0:
		return nil, fmt.Errorf("train: drop %v of a network with %d classes, want a share from 0 to 1, and 0 without classes", d.Drop, k.Classes)
	case k.Out != k.Channels:
		return nil, fmt.Errorf("train: a network of %d channels that predicts %d; want one prediction for each", k.Channels, k.Out)
	}
	if k.Classes > 0 {
		l.classes = gpu.CPU().New(gpu.Int32, batch)
	}
	v := net.Params().Value()
	l.times, l.weights = v.Device().New(v.DType(), batch), v.Device().New(v.DType(), batch)
	l.ones = v.Device().New(v.DType(), batch)
	ops.Fill(l.ones, 1)
	l.timesOf, l.weightsOf = make([]float64, batch), make([]float64, batch)
	l.state, l.aim = make([]float64, 2*batch), make([]float64, 2*batch)
	return l, nil
}

// Convention is the path and the prediction. It refuses pairs that no sampler could use: eps on a path that ends in pure noise, and
// edm or trigflow where inputs are not scaled by c_in.
func (d Diffusion) Convention() (diffusion.Path, diffusion.Pred, error) {
	p, err := diffusion.PathByName(d.Path)
	if err != nil {
		return nil, 0, fmt.Errorf("train: path: %w", err)
	}
	pred, err := diffusion.PredByName(d.Pred)
	if err != nil {
		return nil, 0, fmt.Errorf("train: pred: %w", err)
	}
	_, scaled := p.(diffusion.EDM)
	if _, trig := p.(diffusion.TrigFlow); !scaled && !trig && (pred == diffusion.PredEDM || pred == diffusion.PredTrigFlow) {
		return nil, 0, fmt.Errorf("train: pred %s on path %s: F is of inputs scaled by c_in; take the path edm or trigflow", d.Pred, d.Path)
	}
	most, least := p.Range()
	for _, t := range []float64{most, least} {
		a, b := p.Input(p.Sigma(t))
		if _, _, err := pred.Target(a, b); err != nil {
			return nil, 0, fmt.Errorf("train: pred %s on path %s: %w", d.Pred, d.Path, err)
		}
		if _, _, err := pred.ToX0(a, b); err != nil {
			return nil, 0, fmt.Errorf("train: pred %s on path %s: %w", d.Pred, d.Path, err)
		}
	}
	return p, pred, nil
}

// Loss is the loss of a batch of examples x0 [B, C, H, W] on the network's device, one number. classes are those of the
// examples, nil where the network takes none; in is what else it takes, and its Classes are not looked at.
func (l *Denoising) Loss(b *Batch, x0 *gpu.Tensor, classes []int32, in models.Inputs) *nn.Var {
	each, weights := l.Each(b, x0, classes, in)
	if weights == nil {
		return each.Mean()
	}
	return each.Mul(weights).Mean()
}

// Each is the loss of each example, [B], without its weight, and the weights, nil for ones: for losses that
// add something, or look at levels apart.
func (l *Denoising) Each(b *Batch, x0 *gpu.Tensor, classes []int32, in models.Inputs) (each, weights *nn.Var) {
	if b.Size != len(l.timesOf) || x0.Shape()[0] != b.Size {
		panic(fmt.Sprintf("train: Denoising: a batch of %d, examples %v; it was made for %d", b.Size, x0.Shape(), len(l.timesOf)))
	}
	if l.x == nil || l.x.Len() != x0.Len() {
		l.noise, l.x, l.target = x0.Like(), x0.Like(), x0.Like()
	}
	l.levels(b)
	diffusion.UnitNoise(l.noise, l.Kernel, b.Seeds.Noise, b.First, rng.Noising)
	ops.LinCombRows(l.x, l.state, x0, l.noise)
	ops.LinCombRows(l.target, l.aim, x0, l.noise)
	in.Classes = b.Tell(l.classes, classes, l.Net.Takes().Classes, l.drop)
	t := b.Tape
	f, aim := l.Net.Forward(t.Input(l.x), t.Input(l.times), in), t.Input(l.target)
	if l.huber > 0 {
		each = nn.PseudoHuber(f, aim, l.huber)
	} else {
		each = nn.SquaredError(f, aim)
	}
	if l.weight == (diffusion.WeightOne{}) {
		return each, nil
	}
	return each, t.Input(l.weights)
}

// levels draws the noise levels, and makes coefficients in float64, times and weights of them.
func (l *Denoising) levels(b *Batch) {
	for i := range b.Size {
		sigma := l.draw.Sigma(l.Path, b.Stream(b.Seeds.Noise, i, rng.Time))
		a, c := l.Path.Input(sigma)
		c0, cn, err := l.Pred.Target(a, c)
		if err != nil {
			panic(fmt.Sprintf("train: Denoising: a level of %g: %v", sigma, err)) // Convention has seen the ends
		}
		l.state[2*i], l.state[2*i+1] = a, c
		l.aim[2*i], l.aim[2*i+1] = c0, cn
		l.timesOf[i] = l.Path.Time(sigma)
		l.weightsOf[i] = l.weight.Of(l.Pred, a, c)
	}
	ops.LinCombRows(l.times, l.timesOf, l.ones)
	ops.LinCombRows(l.weights, l.weightsOf, l.ones)
}

// Tell writes to told, Int32 [B] on the CPU, the classes that a network is told: the examples', but for a share drop of them none, which
// is the class none. It returns told, and does nothing where that is nil: of a network that takes no classes.
func (b *Batch) Tell(told *gpu.Tensor, classes []int32, none int, drop float64) *gpu.Tensor {
	if told == nil {
		return nil
	}
	if len(classes) != b.Size {
		panic(fmt.Sprintf("train: Tell: %d classes for %d examples", len(classes), b.Size))
	}
	for i, c := range classes {
		if drop > 0 && b.Stream(b.Seeds.Noise, i, rng.Label).Float64() < drop {
			c = int32(none)
		}
		told.I32()[i] = c
	}
	return told
}

// Mask is the dropout of a network for the batch: its seed is a function of the dropout's and of the batch, never 0, and streams
// are the network's to number.
func (b *Batch) Mask(share float64) ops.Mask {
	h := b.Seeds.Dropout ^ (b.First+1)*0x9e3779b97f4a7c15
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9 // SplitMix64's finaliser
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return ops.Mask{Seed: h ^ h>>31 | 1, P: share}
}
