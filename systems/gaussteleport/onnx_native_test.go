//go:build native && cgo

package gaussteleport

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/onnx"
	"github.com/fidlab/fidlab/sampler"
)

// message is a protocol buffer under way: what of ONNX's format is needed here.
type message []byte

func (m message) number(field int, v uint64) message {
	return binary.AppendUvarint(binary.AppendUvarint(m, uint64(field)<<3), v)
}

func (m message) bytes(field int, v []byte) message {
	return append(binary.AppendUvarint(binary.AppendUvarint(m, uint64(field)<<3|2), uint64(len(v))), v...)
}

func (m message) text(field int, v string) message { return m.bytes(field, []byte(v)) }

func node(op, out string, in ...string) message {
	var m message
	for _, v := range in {
		m = m.text(1, v)
	}
	return m.text(2, out).text(4, op)
}

func floats(name string, v []float64, dims ...int) message {
	var m message
	for _, d := range dims {
		m = m.number(1, uint64(d))
	}
	var raw []byte
	for _, x := range v {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(float32(x)))
	}
	return m.number(2, 1).text(8, name).bytes(9, raw)
}

func sizesOf(name string, v ...int) message {
	var raw []byte
	for _, x := range v {
		raw = binary.LittleEndian.AppendUint64(raw, uint64(int64(x)))
	}
	return message{}.number(1, uint64(len(v))).number(2, 7).text(8, name).bytes(9, raw)
}

// value declares an input or output of floats, of any number of samples.
func value(name string, dims ...int) message {
	shape := message{}.bytes(1, message{}.text(2, "batch"))
	for _, d := range dims {
		shape = shape.bytes(1, message{}.number(1, uint64(d)))
	}
	return message{}.text(1, name).bytes(2, message{}.bytes(1, message{}.number(1, 1).bytes(2, shape)))
}

