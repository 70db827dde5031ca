package nn_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

func weights(net *nn.Params, name string) []float64 {
	if p := net.Get(name); p != nil {
		return p.Value.F64()
	}
	return nil
}

// rowsTimes is x·wᵀ + b of rows of length in; b may be nil.
func rowsTimes(x, w, b []float64, in int) []float64 {
	out := len(w) / in
	y := make([]float64, len(x)/in*out)
	for i := range y {
		r, o := i/out, i%out
		if b != nil {
			y[i] = b[o]
		}
		for j := range in {
			y[i] += x[r*in+j] * w[o*in+j]
		}
	}
	return y
}

// scaledRows is rows of length d normalised; w and b may be nil.
func scaledRows(rms bool, eps float64, x []float64, d int, w, b []float64) []float64 {
	y := make([]float64, len(x))
	for r := 0; r < len(x); r += d {
		var m, s float64
		if !rms {
			for _, v := range x[r:][:d] {
				m += v / float64(d)
			}
		}
		for _, v := range x[r:][:d] {
			s += (v - m) * (v - m) / float64(d)
		}
		for i := range d {
			y[r+i] = (x[r+i] - m) / math.Sqrt(s+eps) * w[i]
			if b != nil {
				y[r+i] += b[i]
			}
		}
	}
	return y
}

// meet is softmax(q·kᵀ/√d)·v of b samples and h heads over hkv, with at most lens[b] keys.
func meet(q, k, v []float64, b, h, hkv, d int, lens []int32) []float64 {
	lq, lk := len(q)/(b*h*d), len(k)/(b*hkv*d)
	y := make([]float64, len(q))
	for i := range b * lq * h {
		s, head := i/(lq*h), i%h*hkv/h
		n := lk
		if lens != nil {
			n = int(lens[s])
		}
		p, sum := make([]float64, n), 0.0
		for j := range n {
			for c := range d {
				p[j] += q[i*d+c] * k[((s*lk+j)*hkv+head)*d+c] / math.Sqrt(float64(d))
			}
			p[j] = math.Exp(p[j])
			sum += p[j]
		}
		for j := range n {
			for c := range d {
				y[i*d+c] += p[j] / sum * v[((s*lk+j)*hkv+head)*d+c]
			}
		}
	}
	return y
}

