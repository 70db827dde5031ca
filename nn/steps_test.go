package nn_test

import (
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

// smallNet is a network with most kinds of operations, for what must hold of all.
func smallNet(dt gpu.DType) (net *nn.Params, loss func(tape *nn.Tape, x *nn.Var, ids *gpu.Tensor) *nn.Var) {
	net = nn.NewParams(gpu.CPU(), dt)
	emb := nn.NewEmbedding(net.At("emb"), 10, 24)
	ada := nn.NewLinear(net.At("ada"), 24, 48)
	norm := nn.NewLayerNorm(net.At("norm"), 24)
	rms := nn.NewRMSNorm(net.At("rms"), 24)
	group := nn.NewGroupNorm(net.At("group"), 4, 24)
	mlp := nn.NewMLP(net.At("mlp"), ops.GELUTanh, 24, 100, 24)
	q, k := nn.NewLinear(net.At("q"), 24, 24), nn.NewLinear(net.At("k"), 24, 24)
	last := nn.NewLinear(net.At("last"), 24, 10)
	net.Init(5)
	return net, func(tape *nn.Tape, x *nn.Var, ids *gpu.Tensor) *nn.Var {
		c := ada.Forward(emb.Forward(tape, ids).SiLU())
		h := norm.Modulate(x, c.Slice(1, 0, 24), c.Slice(1, 24, 24))
		att := q.Forward(h).MatMulNT(k.Forward(h)).Scale(0.2).Softmax().MatMul(h)
		h = x.AddMul(att, tape.Const(0.5, 1))
		h = h.Add(mlp.Forward(rms.Forward(h)))
		h = group.Forward(h.Permute(0, 2, 1)).Permute(0, 2, 1).Tap("group")
		y := last.Forward(nn.Concat(1, h, x).Mean(1).Reshape(-1, 24))
		return nn.CrossEntropy(y, ids, 0.1).Mean().Add(nn.MSE(h, x, nil))
	}
}

// pictureNet is a network of the operations on pictures, in float32.
func pictureNet() (net *nn.Params, loss func(tape *nn.Tape, x *nn.Var) *nn.Var) {
	net = nn.NewParams(gpu.CPU(), gpu.Float32)
	in, down, out := nn.NewConv2D(net.At("in"), 2, 16, 3), nn.NewConv2D(net.At("down"), 16, 16, 3), nn.NewConv2D(net.At("out"), 32, 2, 3)
	down.Config.Stride = 2
	point, norm := nn.NewConv2D(net.At("point"), 16, 48, 1), nn.NewGroupNorm(net.At("norm"), 4, 16)
	net.Init(6)
	angles := gpu.CPU().From(oracle.Normal(8, 16*4), 16, 4)
	return net, func(tape *nn.Tape, x *nn.Var) *nn.Var {
		h := in.Forward(x).SiLU()
		l := norm.Forward(down.Forward(h)).SiLU()
		n := l.Shape()[0]
		qkv := point.Forward(l).Reshape(n, 3, 2, 8, 16).Permute(1, 0, 4, 2, 3)
		q, k := qkv.Slice(0, 0, 1).Reshape(n, 16, 2, 8).Turn(angles, false), qkv.Slice(0, 1, 1).Reshape(n, 16, 2, 8).Turn(angles, false)
		att := nn.Attention(q, k, qkv.Slice(0, 2, 1).Reshape(n, 16, 2, 8), 0, nn.AttnMask{Causal: true})
		l = l.Add(att.Permute(0, 2, 3, 1).Reshape(n, 16, 4, 4)).Dropout(ops.Mask{Seed: 1, P: 0.2})
		return nn.MSE(out.Forward(nn.Concat(1, h, l.Upsample(2))), x, nil)
	}
}

func TestStepsAllocateNothing(t *testing.T) {
	for _, dt := range []gpu.DType{gpu.Float32, gpu.Float64} {
		net, loss := smallNet(dt)
		x, ids := gpu.CPU().FromAs(dt, oracle.Normal(1, 16*9*24), 16, 9, 24), gpu.CPU().FromInt32([]int32{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 3, 4, 5}, 16)
		tape := nn.NewTape(gpu.CPU(), dt)
		ema := nn.NewEMA(net, 0.99)
		for name, opt := range map[string]nn.Optimizer{
			"adam": nn.NewAdam(net, nn.AdamOptions{Decay: 0.1}), "lion": nn.NewLion(net, nn.LionOptions{}),
			"sgd": nn.NewSGD(net, nn.SGDOptions{Momentum: 0.9}), "adafactor": nn.NewAdafactor(net, nn.AdafactorOptions{Beta1: 0.9}),
		} {
			body := func() { tape.Backward(loss(tape, tape.Input(x), ids)) }
			step := func() {
				tape.Run(body)
				if _, ok := nn.ClipNorm(1, net); !ok {
					t.Error("a gradient is not finite")
				}
				opt.Step(1e-3)
				ema.Update()
			}
			step()
			step()
			before := tape.Arena().Stats()
			if n := oracle.Allocations(10, step); n >= 1 {
				t.Errorf("%v, %s: %v allocations a step", dt, name, n)
			}
			if after := tape.Arena().Stats(); after.Fresh != before.Fresh || after.Held != before.Held || after.Peak != before.Peak {
				t.Errorf("%v, %s: the arena went from %+v to %+v", dt, name, before, after)
			}
		}
	}

	net, loss := pictureNet()
	x := gpu.CPU().From(oracle.Normal(1, 20*2*8*8), 20, 2, 8, 8)
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	opt := nn.NewAdam(net, nn.AdamOptions{})
	body := func() { tape.Backward(loss(tape, tape.Input(x))) }
	step := func() {
		tape.Run(body)
		opt.Step(1e-3)
	}
	step()
	step()
	before := tape.Arena().Stats()
	if n := oracle.Allocations(10, step); n >= 1 {
		t.Errorf("pictures: %v allocations a step", n)
	}
	if after := tape.Arena().Stats(); after.Fresh != before.Fresh || after.Peak != before.Peak {
		t.Errorf("pictures: the arena went from %+v to %+v", before, after)
	}
}
