package main

import (
	"bytes"
	encoding "encoding/binary"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// splatRow is drawing 1,024 Gaussians and their gradients against a plain loop in C.
func splatRow() row {
	return row{
		name: "splat forward + backward, 1024 Gaussians on 256x256", peer: "plain C, one thread", target: 5, tolerance: 1e-4, rounds: 5, repeat: 20,
		limit:  true,
		remark: "our side uses all threads; the loop is scripts/bench/plain/splat.c, culled to 3-sigma boxes, gcc -O3",
		ours:   func(*peers) (runner, error) { return splatOurs() },
		theirs: splatPlain,
	}
}

const splatN, splatSide, splatC = 1024, 256, 3

// splatScene is the same Gaussians for both sides: sigmas of 2 to 8 pixels, evenly spread by fixed sequences.
func splatScene() (mean, cov, opacity, feature, v []float32) {
	seq := func(i, k int) float64 { // the k-th coordinate of a Kronecker sequence
		_, f := math.Modf(float64(i+1) * math.Sqrt([...]float64{2, 3, 5, 7, 11, 13}[k]))
		return f
	}
	for i := range splatN {
		mean = append(mean, float32(splatSide*seq(i, 0)), float32(splatSide*seq(i, 1)))
		cov = append(cov, float32(2*math.Pow(4, seq(i, 2))), float32(2*math.Pow(4, seq(i, 3))), float32(1.6*seq(i, 4)-0.8))
		opacity = append(opacity, float32(0.2+0.8*seq(i, 5)))
		for k := range splatC {
			feature = append(feature, float32(seq(splatC*i+k, 1)))
		}
	}
	for i := range splatSide * splatSide * splatC {
		v = append(v, float32(seq(i, 3)-0.5))
	}
	return mean, cov, opacity, feature, v
}

func splatOurs() (runner, error) {
	mean, cov, opacity, feature, v := splatScene()
	dev := gpu.CPU()
	p := ops.SplatParams{Mean: dev.From(mean, 1, splatN, 2), Cov: dev.From(cov, 1, splatN, 3), Opacity: dev.From(opacity, 1, splatN), Feature: dev.From(feature, 1, splatN, splatC)}
	cfg := ops.SplatConfig{Form: ops.SplatSigmaRho, Support: ops.SplatBox(3)}
	up := dev.From(v, 1, splatSide, splatSide, splatC)
	var image *gpu.Tensor
	var g *ops.SplatGrads
	work := func() error {
		var aux *ops.SplatAux
		var err error
		if image, aux, err = ops.SplatForward(cfg, p, splatSide, splatSide); err != nil {
			return err
		}
		defer aux.Free()
		g, err = ops.SplatBackward(aux, up, nil)
		return err
	}
	if err := work(); err != nil {
		return nil, err
	}
	value := 0.0
	for _, t := range []*gpu.Tensor{image, g.Mean, g.Cov, g.Opacity, g.Feature} {
		sum := 0.0
		for _, x := range t.F32() {
			sum += math.Abs(float64(x))
		}
		value += sum / float64(t.Len())
	}
	return own{work: func() (answer, error) { return answer{Value: value}, work() }}, nil
}

// splatPlain compiles the loop and starts it.
func splatPlain(p *peers) (runner, error) {
	program, scene := filepath.Join(p.inputs, "splat_plain"), filepath.Join(p.inputs, "splat.bin")
	if out, err := exec.Command("gcc", "-O3", "-o", program, "scripts/bench/plain/splat.c", "-lm").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("gcc: %w\n%s", err, out)
	}
	var b bytes.Buffer
	mean, cov, opacity, feature, v := splatScene()
	for _, x := range []any{[]int32{splatN, splatSide, splatSide, splatC}, mean, cov, opacity, feature, v} {
		if err := encoding.Write(&b, encoding.NativeEndian, x); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile(scene, b.Bytes(), 0o644); err != nil {
		return nil, err
	}
	return p.startProgram(exec.Command(program, scene))
}