func TestSelfAttention(t *testing.T) {
	const b, l, width = 2, 3, 8
	angles := gpu.CPU().From(oracle.Normal(9, l*2), l, 2)
	for name, tc := range map[string]struct {
		o     nn.AttnOptions
		turn  bool
		names string // of the parameters
	}{
		"packed":     {o: nn.AttnOptions{Heads: 2}, names: "qkv.weight qkv.bias proj.weight proj.bias"},
		"separate":   {o: nn.AttnOptions{Heads: 2, Names: nn.SeparateNames, NoBias: true}, names: "to_q.weight to_k.weight to_v.weight to_out.0.weight to_out.0.bias"},
		"by head":    {o: nn.AttnOptions{Heads: 2, ByHead: true, PointAxes: 1, NoOutBias: true}, names: "qkv.weight qkv.bias proj.weight"},
		"by channel": {o: nn.AttnOptions{Heads: 2, ByChannel: true, PointAxes: 2}, names: "qkv.weight qkv.bias proj.weight proj.bias"},
		"shared":     {o: nn.AttnOptions{Heads: 4, KVHeads: 2, HeadDim: 4, Out: 5}, names: "qkv.weight qkv.bias proj.weight proj.bias"},
		"layer":      {o: nn.AttnOptions{Heads: 2, QKNorm: nn.QKLayer}, names: "qkv.weight qkv.bias q_norm.weight q_norm.bias k_norm.weight k_norm.bias proj.weight proj.bias"},
		"rms":        {o: nn.AttnOptions{Heads: 2, QKNorm: nn.QKRMS, NormEps: 1e-3}, turn: true, names: "qkv.weight qkv.bias q_norm.weight k_norm.weight proj.weight proj.bias"},
		"layer all":  {o: nn.AttnOptions{Heads: 2, QKNorm: nn.QKLayerWide, PointAxes: 2}, names: "qkv.weight qkv.bias q_norm.weight q_norm.bias k_norm.weight k_norm.bias proj.weight proj.bias"},
		"rms all":    {o: nn.AttnOptions{Heads: 4, KVHeads: 2, QKNorm: nn.QKRMSWide}, names: "qkv.weight qkv.bias q_norm.weight k_norm.weight proj.weight proj.bias"},
	} {
		t.Run(name, func(t *testing.T) {
			var at *gpu.Tensor
			if tc.turn {
				at = angles
			}
			checkParams(t, func(s nn.Scope) func(*nn.Tape, *nn.Var) *nn.Var {
				a := nn.NewSelfAttention(s, width, tc.o)
				return func(tape *nn.Tape, x *nn.Var) *nn.Var {
					if at != nil && tape.DType() == gpu.Float64 {
						return a.Forward(x, nn.AttnMask{}, doubled(at))
					}
					return a.Forward(x, nn.AttnMask{}, at)
				}
			}, b, l, width)
			net := nn.NewParams(gpu.CPU(), gpu.Float64)
			a := nn.NewSelfAttention(net.At("a"), width, tc.o)
			var names []string
			for _, p := range net.All() {
				p.Start = nn.Normal(0.5)
				names = append(names, strings.TrimPrefix(p.Name, "a."))
				if ones := len(p.Shape()) - 2; strings.Contains(p.Name, "v.weight") && ones != tc.o.PointAxes {
					t.Errorf("%s has shape %v, want %d axes of size 1", p.Name, p.Shape(), tc.o.PointAxes)
				}
			}
			if got := strings.Join(names, " "); got != tc.names {
				t.Errorf("parameters %s, want %s", got, tc.names)
			}
			net.Init(3)
			x := gpu.CPU().FromAs(gpu.Float64, oracle.Normal(1, b*l*width), b, l, width)
			tape := nn.NewTape(gpu.CPU(), gpu.Float64)
			var got []float64
			tape.Run(func() {
				if at != nil {
					got = append(got, a.Forward(tape.Input(x), nn.AttnMask{}, doubled(at)).Value().F64()...)
					return
				}
				got = append(got, a.Forward(tape.Input(x), nn.AttnMask{}, nil).Value().F64()...)
			})
			want := selfByHand(net, x.F64(), b, l, width, tc.o, at)
			if len(want) != len(got) {
				t.Fatalf("%d numbers, want %d", len(got), len(want))
			}
			oracle.Close64(t, got, oracle.Tol{Abs: 1e-12}, func(i int) float64 { return want[i] })
		})
	}
}

func doubled(x *gpu.Tensor) *gpu.Tensor { return gpu.CPU().FromAs(gpu.Float64, x.F32(), x.Shape()...) }

// selfByHand is the layer by its definition in float64.
func selfByHand(net *nn.Params, x []float64, b, l, width int, o nn.AttnOptions, angles *gpu.Tensor) []float64 {
	h, hkv, d := o.Heads, o.KVHeads, o.HeadDim
	if hkv == 0 {
		hkv = h
	}
	if d == 0 {
		d = width / h
	}
	part := make([][]float64, 3)
	if o.Names.QKV != "" || o.Names.Q == "" {
		y := rowsTimes(x, weights(net, "a.qkv.weight"), weights(net, "a.qkv.bias"), width)
		n := (h + 2*hkv) * d
		for r := range b * l {
			row := y[r*n:][:n]
			if o.ByHead || o.ByChannel {
				for i := range n {
					k := i / d % 3
					if o.ByChannel {
						k = i % 3
					}
					part[k] = append(part[k], row[i])
				}
				continue
			}
			part[0], part[1], part[2] = append(part[0], row[:h*d]...), append(part[1], row[h*d:(h+hkv)*d]...), append(part[2], row[(h+hkv)*d:]...)
		}
	} else {
		for i, n := range []string{"q", "k", "v"} {
			part[i] = rowsTimes(x, weights(net, "a.to_"+n+".weight"), nil, width)
		}
	}
	eps := o.NormEps
	if eps == 0 {
		eps = 1e-6
	}
	for i, n := range []string{"q", "k"} {
		w, bias := weights(net, "a."+n+"_norm.weight"), weights(net, "a."+n+"_norm.bias")
		if w != nil {
			part[i] = scaledRows(bias == nil, eps, part[i], len(w), w, bias)
		}
		if angles != nil {
			heads := len(part[i]) / (b * l * d)
			for j := 0; j < len(part[i]); j += 2 {
				a := float64(angles.F32()[j/(heads*d)%l*d/2+j%d/2])
				u, v := part[i][j], part[i][j+1]
				part[i][j], part[i][j+1] = u*math.Cos(a)-v*math.Sin(a), u*math.Sin(a)+v*math.Cos(a)
			}
		}
	}
	out := "a.proj"
	if o.Names.Q != "" {
		out = "a.to_out.0"
	}
	return rowsTimes(meet(part[0], part[1], part[2], b, h, hkv, d, nil), weights(net, out+".weight"), weights(net, out+".bias"), h*d)
}

