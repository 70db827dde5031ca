package ops_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/ops"
)

// decodeCase is a problem over pages: lens are what the call is told, most its pages of each sequence.
type decodeCase struct {
	h, hkv, d, lq, size, most int
	lens                      []int32
	causal                    bool
	window                    int
	scale, amplitude          float32
	dt                        gpu.DType
}

func (c decodeCase) String() string {
	return fmt.Sprintf("%v/H%d-%d,D%d,Lq%d,pages%dx%d,%v,causal=%t,window=%d", c.dt, c.h, c.hkv, c.d, c.lq, c.most, c.size, c.lens, c.causal, c.window)
}

// length is that of sequence b as the definition limits it.
func (c decodeCase) length(b int) int { return min(max(int(c.lens[b]), 0), c.most*c.size) }

// decodeProblem has the same numbers in pages, in an order of their own among pages of NaN, and in the oracle.
type decodeProblem struct {
	*problem
	decodeCase
	q  *gpu.Tensor
	kv ops.PagedKV
}

func newDecodeProblem(t *testing.T, dev *gpu.Device, c decodeCase, seed uint64) *decodeProblem {
	t.Helper()
	b := len(c.lens)
	a := attnCase{h: c.h, hkv: c.hkv, d: c.d, causal: c.causal, window: c.window, scale: c.scale, amplitude: c.amplitude, dt: c.dt}
	for i := range b {
		a.lensQ, a.lensK = append(a.lensQ, int32(c.lq)), append(a.lensK, int32(c.length(i)))
	}
	p := &decodeProblem{problem: newProblem(dev, a, seed), decodeCase: c}
	r := rand.New(rand.NewPCG(seed, 5))
	pool := b*c.most + 3
	order := r.Perm(pool)
	table := make([]int32, b*c.most)
	row := c.hkv * c.d
	pages := func(x *gpu.Tensor) *gpu.Tensor {
		from := read(t, x)
		to := make([]float32, pool*c.size*row)
		for i := range to {
			to[i] = float32(math.NaN())
		}
		at := 0
		for i := range b {
			for j := range c.length(i) {
				copy(to[(order[i*c.most+j/c.size]*c.size+j%c.size)*row:], from[at:][:row])
				at += row
			}
		}
		return dev.FromAs(c.dt, to, pool, c.size, c.hkv, c.d)
	}
	for i := range table {
		table[i] = int32(order[i])
		if i%c.most*c.size >= c.length(i/c.most) {
			table[i] = -77 // nothing looks there
		}
	}
	p.kv = ops.PagedKV{K: pages(p.in.K), V: pages(p.in.V), Table: dev.FromInt32(table, b, c.most), Lens: dev.FromInt32(c.lens, b)}
	p.q = dev.FromAs(c.dt, read(t, p.in.Q), b, c.lq, c.h, c.d)
	return p
}

