package sampler_test

import (
	"context"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/tensor"
)

func TestTrajectoryFile(t *testing.T) {
	g := build(t, "vp", diffusion.Spec{Rule: "karras", Steps: 4})
	for _, double := range []bool{false, true} {
		opt := sampler.Options{Seed: 1, First: 10, N: 5, Batch: 2, Shape: []int{2, 3}, Double: double}
		rec, err := sampler.NewRecorder(g, opt)
		if err != nil {
			t.Fatal(err)
		}
		opt.Trajectory = rec.Record
		res, err := sampler.Run(context.Background(), gaussian{0.3, 0.5}, solver(t, "dpm++2m"), g, opt)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "t.npz")
		if err := tensor.WriteNPZ(path, rec.Entries(), true); err != nil {
			t.Fatal(err)
		}
		z, err := tensor.OpenNPZ(path)
		if err != nil {
			t.Fatal(err)
		}
		states, err := z.Read("states")
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(states.Shape, []int{5, 5, 2, 3}) || (states.DType == tensor.F64) != double {
			t.Fatalf("states %s %v", states.DType, states.Shape)
		}
		if !slices.Equal(states.F64()[4*30:], values(res.X)) { // the last A is 1
			t.Error("the last states are not the result")
		}
		sigmas, err := z.Read("sigmas")
		if err != nil || !slices.Equal(sigmas.F64(), g.Sigmas()) {
			t.Errorf("sigmas %v (%v), want %v", sigmas, err, g.Sigmas())
		}
		z.Close()
	}
	if _, err := sampler.NewRecorder(g, sampler.Options{N: 1 << 28, Shape: []int{32}}); err == nil {
		t.Error("a trajectory of 2^33 values: no error")
	}
}

func TestReadStart(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, a *tensor.Array) string {
		p := filepath.Join(dir, name)
		if err := tensor.WriteNPYFile(p, a); err != nil {
			t.Fatal(err)
		}
		return p
	}
	v := []float64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}
	for _, p := range []string{write("a.npy", tensor.FromF64(v, 3, 2, 2)), write("b.npy", tensor.FromF64(v, 3, 4))} {
		for _, double := range []bool{false, true} {
			x, err := sampler.ReadStart(p, 2, []int{2, 2}, double)
			if err != nil || !slices.Equal(x.Shape(), []int{2, 2, 2}) || !slices.Equal(values(x), v[:8]) {
				t.Errorf("%s: %v, %v", p, x, err)
			}
		}
	}
	for want, p := range map[string]string{
		"shape [12]":   write("c.npy", tensor.FromF64(v, 12)),
		"shape [1 2 2": write("d.npy", tensor.FromF64(v[:4], 1, 2, 2)),
		"shape [3 2 1": write("e.npy", tensor.FromF64(v[:6], 3, 2, 1)),
		"uint8":        write("f.npy", tensor.FromU8(make([]byte, 8), 2, 2, 2)),
		"float32 (or":  write("g.npy", tensor.FromF64([]float64{1e300, 1, 1, 1, 1, 1, 1, math.Inf(1)}, 2, 2, 2)),
		"none.npy":     filepath.Join(dir, "none.npy"),
	} {
		if _, err := sampler.ReadStart(p, 2, []int{2, 2}, false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", p, err, want)
		}
	}
}