func TestCrossAttention(t *testing.T) {
	const b, l, width = 2, 3, 6
	ctx := [][]int{{2, 4, 5}, {2, 2, 7}}
	lens := gpu.CPU().FromInt32([]int32{3, 0}, 2)
	opts := nn.AttnOptions{Heads: 2, QKNorm: nn.QKRMS, NoBias: true}
	build := func(s nn.Scope) *nn.CrossAttention {
		return nn.NewCrossAttention(s, width, 5, opts).Add(s.At("image"), 7)
	}
	forward := func(a *nn.CrossAttention, x, first, second *nn.Var) *nn.Var {
		return a.Forward(x, nn.Context{States: first, Lens: lens}, nn.Context{States: second, Factor: 0.5})
	}
	in := func(dt gpu.DType, i int) *gpu.Tensor {
		return gpu.CPU().FromAs(dt, oracle.Normal(uint64(40+i), size(ctx[i])), ctx[i]...)
	}
	t.Run("parameters", func(t *testing.T) {
		checkParams(t, func(s nn.Scope) func(*nn.Tape, *nn.Var) *nn.Var {
			a := build(s)
			return func(tape *nn.Tape, x *nn.Var) *nn.Var {
				return forward(a, x, tape.Input(in(tape.DType(), 0)), tape.Input(in(tape.DType(), 1)))
			}
		}, b, l, width)
	})
	nets := map[gpu.DType]*nn.CrossAttention{}
	var net *nn.Params
	for _, dt := range []gpu.DType{gpu.Float32, gpu.Float64} {
		net = nn.NewParams(gpu.CPU(), dt)
		nets[dt] = build(net.At("a"))
		net.Init(3)
	}
	c := opCase{
		shapes: [][]int{{b, l, width}, ctx[0], ctx[1]},
		f:      func(tape *nn.Tape, x vars) *nn.Var { return forward(nets[tape.DType()], x[0], x[1], x[2]) },
		want: func(x [][]float64) []float64 {
			w := func(name string) []float64 { return weights(net, "a."+name+".weight") }
			q := scaledRows(true, 1e-6, rowsTimes(x[0], w("to_q"), nil, width), 3, w("norm_q"), nil)
			k1 := scaledRows(true, 1e-6, rowsTimes(x[1], w("to_k"), nil, 5), 3, w("norm_k"), nil)
			k2 := scaledRows(true, 1e-6, rowsTimes(x[2], w("image.to_k"), nil, 7), 3, w("image.norm_k"), nil)
			y := meet(q, k1, rowsTimes(x[1], w("to_v"), nil, 5), b, 2, 2, 3, lens.I32())
			for i, v := range meet(q, k2, rowsTimes(x[2], w("image.to_v"), nil, 7), b, 2, 2, 3, nil) {
				y[i] += v / 2
			}
			return rowsTimes(y, w("to_out.0"), weights(net, "a.to_out.0.bias"), 6)
		},
	}
	t.Run("contexts", c.check)
	tape := nn.NewTape(gpu.CPU(), gpu.Float64)
	tape.Run(func() { // without any context the projection's bias is left
		x := tape.Input(gpu.CPU().FromAs(gpu.Float64, oracle.Normal(1, b*l*width), b, l, width))
		y := nets[gpu.Float64].Forward(x, nn.Context{}, nn.Context{})
		for i, v := range y.Value().F64() {
			if want := weights(net, "a.to_out.0.bias")[i%width]; v != want {
				t.Fatalf("without contexts: %v at %d, want the bias %v", v, i, want)
			}
		}
	})
}

