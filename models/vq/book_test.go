package vq_test

import (
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/models/vq"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/tensor"
)

func normals(seed uint64, n int) []float64 {
	v := make([]float64, n)
	for i, x := range oracle.Normal(seed, n) {
		v[i] = float64(x)
	}
	return v
}

// made is a book in a network of its own; the network of averages alone has no parameters.
func made(t *testing.T, dt gpu.DType, c vq.Config) (*nn.Params, *vq.Book) {
	t.Helper()
	net := nn.NewParams(gpu.CPU(), dt)
	b := vq.New(net.At("quantize"), c)
	net.At("other").Param("weight", nn.Ones, 1)
	net.Init(3)
	return net, b
}

// search is the nearest row, the first of equals.
func search(z, codes []float64) int {
	at, far, d := 0, math.Inf(1), len(z)
	for k := range len(codes) / d {
		var s float64
		for i, v := range z {
			s += (v - codes[k*d+i]) * (v - codes[k*d+i])
		}
		if s < far {
			at, far = k, s
		}
	}
	return at
}

func unit(x []float64, d int) []float64 {
	y := slices.Clone(x)
	for r := 0; r < len(x); r += d {
		var s float64
		for _, v := range x[r:][:d] {
			s += v * v
		}
		for i := range d {
			y[r+i] /= math.Sqrt(s)
		}
	}
	return y
}

// Indices, codes, both losses and all gradients are those of the definition, whose gradients are
// differences with the indices and the constants of each term frozen.
func TestQuantizeIsItsDefinition(t *testing.T) {
	const n, k, d = 7, 11, 3
	for _, norm := range []bool{false, true} {
		net, b := made(t, gpu.Float64, vq.Config{Codes: k, Width: d, Normalize: norm, Commit: 0.3, Pull: 0.7})
		w := b.Weight()
		w.Copy(gpu.CPU().From64(normals(1, k*d), k, d))
		z, g := normals(2, n*d), normals(3, n*d)
		tape := nn.NewTape(gpu.CPU(), gpu.Float64)
		tape.Run(func() {
			leaf := tape.Leaf(gpu.CPU().From64(slices.Clone(z), n, d))
			q := b.Quantize(leaf, true)
			tape.Backward(q.Codes.Mul(tape.Input(gpu.CPU().From64(g, n, d))).Sum().Add(q.Loss))

			vectors := func(z []float64) []float64 {
				if norm {
					return unit(z, d)
				}
				return z
			}
			z0, w0 := vectors(z), slices.Clone(vectors(w.F64()))
			idx := make([]int, n)
			for i := range idx {
				idx[i] = search(z0[i*d:][:d], w0)
				if int(q.Index.I32()[i]) != idx[i] {
					t.Fatalf("normalised %t: vector %d has code %d, want %d", norm, i, q.Index.I32()[i], idx[i])
				}
			}
			value := func(z, w []float64) (s float64) { // its gradient is the one wanted
				zv, wv := vectors(z), vectors(w)
				for i, k := range idx {
					for j := range d {
						a, e := zv[i*d+j], wv[k*d+j]
						s += g[i*d+j]*a + (0.3*(a-w0[k*d+j])*(a-w0[k*d+j])+0.7*(e-z0[i*d+j])*(e-z0[i*d+j]))/(n*d)
					}
				}
				return s
			}
			var loss float64
			for i, k := range idx {
				for j := range d {
					e := w0[k*d+j]
					loss += (z0[i*d+j] - e) * (z0[i*d+j] - e) / (n * d)
					if got := q.Codes.Value().F64()[i*d+j]; math.Abs(got-e) > 1e-15 {
						t.Errorf("code %v, want %v to the bit of a normalisation", got, e)
					}
				}
			}
			if got := q.Loss.Item(); math.Abs(got-loss) > 1e-14 {
				t.Errorf("loss %v, want (0.3 + 0.7)·%v", got, loss)
			}
			dz := oracle.Grad(t, slices.Clone(z), 1e-5, func(x []float64) float64 { return value(x, w.F64()) })
			dw := oracle.Grad(t, slices.Clone(w.F64()), 1e-5, func(x []float64) float64 { return value(z, x) })
			oracle.Close64(t, leaf.Grad().F64(), oracle.Tol{Abs: 1e-8}, func(i int) float64 { return dz[i] })
			oracle.Close64(t, net.Get("quantize.embedding.weight").Grad().F64(), oracle.Tol{Abs: 1e-8}, func(i int) float64 { return dw[i] })
		})
	}
}

