package symmflow

import (
	"fmt"
	"math"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/rng"
	"github.com/fidlab/fidlab/train"
)

// Loss is the loss both ways,
//
//	w·mean (v_x - u_x)² + (1-w)·mean (v_y - u_y)²
//
// at one t for both, uniform in [0, 1) unless Ends is set, and noise of picture and label that is drawn apart.
type Loss struct {
	Model  *Model
	Weight float64 // w
	// Ends draws t = sin²(πu/2) in place of u: towards both ends, where what is noise must be told from the other half alone.
	Ends bool

	noise           *gpu.Tensor // [B, C, H, W] on the CPU
	z, target, time *train.Staged
	label           []float32
}

// NewLoss is the loss of batches of that many examples.
func NewLoss(m *Model, weight float64, batch int) *Loss {
	if !(weight >= 0 && weight <= 1) {
		panic(fmt.Sprintf("symmflow: NewLoss: a weight of %g; want 0 to 1", weight))
	}
	dev, shape := m.Net.Params().Value().Device(), append([]int{batch}, m.shape()...)
	return &Loss{
		Model: m, Weight: weight, noise: gpu.CPU().New(gpu.Float32, shape...), label: make([]float32, m.Coding.Channels()*shape[2]*shape[3]),
		z: train.NewStaged(dev, gpu.Float32, shape...), target: train.NewStaged(dev, gpu.Float32, shape...), time: train.NewStaged(dev, gpu.Float32, batch),
	}
}

// Of is the loss of a batch: pictures x, [B, Channels, H, W] of values from -1 to 1, and the classes of their labels, [B, ...] as
// Coding.Encode takes them.
func (l *Loss) Of(b *train.Batch, x []float32, ids []uint8) *nn.Var {
	l.states(b, x, ids)
	t, m := b.Tape, l.Model
	f := m.Net.Forward(t.Input(l.z.Send()), t.Input(l.time.Send()), models.Inputs{})
	u := t.Input(l.target.Send())
	nx, ny := m.Channels, m.Coding.Channels()
	pictures := nn.SquaredError(f.Slice(1, 0, nx), u.Slice(1, 0, nx)).Mean()
	labels := nn.SquaredError(f.Slice(1, nx, ny), u.Slice(1, nx, ny)).Mean()
	return pictures.Scale(l.Weight).Add(labels.Scale(1 - l.Weight))
}

// states draws times and noise and makes z and its velocity.
func (l *Loss) states(b *train.Batch, x []float32, ids []uint8) {
	m := l.Model
	n := len(ids) / b.Size
	diffusion.UnitNoise(l.noise, nil, b.Seeds.Noise, b.First, rng.Noising)
	for i := range b.Size {
		t := b.Stream(b.Seeds.Noise, i, rng.Time).Float64()
		if l.Ends {
			t = math.Pow(math.Sin(math.Pi/2*t), 2)
		}
		l.time.Values[i] = float32(t)
		if err := m.Coding.Encode(l.label, ids[i*n:(i+1)*n], b.Stream(b.Seeds.Noise, i, rng.Label)); err != nil {
			panic("symmflow: Loss: " + err.Error()) // data sets are checked when they are read
		}
		zx, zy := m.parts(l.z.Values, i)
		ux, uy := m.parts(l.target.Values, i)
		nx, ny := m.parts(l.noise.F32(), i)
		picture := x[i*len(zx):][:len(zx)]
		keep, move := float32(1-(1-Least)*t), float32(t)
		for k, v := range picture {
			zx[k], ux[k] = keep*nx[k]+move*v, v-(1-Least)*nx[k]
		}
		for k, v := range l.label {
			zy[k], uy[k] = keep*v+move*ny[k], ny[k]-(1-Least)*v
		}
	}
}
