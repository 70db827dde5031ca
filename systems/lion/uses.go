package lion

import (
	"context"
	"fmt"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/data/digits"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/rng"
	"github.com/fidlab/fidlab/systems"
)

// uses are what the abstract claims Lion for besides diffusion, each the smallest that
// deserves the name, on digits of 8×8 pixels.
type uses struct {
	train, val *pixels
	held       int // digits that pairs and tokens are judged by
}

// usesVal is where the digits begin that no use trains on.
const usesVal = 50000

// newUses reads the data; held is how many digits pairs and tokens are judged by, and the
// classifiers by twice as many.
func newUses(held int) (*uses, error) {
	u := &uses{held: held}
	var err error
	if u.train, err = read(data.Train, Span{0, usesVal}); err != nil {
		return nil, err
	}
	u.val, err = read(data.Train, Span{usesVal, usesVal + 2*held})
	return u, err
}

// batch is digits and what is to be said of them; each use fills it in its own way.
type useBatch struct {
	n    int
	x    *gpu.Tensor // [n, 64] or [n, 32]
	more *gpu.Tensor // the other half of a pair
	ids  *gpu.Tensor // tokens that go in, Int32 [n, 16]
	want *gpu.Tensor // labels, Int32 [n] or [n, 16]
}

// of is a job whose batches and validation data are filled alike.
func of(net *nn.Params, train, val *useBatch, fill func(b *useBatch, i int, x []float32, label int32, r *rng.Stream), from, held *pixels,
	loss func(t *nn.Tape, b *useBatch) (*nn.Var, *nn.Var)) *job {
	r := rng.ForImage(1, 0, rng.Time)
	for i := range val.n {
		fill(val, i, held.x[i*pixelCount:][:pixelCount], held.y[i], r)
	}
	return &job{
		net: net,
		draw: func(r *rng.Stream) {
			for i := range train.n {
				k := r.Intn(len(from.y))
				fill(train, i, from.x[k*pixelCount:][:pixelCount], from.y[k], r)
			}
		},
		loss: func(t *nn.Tape) *nn.Var { l, _ := loss(t, train); return l },
		judge: func(t *nn.Tape) (float64, float64) {
			l, y := loss(t, val)
			return l.Item(), told(y.Value().F32(), val.want.I32())
		},
	}
}

// told is the share of rows whose greatest logit is the label's, without labels of -1.
func told(y []float32, want []int32) float64 {
	n := len(y) / len(want)
	right, all := 0, 0
	for i, w := range want {
		if w < 0 {
			continue
		}
		best := 0
		for k := range n {
			if y[i*n+k] > y[i*n+best] {
				best = k
			}
		}
		all++
		if best == int(w) {
			right++
		}
	}
	return float64(right) / float64(all)
}

func newUseBatch(n, width, tokens int) *useBatch {
	b := &useBatch{n: n, x: gpu.CPU().Empty(n, width), more: gpu.CPU().Empty(n, width)}
	shape := []int{n}
	if tokens > 0 {
		shape = append(shape, tokens)
	}
	b.ids, b.want = gpu.CPU().FromInt32(make([]int32, n*max(1, tokens)), shape...), gpu.CPU().FromInt32(make([]int32, n*max(1, tokens)), shape...)
	return b
}

func classify(net *nn.Params) func(t *nn.Tape, b *useBatch) (*nn.Var, *nn.Var) {
	mlp := nn.NewMLP(net.At(""), ops.ReLU, pixelCount, 128, 128, classCount)
	return func(t *nn.Tape, b *useBatch) (*nn.Var, *nn.Var) {
		y := mlp.Forward(t.Input(b.x))
		return nn.CrossEntropy(y, b.want, 0).Mean(), y
	}
}

func upright(b *useBatch, i int, x []float32, label int32, _ *rng.Stream) {
	copy(b.x.F32()[i*pixelCount:], x)
	b.want.I32()[i] = label
}