func read(t *testing.T, x *gpu.Tensor) []float32 {
	t.Helper()
	v, err := x.Floats()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// byHead puts values of [H, B·Lq] in the order of [B, H, Lq].
func (p *decodeProblem) byHead(v []float64) []float64 {
	var out []float64
	b, h, lq := len(p.lens), p.decodeCase.h, p.decodeCase.lq
	for i := range b {
		for k := range h {
			out = append(out, v[(k*b+i)*lq:][:lq]...)
		}
	}
	return out
}

func (p *decodeProblem) run() (out, lse *gpu.Tensor) {
	c := p.decodeCase
	out, lse = p.dev.New(c.dt, p.q.Shape()...), p.dev.New(gpu.Float32, len(c.lens), c.h, c.lq)
	ops.Fill(lse, math.NaN()) // whatever was there
	ops.AttentionDecode(out, lse, p.q, p.kv, p.cfg)
	return out, lse
}

func decodeCases() []decodeCase {
	base := decodeCase{h: 4, hkv: 2, d: 16, lq: 1, size: 16, most: 5, lens: []int32{65, 0, 80, 7}}
	var out []decodeCase
	add := func(change func(c *decodeCase)) {
		c := base
		change(&c)
		for _, dt := range attnTypes {
			c.dt = dt
			out = append(out, c)
		}
	}
	for _, d := range []int{1, 20, 64, 72, 128, 136, 256} { // the kernels' widths, and rows that no 16 bytes fit
		add(func(c *decodeCase) { c.d, c.lens = d, []int32{33, 64} })
	}
	for _, size := range []int{1, 2, 64, 128} {
		add(func(c *decodeCase) { c.size, c.most = size, max(1, 128/size) })
	}
	for i, g := range [][2]int{{1, 1}, {3, 3}, {16, 1}, {17, 1}, {34, 2}, {40, 5}} { // rows below, at and past a tile's
		add(func(c *decodeCase) { c.h, c.hkv, c.lens, c.lq, c.causal = g[0], g[1], []int32{70, 31}, 1+i%3, true })
	}
	for _, lq := range []int{2, 5, 16} {
		add(func(c *decodeCase) { c.lq, c.causal, c.lens = lq, true, []int32{3, 66, 0} }) // more queries than keys too
		add(func(c *decodeCase) { c.lq, c.lens = lq, []int32{3, 66} })
		add(func(c *decodeCase) { c.lq, c.window, c.causal = lq, 9, true })
		add(func(c *decodeCase) { c.lq, c.window = lq, 40 })
	}
	add(func(c *decodeCase) { c.lens = []int32{-5, 1000, 80, math.MaxInt32} })
	add(func(c *decodeCase) { c.most, c.lens = 0, []int32{3, 0} })
	add(func(c *decodeCase) { c.h, c.hkv, c.d, c.size, c.most, c.lens = 2, 1, 8, 64, 20, []int32{1100, 200} }) // pieces
	add(func(c *decodeCase) { c.h, c.hkv, c.d, c.size, c.most, c.lens = 1, 1, 8, 128, 130, []int32{2900} })    // as many as there can be
	add(func(c *decodeCase) {
		c.h, c.hkv, c.d, c.size, c.most, c.lens, c.window, c.causal = 2, 1, 8, 32, 64, []int32{2000, 100}, 300, true
	})
	add(func(c *decodeCase) { c.scale = -0.7 })
	add(func(c *decodeCase) { c.amplitude = 3000 })
	return out
}

// Results over pages are those of the definition over the keys that the pages hold; pages of NaN that are not the sequence's, and rows past
// its end, change nothing.
func TestAttentionDecode(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for i, c := range decodeCases() {
			t.Run(c.String(), func(t *testing.T) {
				p := newDecodeProblem(t, dev, c, uint64(i))
				naive := p.naive()
				out, lse := p.run()
				p.check(t, "out", out, p.want.Out, p.want.OutScale(), naive.Out)
				p.check(t, "lse", lse, p.byHead(p.want.LSE), p.byHead(p.lseScale()), nil)
				again, lse2 := p.run()
				sameTensor(t, "out again", again, out)
				sameTensor(t, "lse again", lse2, lse)
			})
		}
	})
}

// A sequence's bits do not change when the others' lengths do.
func TestAttentionDecodeAlone(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, dt := range attnTypes {
			p := newDecodeProblem(t, dev, decodeCase{h: 4, hkv: 2, d: 32, lq: 2, size: 16, most: 40, lens: []int32{600, 500}, dt: dt}, 1)
			out, _ := p.run()
			p.kv.Lens = dev.FromInt32([]int32{600, 3}, 2)
			short, _ := p.run()
			n := 2 * 4 * 32
			if !slices.Equal(read(t, out)[:n], read(t, short)[:n]) {
				t.Errorf("%v: sequence 0 has other bits beside a shorter one", dt)
			}
			if slices.Equal(read(t, out)[n:], read(t, short)[n:]) {
				t.Errorf("%v: sequence 1 has the same bits with other keys", dt)
			}
		}
	})
}

