package ops_test

import (
	"math"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/ops"
)

// blockCases have masks of blocks with the other masks, with a bias, with heads that share keys, for every width of the kernels, and at
// lengths below, at and past a block.
func blockCases() []attnCase {
	base := attnCase{b: 2, h: 2, hkv: 1, d: 8, lq: 130, lk: 200, blocksB: 2, blocksH: 2, block: 64, share: 0.4}
	var out []attnCase
	add := func(change func(c *attnCase)) {
		c := base
		change(&c)
		out = append(out, c)
	}
	add(func(*attnCase) {})
	add(func(c *attnCase) { c.block = 128 })
	add(func(c *attnCase) { c.blocksB, c.blocksH = 1, 1 })
	add(func(c *attnCase) { c.blocksB, c.block, c.causal = 1, 128, true })
	add(func(c *attnCase) { c.blocksH, c.causal = 1, true })
	add(func(c *attnCase) { c.lq, c.lk, c.share = 64, 128, 0.5 })
	add(func(c *attnCase) { c.lq, c.lk, c.share, c.h, c.hkv, c.blocksH = 1, 129, 0.5, 4, 2, 4 })
	add(func(c *attnCase) { c.lq, c.lk, c.window = 257, 65, 40 })
	add(func(c *attnCase) { c.keyLens = []int32{70, 0} })
	add(func(c *attnCase) { c.biasB, c.biasH, c.hide = 1, 2, true })
	add(func(c *attnCase) { c.biasB, c.biasH, c.causal, c.block = 2, 1, true, 128 })
	add(func(c *attnCase) { c.share = 0 })
	add(func(c *attnCase) { c.share = 1 })
	add(func(c *attnCase) { c.lq, c.lk, c.b, c.blocksB = 70, 1100, 1, 1 }) // several pieces of keys
	add(func(c *attnCase) { c.scale = -0.7 })
	for _, d := range []int{40, 64, 72, 128, 136} {
		add(func(c *attnCase) { c.d, c.b, c.blocksB, c.lk = d, 1, 1, 140 })
	}
	for i := range out {
		for _, dt := range attnTypes[1:] {
			if i%2 == int(dt)%2 || out[i].d > 8 {
				c := out[i]
				c.dt = dt
				out = append(out, c)
			}
		}
	}
	return out
}

// With a mask of blocks results and gradients are those of the definition in which hidden pairs have no part.
func TestAttentionBlocks(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for i, c := range blockCases() {
			t.Run(c.String(), func(t *testing.T) {
				p := newProblem(dev, c, uint64(i))
				naive := p.naive()
				out, lse := p.forward(t)
				p.check(t, "out", out, p.want.Out, p.want.OutScale(), naive.Out)
				p.check(t, "lse", lse, p.want.LSE, p.lseScale(), nil)
				dq, dk, dv := dev.New(p.dt, p.in.Q.Shape()...), dev.New(p.dt, p.in.K.Shape()...), dev.New(p.dt, p.in.K.Shape()...)
				var dbias *gpu.Tensor
				if p.in.Bias != nil {
					dbias = dev.New(gpu.Float32, p.in.Bias.Shape()...)
				}
				ops.AttentionBackward(dq, dk, dv, dbias, p.dout, out, lse, p.in, p.cfg)
				want, back := p.want.Backward(p.gout), naive.Backward(p.gout)
				p.check(t, "dq", dq, want.DQ.Value, want.DQ.Scale, back.DQ.Value)
				p.check(t, "dk", dk, want.DK.Value, want.DK.Scale, back.DK.Value)
				p.check(t, "dv", dv, want.DV.Value, want.DV.Scale, back.DV.Value)
				if dbias != nil {
					p.check(t, "dbias", dbias, want.DBias.Value, want.DBias.Scale, back.DBias.Value)
				}
				again, lse2 := p.forward(t)
				sameTensor(t, "out again", again, out)
				sameTensor(t, "lse again", lse2, lse)
			})
		}
	})
}

