package ops_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/ops"
)

// attnCall is a call of Attention, and of its backward with the same, that fits until it is spoiled.
type attnCall struct {
	out, lse, dq, dk, dv, dbias, dout *gpu.Tensor
	in                                ops.AttentionInput
	cfg                               ops.AttentionConfig
	backward                          bool
}

func TestAttentionRefuses(t *testing.T) {
	d := gpu.CPU()
	f := func(shape ...int) *gpu.Tensor { return d.New(gpu.Float32, shape...) }
	ints := func(v ...int32) *gpu.Tensor { return d.FromInt32(v, len(v)) }
	several := func(c *attnCall) {
		c.in = ops.AttentionInput{Q: f(5, 4, 8), K: f(7, 2, 8), V: f(7, 2, 8), CuQ: ints(0, 2, 5), CuK: ints(0, 3, 7), MaxQ: 3, MaxK: 4}
		c.out, c.lse = f(5, 4, 8), f(4, 5)
	}
	back := func(c *attnCall) { c.backward = true }
	for _, tc := range []struct {
		want  string // in the message
		spoil func(c *attnCall)
	}{
		{"Q or K is nil", func(c *attnCall) { c.in.Q = nil }},
		{"Q or K is nil", func(c *attnCall) { c.in.K = nil }},
		{"V is nil", func(c *attnCall) { c.in.V = nil }},
		{"out is nil", func(c *attnCall) { c.out = nil }},
		{"lse is nil", func(c *attnCall) { c.lse = nil }},
		{"want Float32, Float16 or BFloat16", func(c *attnCall) { c.in.Q = d.Empty64(2, 3, 4, 8) }},
		{"want one dtype", func(c *attnCall) { c.in.K = d.New(gpu.Float16, 2, 5, 2, 8) }},
		{"V is", func(c *attnCall) { c.in.V = d.New(gpu.BFloat16, 2, 5, 2, 8) }},
		{"out is", func(c *attnCall) { c.out = d.New(gpu.Float16, 2, 3, 4, 8) }},
		{"lse is", func(c *attnCall) { c.lse = d.New(gpu.Float16, 2, 4, 3) }},
		{"want [B, L, heads, D]", func(c *attnCall) { c.in.Q = f(3, 4, 8) }},
		{"want [B, L, heads, D]", func(c *attnCall) { c.in.K = f(2, 5, 2, 8, 1) }},
		{"8 and 16 elements", func(c *attnCall) { c.in.K = f(2, 5, 2, 16) }},
		{"1 to 256", func(c *attnCall) { c.in.Q, c.in.K = f(2, 3, 4, 257), f(2, 5, 2, 257) }},
		{"1 to 256", func(c *attnCall) { c.in.Q, c.in.K = f(2, 3, 4, 0), f(2, 5, 2, 0) }},
		{"4 query heads over 3 key heads", func(c *attnCall) { c.in.K = f(2, 5, 3, 8) }},
		{"4 query heads over 0 key heads", func(c *attnCall) { c.in.K = f(2, 5, 0, 8) }},
		{"0 query heads", func(c *attnCall) { c.in.Q = f(2, 3, 0, 8) }},
		{"2 and 3 sequences", func(c *attnCall) { c.in.K = f(3, 5, 2, 8) }},
		{"V is", func(c *attnCall) { c.in.V = f(2, 6, 2, 8) }},
		{"out is", func(c *attnCall) { c.out = f(2, 4, 3, 8) }},
		{"lse is", func(c *attnCall) { c.lse = f(2, 3, 4) }},
		{"KeyLens is", func(c *attnCall) { c.in.KeyLens = ints(1, 2, 3) }},
		{"KeyLens is", func(c *attnCall) { c.in.KeyLens = f(2) }},
		{"Bias is", func(c *attnCall) { c.in.Bias = f(2, 2, 3, 5) }},
		{"Bias is", func(c *attnCall) { c.in.Bias = f(3, 4, 3, 5) }},
		{"Bias is", func(c *attnCall) { c.in.Bias = f(3, 5) }},
		{"Bias is", func(c *attnCall) { c.in.Bias = f(1, 1, 5, 3) }},
		{"Bias is", func(c *attnCall) { c.in.Bias = d.New(gpu.Float16, 1, 1, 3, 5) }},
		{"Window is -1", func(c *attnCall) { c.cfg.Window = -1 }},
		{"Scale is NaN", func(c *attnCall) { c.cfg.Scale = float32(math.NaN()) }},
		{"Scale is +Inf", func(c *attnCall) { c.cfg.Scale = float32(math.Inf(1)) }},
		{"CuQ and CuK go together", func(c *attnCall) { c.in.CuK = ints(0, 1) }},
		{"CuQ and CuK go together", func(c *attnCall) { several(c); c.in.CuK = nil }},
		{"want [total, heads, D]", func(c *attnCall) { c.in.CuQ, c.in.CuK = ints(0, 1), ints(0, 1) }},
		{"neither KeyLens nor Bias", func(c *attnCall) { several(c); c.in.KeyLens = ints(1, 2) }},
		{"neither KeyLens nor Bias", func(c *attnCall) { several(c); c.in.Bias = f(1, 1, 3, 4) }},
		{"want Int32 [B+1] both", func(c *attnCall) { several(c); c.in.CuK = ints(0, 7) }},
		{"want Int32 [B+1] both", func(c *attnCall) { several(c); c.in.CuQ = f(3) }},
		{"want Int32 [B+1] both", func(c *attnCall) { several(c); c.in.CuQ, c.in.CuK = ints(), ints() }},
		{"the greatest lengths", func(c *attnCall) { several(c); c.in.MaxQ = 2 }},
		{"the greatest lengths", func(c *attnCall) { several(c); c.in.MaxK = 8 }},
		{"the greatest lengths", func(c *attnCall) { several(c); c.in.MaxQ = -1 }},
		{"CuQ goes from 1 to 5, want 0", func(c *attnCall) { several(c); c.in.CuQ = ints(1, 2, 5) }},
		{"CuQ gives sequence 0 the length 7, want 0 to 5", func(c *attnCall) { several(c); c.in.CuQ, c.in.MaxQ = ints(0, 7, 5), 5 }},
		{"CuK gives sequence 0 the length -1", func(c *attnCall) { several(c); c.in.CuK, c.in.MaxK = ints(0, -1, 7), 7 }},
		{"CuK gives sequence 0 the length 5", func(c *attnCall) { several(c); c.in.CuK = ints(0, 5, 7) }},
		{"CuQ goes from 0 to 4, want 0 to the total, 5", func(c *attnCall) { several(c); c.in.CuQ = ints(0, 2, 4) }},
		{"lse is", func(c *attnCall) { several(c); c.lse = f(2, 4, 3) }},
		{"sequences, want at most", func(c *attnCall) { c.in.Q, c.in.K, c.in.V = f(1<<31, 0, 4, 8), f(1<<31, 0, 2, 8), f(1<<31, 0, 2, 8) }},
		{"heads, want at most", func(c *attnCall) { c.in.Q = f(2, 0, 1<<31, 8) }},
		{"queries, want at most", func(c *attnCall) { c.in.Q, c.in.K = f(0, 1<<31, 4, 8), f(0, 5, 2, 8) }},
		{"keys, want at most", func(c *attnCall) { c.in.Q, c.in.K = f(0, 3, 4, 8), f(0, 1<<31, 2, 8) }},
		{"dq is nil", func(c *attnCall) { back(c); c.dq = nil }},
		{"dq is", func(c *attnCall) { back(c); c.dq = f(2, 3, 4, 7) }},
		{"dk is", func(c *attnCall) { back(c); c.dk = f(2, 5, 4, 8) }},
		{"dv is", func(c *attnCall) { back(c); c.dv = d.New(gpu.Float16, 2, 5, 2, 8) }},
		{"dout is nil", func(c *attnCall) { back(c); c.dout = nil }},
		{"out is nil", func(c *attnCall) { back(c); c.out = nil }},
		{"lse is nil", func(c *attnCall) { back(c); c.lse = nil }},
		{"V is nil", func(c *attnCall) { back(c); c.in.V = nil }},
		{"there is no Bias", func(c *attnCall) { back(c); c.dbias = f(1, 1, 3, 5) }},
		{"dbias is", func(c *attnCall) { back(c); c.in.Bias, c.dbias = f(1, 1, 3, 5), f(2, 1, 3, 5) }},
	} {
		c := attnCall{
			in:  ops.AttentionInput{Q: f(2, 3, 4, 8), K: f(2, 5, 2, 8), V: f(2, 5, 2, 8)},
			out: f(2, 3, 4, 8), lse: f(2, 4, 3), dq: f(2, 3, 4, 8), dk: f(2, 5, 2, 8), dv: f(2, 5, 2, 8), dout: f(2, 3, 4, 8),
		}
		tc.spoil(&c)
		op := "Attention"
		if c.backward {
			op = "AttentionBackward"
		}
		refuses(t, op, tc.want, func() {
			if c.backward {
				ops.AttentionBackward(c.dq, c.dk, c.dv, c.dbias, c.dout, c.out, c.lse, c.in, c.cfg)
			} else {
				ops.Attention(c.out, c.lse, c.in, c.cfg)
			}
		})
	}
}

