package symmflow

import (
	"context"
	"slices"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/sampler/network"
	"github.com/fidlab/fidlab/train"
)

// segmenter is the rival in reading masks: the same network from a picture straight to the logits of each pixel's classes, at time 0,
// trained on the cross-entropy.
type segmenter struct{ net models.Net }

// newSegmenter makes the network, which is not started yet.
func newSegmenter(params *nn.Params, c netConfig, channels, classes int) (*segmenter, error) {
	net, err := c.with(channels, 0, classes).make(params)
	return &segmenter{net}, err
}

// logits are [B·H·W, classes] of pictures on the tape.
func (g *segmenter) logits(x *nn.Var) *nn.Var {
	y := g.net.Forward(x, x.Tape().Const(0, x.Shape()[0]), models.Inputs{})
	return y.Permute(0, 2, 3, 1).Reshape(-1, g.net.Takes().Out)
}

// loss is the mean cross-entropy of a batch of a feed, whose pictures are x.
func (g *segmenter) loss(b *train.Batch, x *gpu.Tensor, ids []uint8, labels *gpu.Tensor) *nn.Var {
	for i, id := range ids {
		labels.I32()[i] = int32(id)
	}
	return nn.CrossEntropy(g.logits(b.Tape.Input(x)), labels, 0).Mean()
}

// read are the likeliest classes of the pixels of pictures [n, C, H, W].
func (g *segmenter) read(ctx context.Context, x *gpu.Tensor) ([][]uint8, error) {
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	n, classes := x.Shape()[0], g.net.Takes().Out
	var out [][]uint8
	for lo := 0; lo < n; lo += evaluated {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		hi := min(lo+evaluated, n)
		tape.Run(func() {
			tape.NoGrad(func() {
				y := g.logits(tape.Input(x.Rows(lo, hi))).Value().F32()
				pixels := len(y) / classes / (hi - lo)
				for range hi - lo {
					ids := make([]uint8, pixels)
					for p := range ids {
						row := y[p*classes:][:classes]
						ids[p] = uint8(slices.Index(row, slices.Max(row)))
					}
					out, y = append(out, ids), y[pixels*classes:]
				}
			})
		})
	}
	return out, nil
}

// conditional is the rival in drawing pictures: the same network, told the mask's colours beside the noised picture at every time, trained
// on the picture's flow alone. It is what SymmFlow would be if the label were a condition.
type conditional struct {
	net    models.Net
	coding Coding
}

// towardsData is its path and its loss, whose time runs as SymmFlow's does.
var towardsData = train.Diffusion{Path: "flow-reversed", Pred: "flow-reversed", Draw: "uniform", Weight: "one"}

func newConditional(params *nn.Params, c netConfig, channels int, coding Coding) (*conditional, error) {
	net, err := c.with(channels, coding.Channels(), channels).make(params)
	coding.Flat = true // a condition needs no density
	return &conditional{net, coding}, err
}

// told are the conditions of labels, [n, channels, H, W].
func (c *conditional) told(dst []float32, labels int, ids []uint8) {
	n, size := len(ids)/labels, len(dst)/labels
	for i := range labels {
		if err := c.coding.Encode(dst[i*size:(i+1)*size], ids[i*n:(i+1)*n], nil); err != nil {
			panic("symmflow: conditional: " + err.Error()) // data sets are checked when they are read
		}
	}
}

// generate draws pictures of labels.
func (c *conditional) generate(ctx context.Context, labels [][]uint8, o Options) (*gpu.Tensor, error) {
	s, o, err := o.check()
	if err != nil {
		return nil, err
	}
	k := c.net.Takes()
	extra := gpu.CPU().New(gpu.Float32, len(labels), k.Extra, k.Height, k.Width)
	c.told(extra.F32(), len(labels), slices.Concat(labels...))
	den := network.Denoiser(c.net, diffusion.Flow{DataAtOne: true}, diffusion.PredFlowReversed, network.Options{Batch: evaluated})
	r, err := sampler.Run(ctx, den, s, grid(o.Steps), sampler.Options{
		Seed: o.Seed, N: len(labels), Batch: 2 * evaluated, Shape: []int{k.Channels, k.Height, k.Width}, Cond: sampler.Cond{Inputs: map[string]*gpu.Tensor{"extra": extra}},
	})
	if err != nil {
		return nil, err
	}
	return r.X, nil
}
