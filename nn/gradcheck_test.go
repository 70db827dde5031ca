package nn_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/nn"
)

// opCase is an operation of leaves of these shapes.
type opCase struct {
	shapes [][]int
	f      func(t *nn.Tape, x []*nn.Var) *nn.Var
	want   func(x [][]float64) []float64 // the result by its definition; nil where compose tests it
	start  func(v float64) float64       // what makes normals fit the operation's domain
}

func size(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}

func (c *opCase) leaves(dt gpu.DType) []*gpu.Tensor { return c.leavesOn(gpu.CPU(), dt) }

// leavesOn are normals, the same in both dtypes and on all devices.
func (c *opCase) leavesOn(dev *gpu.Device, dt gpu.DType) []*gpu.Tensor {
	var out []*gpu.Tensor
	for i, s := range c.shapes {
		v := oracle.Normal(uint64(100+i), size(s))
		for j := range v {
			if c.start != nil {
				v[j] = float32(c.start(float64(v[j])))
			}
		}
		out = append(out, dev.FromAs(dt, v, s...))
	}
	return out
}

func (c *opCase) run(t *testing.T, dt gpu.DType) (y *gpu.Tensor, grads []*gpu.Tensor) {
	t.Helper()
	return c.runOn(t, gpu.CPU(), dt)
}

// runOn is the result and the gradients by all leaves of Σ w·y, w normals, made on dev, as
// tensors of the CPU.
func (c *opCase) runOn(t *testing.T, dev *gpu.Device, dt gpu.DType) (y *gpu.Tensor, grads []*gpu.Tensor) {
	t.Helper()
	tape := nn.NewTape(dev, dt)
	tape.Arena().Poison(true)
	xs := c.leavesOn(dev, dt)
	tape.Run(func() {
		var vs []*nn.Var
		for _, x := range xs {
			vs = append(vs, tape.Leaf(x))
		}
		out := c.f(tape, vs)
		y = gpu.CPU().New(dt, out.Shape()...)
		y.Copy(out.Value())
		w := dev.FromAs(dt, oracle.Normal(7, y.Len()), y.Shape()...)
		tape.BackwardFrom(out, w)
		for _, v := range vs {
			if v.Grad() == nil {
				t.Fatalf("no gradient reached an operand of shape %v", v.Shape())
			}
			g := gpu.CPU().New(dt, v.Shape()...)
			g.Copy(v.Grad())
			grads = append(grads, g)
		}
		// Asked for alone, the gradients are the same bits, and a second walk adds as much again.
		for i, g := range tape.GradFrom(nil, out, w, vs...) {
			for j, e := range floats(g) {
				if e != floats(grads[i])[j] {
					t.Fatalf("Grad gives %v at %d of operand %d, Backward %v", e, j, i, floats(grads[i])[j])
				}
			}
		}
		tape.BackwardFrom(out, w)
		for i, v := range vs {
			for j, e := range floats(v.Grad()) {
				if w := 2 * floats(grads[i])[j]; math.Abs(e-w) > 1e-5*math.Abs(w)+1e-5 {
					t.Fatalf("two walks give %v at %d of operand %d, want %v", e, j, i, w)
				}
			}
		}
	})
	return y, grads
}

func floats(x *gpu.Tensor) []float64 {
	v := make([]float64, x.Len())
	if err := x.Read64(v); err != nil {
		panic(err)
	}
	return v
}

// value is Σ w·y in float64, without a tape's gradient.
func (c *opCase) value(xs []*gpu.Tensor) (s float64) {
	tape := nn.NewTape(gpu.CPU(), gpu.Float64)
	tape.NoGrad(func() {
		var vs []*nn.Var
		for _, x := range xs {
			vs = append(vs, tape.Input(x))
		}
		y := c.f(tape, vs)
		for i, w := range oracle.Normal(7, y.Value().Len()) {
			s += float64(w) * y.Value().F64()[i]
		}
	})
	return s
}