// classifier tells digits apart.
func (u *uses) classifier(batch int, seed uint64) (*job, error) {
	net := nn.NewParams(gpu.CPU(), gpu.Float32)
	loss := classify(net)
	net.Init(seed)
	return of(net, newUseBatch(batch, pixelCount, 0), newUseBatch(len(u.val.y), pixelCount, 0), upright, u.train, u.val, loss), nil
}

// fineTuning goes on from a classifier, trained before by AdamW, with 500 digits that lie
// on their side.
func (u *uses) fineTuning(env *systems.Env, steps int) func(batch int, seed uint64) (*job, error) {
	turned := func(b *useBatch, i int, x []float32, label int32, _ *rng.Stream) {
		for r := range digits.Side {
			for c := range digits.Side {
				b.x.F32()[i*pixelCount+c*digits.Side+digits.Side-1-r] = x[r*digits.Side+c]
			}
		}
		b.want.I32()[i] = label
	}
	few := &pixels{u.train.x[:500*pixelCount], u.train.y[:500]}
	return func(batch int, seed uint64) (*job, error) {
		before, err := systems.Memo(env, fmt.Sprintf("lion classifier %d %d", steps, seed), func() (*result, error) {
			return train(context.Background(), u.classifier, setting{"adamw", 3e-3, 0.01, steps, 64, seed}, 0.9)
		})
		if err != nil {
			return nil, err
		}
		net := nn.NewParams(gpu.CPU(), gpu.Float32)
		loss := classify(net)
		net.Init(seed)
		net.CopyFrom(before.average.net)
		return of(net, newUseBatch(batch, pixelCount, 0), newUseBatch(len(u.val.y), pixelCount, 0), turned, few, u.val, loss), nil
	}
}

// contrastive finds the lower half of a digit by its upper one, among those of the batch:
// two towers and InfoNCE both ways (van den Oord et al. 2018; Radford et al. 2021).
func (u *uses) contrastive(batch int, seed uint64) (*job, error) {
	const half, width, temperature = pixelCount / 2, 32, 0.1
	net := nn.NewParams(gpu.CPU(), gpu.Float32)
	upper, lower := nn.NewMLP(net.At("upper"), ops.ReLU, half, 128, width), nn.NewMLP(net.At("lower"), ops.ReLU, half, 128, width)
	net.Init(seed)
	unit := func(t *nn.Tape, x *nn.Var) *nn.Var { return x.Div(x.Square().Sum(1).Affine(1, 1e-6).Sqrt()) }
	loss := func(t *nn.Tape, b *useBatch) (*nn.Var, *nn.Var) {
		p, q := unit(t, upper.Forward(t.Input(b.x))), unit(t, lower.Forward(t.Input(b.more)))
		y := p.MatMulNT(q).Scale(1 / temperature)
		back := nn.CrossEntropy(y.Permute(1, 0), b.want, 0).Mean()
		return nn.CrossEntropy(y, b.want, 0).Mean().Add(back).Scale(0.5), y
	}
	fill := func(b *useBatch, i int, x []float32, _ int32, _ *rng.Stream) {
		copy(b.x.F32()[i*half:(i+1)*half], x)
		copy(b.more.F32()[i*half:(i+1)*half], x[half:])
		b.want.I32()[i] = int32(i)
	}
	return of(net, newUseBatch(batch, half, 0), newUseBatch(u.held, half, 0), fill, u.train, u.val, loss), nil
}

// Tokens of digits: squares of 2×2 pixels, each black or white.
const (
	tokenCount = pixelCount / 4
	tokenKinds = 16
	beginToken = tokenKinds
	maskToken  = tokenKinds + 1
)

func tokenOf(x []float32, at int) int32 {
	const w = digits.Side / 2
	r, c := at/w*2, at%w*2
	var t int32
	for k, v := range []float32{x[r*digits.Side+c], x[r*digits.Side+c+1], x[(r+1)*digits.Side+c], x[(r+1)*digits.Side+c+1]} {
		if v > 0.4 {
			t |= 1 << k
		}
	}
	return t
}