// Hidden blocks are not read: NaN there reaches nothing.
func TestAttentionBlocksAreSkipped(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, dt := range attnTypes {
			for _, block := range []int{64, 128} {
				const n = 384
				p := newProblem(dev, attnCase{b: 1, h: 1, hkv: 1, d: 16, lq: n, lk: n, dt: dt}, 4)
				side := n / block
				mask := make([]uint8, side*side)
				for i := range mask {
					if i%side != 1 {
						mask[i] = 1 // all but the second column
					}
				}
				p.in.Blocks, p.in.Block = dev.FromUint8(mask, 1, 1, side, side), block
				k, v := read(t, p.in.K), read(t, p.in.V)
				for i := block * 16; i < 2*block*16; i++ {
					k[i], v[i] = float32(math.NaN()), float32(math.NaN())
				}
				p.in.K, p.in.V = dev.FromAs(dt, k, 1, n, 1, 16), dev.FromAs(dt, v, 1, n, 1, 16)
				out, lse := p.forward(t)
				g := gradients(p, out, lse, true, true, false)
				for what, x := range map[string]*gpu.Tensor{"out": out, "lse": lse, "dq": g[0], "dk": g[1], "dv": g[2]} {
					for i, e := range read(t, x) {
						if e != e {
							t.Fatalf("%v, blocks of %d: element %d of %s is NaN", dt, block, i, what)
						}
					}
				}
			}
		}
	})
}

func TestAttentionBlocksRefuses(t *testing.T) {
	d := gpu.CPU()
	f := func(shape ...int) *gpu.Tensor { return d.New(gpu.Float32, shape...) }
	for _, tc := range []struct {
		want  string
		spoil func(in *ops.AttentionInput)
	}{
		{"Block is 0, want 64 or 128", func(in *ops.AttentionInput) { in.Block = 0 }},
		{"Block is 32, want 64 or 128", func(in *ops.AttentionInput) { in.Block = 32 }},
		{"Blocks is", func(in *ops.AttentionInput) { in.Block = 128 }},
		{"Blocks is", func(in *ops.AttentionInput) { in.Blocks = f(2, 4, 2, 3) }},
		{"Blocks is", func(in *ops.AttentionInput) { in.Blocks = d.New(gpu.Uint8, 2, 2, 2, 3) }},
		{"Blocks is", func(in *ops.AttentionInput) { in.Blocks = d.New(gpu.Uint8, 3, 4, 2, 3) }},
		{"Blocks is", func(in *ops.AttentionInput) { in.Blocks = d.New(gpu.Uint8, 2, 3) }},
		{"nor Blocks", func(in *ops.AttentionInput) {
			in.Q, in.K, in.V, in.MaxQ, in.MaxK = f(70, 4, 8), f(130, 2, 8), f(130, 2, 8), 70, 130
			in.CuQ, in.CuK = d.FromInt32([]int32{0, 70}, 2), d.FromInt32([]int32{0, 130}, 2)
		}},
	} {
		in := ops.AttentionInput{Q: f(2, 70, 4, 8), K: f(2, 130, 2, 8), V: f(2, 130, 2, 8), Blocks: d.New(gpu.Uint8, 2, 4, 2, 3), Block: 64}
		tc.spoil(&in)
		refuses(t, "Attention", tc.want, func() { ops.Attention(f(2, 70, 4, 8), f(2, 4, 70), in, ops.AttentionConfig{}) })
	}
	in := ops.AttentionInput{Q: f(2, 70, 4, 8), K: f(2, 130, 2, 8), Blocks: d.New(gpu.Uint8, 2, 4, 2, 3), Block: 64}
	refuses(t, "AttentionMaps", "has no maps", func() {
		ops.AttentionMaps(f(2, 4, 70, 130), f(2, 4, 70), in, ops.AttentionConfig{}, ops.MapSelect{})
	})
}
