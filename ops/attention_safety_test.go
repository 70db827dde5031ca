package ops_test

import (
	"math"
	"sync"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/ops"
)

// Calls from many goroutines give the bits of calls one after another.
func TestAttentionAtOnce(t *testing.T) {
	const callers = 8
	var ps [callers]*problem
	var want, got [callers][4]*gpu.Tensor
	run := func(p *problem) [4]*gpu.Tensor {
		out, lse := p.in.Q.Like(), p.newLSE()
		ops.Attention(out, lse, p.in, p.cfg)
		g := gradients(p, out, lse, true, true, false)
		maps := p.dev.New(gpu.Float32, p.b, 1, p.lq, p.lk)
		ops.AttentionMaps(maps, lse, p.in, p.cfg, ops.MapSelect{Mean: true})
		return [4]*gpu.Tensor{out, g[0], g[1], maps}
	}
	for i := range ps {
		ps[i] = newProblem(gpu.CPU(), attnCase{b: 1 + i%2, h: 2, hkv: 1, d: 8 + i, lq: 30 + 20*i, lk: 70, causal: i%3 == 0, dt: attnTypes[i%3]}, uint64(i))
		want[i] = run(ps[i])
	}
	var done sync.WaitGroup
	for i := range ps {
		done.Go(func() {
			for range 5 {
				got[i] = run(ps[i])
			}
		})
	}
	done.Wait()
	for i := range ps {
		for k := range want[i] {
			sameTensor(t, "at once", got[i][k], want[i][k])
		}
	}
}

// A NaN spoils the rows that see it and no others.
func TestAttentionOfNaN(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		const n, bad = 70, 41
		for _, dt := range attnTypes {
			p := newProblem(dev, attnCase{b: 1, h: 1, hkv: 1, d: 16, lq: n, lk: n, causal: true, dt: dt}, 3)
			k, err := p.in.K.Floats()
			if err != nil {
				t.Fatal(err)
			}
			k[bad*16+5] = float32(math.NaN())
			p.in.K = dev.FromAs(dt, k, 1, n, 1, 16)
			out, lse := p.forward(t)
			for _, v := range []*gpu.Tensor{out, lse} {
				x, err := v.Floats()
				if err != nil {
					t.Fatal(err)
				}
				for i, e := range x {
					if row := i * n / len(x); (e != e) != (row >= bad) {
						t.Fatalf("%v: element %d of row %d is %g, the NaN is in key %d", dt, i, row, e, bad)
					}
				}
			}
		}
	})
}

// Each operand in turn is on the CPU, the others on the GPU.
func TestAttentionRefusesTwoDevices(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		if !dev.CUDA() {
			return
		}
		const want = "; move them to one device"
		other, err := dev.Fork()
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		for i := range 12 {
			at := func(k int) *gpu.Device {
				switch {
				case i == k && k == 3: // lengths may be on the CPU, but on no other GPU
					return other
				case i == k:
					return gpu.CPU()
				}
				return dev
			}
			rows := func(k int) *gpu.Tensor { return at(k).New(gpu.Float32, 1, 4, 1, 16) }
			in := ops.AttentionInput{Q: rows(0), K: rows(1), V: rows(2), KeyLens: at(3).FromInt32([]int32{4}, 1), Bias: at(4).New(gpu.Float32, 1, 1, 4, 4)}
			out, lse := rows(5), at(6).New(gpu.Float32, 1, 1, 4)
			dq, dk, dv, dbias, dout := rows(7), rows(8), rows(9), at(10).New(gpu.Float32, 1, 1, 4, 4), rows(11)
			if i < 7 {
				refuses(t, "Attention", want, func() { ops.Attention(out, lse, in, ops.AttentionConfig{}) })
			}
			refuses(t, "AttentionBackward", want, func() { ops.AttentionBackward(dq, dk, dv, dbias, dout, out, lse, in, ops.AttentionConfig{}) })
			if i < 7 && i != 2 && i != 5 {
				maps := dev.New(gpu.Float32, 1, 1, 4, 4)
				refuses(t, "AttentionMaps", want, func() { ops.AttentionMaps(maps, lse, in, ops.AttentionConfig{}, ops.MapSelect{}) })
			}
			if i == 1 || i == 5 {
				refuses(t, "AttentionFromMaps", want, func() { ops.AttentionFromMaps(out, dev.New(gpu.Float32, 1, 1, 4, 4), in.K) })
			}
		}
	})
}