// linearNetwork writes the Gaussian's denoiser as a network of CIFAR-10's shapes:
// sample [batch, 3, 32, 32] and timestep [batch], its sigma.
func linearNetwork(t *testing.T, l fid.LowRank) *onnx.Model {
	t.Helper()
	d, r := len(l.Mu), len(l.Values)
	turned := make([]float64, d*r)
	for k := range r {
		for j := range d {
			turned[j*r+k] = l.Vectors[k*d+j]
		}
	}
	var g message
	for _, n := range []message{
		node("Reshape", "flat", "sample", "wide"), node("Sub", "y", "flat", "mean"), node("MatMul", "c", "y", "turned"),
		node("Reshape", "s", "timestep", "column"), node("Mul", "s2", "s", "s"), node("Add", "v", "s2", "lambda"), node("Div", "g", "lambda", "v"),
		node("Add", "vrest", "s2", "rest"), node("Div", "grest", "rest", "vrest"), node("Sub", "k", "g", "grest"), node("Mul", "ck", "c", "k"),
		node("MatMul", "back", "ck", "basis"), node("Mul", "yrest", "y", "grest"), node("Add", "sum", "back", "yrest"), node("Add", "all", "sum", "mean"),
		node("Reshape", "out", "all", "image"),
	} {
		g = g.bytes(1, n)
	}
	g = g.text(2, "linear")
	for _, i := range []message{
		floats("mean", l.Mu, 1, d), floats("turned", turned, d, r), floats("basis", l.Vectors, r, d), floats("lambda", l.Values, 1, r), floats("rest", []float64{l.Rest}, 1, 1),
		sizesOf("wide", -1, d), sizesOf("column", -1, 1), sizesOf("image", -1, 3, 32, 32),
	} {
		g = g.bytes(5, i)
	}
	g = g.bytes(11, value("sample", 3, 32, 32)).bytes(11, value("timestep")).bytes(12, value("out", 3, 32, 32))
	file := message{}.number(1, 8).bytes(7, g).bytes(8, message{}.text(1, "").number(2, 17))
	path := filepath.Join(t.TempDir(), "linear.onnx")
	if err := os.WriteFile(path, file, 0o666); err != nil {
		t.Fatal(err)
	}
	side, err := onnx.ParseSidecar([]byte(`{"prediction": "x0", "path": "ve", "time": {"kind": "sigma"}, "range": [-1, 1]}`))
	if err != nil {
		t.Fatal(err)
	}
	getenv := func(key string) string {
		if v := os.Getenv(key); v != "" || key != onnx.LibraryEnv {
			return v
		}
		if lib := filepath.Join("..", "..", ".onnx"); exists(lib) {
			return lib
		}
		return ""
	}
	if _, err := onnx.FindLibrary(getenv); err != nil {
		t.Skipf("%v (make setup installs it where pip is)", err)
	}
	m, err := onnx.Open(path, onnx.Options{Getenv: getenv, Sidecar: side})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// A linear denoiser in an ONNX file, of CIFAR-10's shapes and rank 32 with random
// axes: what it says is what the Gaussian says, fine steps over it lead where the
// Gaussian's flow leads to 1e-5, and teleportation with its own statistics is
// taken, with those of another range refused.
func TestLinearNetworkIsTheFlow(t *testing.T) {
	const d, r = 3 * 32 * 32, 32
	set := func(_ context.Context, yield func(int, []float64) error) error {
		axes := float64s(oracle.Normal(3, r*d))
		for i := range 2 * r {
			z, x := oracle.Normal(uint64(i), r), make([]float64, d)
			for j := range x {
				x[j] = -0.3
				for k := range r {
					x[j] += 0.4 * float64(z[k]) / float64(k+1) * axes[k*d+j]
				}
			}
			if err := yield(-1, x); err != nil {
				return err
			}
		}
		return nil
	}
	s, err := fid.FitSpectrum(context.Background(), set, d, fid.SpectrumOptions{Rank: r, Exact: 1})
	if err != nil {
		t.Fatal(err)
	}
	s.Rest = 0.01
	m := linearNetwork(t, s.LowRank)
	den := sampler.Adapt(sampler.NetFunc(m.Forward), m.Path(), m.Pred())
	law, err := LawOf(s, MeanRest, m.Shape())
	if err != nil {
		t.Fatal(err)
	}
	const n = 3
	x := gpu.CPU().From64(float64s(oracle.Normal(5, n*d)), n, 3, 32, 32)
	for _, sigma := range []float64{80, 5, 0.5, 0.02} {
		in, got, want := copied(x), x.Like(), x.Like()
		for i := range in.F64() {
			in.F64()[i] *= math.Hypot(sigma, 0.3)
		}
		levels := []float64{sigma, sigma, sigma}
		if err := den.Denoise(context.Background(), got, in, levels, sampler.Cond{}); err != nil {
			t.Fatal(err)
		}
		if err := law.Denoise(context.Background(), want, in, levels, sampler.Cond{}); err != nil {
			t.Fatal(err)
		}
		if e := far(got, want); !(e <= 1e-5*largest(want)) {
			t.Errorf("at sigma %g the network is %.2g off, of values up to %.3g", sigma, e, largest(want))
		}
	}
	g, err := diffusion.Build(diffusion.VE{Min: 1, Max: 80}, diffusion.Spec{Rule: "exponential", Steps: 60, End: diffusion.Keep})
	if err != nil {
		t.Fatal(err)
	}
	run, err := sampler.Run(context.Background(), den, sampler.RK4(), g, sampler.Options{Seed: 4, N: n, Shape: m.Shape(), Double: true})
	if err != nil {
		t.Fatal(err)
	}
	var start *gpu.Tensor
	see := func(e sampler.Event) error {
		if e.Step == 0 {
			start = copied(e.X)
		}
		return nil
	}
	opt := sampler.Options{Seed: 4, N: n, Shape: m.Shape(), Double: true, Trajectory: see}
	jump := &sampler.Teleport{Solver: sampler.Heun{}, Law: law, Skip: 59}
	short, err := sampler.Run(context.Background(), den, jump, g, opt)
	if err != nil || short.NFE != 2 {
		t.Fatalf("%d evaluations, %v; want 2", short.NFE, err)
	}
	if err := law.Flow(context.Background(), start, ve(80), ve(1), sampler.Cond{}); err != nil {
		t.Fatal(err)
	}
	if e := far(run.X, start); !(e <= 1e-5*largest(start)) {
		t.Errorf("fine steps over the network end %.2g from the flow, of values up to %.3g", e, largest(start))
	}
	if e := far(short.X, start); !(e <= 1e-4*largest(start)) {
		t.Errorf("teleported, with a last step over the network, %.2g from the flow", e)
	}
	if err := sampler.CheckLaw(context.Background(), den, law, ve(80), m.Shape(), -1, nil); err != nil {
		t.Errorf("its own statistics: %v", err)
	}
	unit := s.LowRank // the same pictures from 0 to 1
	unit.Mu, unit.Values, unit.Rest = make([]float64, d), make([]float64, r), s.Rest/4
	for j, v := range s.Mu {
		unit.Mu[j] = (v + 1) / 2
	}
	for k, v := range s.Values {
		unit.Values[k] = v / 4
	}
	other, err := GaussianOf(unit, MeanRest, m.Shape())
	if err != nil {
		t.Fatal(err)
	}
	var bad *sampler.LawError
	if err := sampler.CheckLaw(context.Background(), den, other, ve(80), m.Shape(), -1, nil); !errors.As(err, &bad) || math.Abs(bad.Gain-2) > 0.3 || math.Abs(bad.Shift+1) > 0.15 { // the network follows the noise a little
		t.Errorf("statistics of 0 to 1 for a network of -1 to 1: %v, want 2·mean - 1", err)
	}
}

func largest(x *gpu.Tensor) (top float64) {
	for _, v := range x.F64() {
		top = max(top, math.Abs(v))
	}
	return top
}