// refuses fails unless f panics with a message that names the op and has want in it.
func refuses(t *testing.T, op, want string, f func()) {
	t.Helper()
	defer func() {
		t.Helper()
		msg := fmt.Sprint(recover())
		if !strings.Contains(msg, op+": ") || !strings.Contains(msg, want) {
			t.Errorf("%s: the panic says %q, want %q in it", op, msg, want)
		}
	}()
	f()
}

func TestAttentionMapsRefuse(t *testing.T) {
	d := gpu.CPU()
	f := func(shape ...int) *gpu.Tensor { return d.New(gpu.Float32, shape...) }
	in := ops.AttentionInput{Q: f(2, 3, 4, 8), K: f(2, 5, 2, 8)}
	lse := f(2, 4, 3)
	for _, tc := range []struct {
		want  string
		shape []int
		sel   ops.MapSelect
	}{
		{"maps is", []int{2, 4, 3, 4}, ops.MapSelect{}},
		{"maps is", []int{2, 4, 3, 5}, ops.MapSelect{Mean: true}},
		{"maps is", []int{2, 4, 3, 5}, ops.MapSelect{Keys: []int{1}}},
		{"no head is chosen", []int{2, 0, 3, 5}, ops.MapSelect{Heads: []int{}}},
		{"no key is chosen", []int{2, 4, 3, 0}, ops.MapSelect{Keys: []int{}}},
		{"head 4 is chosen, there are 4", []int{2, 1, 3, 5}, ops.MapSelect{Heads: []int{4}}},
		{"key -1 is chosen", []int{2, 4, 3, 1}, ops.MapSelect{Keys: []int{-1}}},
		{"key 2 is chosen twice", []int{2, 4, 3, 3}, ops.MapSelect{Keys: []int{2, 1, 2}}},
	} {
		refuses(t, "AttentionMaps", tc.want, func() { ops.AttentionMaps(f(tc.shape...), lse, in, ops.AttentionConfig{}, tc.sel) })
		if tc.want == "maps is" {
			tc.want = "dmaps is"
		}
		refuses(t, "AttentionMapsBackward", tc.want, func() {
			ops.AttentionMapsBackward(f(2, 3, 4, 8), nil, f(tc.shape...), lse, in, ops.AttentionConfig{}, tc.sel)
		})
	}
	refuses(t, "AttentionMaps", "lse is", func() { ops.AttentionMaps(f(2, 4, 3, 5), f(2, 3, 4), in, ops.AttentionConfig{}, ops.MapSelect{}) })
	refuses(t, "AttentionMaps", "maps is nil", func() { ops.AttentionMaps(nil, lse, in, ops.AttentionConfig{}, ops.MapSelect{}) })
	refuses(t, "AttentionMapsBackward", "dq is", func() {
		ops.AttentionMapsBackward(f(2, 3, 4, 9), nil, f(2, 4, 3, 5), lse, in, ops.AttentionConfig{}, ops.MapSelect{})
	})
	refuses(t, "AttentionMapsBackward", "dk is", func() {
		ops.AttentionMapsBackward(f(2, 3, 4, 8), f(2, 5, 4, 8), f(2, 4, 3, 5), lse, in, ops.AttentionConfig{}, ops.MapSelect{})
	})
	several := in
	several.Q, several.K, several.MaxQ, several.MaxK = f(3, 4, 8), f(3, 2, 8), 3, 3
	several.CuQ, several.CuK = d.FromInt32([]int32{0, 3}, 2), d.FromInt32([]int32{0, 3}, 2)
	refuses(t, "AttentionMaps", "have no maps", func() {
		ops.AttentionMaps(f(1, 4, 3, 3), f(4, 3), several, ops.AttentionConfig{}, ops.MapSelect{})
	})
	refuses(t, "AttentionFromMaps", "maps is", func() { ops.AttentionFromMaps(f(2, 3, 4, 8), f(2, 4, 5, 3), f(2, 5, 2, 8)) })
	refuses(t, "AttentionFromMaps", "maps is nil", func() { ops.AttentionFromMaps(f(2, 3, 4, 8), nil, f(2, 5, 2, 8)) })
	refuses(t, "AttentionFromMaps", "want one dtype", func() { ops.AttentionFromMaps(f(2, 3, 4, 8), f(2, 4, 3, 5), d.New(gpu.Float16, 2, 5, 2, 8)) })
	refuses(t, "AttentionFromMapsBackward", "dv is", func() {
		ops.AttentionFromMapsBackward(nil, f(2, 5, 4, 8), f(2, 3, 4, 8), f(2, 4, 3, 5), f(2, 5, 2, 8))
	})
	refuses(t, "AttentionFromMapsBackward", "dmaps is", func() {
		ops.AttentionFromMapsBackward(f(2, 4, 5, 3), nil, f(2, 3, 4, 8), f(2, 4, 3, 5), f(2, 5, 2, 8))
	})
}

