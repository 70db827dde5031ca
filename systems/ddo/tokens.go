package ddo

import (
	"context"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/models/token"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/nn/tower"
	"github.com/fidlab/fidlab/sampler/tokens"
	"github.com/fidlab/fidlab/systems/bases"
	"github.com/fidlab/fidlab/train"
)

// TokenSampler is how networks of tokens draw.
const TokenSampler = "ancestral"

// tokenBatch is how many sequences are drawn at a time.
const tokenBatch = 256

// Tokens is a causal network over tokens that is told a class; examples are ids, as numbers, of so many tokens. Its likelihood is exact:
// the sum over the tokens, not their mean.
func Tokens(m *token.Net, params *nn.Params, length int) (*Net, error) {
	if c := m.Config; !c.Causal || c.Classes == 0 || c.Vocab == 0 {
		return nil, data.Errorf("ddo: a network over %d ids, causal: %t, with %d classes; want a causal one over ids, by class", c.Vocab, c.Causal, c.Classes)
	}
	return &Net{
		Params: params,
		LogP: func(batch int) (train.LogP, error) {
			ids, told := gpu.CPU().New(gpu.Int32, batch, length), gpu.CPU().New(gpu.Int32, batch)
			return func(b *train.Batch, x *gpu.Tensor, classes []int32) *nn.Var {
				for i, v := range x.F32() {
					ids.I32()[i] = int32(v)
				}
				return m.LogP(b.Tape, ids, token.Inputs{Classes: b.Tell(told, classes, m.Config.Classes, 0)})
			}, nil
		},
		Draw: func(ctx context.Context, seed uint64, n int) (*train.Examples, error) {
			return drawTokens(ctx, m, params, length, seed, n)
		},
	}, nil
}

// drawTokens draws n sequences of the classes in turn.
func drawTokens(ctx context.Context, m *token.Net, params *nn.Params, length int, seed uint64, n int) (*train.Examples, error) {
	out := &train.Examples{Shape: []int{length}, X: make([]float32, 0, n*length)}
	tape := nn.NewTape(params.Device(), params.DType())
	for lo := 0; lo < n; lo += tokenBatch {
		size := min(tokenBatch, n-lo)
		told := gpu.CPU().New(gpu.Int32, size)
		for i := range size {
			told.I32()[i] = int32((lo + i) % m.Config.Classes)
			out.Labels = append(out.Labels, told.I32()[i])
		}
		g := m.Generator(tape, size, m.Config.MaxLen, 0, func(*nn.Tape) token.Inputs { return token.Inputs{Classes: told} })
		list, err := tokens.AR{Length: length, Seed: seed, First: uint64(lo)}.Run(ctx, g, size)
		if err != nil {
			return nil, err
		}
		for _, ids := range list {
			for _, id := range ids {
				out.X = append(out.X, float32(id))
			}
		}
	}
	return out, nil
}

// Binary digits: MNIST's of 14×14 pixels, black or white, as 7×7 tokens of 2×2.
const (
	binarySide = 14
	patchSide  = 2
	perSide    = binarySide / patchSide
	tokenCount = perSide * perSide
)

// binaryTokens are MNIST's digits as tokens. A pixel is white where the mean of its four is above the middle; bit 2·row + column of an id
// is a pixel of its square.
func binaryTokens(e *train.Examples) *train.Examples {
	side := e.Shape[len(e.Shape)-1]
	out := &train.Examples{Shape: []int{tokenCount}, Labels: e.Labels}
	at := func(pic []float32, y, x int) int {
		y, x = 2*y, 2*x
		if pic[y*side+x]+pic[y*side+x+1]+pic[(y+1)*side+x]+pic[(y+1)*side+x+1] > 0 {
			return 1
		}
		return 0
	}
	for i := range e.Len() {
		pic := e.X[i*side*side:][:side*side]
		for y := range perSide {
			for x := range perSide {
				y, x := patchSide*y, patchSide*x
				out.X = append(out.X, float32(at(pic, y, x)|at(pic, y, x+1)<<1|at(pic, y+1, x)<<2|at(pic, y+1, x+1)<<3))
			}
		}
	}
	return out
}

// binaryPictures are tokens as pictures [n, 1, 28, 28] of values -1 and 1, each pixel four times.
func binaryPictures(e *train.Examples) *train.Examples {
	const side, per = 2 * binarySide, 4 // a token is 4×4 pixels of the picture
	n := e.Len()
	out := &train.Examples{Shape: []int{1, side, side}, Labels: e.Labels, X: make([]float32, n*side*side)}
	for i := range n {
		pic := out.X[i*side*side:][:side*side]
		for t, v := range e.X[i*tokenCount:][:tokenCount] {
			for k := range per * per {
				y, x := k/per, k%per
				bit := int(v) >> (y/2*2 + x/2) & 1
				pic[(t/perSide*per+y)*side+t%perSide*per+x] = float32(2*bit - 1)
			}
		}
	}
	return out
}

// newTokens is the network of the proof, too small for the digits; weights nil begins it by the seed.
func newTokens(c token.Config, seed uint64) (*Net, error) {
	params := nn.NewParams(gpu.CPU(), gpu.Float32)
	m := token.New(params.At(""), c)
	params.Init(seed)
	return Tokens(m, params, tokenCount)
}

// tokenConfig is its size.
func tokenConfig() token.Config {
	return token.Config{Vocab: 1 << (patchSide * patchSide), MaxLen: tokenCount, Width: 16, Depth: 1, Heads: 4, Act: tower.GELUTanh, Causal: true, Classes: 10}
}

// judgeTokens is the FID of drawn tokens, as pictures, to the test digits made binary too.
func judgeTokens(j *bases.Judge) Score {
	return func(ctx context.Context, e *train.Examples) (float64, error) {
		return j.FID(ctx, pictures(binaryPictures(e)))
	}
}

// meanNLL is the mean of minus the logarithm of the probability of the first n examples, in nats.
func meanNLL(ctx context.Context, net *Net, e *train.Examples, n int) (float64, error) {
	size := len(e.X) / e.Len()
	tape := nn.NewTape(net.Params.Device(), net.Params.DType())
	var sum float64
	for lo := 0; lo < n; lo += tokenBatch {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		hi := min(lo+tokenBatch, n)
		p, err := net.LogP(hi - lo)
		if err != nil {
			return 0, err
		}
		x := gpu.CPU().From(e.X[lo*size:hi*size], hi-lo, size)
		tape.Run(func() {
			tape.NoGrad(func() { sum -= p(&train.Batch{Tape: tape, Size: hi - lo}, x, e.Labels[lo:hi]).Sum().Item() })
		})
	}
	return sum / float64(n), nil
}
