package ops_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/ops"
)

// Sizes that are cut into many tiles and into pieces of K, tiles of both sizes on a GPU,
// ragged at every edge, with rows that are multiples of 16 bytes and that are not.
var productSizes = [][4]int{
	{1, 300, 257, 64}, {1, 40, 33, 3000}, {3, 64, 48, 1030}, {3, 130, 70, 40}, {1, 7, 1, 5}, {2, 3, 4, 0},
	{1, 130, 270, 300}, {1, 64, 64, 1100}, {1, 1, 130, 1030},
}

func TestMatMulInPieces(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, dt := range realDTypes {
			for _, s := range productSizes {
				for c, cfg := range []ops.MatMulConfig{{}, {TransA: true, Acc: true}, {TransB: true, Alpha: -0.5}, {TransA: true, TransB: true, Alpha: 2, Acc: true}} {
					matmulCase{batch: s[0], m: s[1], n: s[2], k: s[3], cfg: cfg}.check(t, dev, dt, c)
				}
			}
			// One matrix for all, and operands that begin at an odd element.
			for _, p := range []matmulCase{
				{batch: 3, m: 70, n: 68, k: 40, oneA: true}, {batch: 3, m: 70, n: 68, k: 40, oneB: true},
				{batch: 1, m: 72, n: 136, k: 48, odd: true}, {batch: 2, m: 72, n: 136, k: 600, odd: true, cfg: ops.MatMulConfig{TransA: true, TransB: true}},
			} {
				p.check(t, dev, dt, 5)
			}
		}
	})
}

// Large float32 products have tiles of another size on a GPU; here small ones get them, and are right
// too, with and without rows of a multiple of 16 bytes.
func TestMatMulInLargeTiles(t *testing.T) {
	defer ops.LargeTiles(1)()
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for c, cfg := range []ops.MatMulConfig{{}, {TransA: true, Acc: true}, {TransB: true, Alpha: -0.5}, {TransA: true, TransB: true, Alpha: 2, Acc: true}} {
			for _, p := range []matmulCase{{batch: 1, m: 130, n: 190, k: 21}, {batch: 2, m: 128, n: 100, k: 20}, {batch: 1, m: 72, n: 136, k: 520, odd: true}} {
				p.cfg = cfg
				p.check(t, dev, gpu.Float32, c)
			}
		}
		x, xv := linearInput(t, dev, gpu.Float32, 41, 135, 12)
		w, wv := linearInput(t, dev, gpu.Float32, 42, 70, 12)
		b, bv := linearInput(t, dev, gpu.Float32, 43, 70)
		out, pre := dev.Empty(135, 70), dev.Empty(135, 70)
		ops.Linear(out, pre, x, w, b, ops.Square)
		got, kept := read64(t, out), read64(t, pre)
		for i := range got {
			want, size := bv[i%70], math.Abs(bv[i%70])
			for l := range 12 {
				want += xv[i/70*12+l] * wv[i%70*12+l]
				size += math.Abs(xv[i/70*12+l] * wv[i%70*12+l])
			}
			isNear(t, fmt.Sprint("element ", i, " before the function"), kept[i], want, off(false, 13, size))
			isNear(t, fmt.Sprint("element ", i), got[i], want*want, 3*off(false, 13, size)*math.Abs(want)+off(false, 0, want*want))
		}
	})
}

// matmulCase is a case of MatMul.
type matmulCase struct {
	batch, m, n, k  int
	cfg             ops.MatMulConfig
	oneA, oneB, odd bool
	single          bool // the result is float32 whatever the operands are
}

// at makes an operand and its values; one that is odd begins at the second element of its memory.
func (p matmulCase) at(t *testing.T, dev *gpu.Device, dt gpu.DType, seed uint64, shape ...int) (*gpu.Tensor, []float64) {
	n := 1
	for _, d := range shape {
		n *= d
	}
	if !p.odd {
		return linearInput(t, dev, dt, seed, shape...)
	}
	x, v := linearInput(t, dev, dt, seed, n+1)
	return x.Rows(1, n+1).View(shape...), v[1:]
}

