package vq_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/models/vq"
	"github.com/fidlab/fidlab/nn"
)

func residual(t *testing.T, dt gpu.DType, c vq.ResidualConfig) (*nn.Params, *vq.Residual) {
	t.Helper()
	net := nn.NewParams(gpu.CPU(), dt)
	r := vq.NewResidual(net.At("quantizer"), c)
	net.At("other").Param("weight", nn.Ones, 1)
	net.Init(3)
	for i, b := range r.Books {
		v := normals(uint64(60+i), b.Weight().Len())
		for j := range v {
			v[j] *= math.Pow(0.5, float64(i))
			if dt == gpu.Float64 {
				b.Weight().F64()[j] = v[j]
			} else {
				b.Weight().F32()[j] = float32(v[j])
			}
		}
		b.Loaded()
	}
	return net, r
}

// Levels, their sum and losses are the definition's; the gradient by z is the sum's once a level
// and each level's commitment, as frozen differences have it.
func TestResidualIsItsDefinition(t *testing.T) {
	const n, k, d, levels = 9, 6, 3, 4
	for _, shared := range []bool{false, true} {
		net, r := residual(t, gpu.Float64, vq.ResidualConfig{Levels: levels, Shared: shared, Book: vq.Config{Codes: k, Width: d, Commit: 0.2, Pull: 0.6}})
		if want := map[bool]int{false: levels, true: 1}[shared]; len(r.Books) != want || (net.Get("quantizer.layers.1.embedding.weight") == nil) != shared {
			t.Fatalf("shared %t: %d books", shared, len(r.Books))
		}
		z, g := normals(2, n*d), normals(3, n*d)
		tape := nn.NewTape(gpu.CPU(), gpu.Float64)
		tape.Run(func() {
			leaf := tape.Leaf(gpu.CPU().From64(slices.Clone(z), n, d))
			q := r.Quantize(leaf, true, 0)
			tape.Backward(q.Codes.Mul(tape.Input(gpu.CPU().From64(g, n, d))).Sum().Add(q.Loss))
			rest, sum := slices.Clone(z), make([]float64, n*d)
			grad := make([]float64, n*d)
			var loss float64
			for level := range levels {
				w := r.Book(level).Weight().F64()
				for i := range n {
					c := search(rest[i*d:][:d], w)
					if got := int(q.Index.I32()[i*levels+level]); got != c {
						t.Fatalf("level %d: index %d, want %d", level, got, c)
					}
					for j := i * d; j < (i+1)*d; j++ {
						e := w[c*d+j-i*d]
						loss += 0.8 * (rest[j] - e) * (rest[j] - e) / (n * d * levels)
						grad[j] += g[j] + 0.2*2*(rest[j]-e)/(n*d*levels)
						sum[j] += e
						rest[j] -= e
					}
				}
			}
			oracle.Close64(t, q.Codes.Value().F64(), oracle.Tol{Abs: 1e-14}, func(i int) float64 { return sum[i] })
			oracle.Close64(t, leaf.Grad().F64(), oracle.Tol{Abs: 1e-13}, func(i int) float64 { return grad[i] })
			if math.Abs(q.Loss.Item()-loss) > 1e-13 {
				t.Errorf("loss %v, want %v", q.Loss.Item(), loss)
			}
			// Decoding all levels is the sum; a prefix is the sum of its levels, and -1 nothing.
			oracle.Close64(t, r.Decode(tape, q.Index, levels).Value().F64(), oracle.Tol{Abs: 1e-14}, func(i int) float64 { return sum[i] })
			two := r.Decode(tape, q.Index, 2).Value().F64()
			cut := gpu.CPU().New(gpu.Int32, n, levels)
			copy(cut.I32(), q.Index.I32())
			for i := range n {
				cut.I32()[i*levels+2], cut.I32()[i*levels+3] = -1, -1
			}
			if got := r.Decode(tape, cut, levels).Value().F64(); !slices.Equal(got, two) {
				t.Error("absent levels add something")
			}
		})
	}
}

// Steps of dropped levels: their share, the spread of how many stay, and -1 in their place.
func TestLevelsThatAreLeftOut(t *testing.T) {
	const levels, steps = 4, 4000
	_, r := residual(t, gpu.Float32, vq.ResidualConfig{Levels: levels, Drop: 0.4, Book: vq.Config{Codes: 3, Width: 2}})
	z := gpu.CPU().From(oracle.Normal(1, 2), 1, 2)
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	counts := make([]int, levels+1)
	for step := range steps {
		tape.Run(func() {
			q := r.Quantize(tape.Leaf(z), true, uint64(step))
			used := 0
			for used < levels && q.Index.I32()[used] >= 0 {
				used++
			}
			for _, k := range q.Index.I32()[used:] {
				if k != -1 {
					t.Fatalf("indices %v: no prefix", q.Index.I32())
				}
			}
			if len(q.Levels) != used {
				t.Fatalf("%d levels, indices %v", len(q.Levels), q.Index.I32())
			}
			counts[used]++
			if step < 20 {
				if q := r.Quantize(tape.Leaf(z), false, uint64(step)); len(q.Levels) != levels {
					t.Fatal("levels are left out beside training")
				}
			}
		})
	}
	for used := 1; used <= levels; used++ {
		p := 0.1
		if used == levels {
			p = 0.7
		}
		if d := math.Abs(float64(counts[used])/steps - p); d > 4*math.Sqrt(p*(1-p)/steps) {
			t.Errorf("%d of %d steps use %d levels, want %v of them", counts[used], steps, used, p)
		}
	}
}