// check compares the gradients in float64 with central differences, and float32 with float64.
func (c *opCase) check(t *testing.T) {
	y, grads := c.run(t, gpu.Float64)
	if c.want != nil {
		var xs [][]float64
		for _, x := range c.leaves(gpu.Float64) {
			xs = append(xs, x.F64())
		}
		want := c.want(xs)
		if len(want) != y.Len() {
			t.Fatalf("shape %v, want %d elements", y.Shape(), len(want))
		}
		oracle.Close64(t, y.F64(), oracle.Tol{Abs: 1e-13, Eps: 1e-5}, func(i int) float64 { return want[i] })
	}
	xs := c.leaves(gpu.Float64)
	for i, x := range xs {
		dx := oracle.Grad(t, x.F64(), 1e-5, func(at []float64) float64 {
			moved := append([]*gpu.Tensor(nil), xs...)
			moved[i] = gpu.CPU().From64(at, x.Shape()...)
			return c.value(moved)
		})
		biggest := 1.0
		for _, d := range dx {
			biggest = math.Max(biggest, math.Abs(d))
		}
		// Differences of step 1e-5 are off by 1e-10 of a third derivative, and 1e-11 of the sum.
		oracle.Close64(t, grads[i].F64(), oracle.Tol{Abs: 1e-7 * biggest}, func(j int) float64 { return dx[j] })
		if t.Failed() {
			t.Fatalf("gradient by operand %d of shape %v", i, x.Shape())
		}
	}
	c.checkAhead(t, gpu.Float64, 1e-11)
	c.checkAhead(t, gpu.Float32, 1e-3)
	y32, grads32 := c.run(t, gpu.Float32)
	same := func(what string, got, want *gpu.Tensor) {
		biggest := 0.0
		for _, v := range want.F64() {
			biggest = math.Max(biggest, math.Abs(v))
		}
		oracle.Close(t, got.F32(), oracle.Tol{Eps: 64, Scale: func(int) float64 { return biggest + 0.1 }}, func(i int) float64 { return want.F64()[i] })
		if t.Failed() {
			t.Fatalf("float32: %s", what)
		}
	}
	same("result", y32, y)
	for i := range grads {
		same(fmt.Sprintf("gradient by operand %d", i), grads32[i], grads[i])
	}
}

// checkAhead compares the derivative in a random direction, summed with weights w, with the
// walk back's: Σ w·(J·d) = Σ (Jᵀ·w)·d. Gradients are tested by differences.
func (c *opCase) checkAhead(t *testing.T, dt gpu.DType, eps float64) {
	t.Helper()
	tape := nn.NewTape(gpu.CPU(), dt)
	tape.Arena().Poison(true)
	xs := c.leaves(dt)
	tape.Run(func() {
		var vs []*nn.Var
		for _, x := range xs {
			vs = append(vs, tape.Leaf(x))
		}
		out := c.f(tape, vs)
		w := gpu.CPU().FromAs(dt, oracle.Normal(7, out.Value().Len()), out.Shape()...)
		grads := tape.GradFrom(nil, out, w, vs...)
		// Each operand alone, then all together.
		for move := range len(vs) + 1 {
			var who []*nn.Var
			var dirs []*gpu.Tensor
			var want, size float64
			for i, v := range vs {
				if move != i && move != len(vs) {
					continue
				}
				d := gpu.CPU().FromAs(dt, oracle.Normal(uint64(50+i), v.Value().Len()), v.Shape()...)
				who, dirs = append(who, v), append(dirs, d)
				for j, g := range floats(grads[i]) {
					want += g * floats(d)[j]
					size += math.Abs(g * floats(d)[j])
				}
			}
			d := tape.JVP(out, who, dirs)
			if !slices.Equal(d.Shape(), out.Shape()) {
				t.Fatalf("JVP has shape %v, the result %v", d.Shape(), out.Shape())
			}
			got := 0.0
			for i, e := range floats(d.Value()) {
				got += e * floats(w)[i]
				size += math.Abs(e * floats(w)[i])
			}
			if !(math.Abs(got-want) <= eps*size) {
				t.Errorf("%v: operands from %d on: JVP gives %v, the gradients %v", dt, move, got, want)
			}
		}
	})
}
