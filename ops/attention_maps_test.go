package ops_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/ops"
)

var mapCases = []attnCase{
	{b: 1, h: 1, hkv: 1, d: 8, lq: 1, lk: 1},
	{b: 2, h: 4, hkv: 2, d: 40, lq: 65, lk: 77},
	{b: 1, h: 2, hkv: 2, d: 64, lq: 33, lk: 129, causal: true},
	{b: 2, h: 3, hkv: 1, d: 16, lq: 20, lk: 300, keyLens: []int32{0, 77}, window: 40},
	{b: 2, h: 2, hkv: 1, d: 80, lq: 30, lk: 31, biasB: 1, biasH: 2, hide: true},
}

func selections(c attnCase) []ops.MapSelect {
	last := c.lk - 1
	out := []ops.MapSelect{{}, {Mean: true}, {Heads: []int{c.h - 1}, Keys: []int{last}}}
	if c.h > 1 {
		out = append(out, ops.MapSelect{Heads: []int{1, 0}, Keys: []int{last, 0, last / 2}}, ops.MapSelect{Heads: []int{1, 0}, Mean: true, Keys: []int{last / 3, last}})
	}
	return out
}

func all(chosen []int, n int) []int {
	if chosen != nil {
		return chosen
	}
	for i := range n {
		chosen = append(chosen, i)
	}
	return chosen
}

// choose is the maps of sel out of full ones, [B, H, LQ, LK], and where each element of a map comes from.
func (p *problem) choose(sel ops.MapSelect, full []float64) (maps []float64, shape []int) {
	heads, keys := all(sel.Heads, p.h), all(sel.Keys, p.lk)
	slots := len(heads)
	if sel.Mean {
		slots = 1
	}
	maps = make([]float64, p.b*slots*p.lq*len(keys))
	for b := range p.b {
		for s, h := range heads {
			share := 1.0
			if sel.Mean {
				s, share = 0, 1/float64(len(heads))
			}
			for i := range p.lq {
				for k, j := range keys {
					maps[((b*slots+s)*p.lq+i)*len(keys)+k] += share * full[((b*p.h+h)*p.lq+i)*p.lk+j]
				}
			}
		}
	}
	return maps, []int{p.b, slots, p.lq, len(keys)}
}

// spread is choose's transpose: the gradient of full maps.
func (p *problem) spread(sel ops.MapSelect, maps []float64) []float64 {
	full := make([]float64, p.b*p.h*p.lq*p.lk)
	heads, keys := all(sel.Heads, p.h), all(sel.Keys, p.lk)
	slots := len(heads)
	if sel.Mean {
		slots = 1
	}
	for b := range p.b {
		for s, h := range heads {
			share := 1.0
			if sel.Mean {
				s, share = 0, 1/float64(len(heads))
			}
			for i := range p.lq {
				for k, j := range keys {
					full[((b*p.h+h)*p.lq+i)*p.lk+j] = share * maps[((b*slots+s)*p.lq+i)*len(keys)+k]
				}
			}
		}
	}
	return full
}

func (p *problem) unitP() []float64 {
	s := make([]float64, len(p.want.P))
	for i, v := range p.want.P {
		s[i] = v * p.want.Unit[i/p.lk]
	}
	return s
}

func eachMap(t *testing.T, f func(t *testing.T, p *problem, sel ops.MapSelect, lse *gpu.Tensor)) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for i, c := range mapCases {
			for k, sel := range selections(c) {
				for _, dt := range attnTypes {
					if dt != gpu.Float32 && (i+k)%2 == 0 {
						continue
					}
					c.dt = dt
					t.Run(fmt.Sprintf("%v/%+v", c, sel), func(t *testing.T) {
						p := newProblem(dev, c, uint64(i))
						_, lse := p.forward(t)
						f(t, p, sel, lse)
					})
				}
			}
		}
	})
}

func TestAttentionMaps(t *testing.T) {
	eachMap(t, func(t *testing.T, p *problem, sel ops.MapSelect, lse *gpu.Tensor) {
		want, shape := p.choose(sel, p.want.P)
		scale, _ := p.choose(sel, p.unitP())
		maps := p.dev.New(gpu.Float32, shape...)
		ops.AttentionMaps(maps, lse, p.in, p.cfg, sel)
		p.check(t, "maps", maps, want, scale, nil)
	})
}