// A NaN among a sequence's keys spoils the queries that see it, and no other sequence.
func TestAttentionDecodeOfNaN(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, dt := range attnTypes {
			p := newDecodeProblem(t, dev, decodeCase{h: 2, hkv: 1, d: 8, lq: 2, size: 16, most: 60, lens: []int32{900, 900}, causal: true, dt: dt}, 2)
			q := read(t, p.q)
			q[3] = float32(math.NaN()) // head 0 of query 0 of sequence 0
			p.q = dev.FromAs(dt, q, p.q.Shape()...)
			out, lse := p.run()
			for i, v := range read(t, out) {
				if (v != v) != (i < 8) {
					t.Fatalf("%v: element %d of out is %g", dt, i, v)
				}
			}
			for i, v := range read(t, lse) {
				if (v != v) != (i == 0) {
					t.Fatalf("%v: element %d of lse is %g", dt, i, v)
				}
			}
		}
	})
}

// Pages get the rows that belong to them, bit for bit, and nothing else is written.
func TestAppendPages(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, dt := range attnTypes {
			for _, width := range [][2]int{{1, 5}, {2, 8}, {3, 16}} {
				for _, length := range []int{0, 1, 3, 40} {
					const size, most, pool = 8, 4, 20
					lens := []int32{32, 0, 1, 21}
					table := []int32{3, 9, 4, 17, -1, -1, -1, -1, 0, 50, 50, 50, 19, 2, 5, -9}
					h, d := width[0], width[1]
					row := h * d
					before := oracle.Normal(1, pool*size*row)
					kv := ops.PagedKV{
						K: dev.FromAs(dt, before, pool, size, h, d), V: dev.FromAs(dt, before, pool, size, h, d),
						Table: dev.FromInt32(table, 4, most), Lens: dev.FromInt32(lens, 4),
					}
					k, v := dev.FromAs(dt, oracle.Normal(2, 4*length*row), 4, length, h, d), dev.FromAs(dt, oracle.Normal(3, 4*length*row), 4, length, h, d)
					wantK, wantV := read(t, kv.K), read(t, kv.V)
					ks, vs := read(t, k), read(t, v)
					for b, l := range lens {
						for i := range length {
							if j := int(l) - length + i; j >= 0 {
								to := (int(table[b*most+j/size])*size + j%size) * row
								copy(wantK[to:][:row], ks[(b*length+i)*row:])
								copy(wantV[to:][:row], vs[(b*length+i)*row:])
							}
						}
					}
					ops.AppendPages(kv, k, v)
					if !slices.Equal(read(t, kv.K), wantK) || !slices.Equal(read(t, kv.V), wantV) {
						t.Errorf("%v, rows of %d, %d at a time: pages differ", dt, row, length)
					}
				}
			}
		}
	})
}

// Tokens appended one by one and read give what Attention gives over all of them at once.
func TestAttentionDecodeStepByStep(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		const steps, h, hkv, d, size = 9, 4, 2, 16, 4
		p := newProblem(dev, attnCase{b: 1, h: h, hkv: hkv, d: d, lq: steps, lk: steps, causal: true}, 3)
		q, k, v := read(t, p.in.Q), read(t, p.in.K), read(t, p.in.V)
		kv := ops.PagedKV{
			K: dev.New(gpu.Float32, 5, size, hkv, d), V: dev.New(gpu.Float32, 5, size, hkv, d),
			Table: dev.FromInt32([]int32{4, 0, 2}, 1, 3),
		}
		var all []float32
		for i := range steps {
			kv.Lens = dev.FromInt32([]int32{int32(i + 1)}, 1)
			at := func(x []float32, heads int) *gpu.Tensor { return dev.From(x[i*heads*d:][:heads*d], 1, 1, heads, d) }
			ops.AppendPages(kv, at(k, hkv), at(v, hkv))
			out, lse := dev.New(gpu.Float32, 1, 1, h, d), dev.New(gpu.Float32, 1, h, 1)
			ops.AttentionDecode(out, lse, at(q, h), kv, ops.AttentionConfig{})
			all = append(all, read(t, out)...)
		}
		p.check(t, "out", dev.From(all, 1, steps, h, d), p.want.Out, p.want.OutScale(), nil)
	})
}