// A code's own index is what it is quantised to, in books of unit vectors and others; indices
// do not depend on their neighbours in the batch.
func TestCodesAreTheirOwn(t *testing.T) {
	for _, dt := range []gpu.DType{gpu.Float32, gpu.Float64} {
		for _, c := range []vq.Config{
			{Codes: 300, Width: 4, Normalize: true}, {Codes: 300, Width: 4}, {Codes: 300, Width: 4, Average: true, Normalize: true}, {Codes: 300, Width: 4, Average: true},
		} {
			_, b := made(t, dt, c)
			all := make([]int32, c.Codes)
			for i := range all {
				all[i] = int32((i * 7) % c.Codes)
			}
			idx := gpu.CPU().FromInt32(all, c.Codes)
			tape := nn.NewTape(gpu.CPU(), dt)
			tape.NoGrad(func() {
				q := b.Quantize(b.Lookup(tape, idx), false)
				if !slices.Equal(q.Index.I32(), all) {
					t.Errorf("%+v: a code is quantised to another", c)
				}
				z := gpu.CPU().FromAs(dt, oracle.Normal(9, 50*4), 50, 4)
				turned := gpu.CPU().New(dt, 50, 4)
				for r := range 50 {
					turned.Rows(r, r+1).Copy(z.Rows((r+13)%50, (r+13)%50+1))
				}
				one, two := b.Quantize(tape.Input(z), false).Index.I32(), b.Quantize(tape.Input(turned), false).Index.I32()
				for r := range 50 {
					if two[r] != one[(r+13)%50] {
						t.Errorf("%+v: vector %d has index %d in one order, %d in another", c, r, one[(r+13)%50], two[r])
					}
				}
			})
		}
	}
}

// train is one step of a book alone: a quantisation, a walk back and an update.
func train(tape *nn.Tape, b *vq.Book, z *gpu.Tensor) (q vq.Quantized) {
	tape.Run(func() {
		q = b.Quantize(tape.Leaf(z), true)
		tape.Backward(q.Loss)
		b.Update(q)
	})
	return q
}