// transformer is two blocks over tokens, with logits for each.
func transformer(net *nn.Params, mask nn.AttnMask) func(t *nn.Tape, b *useBatch) *nn.Var {
	const width = 48
	emb := nn.NewEmbedding(net.At("tokens"), tokenKinds+2, width)
	place := net.At("places").Param("w", nn.Normal(0.02), 1, tokenCount, width)
	type block struct {
		first, second *nn.Norm
		attention     *nn.SelfAttention
		mlp           *nn.MLP
	}
	var blocks []block
	for i := range 2 {
		s := net.At(fmt.Sprint("blocks.", i))
		blocks = append(blocks, block{
			nn.NewLayerNorm(s.At("first"), width), nn.NewLayerNorm(s.At("second"), width),
			nn.NewSelfAttention(s.At("attention"), width, nn.AttnOptions{Heads: 4}), nn.NewMLP(s.At("mlp"), ops.GELUTanh, width, 4*width, width),
		})
	}
	norm, out := nn.NewLayerNorm(net.At("norm"), width), nn.NewLinear(net.At("out"), width, tokenKinds)
	return func(t *nn.Tape, b *useBatch) *nn.Var {
		h := emb.Forward(t, b.ids).Add(t.Use(place))
		for _, k := range blocks {
			h = h.Add(k.attention.Forward(k.first.Forward(h), mask, nil))
			h = h.Add(k.mlp.Forward(k.second.Forward(h)))
		}
		return out.Forward(norm.Forward(h))
	}
}

// autoregressive says each token by those before it.
func (u *uses) autoregressive(batch int, seed uint64) (*job, error) {
	net := nn.NewParams(gpu.CPU(), gpu.Float32)
	body := transformer(net, nn.AttnMask{Causal: true})
	net.Init(seed)
	fill := func(b *useBatch, i int, x []float32, _ int32, _ *rng.Stream) {
		last := int32(beginToken)
		for k := range tokenCount {
			b.ids.I32()[i*tokenCount+k] = last
			last = tokenOf(x, k)
			b.want.I32()[i*tokenCount+k] = last
		}
	}
	return u.overTokens(net, body, batch, fill, 1), nil
}

// masked says tokens that are hidden, a share of them that is drawn anew for every digit,
// by those that are not.
func (u *uses) masked(batch int, seed uint64) (*job, error) {
	net := nn.NewParams(gpu.CPU(), gpu.Float32)
	body := transformer(net, nn.AttnMask{})
	net.Init(seed)
	fill := func(b *useBatch, i int, x []float32, _ int32, r *rng.Stream) {
		share := 0.1 + 0.9*r.Float64()
		for k := range tokenCount {
			id, want := tokenOf(x, k), int32(-1)
			if r.Float64() < share {
				id, want = maskToken, id
			}
			b.ids.I32()[i*tokenCount+k], b.want.I32()[i*tokenCount+k] = id, want
		}
	}
	return u.overTokens(net, body, batch, fill, 1/0.55), nil
}

// overTokens is a job over tokens; scale makes the mean over all places one over those that
// count, on average.
func (u *uses) overTokens(net *nn.Params, body func(t *nn.Tape, b *useBatch) *nn.Var, batch int, fill func(b *useBatch, i int, x []float32, label int32, r *rng.Stream), scale float64) *job {
	loss := func(t *nn.Tape, b *useBatch) (*nn.Var, *nn.Var) {
		y := body(t, b)
		return nn.CrossEntropy(y, b.want, 0).Mean().Scale(scale), y
	}
	return of(net, newUseBatch(batch, 1, tokenCount), newUseBatch(u.held, 1, tokenCount), fill, u.train, u.val, loss)
}