func TestAttentionMapsOnTape(t *testing.T) {
	lens := gpu.CPU().FromInt32([]int32{4, 2}, 2)
	for name, m := range map[string]nn.AttnMask{"full": {}, "causal": {Causal: true}, "padding": {KeyLens: lens}} {
		for _, hkv := range []int{2, 4} {
			for _, mean := range []bool{false, true} {
				c := opCase{shapes: [][]int{{2, 3, 4, 8}, {2, 4, hkv, 8}}, f: func(_ *nn.Tape, x vars) *nn.Var {
					return nn.AttentionMaps(x[0], x[1], 0.3, m, ops.MapSelect{Mean: mean})
				}}
				t.Run(fmt.Sprint(name, hkv, mean), c.check)
			}
		}
	}
	// A choice is a part of all maps.
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	tape.Run(func() {
		q, k := tape.Leaf(gpu.CPU().From(oracle.Normal(1, 2*3*4*8), 2, 3, 4, 8)), tape.Leaf(gpu.CPU().From(oracle.Normal(2, 2*5*2*8), 2, 5, 2, 8))
		sel := ops.MapSelect{Heads: []int{3, 0}, Keys: []int{4, 1, 2}}
		all, some := nn.AttentionMaps(q, k, 0, nn.AttnMask{}, ops.MapSelect{}), nn.AttentionMaps(q, k, 0, nn.AttnMask{}, sel)
		d := gpu.CPU().From(oracle.Normal(3, q.Value().Len()), q.Shape()...)
		for what, f := range map[string]func(v *nn.Var) *nn.Var{
			"maps":   func(v *nn.Var) *nn.Var { return v },
			"moving": func(v *nn.Var) *nn.Var { return tape.JVP(v, vars{q}, []*gpu.Tensor{d}) },
		} {
			want, got := f(all).Value().F32(), f(some).Value().F32()
			oracle.Close(t, got, oracle.Tol{Abs: 1e-6}, func(i int) float64 {
				b, h, r, key := i/18, sel.Heads[i/9%2], i/3%3, sel.Keys[i%3]
				return float64(want[((b*4+h)*3+r)*5+key])
			})
			if t.Failed() {
				t.Fatal(what)
			}
		}
	})
	c := opCase{shapes: [][]int{{2, 4, 3, 5}, {2, 5, 2, 8}}, f: func(_ *nn.Tape, x vars) *nn.Var { return nn.AttentionFromMaps(x[0], x[1]) },
		want: func(x [][]float64) []float64 {
			y := make([]float64, 2*3*4*8)
			for i := range y {
				b, q, h, d := i/96, i/32%3, i/8%4, i%8
				for j := range 5 {
					y[i] += x[0][((b*4+h)*3+q)*5+j] * x[1][((b*5+j)*2+h/2)*8+d]
				}
			}
			return y
		}}
	t.Run("values", c.check)
	shared := opCase{shapes: [][]int{{2, 3, 4, 8}, {2, 5, 2, 8}, {2, 5, 2, 8}}, f: func(_ *nn.Tape, x vars) *nn.Var { return nn.Attention(x[0], x[1], x[2], 0, nn.AttnMask{}) },
		want: func(x [][]float64) []float64 { return meet(x[0], x[1], x[2], 2, 4, 2, 8, nil) }}
	t.Run("shared heads", shared.check)
}

// What is put in place of the maps is what values are weighted by, and looking at them
// changes the result by rounding only.
func TestAttentionTaps(t *testing.T) {
	net := nn.NewParams(gpu.CPU(), gpu.Float32)
	a := nn.NewSelfAttention(net.At("block.attn"), 8, nn.AttnOptions{Heads: 2})
	net.Init(1)
	x := gpu.CPU().From(oracle.Normal(1, 2*5*8), 2, 5, 8)
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	run := func() (y []float32) {
		tape.Run(func() { y = append(y, a.Forward(tape.Input(x), nn.AttnMask{}, nil).Value().F32()...) })
		return y
	}
	plain := run()
	seen := map[string][]int{}
	for _, name := range []string{"q", "k", "v", "maps", "out"} {
		tape.OnTap("block.attn."+name, func(v *nn.Var) *nn.Var { seen[name] = append([]int(nil), v.Shape()...); return v })
	}
	looked := run()
	oracle.Close(t, looked, oracle.Tol{Abs: 1e-6}, func(i int) float64 { return float64(plain[i]) })
	if got := fmt.Sprint(seen); got != "map[k:[2 5 2 4] maps:[2 2 5 5] out:[2 5 8] q:[2 5 2 4] v:[2 5 2 4]]" {
		t.Errorf("tapped %s", got)
	}
	tape.OnTap("block.attn.maps", func(v *nn.Var) *nn.Var { return v.Tape().Const(0, v.Shape()...) })
	for i, v := range run() {
		if want := net.Get("block.attn.proj.bias").Value.F32()[i%8]; v != want {
			t.Fatalf("with maps of zeros: %v at %d, want the bias %v", v, i, want)
		}
	}
}