// A graph of a step, recorded once, appends and reads at whatever lengths its tensors have when it runs.
func TestAttentionDecodeInGraph(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		if !dev.CUDA() {
			return
		}
		p := newDecodeProblem(t, dev, decodeCase{h: 4, hkv: 2, d: 16, lq: 1, size: 16, most: 40, lens: []int32{640, 640}}, 6)
		k, v := dev.From(oracle.Normal(7, 2*32), 2, 1, 2, 16), dev.From(oracle.Normal(8, 2*32), 2, 1, 2, 16)
		out, lse := dev.New(gpu.Float32, 2, 1, 4, 16), dev.New(gpu.Float32, 2, 4, 1)
		work := ops.DecodeWork(p.q, p.kv)
		p.kv.Work = work
		step := func() {
			ops.AppendPages(p.kv, k, v)
			ops.AttentionDecode(out, lse, p.q, p.kv, p.cfg)
		}
		step() // kernels are loaded
		graph, err := dev.Stream().Capture(step)
		if err != nil {
			t.Fatal(err)
		}
		for _, lens := range [][]int32{{3, 640}, {300, 1}, {17, 16}} {
			p.kv.Lens.Copy(dev.FromInt32(lens, 2))
			dev.Stream().LaunchGraph(graph)
			got, gotLSE := read(t, out), read(t, lse)
			step()
			if !slices.Equal(got, read(t, out)) || !slices.Equal(gotLSE, read(t, lse)) {
				t.Errorf("lengths %v: the graph's results are others", lens)
			}
			p.kv.Work = nil // from the pool
			step()
			if !slices.Equal(got, read(t, out)) {
				t.Errorf("lengths %v: results without memory of one's own are others", lens)
			}
			p.kv.Work = work
		}
	})
}