// Averages follow their recursion, and a code whose count stays low is put at a vector of the
// batch after exactly that many updates.
func TestAveragesAndResets(t *testing.T) {
	const k, d, n = 6, 2, 20
	for _, dt := range []gpu.DType{gpu.Float32, gpu.Float64} {
		net, b := made(t, dt, vq.Config{Codes: k, Width: d, Average: true, Decay: 0.8, ResetBelow: 0.5, ResetEvery: 3, Seed: 4})
		at := map[string]*gpu.Tensor{}
		for _, s := range net.State() {
			at[s.Name] = s.Tensor
		}
		// Codes near 0 and one far off, which nothing is nearest to.
		start := normals(5, k*d)
		start[2*d], start[2*d+1] = 100, 100
		for i, v := range start {
			if dt == gpu.Float64 {
				b.Weight().F64()[i] = v
			} else {
				b.Weight().F32()[i] = float32(v)
			}
		}
		b.Loaded()
		count, sum, low := slices.Repeat([]float64{1}, k), slices.Clone(start), make([]int, k)
		codes := slices.Clone(start)
		tape := nn.NewTape(gpu.CPU(), dt)
		resets := 0
		for step := range 12 {
			v := normals(uint64(20+step), n*d)
			z := gpu.CPU().FromAs(dt, oracle.Normal(uint64(20+step), n*d), n, d)
			ns, ss := make([]float64, k), make([]float64, k*d)
			for r := range n {
				c := search(v[r*d:][:d], codes)
				ns[c]++
				for i := range d {
					ss[c*d+i] += v[r*d+i]
				}
			}
			train(tape, b, z)
			for c := range k {
				count[c] = 0.8*count[c] + 0.2*ns[c]
				for i := range d {
					sum[c*d+i] = 0.8*sum[c*d+i] + 0.2*ss[c*d+i]
				}
				low[c]++
				if count[c] >= 0.5 {
					low[c] = 0
				}
				if low[c] == 3 { // any vector of the batch
					resets++
					low[c], count[c] = 0, 1
					found := false
					for r := range n {
						same := true
						for i := range d {
							same = same && at["quantize.average.sum"].F64()[c*d+i] == v[r*d+i]
						}
						found = found || same
					}
					if !found {
						t.Fatalf("step %d: code %d was reset to no vector of the batch", step, c)
					}
					copy(sum[c*d:][:d], at["quantize.average.sum"].F64()[c*d:])
				}
				for i := range d {
					codes[c*d+i] = sum[c*d+i] / count[c]
					if dt == gpu.Float32 {
						codes[c*d+i] = float64(float32(codes[c*d+i]))
					}
					got := 0.0
					if dt == gpu.Float32 {
						got = float64(b.Weight().F32()[c*d+i])
					} else {
						got = b.Weight().F64()[c*d+i]
					}
					if math.Abs(got-codes[c*d+i]) > 1e-12*(1+math.Abs(got)) {
						t.Fatalf("%v, step %d: code %d is %v, want %v", dt, step, c, got, codes[c*d+i])
					}
				}
				if got := at["quantize.average.count"].F64()[c]; math.Abs(got-count[c]) > 1e-12 {
					t.Fatalf("step %d: count %v of code %d, want %v", step, got, c, count[c])
				}
			}
		}
		if resets == 0 {
			t.Error("no code was reset")
		}
	}
}

func TestStarts(t *testing.T) {
	const d = 2
	tape := nn.NewTape(gpu.CPU(), gpu.Float64)
	for _, average := range []bool{false, true} {
		// Enough vectors: different ones of the batch.
		_, b := made(t, gpu.Float64, vq.Config{Codes: 8, Width: d, Start: vq.FirstBatch, Average: average, Commit: -1, Pull: -1, ResetBelow: -1})
		z := normals(3, 20*d)
		q := train(tape, b, gpu.CPU().From64(slices.Clone(z), 20, d))
		_ = q
		if !average { // averages have moved already
			seen := map[int]bool{}
			for k := range 8 {
				r := search(b.Weight().F64()[k*d:][:d], z)
				if b.Weight().F64()[k*d] != z[r*d] || seen[r] {
					t.Errorf("code %d is not a vector of the batch of its own", k)
				}
				seen[r] = true
			}
			before := slices.Clone(b.Weight().F64())
			train(tape, b, gpu.CPU().From64(normals(4, 20*d), 20, d))
			if !slices.Equal(before, b.Weight().F64()) {
				t.Error("a second batch began anew")
			}
		}
		// Too few: repeated, a little moved.
		_, b = made(t, gpu.Float64, vq.Config{Codes: 8, Width: d, Start: vq.FirstBatch, Average: average, Decay: 1 - 1e-12, ResetBelow: -1})
		train(tape, b, gpu.CPU().From64(slices.Clone(z[:3*d]), 3, d))
		for k := range 8 {
			r := search(b.Weight().F64()[k*d:][:d], z[:3*d])
			far := math.Hypot(b.Weight().F64()[k*d]-z[r*d], b.Weight().F64()[k*d+1]-z[r*d+1])
			if far > 0.05 || k >= 3 && far < 1e-7 {
				t.Errorf("code %d is %v from the nearest vector, want a little", k, far)
			}
		}
		// Means of well separated clusters, each found.
		var v, want []float64
		for c := range 5 {
			x, y := 10*math.Cos(float64(c)), 10*math.Sin(float64(c))
			m := normals(uint64(40+c), 12)
			var mx, my float64
			for i := 0; i < 12; i += 2 {
				v = append(v, x+0.1*m[i], y+0.1*m[i+1])
				mx, my = mx+(x+0.1*m[i])/6, my+(y+0.1*m[i+1])/6
			}
			want = append(want, mx, my)
		}
		_, b = made(t, gpu.Float64, vq.Config{Codes: 5, Width: d, Start: vq.KMeans, Average: average, Decay: 1 - 1e-12, ResetBelow: -1})
		train(tape, b, gpu.CPU().From64(v, 30, d))
		for c := range 5 {
			k := search(want[c*d:][:d], b.Weight().F64())
			if far := math.Hypot(b.Weight().F64()[k*d]-want[c*d], b.Weight().F64()[k*d+1]-want[c*d+1]); far > 1e-8 {
				t.Errorf("the nearest code is %v from the mean of cluster %d", far, c)
			}
		}
	}
}

