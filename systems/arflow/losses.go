package arflow

import (
	"context"
	"math"
	"slices"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/rng"
)

// Probe asks what the past is worth: the same pictures, at the same times under the same noise, after others and alone.
type Probe struct {
	Length int       // of sequences, 2 or more
	N      int       // pictures at each time
	Times  []float64 // of the picture that is looked at; those before it are uniform below, as in training
	Seed   uint64
	// Alone leaves out what comes after others, which is NaN then: for networks that know no past.
	Alone bool
}

// Matched are n times at which losses are compared, the middles of equal parts of [0, 0.9].
func Matched(n int) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = 0.9 * (float64(i) + 0.5) / float64(n)
	}
	return out
}

// ProbeLoss is mean squared errors of velocities over all times and pictures.
type ProbeLoss struct {
	Alone float64 // of pictures that follow none
	After float64 // of the last pictures of sequences
	Other float64 // of the last pictures of sequences whose others are of another group; NaN where there is one alone
}

// probed is how many pictures are looked at together.
const probed = 64

// Losses measures.
func Losses(ctx context.Context, net *Net, g *Groups, p Probe) (sum ProbeLoss, err error) {
	if p.Length < 2 || p.N < 1 || len(p.Times) == 0 {
		return sum, data.Errorf("arflow: %d pictures at %d times after sequences of %d; want 1, 1 and 2 at least", p.N, len(p.Times), p.Length)
	}
	for _, t := range p.Times {
		if !(t >= 0 && t < 1) {
			return sum, data.Errorf("arflow: a picture at time %g; want 0, noise, or more, and less than 1", t)
		}
	}
	c := &prober{net: net, g: g, p: p, tape: nn.NewTape(net.params.Value().Device(), net.params.Value().DType())}
	for _, t := range p.Times {
		for first := 0; first < p.N; first += probed {
			if err := ctx.Err(); err != nil {
				return sum, err
			}
			c.at(&sum, t, first, min(probed, p.N-first))
		}
	}
	n := float64(p.N * len(p.Times))
	sum.Alone, sum.After, sum.Other = sum.Alone/n, sum.After/n, sum.Other/n
	if p.Alone || len(g.members) == 1 {
		sum.Other = math.NaN()
	}
	if p.Alone {
		sum.After = math.NaN()
	}
	return sum, nil
}

type prober struct {
	net  *Net
	g    *Groups
	p    Probe
	tape *nn.Tape
}

// at adds the losses of n pictures at a time.
func (c *prober) at(sum *ProbeLoss, t float64, first, n int) {
	g, length := c.g, c.p.Length
	size, none := g.size, c.net.c.Classes
	all := n * length
	own, other := make([]float32, all*size), make([]float32, all*size)
	alone, target := make([]float32, n*size), make([]float32, n*size)
	times, classes := make([]float32, all), make([]int32, all)
	noise := gpu.CPU().New(gpu.Float32, all, size)
	diffusion.UnitNoise(noise, nil, c.p.Seed, uint64(first*length), rng.Noising)
	scrap := make([]float32, size)
	at, strange := make([]int32, length), make([]int32, length)
	before := make([]float64, length-1)
	for i := range n {
		s := rng.ForImage(c.p.Seed, uint64(first+i), rng.Order)
		group := g.Draw(s, at)
		if len(g.members) > 1 {
			g.drawFrom(s, (group+1+s.Intn(len(g.members)-1))%len(g.members), strange)
		} else {
			copy(strange, at)
		}
		s = rng.ForImage(c.p.Seed, uint64(first+i), rng.Time)
		for j := range before {
			before[j] = t * s.Float64()
		}
		slices.Sort(before)
		class := int32(none)
		if none > 0 {
			class = g.e.Labels[at[length-1]]
		}
		for j := range length {
			k, when := i*length+j, t
			if j < length-1 {
				when = before[j]
			}
			times[k], classes[k] = float32(when), class
			x0 := noise.F32()[k*size:][:size]
			noised(own[k*size:][:size], scrap, g.picture(at[j]), x0, when)
			if j < length-1 {
				noised(other[k*size:][:size], scrap, g.picture(strange[j]), x0, when)
				continue
			}
			copy(other[k*size:], own[k*size:][:size])
			copy(alone[i*size:], own[k*size:][:size])
			copy(target[i*size:], scrap)
		}
	}
	last := func(x []float32, length int) float64 {
		var v float64
		c.tape.Run(func() {
			c.tape.NoGrad(func() {
				dev, k := c.tape.Device(), &c.net.c
				count := len(x) / size
				tt, cc := times, classes
				if length == 1 {
					tt, cc = make([]float32, count), make([]int32, count)
					for i := range tt {
						tt[i], cc[i] = times[i*c.p.Length+c.p.Length-1], classes[i*c.p.Length]
					}
				}
				var in models.Inputs
				if none > 0 {
					in.Classes = gpu.CPU().FromInt32(cc, count)
				}
				y := c.net.Sequence(c.tape.Input(dev.FromAs(c.tape.DType(), x, count, k.Channels, k.Height, k.Width)), c.tape.Input(dev.FromAs(c.tape.DType(), tt, count)), in, length)
				y = y.Reshape(n, length, size).Slice(1, length-1, 1).Reshape(n, size)
				v = nn.MSE(y, c.tape.Input(dev.FromAs(c.tape.DType(), target, n, size)), nil).Item() * float64(n)
			})
		})
		return v
	}
	sum.Alone += last(alone, 1)
	if c.p.Alone {
		return
	}
	sum.After += last(own, length)
	sum.Other += last(other, length)
}
