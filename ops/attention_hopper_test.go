package ops_test

import (
	"fmt"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/ops"
)

// eachHopper runs f on the devices that have attention's kernels of compute capability 9.0: the
// host device, which is made to take them, and such a GPU. calls counts how often they were taken.
func eachHopper(t *testing.T, f func(t *testing.T, dev *gpu.Device, calls *int)) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		if !dev.CUDA() {
			return
		}
		if d := dev.Stream().Dev().Info(); !cuda.HostDevice() && (d.Major != 9 || d.Minor != 0) {
			return
		}
		var calls int
		defer ops.HopperAttention(&calls)()
		f(t, dev, &calls)
	})
}

// hopperCases sit on the edges of the kernel: groups of 64 queries, blocks of 128, steps of 128
// keys, rings of two and four steps, every mask.
func hopperCases() []attnCase {
	var out []attnCase
	add := func(c attnCase) {
		for i, d := range []int{64, 128} {
			c.d = d
			c.dt = attnTypes[1+(len(out)/2+i)%2]
			out = append(out, c)
		}
	}
	for i, l := range [][2]int{{1, 1}, {1, 129}, {63, 127}, {64, 128}, {65, 129}, {128, 257}, {129, 64}, {200, 30}, {20, 700}, {10, 1200}} {
		add(attnCase{b: 1, h: 1, hkv: 1, lq: l[0], lk: l[1], causal: i%2 == 1})
		add(attnCase{b: 1, h: 1, hkv: 1, lq: l[0], lk: l[1], causal: i%2 == 0})
	}
	add(attnCase{b: 1, h: 1, hkv: 1, lq: 300, lk: 300, causal: true})
	add(attnCase{b: 2, h: 4, hkv: 2, lq: 70, lk: 140})
	add(attnCase{b: 2, h: 3, hkv: 1, lq: 40, lk: 90, causal: true})
	add(attnCase{b: 5, h: 1, hkv: 1, lq: 66, lk: 300, keyLens: []int32{0, 1, 128, 300, 200}})
	add(attnCase{b: 3, h: 2, hkv: 2, lq: 140, lk: 150, keyLens: []int32{-5, 1000, 129}, causal: true})
	add(attnCase{b: 1, h: 1, hkv: 1, lq: 30, lk: 200, scale: 0.3})
	add(attnCase{b: 1, h: 1, hkv: 1, lq: 20, lk: 150, amplitude: 1000})
	return out
}

func TestAttentionHopper(t *testing.T) {
	eachHopper(t, func(t *testing.T, dev *gpu.Device, calls *int) {
		for i, c := range hopperCases() {
			t.Run(c.String(), func(t *testing.T) {
				*calls = 0
				p := newProblem(dev, c, uint64(i))
				naive := p.naive()
				spoilPadding(t, p) // which nobody looks at
				out, lse := p.forward(t)
				p.check(t, "out", out, p.want.Out, p.want.OutScale(), naive.Out)
				p.check(t, "lse", lse, p.want.LSE, p.lseScale(), nil)
				if *calls != 1 {
					t.Errorf("the kernel was taken %d times", *calls)
				}
			})
		}
	})
}

// The backward pass at the forward's edges, and with what may be nil.
func TestAttentionHopperBackward(t *testing.T) {
	eachHopper(t, func(t *testing.T, dev *gpu.Device, calls *int) {
		for i, c := range hopperCases() {
			if c.keyLens != nil {
				continue // they go to the others
			}
			t.Run(c.String(), func(t *testing.T) {
				p := newProblem(dev, c, uint64(i))
				out, lse := p.forward(t)
				*calls = 0
				g := gradients(p, out, lse, true, true, false)
				want, naive := p.want.Backward(p.gout), p.naive().Backward(p.gout)
				p.check(t, "dq", g[0], want.DQ.Value, want.DQ.Scale, naive.DQ.Value)
				p.check(t, "dk", g[1], want.DK.Value, want.DK.Scale, naive.DK.Value)
				p.check(t, "dv", g[2], want.DV.Value, want.DV.Scale, naive.DV.Value)
				if *calls != 1 {
					t.Errorf("the kernels were taken %d times", *calls)
				}
				if i%5 > 0 {
					return
				}
				for mask := range 4 {
					some := gradients(p, out, lse, mask&1 > 0, mask&2 > 0, false)
					for k := range 3 {
						if some[k] != nil {
							sameTensor(t, fmt.Sprintf("gradient %d with %02b", k, mask), some[k], g[k])
						}
					}
				}
			})
		}
	})
}

// They are launched by cuLaunchKernelEx, the others are not.
func TestAttentionHopperLaunch(t *testing.T) {
	eachHopper(t, func(t *testing.T, dev *gpu.Device, calls *int) {
		if !cuda.HostDevice() {
			t.Skip("only the host device can be made to fail")
		}
		for d, want := range map[int]string{64: "attention_hopper_bf16_64", 32: ""} {
			p := newProblem(dev, attnCase{b: 1, h: 1, hkv: 1, d: d, lq: 20, lk: 30, dt: gpu.BFloat16}, 1)
			t.Setenv("FIDLAB_HOST_FAIL", "cuLaunchKernelEx:1:1")
			p.forward(t)
			err := dev.Sync()
			os.Unsetenv("FIDLAB_HOST_FAIL")
			if (err != nil) != (want != "") || err != nil && !strings.Contains(err.Error(), want+": launch") {
				t.Errorf("heads of %d: %v; want a failed launch of %q", d, err, want)
			}
			_ = dev.Recover()
		}
	})
}

