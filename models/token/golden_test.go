package token_test

import (
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle/network"
	"github.com/fidlab/fidlab/models/token"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/nn/tower"
)

// tolerances are of the greatest element: float64's is what the peers' own functions leave.
var tolerances = map[gpu.DType]float64{gpu.Float32: 1e-4, gpu.Float64: 1e-9}

// The peers are GPT-2 and Llama of transformers and torch's Transformer; see
// scripts/golden/tokens.py.
func TestGoldenDecoders(t *testing.T) {
	cases := 0
	for name, c := range map[string]token.Config{
		"gpt2": {Vocab: 17, MaxLen: 12, Width: 16, Depth: 2, Heads: 2, Act: tower.GELUTanh, Causal: true, Tied: true},
		"llama": {Vocab: 19, MaxLen: 16, Width: 24, Depth: 2, Heads: 4, KVHeads: 2, Hidden: 32, Act: tower.SwiGLU, RMS: true, Eps: 1e-5,
			NoBias: true, Causal: true, Places: token.Rotary, Halves: true},
	} {
		for dt, tol := range tolerances {
			f := network.Open(t, "token", name+".safetensors")
			net := nn.NewParams(gpu.CPU(), dt)
			m := token.New(net.At(""), c)
			net.Init(1)
			f.Load(net)
			tape := nn.NewTape(gpu.CPU(), dt)
			tape.Run(func() {
				y := m.Forward(tape, f.Ints("ids"), token.Inputs{})
				f.Near("y", y.Value(), tol)
				tape.BackwardFrom(y, f.Tensor(dt, "gy"))
			})
			cases += f.Grads(net, tol)
		}
	}
	if cases != 2*(28+17) {
		t.Errorf("%d gradients were compared", cases)
	}
}

func TestGoldenEncoderDecoder(t *testing.T) {
	cases := 0
	for dt, tol := range tolerances {
		f := network.Open(t, "token", "pair.safetensors")
		net := nn.NewParams(gpu.CPU(), dt)
		m := token.NewPair(net.At(""),
			token.Config{Out: -1, MaxLen: 7, Width: 16, Depth: 2, Heads: 2, Hidden: 24, Post: true, Places: token.None},
			token.Config{Out: -1, MaxLen: 5, Width: 16, Depth: 2, Heads: 4, Hidden: 40, Places: token.None, Causal: true, Cross: 16})
		net.Init(1)
		f.Load(net)
		tape := nn.NewTape(gpu.CPU(), dt)
		tape.Run(func() {
			lens := f.Ints("lens")
			states := m.Encoder.ForwardStates(tape.Input(f.Tensor(dt, "x")), token.Inputs{Lens: lens})
			y := m.Decoder.ForwardStates(tape.Input(f.Tensor(dt, "target")), token.Inputs{Context: nn.Context{States: states, Lens: lens}})
			f.Near("y", y.Value(), tol)
			tape.BackwardFrom(y, f.Tensor(dt, "gy"))
		})
		cases += f.Grads(net, tol)
	}
	if cases != 2*(24+2*22+2) {
		t.Errorf("%d gradients were compared", cases)
	}
}
