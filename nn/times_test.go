package nn_test

import (
	"math"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/internal/oracle/network"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

func TestWaves(t *testing.T) {
	for name, cfg := range map[string]ops.WaveConfig{
		"dit": {Width: 8, CosFirst: true}, "ddpm": {Width: 8, Shift: 1}, "scaled": {Width: 6, CosFirst: true, Scale: 3, Period: 100},
	} {
		scale, period := 1.0, 10000.0
		if name == "scaled" {
			scale, period = 3, 100
		}
		c := opCase{
			shapes: [][]int{{2, 3}},
			f:      func(_ *nn.Tape, x vars) *nn.Var { return x[0].Waves(cfg) },
			want: func(x [][]float64) (y []float64) {
				n := cfg.Width / 2
				for _, v := range x[0] {
					for i := range cfg.Width {
						angle := scale * v / math.Pow(period, float64(i%n)/(float64(n)-cfg.Shift))
						if (i < n) == cfg.CosFirst {
							y = append(y, math.Cos(angle))
						} else {
							y = append(y, math.Sin(angle))
						}
					}
				}
				return y
			},
		}
		t.Run(name, c.check)
	}
}

func TestTimeAndLabelEmbed(t *testing.T) {
	for name, o := range map[string]nn.TimeOptions{
		"dit": {Waves: ops.WaveConfig{Width: 8, CosFirst: true}}, "named": {Waves: ops.WaveConfig{Width: 8, Shift: 1}, Names: [2]string{"linear_1", "linear_2"}},
	} {
		t.Run(name, func(t *testing.T) {
			checkParams(t, func(s nn.Scope) func(*nn.Tape, *nn.Var) *nn.Var {
				e := nn.NewTimeEmbed(s, 6, o)
				return func(_ *nn.Tape, x *nn.Var) *nn.Var { return e.Forward(x) }
			}, 3)
		})
	}
	ids, dropped := gpu.CPU().FromInt32([]int32{2, 0, 1}, 3), gpu.CPU().FromInt32([]int32{0, 1, 0}, 3)
	build := func(s nn.Scope) func(*nn.Tape, *nn.Var) *nn.Var {
		e := nn.NewLabelEmbed(s, 4, 6)
		return func(tape *nn.Tape, x *nn.Var) *nn.Var { return x.Mul(e.Forward(tape, ids, dropped)) }
	}
	checkParams(t, build, 3, 6)

	net := nn.NewParams(gpu.CPU(), gpu.Float32)
	e := nn.NewLabelEmbed(net.At("y_embedder"), 4, 6)
	te := nn.NewTimeEmbed(net.At("t_embedder"), 6, nn.TimeOptions{})
	net.Init(1)
	for _, name := range []string{"y_embedder.embedding_table.weight", "t_embedder.mlp.0.weight", "t_embedder.mlp.0.bias", "t_embedder.mlp.2.weight", "t_embedder.mlp.2.bias"} {
		if net.Get(name) == nil {
			t.Errorf("no parameter %s", name)
		}
	}
	if s := te.First.W.Shape(); s[1] != 256 || !te.Waves.CosFirst {
		t.Errorf("first layer of shape %v, waves %+v; want 256 with the cosines first", s, te.Waves)
	}
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	rows := e.Forward(tape, ids, dropped).Value().F32()
	for i, id := range []int{2, 4, 1} {
		for j := range 6 {
			if rows[i*6+j] != e.W.Value.F32()[id*6+j] {
				t.Fatalf("row %d is not that of label %d", i, id)
			}
		}
	}
	oracle.RefusesOne(t, "LabelEmbed: labels and what is dropped have shape [3 2]", func() {
		e.Forward(tape, ids, gpu.CPU().FromInt32([]int32{0, 1}, 2))
	})
	oracle.RefusesOne(t, "id 5 at 0, want 0 to 4", func() { e.Forward(tape, gpu.CPU().FromInt32([]int32{5}, 1), nil) })
	oracle.RefusesOne(t, "TimeEmbed: times of shape [2 1], want [B]", func() { te.Forward(tape.Const(1, 2, 1)) })
	oracle.RefusesOne(t, "width 3 with shift 0", func() { tape.Const(1, 2).Waves(ops.WaveConfig{Width: 3}) })
	oracle.RefusesOne(t, "width 2 with shift 1", func() { tape.Const(1, 2).Waves(ops.WaveConfig{Width: 2, Shift: 1}) })
}

func TestPlaces(t *testing.T) {
	const h, w, d = 2, 3, 8
	v := nn.SinCos2D(gpu.CPU(), gpu.Float64, h, w, d, 0.5).F64()
	for i, got := range v {
		row, col, e := i/d/w, i/d%w, i%d
		place := 0.5 * float64(col) // the first half is the column's
		if e >= 4 {
			place = 0.5 * float64(row)
		}
		angle := place / math.Pow(10000, float64(e%2)/2)
		want := math.Sin(angle)
		if e%4 >= 2 {
			want = math.Cos(angle)
		}
		if math.Abs(got-want) > 1e-15 {
			t.Fatalf("cell %d,%d element %d is %v, want %v", row, col, e, got, want)
		}
	}
	angles := nn.RotaryConfig{Height: h, Width: w, Head: d, Theta: 100, Scale: 2}.Angles(gpu.CPU(), gpu.Float64).F64()
	for i, got := range angles {
		row, col, e := i/4/w, i/4%w, i%4
		place := 2 * float64(row) // the first half is the row's
		if e >= 2 {
			place = 2 * float64(col)
		}
		if want := place / math.Pow(100, float64(e%2)/2); math.Abs(got-want) > 1e-15*(1+want) {
			t.Fatalf("cell %d,%d angle %d is %v, want %v", row, col, e, got, want)
		}
	}
	for i, got := range (nn.RotaryConfig{Height: h, Width: w, Head: d}).Angles(gpu.CPU(), gpu.Float32).F32() {
		if want := angles[i] / 2; i%2 == 0 && math.Abs(float64(got)-want) > 1e-6 { // the first frequency is 1 for all
			t.Fatalf("float32: angle %d is %v, want %v", i, got, want)
		}
	}
	oracle.RefusesOne(t, "SinCos2D: width 6 for a grid of 2×3", func() { nn.SinCos2D(gpu.CPU(), gpu.Float32, 2, 3, 6, 1) })
	oracle.RefusesOne(t, "want sizes >= 1, heads of a multiple of 4", func() { nn.RotaryConfig{Height: 2, Width: 2, Head: 6}.Angles(gpu.CPU(), gpu.Float32) })
}

// The layers of this file and of patches allocate nothing once a tape has seen a step.
func TestTokensAllocateNothing(t *testing.T) {
	net := nn.NewParams(gpu.CPU(), gpu.Float32)
	embed, times, labels := nn.NewPatchEmbed(net.At("x"), 2, 24, 2), nn.NewTimeEmbed(net.At("t"), 24, nn.TimeOptions{}), nn.NewLabelEmbed(net.At("y"), 3, 24)
	mlp, mlp2, out := nn.NewSwiGLU(net.At("mlp"), 24, 40), nn.NewGEGLU(net.At("mlp2"), 24, 40), nn.NewLinear(net.At("out"), 24, 8)
	net.Init(4)
	const n = 6
	c := opCase{shapes: [][]int{{n, 2, 8, 8}, {n}}}
	leaves := c.leaves(gpu.Float32)
	ids, dropped := gpu.CPU().FromInt32([]int32{0, 1, 2, 3, 0, 1}, n), gpu.CPU().FromInt32([]int32{0, 1, 0, 0, 1, 0}, n)
	network.StepsAllocateNothing(t, net, gpu.Float32, func(tape *nn.Tape) *nn.Var {
		x := tape.Input(leaves[0])
		c := times.Forward(tape.Input(leaves[1])).Add(labels.Forward(tape, ids, dropped))
		h := embed.Forward(x).Add(c.Reshape(n, 1, 24))
		h = h.Add(mlp.Forward(h))
		h = h.Add(mlp2.Forward(h))
		return nn.MSE(out.Forward(h).Unpatchify(2, 8, 8, nn.ChannelsLast).PixelUnshuffle(2).PixelShuffle(2), x, nil)
	})
}