func TestAttentionMapsBackward(t *testing.T) {
	eachMap(t, func(t *testing.T, p *problem, sel ops.MapSelect, lse *gpu.Tensor) {
		_, shape := p.choose(sel, p.want.P)
		n := shape[0] * shape[1] * shape[2] * shape[3]
		dmaps, g := put(p.dev, gpu.Float32, oracle.Normal(3, n), shape...)
		dp := oracle.Field{Value: p.spread(sel, g), Scale: p.spread(sel, g)}
		for i, v := range dp.Scale {
			dp.Scale[i] = math.Abs(v)
		}
		want, naive := p.want.BackwardMaps(dp), p.naive().BackwardMaps(dp)
		dq, dk := p.dev.New(p.dt, p.in.Q.Shape()...), p.dev.New(p.dt, p.in.K.Shape()...)
		ops.AttentionMapsBackward(dq, dk, dmaps, lse, p.in, p.cfg, sel)
		p.check(t, "dq", dq, want.DQ.Value, want.DQ.Scale, naive.DQ.Value)
		p.check(t, "dk", dk, want.DK.Value, want.DK.Scale, naive.DK.Value)
		again := p.dev.New(p.dt, p.in.Q.Shape()...)
		ops.AttentionMapsBackward(again, nil, dmaps, lse, p.in, p.cfg, sel)
		p.check(t, "dq without dk", again, want.DQ.Value, want.DQ.Scale, naive.DQ.Value)
	})
}

// The products with maps and their gradients by the formulas.
func TestAttentionFromMaps(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for i, c := range []attnCase{
			{b: 1, h: 1, hkv: 1, d: 1, lq: 1, lk: 1},
			{b: 2, h: 4, hkv: 2, d: 40, lq: 65, lk: 77},
			{b: 1, h: 2, hkv: 2, d: 64, lq: 130, lk: 129},
			{b: 2, h: 3, hkv: 1, d: 16, lq: 20, lk: 300},
			{b: 1, h: 1, hkv: 1, d: 256, lq: 7, lk: 65},
			{b: 2, h: 2, hkv: 1, d: 8, lq: 5, lk: 0},
			{b: 2, h: 2, hkv: 1, d: 8, lq: 0, lk: 5},
		} {
			for _, dt := range attnTypes {
				c.dt = dt
				t.Run(c.String(), func(t *testing.T) {
					p := newProblem(dev, c, uint64(i))
					maps, m := put(dev, gpu.Float32, oracle.Normal(7, c.b*c.h*c.lq*c.lk), c.b, c.h, c.lq, c.lk)
					run := func(round func(float64) float64) (out, dmaps, dv oracle.Field) {
						return mapped(p, m, round)
					}
					exact := func(x float64) float64 { return x }
					out, dmaps, dv := run(exact)
					nout, ndmaps, ndv := run(func(x float64) float64 { return float64(rounded(p.dt, float32(x))) })
					gotOut, gotMaps, gotV := dev.New(dt, p.in.Q.Shape()...), dev.New(gpu.Float32, maps.Shape()...), dev.New(dt, p.in.V.Shape()...)
					ops.AttentionFromMaps(gotOut, maps, p.in.V)
					p.check(t, "out", gotOut, out.Value, out.Scale, nout.Value)
					ops.AttentionFromMapsBackward(gotMaps, gotV, p.dout, maps, p.in.V)
					p.check(t, "dmaps", gotMaps, dmaps.Value, dmaps.Scale, ndmaps.Value)
					p.check(t, "dv", gotV, dv.Value, dv.Scale, ndv.Value)
					oneMaps, oneV := dev.New(gpu.Float32, maps.Shape()...), dev.New(dt, p.in.V.Shape()...)
					ops.AttentionFromMapsBackward(oneMaps, nil, p.dout, maps, p.in.V)
					ops.AttentionFromMapsBackward(nil, oneV, p.dout, maps, p.in.V)
					sameTensor(t, "dmaps alone", oneMaps, gotMaps)
					sameTensor(t, "dv alone", oneV, gotV)
				})
			}
		}
	})
}

func mapped(p *problem, maps []float64, round func(float64) float64) (out, dmaps, dv oracle.Field) {
	field := func(n int) oracle.Field { return oracle.Field{Value: make([]float64, n), Scale: make([]float64, n)} }
	out, dmaps, dv = field(len(p.want.Q)), field(len(maps)), field(len(p.want.V))
	add := func(f oracle.Field, i int, v float64) {
		f.Value[i] += v
		f.Scale[i] += math.Abs(v)
	}
	for m := range maps {
		j, i, h, b := m%p.lk, m/p.lk%p.lq, m/p.lk/p.lq%p.h, m/p.lk/p.lq/p.h
		for d := range p.d {
			q, v := ((b*p.lq+i)*p.h+h)*p.d+d, ((b*p.lk+j)*p.hkv+h/(p.h/p.hkv))*p.d+d
			add(out, q, round(maps[m])*p.want.V[v])
			add(dmaps, m, p.gout[q]*p.want.V[v])
			add(dv, v, round(maps[m])*p.gout[q])
		}
	}
	for _, f := range []oracle.Field{out, dmaps, dv} {
		for i, v := range f.Value {
			f.Value[i] = round(v)
		}
	}
	return out, dmaps, dv
}