func (p matmulCase) check(t *testing.T, dev *gpu.Device, dt gpu.DType, seed int) {
	t.Helper()
	r := rand.New(rand.NewPCG(5, uint64(seed)))
	as, bs := []int{p.batch, p.m, p.k}, []int{p.batch, p.k, p.n}
	if p.cfg.TransA {
		as[1], as[2] = p.k, p.m
	}
	if p.cfg.TransB {
		bs[1], bs[2] = p.n, p.k
	}
	stepA, stepB := p.m*p.k, p.k*p.n
	if p.oneA {
		as, stepA = as[1:], 0
	}
	if p.oneB {
		bs, stepB = bs[1:], 0
	}
	a, av := p.at(t, dev, dt, uint64(10*seed), as...)
	b, bv := p.at(t, dev, dt, uint64(10*seed+1), bs...)
	to := dt
	if p.single {
		to = gpu.Float32
	}
	out, ov := p.at(t, dev, to, uint64(10*seed+2), p.batch, p.m, p.n)
	if p.cfg.BF16 {
		roundedValues(av)
		roundedValues(bv)
		if p.cfg.KnownB {
			ops.RoundBF16(b, b)
		}
	}
	ops.MatMul(out, a, b, p.cfg)
	got := read64(t, out)
	alpha := p.cfg.Alpha
	if alpha == 0 {
		alpha = 1
	}
	for c := range 400 { // places at random, and the corners
		i := r.IntN(len(got))
		if c < 2 {
			i = c * (len(got) - 1)
		}
		g, row, col := i/(p.m*p.n), i/p.n%p.m, i%p.n
		var want, size float64
		for l := range p.k {
			u, v := g*stepA+row*p.k+l, g*stepB+l*p.n+col
			if p.cfg.TransA {
				u = g*stepA + l*p.m + row
			}
			if p.cfg.TransB {
				v = g*stepB + col*p.k + l
			}
			want += alpha * av[u] * bv[v]
			size += math.Abs(alpha * av[u] * bv[v])
		}
		if p.cfg.Acc {
			want += ov[i]
			size += math.Abs(ov[i])
		}
		isNear(t, fmt.Sprintf("%v %+v: element %d", dt, p, i), got[i], want, rounded16(to, want, off(dt == gpu.Float64, p.k, size)))
	}
}

func TestLinearKeepsWhatTheFunctionIsOf(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		r := rand.New(rand.NewPCG(7, 8))
		for _, dt := range realDTypes {
			for _, s := range [][3]int{{5, 3, 4}, {700, 130, 96}, {30, 20, 4000}, {129, 65, 3}} {
				rows, n, k := s[0], s[1], s[2]
				x, xv := linearInput(t, dev, dt, 21, rows, k)
				w, wv := linearInput(t, dev, dt, 22, n, k)
				b, bv := linearInput(t, dev, dt, 23, n)
				// NaN is what nobody wrote.
				out, pre, plain, only := x.Device().New(dt, rows, n), dev.New(dt, rows, n), dev.New(dt, rows, n), dev.New(dt, rows, n)
				ops.Linear(out, pre, x, w, b, ops.Tanh)
				ops.Linear(plain, nil, x, w, nil, ops.Identity)
				ops.Linear(only, nil, x, w, b, ops.Tanh)
				got, before, bare, alone := read64(t, out), read64(t, pre), read64(t, plain), read64(t, only)
				if !slices.Equal(got, alone) {
					t.Fatalf("%v %v: without the part before the function the result is another", dt, s)
				}
				for range 300 {
					i := r.IntN(rows * n)
					var want, size float64
					for l := range k {
						want += xv[i/n*k+l] * wv[i%n*k+l]
						size += math.Abs(xv[i/n*k+l] * wv[i%n*k+l])
					}
					tol := off(dt == gpu.Float64, k, size+math.Abs(bv[i%n]))
					what := fmt.Sprintf("%v %v: element %d", dt, s, i)
					isNear(t, what+" of the product", bare[i], want, tol)
					want += bv[i%n]
					isNear(t, what+" before the function", before[i], want, tol)
					isNear(t, what, got[i], math.Tanh(want), tol+8*linearUnit(dt))
				}
			}
		}
	})
}

// Every function of a layer, as Map computes it of what is kept.
func TestLinearFunctions(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, dt := range realDTypes {
			for _, k := range []int{8, 700} { // in one piece, and in several
				x, _ := linearInput(t, dev, dt, 31, 9, k)
				w, _ := linearInput(t, dev, dt, 32, 21, k)
				b, _ := linearInput(t, dev, dt, 33, 21)
				for _, f := range []ops.Func{
					ops.ReLU, ops.LeakyReLU(0.2), ops.SiLU, ops.GELU, ops.GELUTanh, ops.Sigmoid, ops.Tanh, ops.Softplus, ops.Exp,
					ops.Log, ops.Square, ops.Abs, ops.Clip(-1, 0.5), ops.Inverse, ops.Sqrt, ops.Sign, ops.Sin, ops.Cos, ops.Erf,
				} {
					out, pre := dev.New(dt, 9, 21), dev.New(dt, 9, 21)
					ops.Linear(out, pre, x, w, b, f)
					kept := pre.To(gpu.CPU())
					want := kept.Like()
					ops.Map(want, kept, f)
					for i, v := range read64(t, out) {
						u, e := at(kept, i), at(want, i)
						isNear(t, fmt.Sprintf("%v k=%d: %v of %v", dt, k, f, u), v, e, 16*linearUnit(dt)*(math.Abs(e)+0.1*math.Min(1, math.Abs(u))))
					}
				}
			}
		}
	})
}
