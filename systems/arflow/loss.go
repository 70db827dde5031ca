package arflow

import (
	"slices"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/rng"
	"github.com/fidlab/fidlab/train"
)

// Groups are pictures by what those of a group have in common, a class or a hidden style, of which sequences are made.
type Groups struct {
	e       *train.Examples
	size    int // values of a picture
	members [][]int32
}

// NewGroups groups examples by their labels, for sequences of n different ones. It refuses sets without labels, groups of fewer than n,
// and n < 1.
func NewGroups(e *train.Examples, n int) (*Groups, error) {
	if n < 1 {
		return nil, data.Errorf("arflow: sequences of %d pictures; want 1 or more", n)
	}
	if len(e.Labels) == 0 {
		return nil, data.Errorf("arflow: pictures without labels; want those of a group to have one, of which sequences are made")
	}
	g := &Groups{e: e, size: len(e.X) / e.Len(), members: make([][]int32, slices.Max(e.Labels)+1)}
	for i, k := range e.Labels {
		g.members[k] = append(g.members[k], int32(i))
	}
	g.members = slices.DeleteFunc(g.members, func(m []int32) bool { return len(m) == 0 })
	for _, m := range g.members {
		if len(m) < n {
			return nil, data.Errorf("arflow: class %d has %d pictures; want %d at least, which a sequence takes: shorten it (--seq)", e.Labels[m[0]], len(m), n)
		}
	}
	return g, nil
}

// Draw sets at to different pictures of one group, which is drawn first, all groups alike, and says which one.
func (g *Groups) Draw(s *rng.Stream, at []int32) int {
	group := s.Intn(len(g.members))
	g.drawFrom(s, group, at)
	return group
}

// drawFrom sets at to different pictures of a group.
func (g *Groups) drawFrom(s *rng.Stream, group int, at []int32) {
	m := g.members[group]
	if 2*len(at) > len(m) { // few are left over: shuffle
		for i, k := range s.Perm(len(m))[:len(at)] {
			at[i] = m[k]
		}
		return
	}
	for i := 0; i < len(at); {
		at[i] = m[s.Intn(len(m))]
		if !slices.Contains(at[:i], at[i]) {
			i++
		}
	}
}

// picture is the values of one.
func (g *Groups) picture(at int32) []float32 { return g.e.X[int(at)*g.size:][:g.size] }

// Loss is the mean of (v - (x1 - x0))² over the pictures of sequences,
//
//	x_t = t·x1 + (1-t)·x0,   t of a sequence: as many uniform numbers in [0, 1) in rising order, noise x0 of each picture its own
//
// so that every picture sees noisier ones of its group. An example is a sequence.
type Loss struct {
	Net    *Net
	Groups *Groups
	Length int     // of sequences
	Drop   float64 // share of sequences that are told no class

	at        []int32
	times     []float64
	noise     *gpu.Tensor // [B·n, C, H, W] on the CPU
	x, target *train.Staged
	time      *train.Staged
	classes   *gpu.Tensor // nil where the network is told none
}

// NewLoss is the loss of batches of that many sequences.
func NewLoss(net *Net, g *Groups, length, batch int, drop float64) *Loss {
	dev, c := net.params.Value().Device(), net.c
	shape := []int{batch * length, c.Channels, c.Height, c.Width}
	l := &Loss{
		Net: net, Groups: g, Length: length, Drop: drop, at: make([]int32, length), times: make([]float64, length), noise: gpu.CPU().New(gpu.Float32, shape...),
		x: train.NewStaged(dev, gpu.Float32, shape...), target: train.NewStaged(dev, gpu.Float32, shape...), time: train.NewStaged(dev, gpu.Float32, shape[0]),
	}
	if c.Classes > 0 {
		l.classes = gpu.CPU().New(gpu.Int32, shape[0])
	}
	return l
}

// Of is the loss of a batch, one number.
func (l *Loss) Of(b *train.Batch) *nn.Var {
	l.fill(b)
	t := b.Tape
	f := l.Net.Sequence(t.Input(l.x.Send()), t.Input(l.time.Send()), models.Inputs{Classes: l.classes}, l.Length)
	return nn.MSE(f, t.Input(l.target.Send()), nil)
}

// fill draws pictures, times and noise.
func (l *Loss) fill(b *train.Batch) {
	n, size := l.Length, l.Groups.size
	diffusion.UnitNoise(l.noise, nil, b.Seeds.Noise, b.First*uint64(n), rng.Noising)
	for i := range b.Size {
		l.Groups.Draw(b.Stream(b.Seeds.Data, i, rng.Order), l.at)
		class := int32(l.Net.c.Classes)
		if s := b.Stream(b.Seeds.Noise, i, rng.Label); l.classes != nil && !(l.Drop > 0 && s.Float64() < l.Drop) {
			class = l.Groups.e.Labels[l.at[0]]
		}
		s := b.Stream(b.Seeds.Noise, i, rng.Time)
		for j := range l.times {
			l.times[j] = s.Float64()
		}
		slices.Sort(l.times)
		for j, t := range l.times {
			k := i*n + j
			l.time.Values[k] = float32(t)
			if l.classes != nil {
				l.classes.I32()[k] = class
			}
			noised(l.x.Values[k*size:][:size], l.target.Values[k*size:][:size], l.Groups.picture(l.at[j]), l.noise.F32()[k*size:][:size], t)
		}
	}
}

// noised sets x to t·x1 + (1-t)·x0 and v to x1 - x0.
func noised(x, v, x1, x0 []float32, t float64) {
	a, c := float32(t), float32(1-t)
	for i, e := range x1 {
		x[i], v[i] = a*e+c*x0[i], e-x0[i]
	}
}
