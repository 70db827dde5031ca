// Package network has what tests of whole networks share: golden files with weights, results
// and gradients of a named peer, gradients against differences, and steps that allocate.
// Only tests import it.
package network

import (
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/tensor"
)

// File is a golden .safetensors file: "w." and a parameter's name is its value, "g." and its
// name the gradient of the loss by it; everything else is inputs and results.
type File struct {
	t testing.TB
	f *tensor.Safetensors
}

// Open opens a golden file, which the end of the test closes.
func Open(t testing.TB, elem ...string) *File {
	t.Helper()
	f, err := tensor.OpenSafetensors(oracle.Golden(t, elem...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return &File{t, f}
}

func (f *File) read(name string) *tensor.Array {
	f.t.Helper()
	a, err := f.f.Read(name)
	if err != nil {
		f.t.Fatal(err)
	}
	return a
}

// Values is a tensor's elements.
func (f *File) Values(name string) ([]float64, []int) {
	f.t.Helper()
	a := f.read(name)
	switch a.DType {
	case tensor.F64, tensor.F32, tensor.F16:
		return a.F64(), a.Shape
	}
	f.t.Fatalf("golden: %s is %v, want floats", name, a.DType)
	return nil, nil
}

// Tensor is a tensor on the CPU.
func (f *File) Tensor(dt gpu.DType, name string) *gpu.Tensor {
	f.t.Helper()
	v, shape := f.Values(name)
	if dt == gpu.Float64 {
		return gpu.CPU().From64(v, shape...)
	}
	x := make([]float32, len(v))
	for i, e := range v {
		x[i] = float32(e)
	}
	return gpu.CPU().From(x, shape...)
}

// Ints is a tensor of 32-bit numbers.
func (f *File) Ints(name string) *gpu.Tensor {
	f.t.Helper()
	a := f.read(name)
	v := make([]int32, a.Len())
	if len(a.Data) != 4*len(v) {
		f.t.Fatalf("golden: %s is %v, want int32", name, a.DType)
	}
	for i := range v {
		v[i] = int32(binary.LittleEndian.Uint32(a.Data[4*i:]))
	}
	return gpu.CPU().FromInt32(v, a.Shape...)
}

// Params is the names of the parameters, in order.
func (f *File) Params() (names []string) {
	for _, n := range f.f.Names() {
		if after, ok := strings.CutPrefix(n, "w."); ok {
			names = append(names, after)
		}
	}
	slices.Sort(names)
	return names
}

// Load sets the parameters of net to those of the file; both must have the same names.
func (f *File) Load(net *nn.Params) {
	f.t.Helper()
	f.load(net, nn.LoadOptions{})
}

func (f *File) load(net *nn.Params, o nn.LoadOptions) {
	f.t.Helper()
	o.Rename = func(name string) string {
		if after, ok := strings.CutPrefix(name, "w."); ok {
			return after
		}
		return ""
	}
	if _, err := nn.LoadFrom(f.f, o, nn.Part{Of: net}); err != nil {
		f.t.Fatal(err)
	}
}

// Near fails, and lets the test go on, unless got is the file's tensor, up to rel times its greatest element.
func (f *File) Near(name string, got *gpu.Tensor, rel float64) {
	f.t.Helper()
	f.near(name, got, rel, 0)
}

func (f *File) near(name string, got *gpu.Tensor, rel, top float64) {
	f.t.Helper()
	want, shape := f.Values(name)
	v := make([]float64, got.Len())
	if err := got.Read64(v); err != nil {
		f.t.Fatal(err)
	}
	if len(v) != len(want) {
		f.t.Errorf("%s: shape %v, the peer has %v", name, got.Shape(), shape)
		return
	}
	for _, e := range want {
		top = math.Max(top, math.Abs(e))
	}
	for i, e := range want {
		if d := math.Abs(v[i] - e); !(d <= rel*top) {
			f.t.Errorf("%s: element %d is %v, the peer has %v: %.2g of the greatest, %v", name, i, v[i], e, d/top, top)
			return
		}
	}
}

// Grads is Near of the gradients of all parameters, whose number it returns. One that is zero
// but for rounding, that of a bias of keys, say, is held to a thousandth of the greatest.
func (f *File) Grads(net *nn.Params, rel float64) int {
	f.t.Helper()
	var top float64
	for _, p := range net.All() {
		v, _ := f.Values("g." + p.Name)
		for _, e := range v {
			top = math.Max(top, math.Abs(e))
		}
	}
	for _, p := range net.All() {
		f.near("g."+p.Name, p.Grad(), rel, 1e-3*top)
	}
	return len(net.All())
}

// Directions compares the gradient of a loss by all parameters of a network in float64 with
// central differences in n random directions, up to rel of the derivative's usual size.
func Directions(t testing.TB, net *nn.Params, n int, rel float64, loss func(tape *nn.Tape) *nn.Var) {
	t.Helper()
	tape := nn.NewTape(gpu.CPU(), gpu.Float64)
	tape.Arena().Poison(true)
	net.ZeroGrad()
	tape.Run(func() { tape.Backward(loss(tape)) })
	v, g := net.Value().F64(), net.Grad().F64()
	start := append([]float64(nil), v...)
	value := func() (y float64) {
		tape.Run(func() { tape.NoGrad(func() { y = loss(tape).Item() }) })
		return y
	}
	var norm float64
	for _, e := range g {
		norm += e * e
	}
	norm = math.Sqrt(norm)
	if norm == 0 {
		t.Fatal("the gradient is zero")
	}
	const h = 1e-5
	for k := range n {
		d := oracle.Normal(uint64(900+k), len(v))
		var got float64
		for i, e := range d {
			got += float64(e) * g[i]
			v[i] = start[i] + h*float64(e)
		}
		up := value()
		for i, e := range d {
			v[i] = start[i] - h*float64(e)
		}
		want := (up - value()) / (2 * h)
		copy(v, start)
		if !(math.Abs(got-want) <= rel*norm) {
			t.Errorf("direction %d: the gradient gives %v, differences %v (length of the gradient %v)", k, got, want, norm)
		}
	}
}

// StepsAllocateNothing fails where a training step allocates after the second.
func StepsAllocateNothing(t testing.TB, net *nn.Params, dt gpu.DType, loss func(tape *nn.Tape) *nn.Var) {
	t.Helper()
	tape := nn.NewTape(gpu.CPU(), dt)
	opt := nn.NewAdam(net, nn.AdamOptions{})
	body := func() { tape.Backward(loss(tape)) }
	step := func() {
		tape.Run(body)
		opt.Step(1e-4)
	}
	step()
	step()
	before := tape.Arena().Stats()
	if n := oracle.Allocations(10, step); n >= 1 {
		t.Errorf("%v allocations a step", n)
	}
	if after := tape.Arena().Stats(); after.Fresh != before.Fresh || after.Peak != before.Peak {
		t.Errorf("the arena went from %+v to %+v", before, after)
	}
}
