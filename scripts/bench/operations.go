package main

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/ops"
)

// productRows are products and convolutions in float32 at the sizes of this repository's networks, ours as a network calls them (weights and
// pictures in their own layouts, packed at each call) against oneDNN called alone: products of the same matrices, and, as convolutions are,
// with operands that lie ready in the layouts that oneDNN chooses, which no call with new weights has.
func productRows() []row {
	var out []row
	add := func(name, peer, job string, target float64, ours func() runner) {
		out = append(out, row{
			name: name, peer: peer, target: target, tolerance: 1e-5, rounds: 8, limit: true,
			ours:   func(*peers) (runner, error) { return ours(), nil },
			theirs: func(p *peers) (runner, error) { return oneDNN(p, job) },
		})
	}
	for _, s := range [][3]int{{3136, 512, 128}, {3136, 128, 512}, {1024, 1024, 1024}, {2048, 2048, 2048}} {
		name, sizes, ours := fmt.Sprintf("product %dx%dx%d", s[0], s[1], s[2]), fmt.Sprint(" ", s[0], " ", s[1], " ", s[2]), func() runner { return productOurs(s[0], s[1], s[2]) }
		add(name, "oneDNN alone", "rows"+sizes, 0.95, ours)
		add(name, "oneDNN, weights laid out before", "product"+sizes, 0, ours)
	}
	for _, c := range []layer{{128, 64, 28, 64, 3, 1, 1}, {128, 128, 14, 128, 3, 1, 1}, {128, 64, 28, 64, 3, 2, 1}, {128, 128, 14, 256, 1, 1, 0}, {8, 192, 35, 320, 3, 2, 0}} {
		for _, kind := range []string{"forward", "data", "weights"} {
			job := fmt.Sprint(kind, " ", c.n, " ", c.in, " ", c.side, " ", c.side, " ", c.out, " ", c.kernel, " ", c.step, " ", c.pad)
			name := fmt.Sprintf("convolution %dx%d step %d, %d to %d channels, %d of %dx%d, %s", c.kernel, c.kernel, c.step, c.in, c.out, c.n, c.side, c.side, kind)
			add(name, "oneDNN alone", job, 0.95, func() runner { return c.ours(kind) })
		}
	}
	return out
}

// oneDNN starts the peer on a job, which is compiled for the first.
func oneDNN(p *peers, job string) (runner, error) {
	program := filepath.Join(p.inputs, "onednn")
	if !p.onednn {
		out, err := exec.Command("g++", "-O2", "-std=c++17", "-o", program, "scripts/bench/plain/onednn.cpp", "-ldnnl").CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("g++: %w\n%s", err, out)
		}
		p.onednn = true
	}
	cmd := exec.Command(program, strings.Fields(job)...)
	cmd.Env = append(os.Environ(), fmt.Sprint("OMP_NUM_THREADS=", threads()))
	return p.startProgram(cmd)
}

// tail is the mean magnitude of the last 64 values, which stands for the result.
func tail(t *gpu.Tensor) float64 {
	x, mean := t.F32(), 0.0
	for _, v := range x[len(x)-64:] {
		mean += math.Abs(float64(v)) / 64
	}
	return mean
}

// chained is work that is done ten times in a row on a worker, as the steps of a network are, and leaves its result in t: the least time counts.
type chained struct {
	t    *gpu.Tensor
	work func()
}

func (c chained) run() (answer, error) {
	a := answer{Seconds: math.Inf(1)}
	cpu.Run(func() {
		for range 10 {
			start := time.Now()
			c.work()
			a.Seconds = min(a.Seconds, time.Since(start).Seconds())
		}
	})
	a.Value = tail(c.t)
	return a, nil
}

func (c chained) close() {}

func sample(seed uint32, shape ...int) *gpu.Tensor {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return gpu.CPU().From(spread(n, seed), shape...)
}

func productOurs(m, n, k int) runner {
	x, w, y := sample(1, m, k), sample(2, n, k), gpu.CPU().Empty(m, n)
	return chained{y, func() { ops.Linear(y, nil, x, w, nil, ops.Identity) }}
}

// layer is a convolution of n square pictures.
type layer struct{ n, in, side, out, kernel, step, pad int }

func (c layer) ours(kind string) runner {
	cfg := ops.ConvConfig{Stride: c.step, Pad: [4]int{c.pad, c.pad, c.pad, c.pad}, Last: true}
	oh, ow := cfg.OutSize(c.side, c.side, c.kernel, c.kernel)
	x, w := sample(1, c.n, c.side, c.side, c.in), sample(2, c.out, c.in, c.kernel, c.kernel)
	y := gpu.CPU().Empty(c.n, oh, ow, c.out)
	switch kind {
	case "forward":
		return chained{y, func() { ops.Conv2D(y, x, w, nil, cfg) }}
	case "data":
		dx, dy := x.Like(), sample(3, y.Shape()...)
		return chained{dx, func() { ops.Conv2DBackwardData(dx, dy, w, cfg, false) }}
	default:
		dw, dy := w.Like(), sample(3, y.Shape()...)
		return chained{dw, func() {
			fill(dw.F32(), 0) // gradients add up
			ops.Conv2DBackwardWeight(dw, dy, x, cfg)
		}}
	}
}