// What the kernels are not for goes to the others.
func TestAttentionHopperLeaves(t *testing.T) {
	eachHopper(t, func(t *testing.T, dev *gpu.Device, calls *int) {
		base := attnCase{b: 1, h: 1, hkv: 1, d: 64, lq: 20, lk: 30, dt: gpu.BFloat16}
		for i, change := range []func(c *attnCase){
			func(c *attnCase) { c.dt = gpu.Float32 },
			func(c *attnCase) { c.d = 32 },
			func(c *attnCase) { c.d = 96 },
			func(c *attnCase) { c.biasB, c.biasH = 1, 1 },
			func(c *attnCase) { c.window = 5 },
			func(c *attnCase) { c.window, c.causal = 5, true },
			func(c *attnCase) { c.lensQ, c.lensK = []int32{20}, []int32{30} },
			func(c *attnCase) { c.scale = -0.1 },
			func(c *attnCase) { c.lk = 0 },
		} {
			c := base
			change(&c)
			p := newProblem(dev, c, uint64(i))
			naive := p.naive()
			out, lse := p.forward(t)
			p.check(t, "out", out, p.want.Out, p.want.OutScale(), naive.Out)
			if *calls != 0 {
				t.Fatalf("%v: the kernel was taken", c)
			}
			if c.scale >= 0 { // the backward pass takes any scale
				gradients(p, out, lse, true, true, false)
			}
			if *calls != 0 {
				t.Fatalf("%v: the backward kernels were taken", c)
			}
		}
	})
}

// spoilPadding makes the keys and values behind KeyLens NaN.
func spoilPadding(t *testing.T, p *problem) {
	for _, x := range []**gpu.Tensor{&p.in.K, &p.in.V} {
		v, err := (*x).Floats()
		if err != nil {
			t.Fatal(err)
		}
		row := p.hkv * p.d
		for b, n := range p.keyLens {
			for i := b*p.lk + min(max(int(n), 0), p.lk); i < (b+1)*p.lk; i++ {
				for j := range row {
					v[i*row+j] = float32(math.NaN())
				}
			}
		}
		*x = p.dev.FromAs(p.dt, v, (*x).Shape()...)
	}
}

// NaN in a key spoils the rows that see it and no others.
func TestAttentionHopperOfNaN(t *testing.T) {
	const n, bad = 140, 77
	eachHopper(t, func(t *testing.T, dev *gpu.Device, calls *int) {
		for _, d := range []int{64, 128} {
			p := newProblem(dev, attnCase{b: 1, h: 1, hkv: 1, d: d, lq: n, lk: n, causal: true, dt: gpu.Float16}, 2)
			k, err := p.in.K.Floats()
			if err != nil {
				t.Fatal(err)
			}
			k[bad*d+5] = float32(math.NaN())
			p.in.K = dev.FromAs(p.dt, k, 1, n, 1, d)
			out, lse := p.forward(t)
			for _, v := range []*gpu.Tensor{out, lse} {
				x, err := v.Floats()
				if err != nil {
					t.Fatal(err)
				}
				for i, e := range x {
					if row := i * n / len(x); (e != e) != (row >= bad) {
						t.Fatalf("d = %d: element %d of row %d is %g, the NaN is in key %d", d, i, row, e, bad)
					}
				}
			}
		}
		if *calls != 2 {
			t.Errorf("the kernel was taken %d times", *calls)
		}
	})
}

// Two calls give the same bits, as does a sequence alone and in a batch.
func TestAttentionHopperBits(t *testing.T) {
	eachHopper(t, func(t *testing.T, dev *gpu.Device, calls *int) {
		c := attnCase{b: 2, h: 2, hkv: 1, d: 64, lq: 130, lk: 200, causal: true, dt: gpu.BFloat16}
		p := newProblem(dev, c, 9)
		out, lse := p.forward(t)
		again, lse2 := p.forward(t)
		sameTensor(t, "out again", again, out)
		sameTensor(t, "lse again", lse2, lse)
		if n := oracle.Allocations(20, func() { ops.Attention(again, lse2, p.in, p.cfg) }); n >= 1 {
			t.Errorf("%v allocations a call, want 0", n)
		}
		outs, err := out.Floats()
		if err != nil {
			t.Fatal(err)
		}
		for b := range c.b {
			part := func(x *gpu.Tensor) *gpu.Tensor {
				v, err := x.Floats()
				if err != nil {
					t.Fatal(err)
				}
				s, n := x.Shape(), len(v)/c.b
				return dev.FromAs(c.dt, v[b*n:(b+1)*n], 1, s[1], s[2], s[3])
			}
			q := &problem{attnCase: p.attnCase, dev: dev, cfg: p.cfg, in: ops.AttentionInput{Q: part(p.in.Q), K: part(p.in.K), V: part(p.in.V)}}
			q.b = 1
			o, _ := q.forward(t)
			sameTensor(t, fmt.Sprintf("out of sequence %d", b), o, dev.FromAs(c.dt, outs[b*len(outs)/2:(b+1)*len(outs)/2], o.Shape()...))
		}
	})
}