func TestAttentionAllocatesNothing(t *testing.T) {
	p := newProblem(gpu.CPU(), attnCase{b: 2, h: 4, hkv: 2, d: 16, lq: 40, lk: 50, causal: true, biasB: 1, biasH: 1, dt: gpu.BFloat16}, 1)
	out, lse := p.forward(t)
	dq, dk, dv := p.in.Q.Like(), p.in.K.Like(), p.in.K.Like()
	dbias := p.dev.New(gpu.Float32, 1, 1, 40, 50)
	maps := p.dev.New(gpu.Float32, 2, 1, 40, 2)
	full := p.dev.New(gpu.Float32, 2, 4, 40, 50)
	decode := newDecodeProblem(t, gpu.CPU(), decodeCase{h: 4, hkv: 2, d: 16, lq: 2, size: 16, most: 3, lens: []int32{40, 7}, dt: gpu.BFloat16}, 1)
	last, lastLSE := decode.run()
	row := p.dev.New(gpu.BFloat16, 2, 1, 2, 16)
	sel := ops.MapSelect{Mean: true, Keys: []int{3, 1}}
	if n := oracle.Allocations(50, func() {
		ops.AppendPages(decode.kv, row, row)
		ops.AttentionDecode(last, lastLSE, decode.q, decode.kv, decode.cfg)
		ops.Attention(out, lse, p.in, p.cfg)
		ops.AttentionBackward(dq, dk, dv, dbias, p.dout, out, lse, p.in, p.cfg)
		ops.AttentionMaps(maps, lse, p.in, p.cfg, sel)
		ops.AttentionMapsBackward(dq, dk, maps, lse, p.in, p.cfg, sel)
		ops.AttentionFromMaps(out, full, p.in.V)
		ops.AttentionFromMapsBackward(full, dv, p.dout, full, p.in.V)
	}); n >= 1 {
		t.Errorf("%v allocations per run, want 0", n)
	}
}
