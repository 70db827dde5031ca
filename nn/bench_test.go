package nn_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

// ditBlock is a block of a diffusion transformer (Peebles and Xie 2023, arXiv 2212.09748).
type ditBlock struct {
	norm           *nn.Norm
	qkv, out       *nn.Linear
	up, down, cond *nn.Linear
	heads          int
}

func newDiTBlock(s nn.Scope, d, heads int) *ditBlock {
	return &ditBlock{
		norm: &nn.Norm{Eps: 1e-6}, heads: heads,
		qkv: nn.NewLinear(s.At("attn.qkv"), d, 3*d), out: nn.NewLinear(s.At("attn.proj"), d, d),
		up: nn.NewLinear(s.At("mlp.fc1"), d, 4*d).Then(ops.GELUTanh), down: nn.NewLinear(s.At("mlp.fc2"), 4*d, d),
		cond: nn.NewLinear(s.At("adaLN_modulation.1"), d, 6*d),
	}
}

func (b *ditBlock) forward(x, c *nn.Var) *nn.Var {
	s := x.Shape()
	n, l, d := s[0], s[1], s[2]
	m := b.cond.Forward(c)
	part := func(i int) *nn.Var { return m.Slice(1, i*d, d) }
	qkv := b.qkv.Forward(b.norm.Modulate(x, part(1), part(0)))
	head := func(i int) *nn.Var { return qkv.Slice(2, i*d, d).Reshape(n, l, b.heads, d/b.heads) }
	att := nn.Attention(head(0), head(1), head(2), 0, nn.AttnMask{}).Reshape(n, l, d)
	x = x.AddMul(b.out.Forward(att), part(2).Reshape(n, 1, d))
	return x.AddMul(b.down.Forward(b.up.Forward(b.norm.Modulate(x, part(4), part(3)))), part(5).Reshape(n, 1, d))
}

// dit is the network of the comparison: 28×28 pixels, patches of 4, width 128, 6 blocks, 2.0 M parameters.
type dit struct {
	patch, last, cond *nn.Linear
	t1, t2            *nn.Linear
	label             *nn.Embedding
	pos               *gpu.Tensor
	blocks            []*ditBlock
	norm              *nn.Norm
	d                 int
}

func newDiT(net *nn.Params, d, layers, heads int) *dit {
	m := &dit{
		d: d, norm: &nn.Norm{Eps: 1e-6},
		patch: nn.NewLinear(net.At("x_embedder"), 16, d), last: nn.NewLinear(net.At("final.linear"), d, 16), cond: nn.NewLinear(net.At("final.ada"), d, 2*d),
		t1: nn.NewLinear(net.At("t.0"), 256, d).Then(ops.SiLU), t2: nn.NewLinear(net.At("t.2"), d, d), label: nn.NewEmbedding(net.At("y"), 1001, d),
		pos: gpu.CPU().From(oracle.Normal(3, 49*d), 49, d),
	}
	for i := range layers {
		m.blocks = append(m.blocks, newDiTBlock(net.At(fmt.Sprint("blocks.", i)), d, heads))
	}
	net.Init(1)
	return m
}

func (m *dit) forward(tape *nn.Tape, x, temb *nn.Var, y *gpu.Tensor) *nn.Var {
	n := x.Shape()[0]
	c := m.t2.Forward(m.t1.Forward(temb)).Add(m.label.Forward(tape, y)).SiLU()
	h := x.Reshape(n, 7, 4, 7, 4).Permute(0, 1, 3, 2, 4).Reshape(n, 49, 16)
	h = m.patch.Forward(h).Add(tape.Input(m.pos))
	for _, b := range m.blocks {
		h = b.forward(h, c)
	}
	k := m.cond.Forward(c)
	h = m.last.Forward(m.norm.Modulate(h, k.Slice(1, m.d, m.d), k.Slice(1, 0, m.d)))
	return h.Reshape(n, 7, 7, 4, 4).Permute(0, 1, 3, 2, 4).Reshape(n, 1, 28, 28)
}