// Codes are drawn with the probabilities softmax(-|z - e|²/tau); steps and rows differ.
func TestDrawnCodes(t *testing.T) {
	const n, tau = 20000, 0.7
	_, r := residual(t, gpu.Float64, vq.ResidualConfig{Levels: 1, Tau: tau, Book: vq.Config{Codes: 5, Width: 2}})
	z := make([]float64, 0, 2*n)
	for range n {
		z = append(z, 0.3, -0.4)
	}
	tape := nn.NewTape(gpu.CPU(), gpu.Float64)
	tape.Run(func() {
		leaf := tape.Leaf(gpu.CPU().From64(z, n, 2))
		q := r.Quantize(leaf, true, 3)
		u := vq.NewUsage(5)
		u.Add(q.Index)
		w := r.Books[0].Weight().F64()
		var p [5]float64
		var sum float64
		for k := range p {
			p[k] = math.Exp(-((0.3-w[2*k])*(0.3-w[2*k]) + (-0.4-w[2*k+1])*(-0.4-w[2*k+1])) / tau)
			sum += p[k]
		}
		for k := range p {
			p[k] /= sum
			if d := math.Abs(float64(u.Counts[k])/n - p[k]); d > 3.5*math.Sqrt(p[k]*(1-p[k])/n) {
				t.Errorf("code %d is drawn %d of %d times, want %v of them", k, u.Counts[k], n, p[k])
			}
		}
		same := slices.Clone(q.Index.I32())
		if !slices.Equal(r.Quantize(leaf, true, 3).Index.I32(), same) {
			t.Error("one step has two draws")
		}
		if slices.Equal(r.Quantize(leaf, true, 4).Index.I32(), same) {
			t.Error("two steps have the same draws")
		}
		at := r.Quantize(leaf, false, 3).Index.I32()[0]
		for _, k := range r.Quantize(leaf, false, 3).Index.I32() {
			if int(k) != search([]float64{0.3, -0.4}, w) || k != at {
				t.Fatal("beside training a code is not the nearest")
			}
		}
	})
}

// Trained by averages, more levels have less error; resets are of residuals, not of z.
func TestResidualLearns(t *testing.T) {
	const n, d, levels = 256, 4, 4
	net, r := residual(t, gpu.Float32, vq.ResidualConfig{Levels: levels, Book: vq.Config{Codes: 16, Width: d, Average: true, Decay: 0.8, ResetEvery: 5, Start: vq.KMeans, Seed: 2}})
	_ = net
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	batch := func(i int) *gpu.Tensor {
		v := oracle.Normal(uint64(1000+i), n*d)
		for j := range v { // away from 0, so that residuals are near nothing of the batch
			v[j] += 20
		}
		return gpu.CPU().From(v, n, d)
	}
	for i := range 30 {
		tape.Run(func() {
			q := r.Quantize(tape.Leaf(batch(i)), true, uint64(i))
			tape.Backward(q.Loss)
			r.Update(q)
		})
	}
	for level := 1; level < levels; level++ {
		for _, v := range r.Book(level).Weight().F32() {
			if math.Abs(float64(v)) > 10 {
				t.Fatalf("a code of level %d has %v: reset from z, not from what was left", level, v)
			}
		}
	}
	test := batch(99)
	tape.NoGrad(func() {
		q := r.Quantize(tape.Input(test), false, 0)
		before := math.Inf(1)
		for level := 1; level <= levels; level++ {
			e := nn.MSE(r.Decode(tape, q.Index, level), tape.Input(test), nil).Item()
			t.Logf("error of %d levels: %.4f", level, e)
			if !(e < 0.8*before) {
				t.Errorf("error %v of %d levels, %v of one less", e, level, before)
			}
			before = e
		}
	})
}

func TestResidualRefuses(t *testing.T) {
	_, r := residual(t, gpu.Float32, vq.ResidualConfig{Levels: 2, Book: vq.Config{Codes: 3, Width: 2}})
	ids := func(shape []int, v ...int32) *gpu.Tensor { return gpu.CPU().FromInt32(v, shape...) }
	for want, idx := range map[string]*gpu.Tensor{
		"index 3 of level 1 at 0, want 0 to 2": ids([]int{1, 2}, 0, 3),
		"index -2 of level 0 at 1":             ids([]int{2, 2}, 0, 0, -2, 0),
		"int32 of shape [1 3], want int32":     ids([]int{1, 3}, 0, 0, 0),
		"are float32 of shape [1 2]":           gpu.CPU().Empty(1, 2),
	} {
		if err := r.Check(idx); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	defer func() {
		if r := recover(); r == nil || !strings.Contains(r.(string), "Decode: 3 levels, want 1 to 2") {
			t.Error(r)
		}
	}()
	r.Decode(tape, ids([]int{1, 2}, 0, 1), 3)
}