func TestUsage(t *testing.T) {
	u := vq.NewUsage(4)
	if u.Perplexity() != 0 || u.Dead() != 4 {
		t.Errorf("of nothing: %v, %d dead", u.Perplexity(), u.Dead())
	}
	u.Add(gpu.CPU().FromInt32([]int32{0, 1, -1, 0, 1}, 5))
	if u.Total() != 4 || u.Dead() != 2 || u.Used() != 0.5 || math.Abs(u.Perplexity()-2) > 1e-5 {
		t.Errorf("total %d, dead %d, used %v, perplexity %v, want 4, 2, 0.5, 2", u.Total(), u.Dead(), u.Used(), u.Perplexity())
	}
	u.Add(gpu.CPU().FromInt32([]int32{2, 2, 3, 3}, 2, 2))
	if math.Abs(u.Perplexity()-4) > 1e-4 {
		t.Errorf("perplexity %v, want 4", u.Perplexity())
	}
}

// A book that is saved and loaded goes on as the first one does, to the bit.
func TestBooksResume(t *testing.T) {
	c := vq.Config{Codes: 9, Width: 3, Average: true, Start: vq.KMeans, ResetEvery: 2, Seed: 8}
	net, b := made(t, gpu.Float32, c)
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	batch := func(i int) *gpu.Tensor { return gpu.CPU().From(oracle.Normal(uint64(i), 30*3), 30, 3) }
	for i := range 5 {
		train(tape, b, batch(i))
	}
	path := filepath.Join(t.TempDir(), "book.safetensors")
	if err := nn.Save(path, nil, []nn.Part{{Of: net}}); err != nil {
		t.Fatal(err)
	}
	other, o := made(t, gpu.Float32, c)
	if _, err := nn.Load(path, nn.LoadOptions{}, nn.Part{Of: other}); err != nil {
		t.Fatal(err)
	}
	for i := range 6 {
		train(tape, b, batch(5+i))
		train(tape, o, batch(5+i))
		if !slices.Equal(b.Weight().F32(), o.Weight().F32()) {
			t.Fatalf("step %d after the file: the codes differ", i)
		}
	}
	f, err := tensor.OpenSafetensors(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want := []string{"other.weight", "quantize.average.below", "quantize.average.count", "quantize.average.steps", "quantize.average.sum", "quantize.embedding.weight", "quantize.ready"}
	got := slices.Clone(f.Names())
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("names %v, want %v", got, want)
	}
}

func TestStepsAllocateNothing(t *testing.T) {
	for _, c := range []vq.Config{{Codes: 40, Width: 4, Normalize: true}, {Codes: 40, Width: 4, Average: true, ResetEvery: 1, Start: vq.FirstBatch}} {
		net, b := made(t, gpu.Float32, c)
		r := vq.NewResidual(nn.NewParams(gpu.CPU(), gpu.Float32).At("r"), vq.ResidualConfig{Levels: 3, Drop: 0.5, Tau: 0.5, Book: vq.Config{Codes: 8, Width: 4, Average: true}})
		z := gpu.CPU().From(oracle.Normal(1, 64*4), 64, 4)
		tape := nn.NewTape(gpu.CPU(), gpu.Float32)
		n := uint64(0)
		body := func() {
			v := tape.Leaf(z)
			q := b.Quantize(v, true)
			s := r.Quantize(v, true, n)
			tape.Backward(q.Loss.Add(s.Loss).Add(s.Codes.Sum()))
			b.Update(q)
			r.Update(s)
			n++
		}
		step := func() { tape.Run(body) }
		for range 8 { // every number of levels was seen
			step()
		}
		if a := oracle.Allocations(10, step); a >= 1 {
			t.Errorf("%+v: %v allocations a step", c, a)
		}
		net.ZeroGrad()
	}
}