func TestAttentionDecodeRefuses(t *testing.T) {
	d := gpu.CPU()
	f := func(shape ...int) *gpu.Tensor { return d.New(gpu.Float32, shape...) }
	ints := func(v []int32, shape ...int) *gpu.Tensor { return d.FromInt32(v, shape...) }
	type call struct {
		out, lse, q, k, v *gpu.Tensor
		kv                ops.PagedKV
		cfg               ops.AttentionConfig
		append            bool
	}
	for _, tc := range []struct {
		want  string
		spoil func(c *call)
	}{
		{"q is nil", func(c *call) { c.q = nil }},
		{"K, Table or Lens is nil", func(c *call) { c.kv.K = nil }},
		{"K, Table or Lens is nil", func(c *call) { c.kv.Table = nil }},
		{"K, Table or Lens is nil", func(c *call) { c.kv.Lens = nil }},
		{"V is nil", func(c *call) { c.kv.V = nil }},
		{"V is", func(c *call) { c.kv.V = f(6, 4, 2, 16) }},
		{"out is nil", func(c *call) { c.out = nil }},
		{"lse is", func(c *call) { c.lse = f(2, 1, 4) }},
		{"want Float32, Float16 or BFloat16", func(c *call) { c.kv.K = d.Empty64(6, 4, 2, 8) }},
		{"the size a power of two", func(c *call) { c.kv.K, c.kv.V = f(6, 3, 2, 8), f(6, 3, 2, 8) }},
		{"the size a power of two", func(c *call) { c.kv.K, c.kv.V = f(6, 0, 2, 8), f(6, 0, 2, 8) }},
		{"D 1 to 256", func(c *call) { c.kv.K, c.kv.V = f(6, 4, 2, 257), f(6, 4, 2, 257) }},
		{"want [pages, size, heads, D]", func(c *call) { c.kv.K, c.kv.V = f(6, 4, 16), f(6, 4, 16) }},
		{"Table is", func(c *call) { c.kv.Table = f(2, 3) }},
		{"Table is", func(c *call) { c.kv.Table = ints(make([]int32, 6), 6) }},
		{"Lens is", func(c *call) { c.kv.Lens = ints(make([]int32, 3), 3) }},
		{"Lens is", func(c *call) { c.kv.Lens = f(2) }},
		{"q is [2 1 4 16]", func(c *call) { c.q = f(2, 1, 4, 16) }},
		{"q is [3 1 4 8]", func(c *call) { c.q = f(3, 1, 4, 8) }},
		{"17 queries of each sequence, want 1 to 16", func(c *call) { c.q = f(2, 17, 4, 8) }},
		{"0 queries of each sequence", func(c *call) { c.q = f(2, 0, 4, 8) }},
		{"5 query heads over 2 key heads", func(c *call) { c.q = f(2, 1, 5, 8) }},
		{"want one dtype", func(c *call) { c.q = d.New(gpu.Float16, 2, 1, 4, 8) }},
		{"Window is -1", func(c *call) { c.cfg.Window = -1 }},
		{"Scale is NaN", func(c *call) { c.cfg.Scale = float32(math.NaN()) }},
		{"page 1 of sequence 0 is 6, want 0 to 5", func(c *call) { c.kv.Table = ints([]int32{0, 6, 9, 1, 9, 9}, 2, 3) }},
		{"page 0 of sequence 1 is -1", func(c *call) { c.kv.Table = ints([]int32{0, 5, 9, -1, 9, 9}, 2, 3) }},
		{"Work is", func(c *call) { c.kv.Work = f(10) }},
		{"Work is", func(c *call) { c.kv.Work = f(1, 1000) }},
		{"k is nil", func(c *call) { c.append, c.k = true, nil }},
		{"v is nil", func(c *call) { c.append, c.v = true, nil }},
		{"k is [2 1 4 8]", func(c *call) { c.append, c.k = true, f(2, 1, 4, 8) }},
		{"k is [3 1 2 8]", func(c *call) { c.append, c.k = true, f(3, 1, 2, 8) }},
		{"v is", func(c *call) { c.append, c.v = true, f(2, 2, 2, 8) }},
		{"want one dtype", func(c *call) { c.append, c.k = true, d.New(gpu.BFloat16, 2, 1, 2, 8) }},
		{"sequence 1 has 13 tokens, its pages 12", func(c *call) { c.append, c.kv.Lens = true, ints([]int32{1, 13}, 2) }},
		{"page 1 of sequence 0 is 6, want 0 to 5", func(c *call) { c.append, c.kv.Table = true, ints([]int32{0, 6, 9, 1, 9, 9}, 2, 3) }},
	} {
		c := call{
			out: f(2, 1, 4, 8), lse: f(2, 4, 1), q: f(2, 1, 4, 8), k: f(2, 1, 2, 8), v: f(2, 1, 2, 8),
			kv: ops.PagedKV{K: f(6, 4, 2, 8), V: f(6, 4, 2, 8), Table: ints([]int32{0, 5, 2, 1, 3, 4}, 2, 3), Lens: ints([]int32{5, 2}, 2)},
		}
		tc.spoil(&c)
		op := "AttentionDecode"
		if c.append {
			op = "AppendPages"
		}
		refuses(t, op, tc.want, func() {
			if c.append {
				ops.AppendPages(c.kv, c.k, c.v)
			} else {
				ops.AttentionDecode(c.out, c.lse, c.q, c.kv, c.cfg)
			}
		})
	}
}
