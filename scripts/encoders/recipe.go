package main

import (
	"context"
	"fmt"
	"io"

	"github.com/fidlab/fidlab/fid/extract"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/nn/tower"
	"github.com/fidlab/fidlab/rng"
	"github.com/fidlab/fidlab/train"
)

// recipe is everything that decides the weights besides the questions and the data; it is written
// into their file.
type recipe struct {
	Seed    uint64  `json:"seed"`
	Epochs  int     `json:"epochs"`
	Batch   int     `json:"batch"`
	Rate    float64 `json:"rate"`     // AdamW's step size, falling
	RateEnd float64 `json:"rate_end"` // along half a cosine to this
	Decay   float64 `json:"decay"`    // decoupled weight decay
	Flag    float64 `json:"flag"`     // weight of the cross-entropy of a flag, beside that of a class, 1
	Shift   int     `json:"shift"`    // augmentation: up to so many pixels in x and in y, edges repeated
	// Contrast is the weight of the contrastive loss of motions and captions; 0 where there are none.
	Contrast float64 `json:"contrast,omitempty"`
}

// usual is the recipe of all encoders, but for what their tasks change.
var usual = recipe{Seed: 1, Epochs: 8, Batch: 128, Rate: 2e-3, RateEnd: 1e-5, Decay: 1e-2, Flag: 0.25}

// examples are pictures as the network takes them and the answers to its heads.
type examples struct {
	x       []float32 // [n, C, H, W]
	answers []float32 // [n, answersOf(heads)]
}

// answersOf is how many numbers answer the heads: of a class its number.
func answersOf(heads []extract.Head) int {
	n := 0
	for _, h := range heads {
		if h.Kind == extract.Class {
			n++
		} else {
			n += h.N
		}
	}
	return n
}

// headLoss is the sum of the losses of the heads for their outputs [B, outputs].
type headLoss struct {
	heads  []extract.Head
	flag   float64
	labels []*gpu.Tensor // by head: of a class Int32 [B], else float32 [B, N]
}

func newHeadLoss(heads []extract.Head, flag float64, batch int) *headLoss {
	l := &headLoss{heads: heads, flag: flag}
	for _, h := range heads {
		if h.Kind == extract.Class {
			l.labels = append(l.labels, gpu.CPU().New(gpu.Int32, batch))
		} else {
			l.labels = append(l.labels, gpu.CPU().New(gpu.Float32, batch, h.N))
		}
	}
	return l
}

// set puts the answers of example i of the batch in their places.
func (l *headLoss) set(i int, answers []float32) {
	for k, h := range l.heads {
		if h.Kind == extract.Class {
			l.labels[k].I32()[i] = int32(answers[0])
			answers = answers[1:]
			continue
		}
		copy(l.labels[k].F32()[i*h.N:], answers[:h.N])
		answers = answers[h.N:]
	}
}

// of is the loss, one number; each is told those of the heads.
func (l *headLoss) of(outputs *nn.Var, each func(name string, v float64)) *nn.Var {
	t, at := outputs.Tape(), 0
	var sum *nn.Var
	for k, h := range l.heads {
		z := outputs.Slice(1, at, h.N)
		at += h.N
		var loss *nn.Var
		switch h.Kind {
		case extract.Class:
			loss = nn.CrossEntropy(z, l.labels[k], 0).Mean()
		case extract.Flags:
			loss = nn.BCEWithLogits(z, t.Input(l.labels[k])).Mean().Scale(l.flag * float64(h.N))
		default:
			loss = nn.MSE(z, t.Input(l.labels[k]), nil).Scale(float64(h.N))
		}
		each(h.Name, loss.Item())
		if sum == nil {
			sum = loss
		} else {
			sum = sum.Add(loss)
		}
	}
	return sum
}

// trainEncoder trains an encoder of pictures.
func trainEncoder(spec extract.EncoderSpec, r recipe, ex *examples, log io.Writer) (*nn.Params, *tower.Encoder, error) {
	c := spec.Network
	params := nn.NewParams(gpu.CPU(), gpu.Float32)
	net := tower.NewEncoder(params.At(""), c)
	params.Init(r.Seed)
	size, answers := c.Channels*c.Height*c.Width, answersOf(spec.Heads)
	n := len(ex.x) / size
	feed := train.NewFeed(&train.Examples{X: ex.x, Shape: []int{c.Channels, c.Height, c.Width}, Labels: count(n)}, gpu.CPU(), gpu.Float32, r.Batch)
	loss := newHeadLoss(spec.Heads, r.Flag, r.Batch)
	err := r.train(spec.Name, n, spec.Heads, []*train.Network{{Name: "net", Params: params}}, func(b *train.Batch) *nn.Var {
		x, which := feed.Next(b)
		for i, k := range which {
			loss.set(i, ex.answers[int(k)*answers:][:answers])
			if r.Shift > 0 {
				s := b.Stream(b.Seeds.Noise, i, rng.Dropout)
				shift(x.F32()[i*size:][:size], c, s.Intn(2*r.Shift+1)-r.Shift, s.Intn(2*r.Shift+1)-r.Shift)
			}
		}
		return loss.of(net.Heads(net.Forward(b.Tape.Input(x))), b.Figure)
	}, log)
	return params, net, err
}

// train runs a job by the recipe on n examples.
func (r recipe) train(name string, n int, heads []extract.Head, nets []*train.Network, loss func(b *train.Batch) *nn.Var, log io.Writer) error {
	steps := r.Epochs * n / r.Batch
	for _, net := range nets {
		net.LR = nn.Cosine(r.Rate, r.RateEnd, steps)
	}
	job := &train.Job{Name: name, Config: r, Nets: nets, Loss: loss}
	for _, h := range heads {
		job.Figures = append(job.Figures, h.Name)
	}
	sum := 0.0
	_, err := train.Run(context.Background(), job, train.Config{
		Settings: train.Settings{Steps: steps, Batch: r.Batch, Rate: r.Rate, Decay: r.Decay, Clip: 1, Seeds: train.SeedsOf(r.Seed)},
		Progress: func(p train.Progress) {
			if sum += p.Loss; p.Step%100 == 0 || p.Step == steps {
				fmt.Fprintf(log, "step %d of %d: loss %.4f, %.1f steps a second\n", p.Step, steps, sum/float64((p.Step-1)%100+1), p.Rate)
				sum = 0
			}
		},
	})
	return err
}

// count are 0, 1, … n−1: the numbers of the examples in the place of labels.
func count(n int) []int32 {
	out := make([]int32, n)
	for i := range out {
		out[i] = int32(i)
	}
	return out
}

// shift moves a picture [C, H, W] by dx, dy pixels; what was at the edge is repeated.
func shift(x []float32, c tower.EncoderConfig, dx, dy int) {
	old := append([]float32(nil), x...)
	for i := range x {
		p, q, ch := i%c.Width-dx, i/c.Width%c.Height-dy, i/(c.Width*c.Height)
		x[i] = old[(ch*c.Height+min(max(q, 0), c.Height-1))*c.Width+min(max(p, 0), c.Width-1)]
	}
}