func TestBadInput(t *testing.T) {
	good := vq.Config{Codes: 4, Width: 2}
	for want, change := range map[string]func(c *vq.Config){
		"vq: Codes is 1":       func(c *vq.Config) { c.Codes = 1 },
		"vq: Width is 0":       func(c *vq.Config) { c.Width = 0 },
		"vq: Decay is 1":       func(c *vq.Config) { c.Decay = 1 },
		"vq: ResetEvery is -1": func(c *vq.Config) { c.ResetEvery = -1 },
		"vq: Start is 3":       func(c *vq.Config) { c.Start = 3 },
	} {
		c := good
		change(&c)
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	for want, c := range map[string]vq.ResidualConfig{
		"vq: Levels is 0":            {Book: good},
		"vq: Drop is 2":              {Levels: 2, Drop: 2, Book: good},
		"vq: Tau is -1":              {Levels: 2, Tau: -1, Book: good},
		"vq: Book.Normalize is set":  {Levels: 2, Book: vq.Config{Codes: 4, Width: 2, Normalize: true}},
		"vq: Codes is 0, want >= 2":  {Levels: 2},
		"vq: Drop is NaN, want 0 to": {Levels: 2, Drop: math.NaN(), Book: good},
	} {
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	_, b := made(t, gpu.Float32, good)
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	ids := func(v ...int32) *gpu.Tensor { return gpu.CPU().FromInt32(v, len(v)) }
	oracle.Refuses(t, map[string]func(){
		"vq: Quantize: vectors [5 3] for codes of 2": func() { b.Quantize(tape.Const(0, 5, 3), false) },
		"id -1 at 1, want 0 to 3":                    func() { b.Lookup(tape, ids(0, -1)) },
		"id 4 at 0, want 0 to 3":                     func() { b.Lookup(tape, ids(4)) },
		"vq: Usage: index 9 at 0, want 0 to 3":       func() { vq.NewUsage(4).Add(ids(9)) },
		"vq: Rows: shape [2 3]":                      func() { vq.Rows(tape.Const(0, 2, 3)) },
		"vq: Unrows: shape [2]":                      func() { vq.Unrows(tape.Const(0, 2, 3), []int{2}) },
		"vq: Codes is 0":                             func() { vq.New(nn.NewParams(gpu.CPU(), gpu.Float32).At(""), vq.Config{}) },
	})
	tape.NoGrad(func() { // no vectors at all
		if q := b.Quantize(tape.Const(0, 0, 2), true); q.Loss.Item() != 0 {
			t.Error("a loss of nothing")
		}
	})
}

func TestRowsAndBack(t *testing.T) {
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	for _, shape := range [][]int{{2, 3, 4, 5}, {2, 3, 7}} {
		n := 1
		for _, s := range shape {
			n *= s
		}
		x := tape.Input(gpu.CPU().From(oracle.Normal(1, n), shape...))
		rows := vq.Rows(x)
		if s := rows.Shape(); s[0] != n/3 || s[1] != 3 {
			t.Fatalf("rows %v", s)
		}
		if rows.Value().F32()[1] != x.Value().F32()[n/6] {
			t.Error("a row is not the channels of a place")
		}
		if back := vq.Unrows(rows, shape); !slices.Equal(back.Value().F32(), x.Value().F32()) || !slices.Equal(back.Shape(), shape) {
			t.Error("there and back is not the same")
		}
	}
}
