package dit

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/tensor"
)

func total(n *Net, tokens int, o Options) float64 {
	blocks, sum := n.Costs(tokens, o)
	for _, v := range blocks {
		sum += v
	}
	return sum
}

func unlaid(c Config) *Net { return New(nn.NewParams(gpu.CPU(), gpu.Float32).At(""), c) }

// Multiplications and additions as torch counts them.
func TestGoldenCosts(t *testing.T) {
	ran := 0
	for name, c := range goldens {
		f, err := tensor.OpenSafetensors(oracle.Golden(t, "dit", name+".safetensors"))
		if err != nil {
			t.Fatal(err)
		}
		samples := read(t, f, "in.t").Len()
		tokens, d := 0, c.Dim
		for n := range c.Tokens {
			tokens = read(t, f, "in."+n).Shape[1]
		}
		sum := total(unlaid(c), tokens, Options{})
		all, last := c.Height*c.Width/(c.Patch*c.Patch), d*c.Patch*c.Patch*c.Channels
		switch name { // what peers do and we don't need to
		case "diffusers": // time and class are embedded in each of two blocks and for the last layer
			sum += 2 * float64(256*d+d*d)
		case "uvit": // the last layer is also done for time and class, and its result left
			sum += 2 * float64(last)
		case "joined":
			sum += float64((1 + tokens) * last)
		case "few": // values and what follows their mean, and the few tokens' layer, for all; means are not counted
			sum += float64((all-1)*2*d*d + (all-9)*d*d - 9*all*d)
		}
		sum *= float64(2 * samples)
		if want := f.Meta["flops"]; fmt.Sprintf("%.0f", sum) != want {
			t.Errorf("%s: %.0f operations, torch counts %s", name, sum, want)
		}
		f.Close()
		ran++
	}
	if ran != 8 {
		t.Errorf("%d cases, want 8", ran)
	}
}

// What papers say that networks cost, in 10⁹ multiplications with additions: Table 4 of the
// paper of DiT, Table 1 of that of U-ViT.
func TestPublishedCosts(t *testing.T) {
	for name, want := range map[string]float64{
		"DiT-S/8": 0.36, "DiT-S/4": 1.41, "DiT-S/2": 6.06, "DiT-B/8": 1.42, "DiT-B/4": 5.56, "DiT-B/2": 23.01,
		"DiT-L/8": 5.01, "DiT-L/4": 19.70, "DiT-L/2": 80.71, "DiT-XL/8": 7.39, "DiT-XL/4": 29.05, "DiT-XL/2": 118.64,
		"U-ViT-L/2": 77, "U-ViT-H/2": 133,
	} {
		c, err := Preset(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := total(unlaid(c), 0, Options{}) / 1e9; math.Abs(got-want) > 0.01*want+0.005 {
			t.Errorf("%s costs %.2f, the paper has %.2f", name, got, want)
		}
	}
	// SparseDiT of 28 blocks (one of Pool, four times Merge, three, Recover, one, then three) on
	// 8×8 tokens: 683 M parameters and 67.6·10⁹ in the log of the authors' run.
	c, _ := Preset("DiT-XL/2")
	c.Grid, c.Blocks = 8, []BlockKind{Pool}
	for range 4 {
		c.Blocks = append(c.Blocks, Merge, Dense, Dense, Dense, Recover, Dense)
	}
	c.Blocks = append(c.Blocks, Dense, Dense, Dense)
	n := unlaid(c)
	if got := total(n, 0, Options{}) / 1e9; math.Abs(got-67.6) > 0.01*67.6 {
		t.Errorf("28 blocks of few tokens cost %.2f, the log has 67.6", got)
	}
	if got := float64(n.Params().Count()) / 1e6; math.Abs(got-683) > 1 {
		t.Errorf("28 blocks of few tokens have %.1f M parameters, the log has 683", got)
	}
}

// Costs follow what is left out, the grid, and sequences.
func TestCosts(t *testing.T) {
	c := variants()["sparse"]
	n := unlaid(c)
	all, _ := n.Costs(0, Options{})
	less, _ := n.Costs(0, Options{Skip: []bool{true, false, false, false, false, true}})
	if less[0] != 0 || less[5] != 0 || !slices.Equal(less[1:5], all[1:5]) {
		t.Errorf("costs %v, without the first and the last block %v", all, less)
	}
	if one := total(n, 0, Options{Grid: 1}); !(one < total(n, 0, Options{})) {
		t.Errorf("one token costs %v", one)
	}
	// A dense block on 9 tokens: 4·8² and 2·8·16 products a token, 2·81·8 of attention, 6·8² of the modulation.
	if want := float64(9*(4*64+2*8*16) + 2*81*8 + 6*64); all[3] != want {
		t.Errorf("a block on 9 tokens costs %v, want %v", all[3], want)
	}
	if want := float64(24*(4*64+2*8*16) + 2*24*24*8 + 6*64); all[5] != want {
		t.Errorf("a block on 24 tokens costs %v, want %v", all[5], want)
	}
	x := unlaid(variants()["cross"])
	if got, want := total(x, 5, Options{})-total(x, 0, Options{}), float64(2*(5*2*8*(5+3)+2*2*24*5*8)); got != want {
		t.Errorf("two sequences of 5 cost %v more, want %v", got, want)
	}
	j := unlaid(variants()["join"])
	if got, want := total(j, 3, Options{})-total(j, 0, Options{}), float64(3*5*8+2*(3*(4*64+2*8*16)+2*(27*27-24*24)*8)); got != want {
		t.Errorf("3 joined tokens cost %v more, want %v", got, want)
	}
}

// The derivative in a direction of pictures and times against differences.
func TestDirections(t *testing.T) {
	for name, c := range variants() {
		n := build(c, gpu.Float64, false)
		tape := nn.NewTape(gpu.CPU(), gpu.Float64)
		at := func(h float64, jvp bool) (y []float64) {
			b := inputsOf(&c, gpu.Float64, 2)
			dx, dt := gpu.CPU().FromAs(gpu.Float64, oracle.Normal(5, b.x.Len()), b.x.Shape()...), gpu.CPU().From64([]float64{1, -0.5}, 2)
			for i, d := range dx.F64() {
				b.x.F64()[i] += h * d
			}
			for i, d := range dt.F64() {
				b.time.F64()[i] += h * d
			}
			tape.Run(func() {
				x, time, in, o := b.on(tape, tape.Leaf)
				out := n.ForwardWith(x, time, in, o)
				if jvp {
					out = tape.JVP(out, []*nn.Var{x, time}, []*gpu.Tensor{dx, dt})
				}
				y = floats(out.Value())
			})
			return y
		}
		const h = 1e-5
		got, up, low := at(0, true), at(h, false), at(-h, false)
		for i, v := range got {
			if want := (up[i] - low[i]) / (2 * h); !(math.Abs(v-want) <= 1e-6*(1+math.Abs(want))) {
				t.Fatalf("%s: %v at %d, differences give %v", name, v, i, want)
			}
		}
	}
}