func TestAttentionLayersAllocateNothing(t *testing.T) {
	net := nn.NewParams(gpu.CPU(), gpu.Float32)
	self := nn.NewSelfAttention(net.At("self"), 16, nn.AttnOptions{Heads: 4, KVHeads: 2, QKNorm: nn.QKRMS})
	cross := nn.NewCrossAttention(net.At("cross"), 16, 5, nn.AttnOptions{Heads: 2}).Add(net.At("cross.image"), 7)
	net.Init(1)
	x, one, two := gpu.CPU().From(oracle.Normal(1, 3*9*16), 3, 9, 16), gpu.CPU().From(oracle.Normal(2, 3*4*5), 3, 4, 5), gpu.CPU().From(oracle.Normal(3, 3*2*7), 3, 2, 7)
	angles, lens := gpu.CPU().From(oracle.Normal(4, 9*2), 9, 2), gpu.CPU().FromInt32([]int32{4, 2, 0}, 3)
	tape, opt := nn.NewTape(gpu.CPU(), gpu.Float32), nn.NewAdam(net, nn.AdamOptions{})
	tape.OnTap("self.maps", func(v *nn.Var) *nn.Var { return v })
	body := func() {
		h := self.Forward(tape.Input(x), nn.AttnMask{}, angles)
		h = cross.Forward(h, nn.Context{States: tape.Input(one), Lens: lens}, nn.Context{States: tape.Input(two), Factor: 0.5})
		tape.Backward(nn.MSE(h, tape.Input(x), nil))
	}
	step := func() {
		tape.Run(body)
		opt.Step(1e-3)
	}
	step()
	step()
	if n := oracle.Allocations(10, step); n >= 1 {
		t.Errorf("%v allocations a step", n)
	}
}

func TestAttentionLayersRefuse(t *testing.T) {
	net := nn.NewParams(gpu.CPU(), gpu.Float32)
	self := nn.NewSelfAttention(net.At("self"), 8, nn.AttnOptions{Heads: 2})
	cross := nn.NewCrossAttention(net.At("cross"), 8, 5, nn.AttnOptions{Heads: 2})
	net.Init(1)
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	zeros := func(shape ...int) *nn.Var { return tape.Const(0, shape...) }
	fresh := func() nn.Scope { return nn.NewParams(gpu.CPU(), gpu.Float32).At("layer") }
	oracle.Refuses(t, map[string]func(){
		"layer: 0 heads":           func() { nn.NewSelfAttention(fresh(), 8, nn.AttnOptions{}) },
		"width 8 in 3 heads":       func() { nn.NewSelfAttention(fresh(), 8, nn.AttnOptions{Heads: 3}) },
		"4 heads over 3":           func() { nn.NewCrossAttention(fresh(), 8, 8, nn.AttnOptions{Heads: 4, KVHeads: 3}) },
		"ByHead":                   func() { nn.NewCrossAttention(fresh(), 8, 8, nn.AttnOptions{Heads: 4, ByHead: true}) },
		"QKNorm 9":                 func() { nn.NewSelfAttention(fresh(), 8, nn.AttnOptions{Heads: 4, QKNorm: 9}) },
		"SelfAttention: tokens":    func() { self.Forward(zeros(2, 8), nn.AttnMask{}, nil) },
		"has shape [2 3 7], the w": func() { self.Forward(zeros(2, 3, 7), nn.AttnMask{}, nil) },
		"CrossAttention: tokens":   func() { cross.Forward(zeros(2, 8), nn.Context{}) },
		"2 contexts, the layer":    func() { cross.Forward(zeros(2, 3, 8), nn.Context{}, nn.Context{}) },
		"[3 4 5] for 2 samples":    func() { cross.Forward(zeros(2, 3, 8), nn.Context{States: zeros(3, 4, 5)}) },
		"maps [1 2 3] and val":     func() { nn.AttentionFromMaps(zeros(1, 2, 3), zeros(1, 2, 3, 4)) },
		"AttentionMaps: shapes":    func() { nn.AttentionMaps(zeros(1, 2, 3), zeros(1, 2, 3, 4), 0, nn.AttnMask{}, ops.MapSelect{}) },
	})
}