// passRows are operations that read and write memory once against the time that their operands' bytes take at the bandwidth of our own triad
// of the same size, on as many threads in the same run: 1/ratio is the operation in memory passes.
func passRows() []row {
	var out []row
	for _, size := range []struct{ rows, width int }{{1 << 10, 1 << 9}, {1 << 15, 1 << 9}} {
		n := size.rows * size.width
		for _, f := range flows(size.rows, size.width) {
			out = append(out, row{
				name: fmt.Sprintf("%s, %dx%d, memory passes", f.name, size.rows, size.width), peer: "memory (own triad)",
				target: 1 / 1.3, rounds: 4, repeat: max(10, 1<<25/n), limit: true,
				ours: func(*peers) (runner, error) {
					work := f.start()
					work()
					return own{work: func() (answer, error) { work(); return answer{}, nil }}, nil
				},
				theirs: func(*peers) (runner, error) { return memoryPass(n, f.operands), nil },
			})
		}
	}
	return out
}

// flow is an operation of so many operands of a size.
type flow struct {
	name     string
	operands int
	start    func() func()
}

func flows(rows, width int) []flow {
	x := func(seed uint32) *gpu.Tensor { return sample(seed, rows, width) }
	line := func(seed uint32) *gpu.Tensor { return sample(seed, width) }
	empty := func(shape ...int) *gpu.Tensor { t := gpu.CPU().Empty(shape...); fill(t.F32(), 1); return t }
	norm := func(rms bool) (ops.NormConfig, *gpu.Tensor, *gpu.Tensor) {
		cfg := ops.NormConfig{RMS: rms, Eps: 1e-6, Weight: line(5)}
		if !rms {
			cfg.Bias = line(6)
		}
		return cfg, empty(rows), empty(rows)
	}
	var out []flow
	for _, rms := range []bool{false, true} {
		name := map[bool]string{false: "layer norm", true: "RMS norm"}[rms]
		out = append(out, flow{name, 2, func() func() {
			cfg, mean, inv := norm(rms)
			a, y := x(1), empty(rows, width)
			return func() { ops.Norm(y, mean, inv, a, cfg) }
		}}, flow{name + " backward", 3, func() func() {
			cfg, mean, inv := norm(rms)
			a, dy, dx := x(1), x(2), empty(rows, width)
			ops.Norm(dx, mean, inv, a, cfg)
			g := ops.NormGrads{Weight: empty(width)}
			if !rms {
				g.Bias = empty(width)
			}
			return func() { ops.NormBackward(dx, false, g, dy, a, mean, inv, cfg) }
		}})
	}
	const groups, pictures = 8, 32
	shape := []int{pictures, rows * width / pictures / 64, 64}
	out = append(out, flow{"group norm with SiLU, channels last", 2, func() func() {
		cfg := ops.GroupNormConfig{Groups: groups, Eps: 1e-5, Weight: sample(5, 64), Bias: sample(6, 64)}
		a, y, mean, inv := sample(1, shape...), empty(shape...), empty(pictures, groups), empty(pictures, groups)
		return func() { ops.GroupNormLast(y, mean, inv, a, true, cfg) }
	}}, flow{"SwiGLU", 3, func() func() {
		a, y := sample(1, rows, 2*width), empty(rows, width)
		return func() { ops.Gated(y, a, ops.SiLU, false) }
	}}, flow{"softmax", 2, func() func() {
		a, y := x(1), empty(rows, width)
		return func() { ops.Softmax(y, a) }
	}})
	for _, f := range []ops.Func{ops.ReLU, ops.SiLU, ops.GELU, ops.GELUTanh} {
		out = append(out, flow{f.String(), 2, func() func() {
			a, y := x(1), empty(rows, width)
			return func() { ops.Map(y, a, f) }
		}}, flow{f.String() + " backward", 3, func() func() {
			a, dy, dx := x(1), x(2), empty(rows, width)
			return func() { ops.MapBackward(dx, a, dy, f, false) }
		}})
	}
	return out
}

// optimiserRow is a step of AdamW against torch's fused one.
func optimiserRow(job func(name string, threads int) func(*peers) (runner, error)) row {
	const n = 33 << 20
	return row{
		name: "AdamW, 33 M parameters", peer: "torch, fused", target: 1 / 1.1, tolerance: 1e-6, rounds: 20,
		ours: func(*peers) (runner, error) {
			p, m, v, g := sample(1, n), gpu.CPU().Zeros(gpu.Float32, n), gpu.CPU().Zeros(gpu.Float32, n), sample(3, n)
			const rate, decay, b1, b2 = 1e-4, 0.01, 0.9, 0.999
			step := 0.0
			work := func() {
				step++
				ops.Adam(p, m, v, g, 0, n, ops.AdamConfig{Scale: 1, Beta1: b1, Beta2: b2, Step: rate / (1 - math.Pow(b1, step)), Root: 1 / math.Sqrt(1-math.Pow(b2, step)), Eps: 1e-8, Keep: 1 - rate*decay})
			}
			work()
			value := tail(p) // of the first step, since the sides make different numbers of them
			return own{work: func() (answer, error) { work(); return answer{Value: value}, nil }}, nil
		},
		theirs: job("adamw:"+fmt.Sprint(n), threads()),
	}
}