// A training step of the 2.0 M parameter DiT at batch 64, AdamW included. torch 2.x on two
// cores of the same kind of machine took 231 ms (104 to 148 GFLOP/s); "x-torch" is how many
// times faster this is, and means little on another machine; "of-products" compares with the
// largest product alone in the same run.
func BenchmarkTrainDiT(b *testing.B) {
	net := nn.NewParams(gpu.CPU(), gpu.Float32)
	m := newDiT(net, 128, 6, 4)
	tape, opt := nn.NewTape(gpu.CPU(), gpu.Float32), nn.NewAdam(net, nn.AdamOptions{Decay: 0.01})
	const batch = 64
	x, temb, target := gpu.CPU().From(oracle.Normal(1, batch*784), batch, 1, 28, 28), gpu.CPU().From(oracle.Normal(2, batch*256), batch, 256), gpu.CPU().From(oracle.Normal(4, batch*784), batch, 1, 28, 28)
	y := gpu.CPU().FromInt32(make([]int32, batch), batch)
	step := func() {
		tape.Run(func() {
			tape.Backward(nn.MSE(m.forward(tape, tape.Input(x), tape.Input(temb), y), tape.Input(target), nil))
		})
		opt.Step(1e-4)
	}
	step()
	limit := productSpeed(tape)
	b.ReportAllocs()
	for b.Loop() {
		step()
	}
	ms := b.Elapsed().Seconds() * 1e3 / float64(b.N)
	limit = (limit + productSpeed(tape)) / 2
	b.ReportMetric(231/ms, "x-torch")
	b.ReportMetric(float64(net.Count()), "params")
	// Multiplications of a block and token: 12 d² of the layers and 2·49·d of attention; per image 6 d² of the modulation.
	flop := 2 * 3 * 6 * float64(batch) * (49*(12*128*128+2*49*128) + 6*128*128)
	b.ReportMetric(flop/ms/1e6, "GFLOP/s")
	b.ReportMetric(flop/ms/1e6/limit, "of-products")
}

// productSpeed is what the step's largest product alone does here and now, in GFLOP/s.
func productSpeed(tape *nn.Tape) float64 {
	const m, n, k, times = 64 * 49, 512, 128, 20
	x, w, y := gpu.CPU().From(oracle.Normal(1, m*k), m, k), gpu.CPU().From(oracle.Normal(2, n*k), n, k), gpu.CPU().Empty(m, n)
	var took time.Duration
	tape.Run(func() {
		start := time.Now()
		for range times {
			ops.Linear(y, nil, x, w, nil, ops.Identity)
		}
		took = time.Since(start)
	})
	return 2 * m * n * k * times / took.Seconds() / 1e9
}

// A step of a small network on points, where the cost is that of many short operations.
func BenchmarkTrainPoints(b *testing.B) {
	net := nn.NewParams(gpu.CPU(), gpu.Float32)
	mlp := nn.NewMLP(net.At(""), ops.SiLU, 3, 128, 128, 128, 2)
	net.Init(1)
	tape, opt := nn.NewTape(gpu.CPU(), gpu.Float32), nn.NewAdam(net, nn.AdamOptions{})
	const batch = 256
	x, y := gpu.CPU().From(oracle.Normal(1, batch*3), batch, 3), gpu.CPU().From(oracle.Normal(2, batch*2), batch, 2)
	body := func() { tape.Backward(nn.MSE(mlp.Forward(tape.Input(x)), tape.Input(y), nil)) }
	b.ReportAllocs()
	for b.Loop() {
		tape.Run(body)
		opt.Step(1e-4)
	}
	flop := 2 * 3 * float64(batch) * (3*128 + 2*128*128 + 2*128)
	b.ReportMetric(flop*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
}
