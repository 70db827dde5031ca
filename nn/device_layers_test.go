package nn_test

import (
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

// layersOnDevices are products, layers, norms and what moves elements, as kernels make them.
func layersOnDevices() map[string]opCase {
	labels := gpu.CPU().FromInt32([]int32{3, -1, 0, 17, 5, 5}, 2, 3)
	rows := gpu.CPU().FromInt32([]int32{2, 0, 2, 3, 2, 1}, 2, 3)
	return map[string]opCase{
		"matmul":           {shapes: [][]int{{2, 5, 7}, {2, 7, 6}}, f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].MatMul(x[1]) }},
		"matmul nt":        {shapes: [][]int{{2, 5, 7}, {2, 6, 7}}, f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].MatMulNT(x[1]) }},
		"matmul tn":        {shapes: [][]int{{2, 7, 5}, {2, 7, 6}}, f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].MatMulTN(x[1]) }},
		"matmul one":       {shapes: [][]int{{3, 5, 8}, {8, 4}}, f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].MatMul(x[1]) }},
		"matmul one first": {shapes: [][]int{{5, 8}, {3, 8, 4}}, f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].MatMul(x[1]) }},
		"matmul long":      {shapes: [][]int{{9, 600}, {600, 5}}, f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].MatMul(x[1]) }},
		"softmax":          {shapes: [][]int{{2, 3, 18}}, f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].Softmax() }},
		"logsumexp":        {shapes: [][]int{{2, 3, 18}}, f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].LogSumExp() }},
		"max":              {shapes: [][]int{{2, 3, 18}}, f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].MaxLast() }},
		"cross-entropy":    {shapes: [][]int{{2, 3, 18}}, f: func(_ *nn.Tape, x vars) *nn.Var { return nn.CrossEntropy(x[0], labels, 0) }},
		"cross-entropy smooth, labels there": {shapes: [][]int{{2, 3, 18}}, f: func(t *nn.Tape, x vars) *nn.Var {
			return nn.CrossEntropy(x[0], labels.To(t.Device()), 0.1)
		}},
		"layer norm": {shapes: [][]int{{2, 3, 18}}, f: func(_ *nn.Tape, x vars) *nn.Var { return (&nn.Norm{Eps: 1e-3}).Forward(x[0]) }},
		"rms norm, modulated": {shapes: [][]int{{2, 3, 18}, {2, 18}, {2, 18}}, f: func(_ *nn.Tape, x vars) *nn.Var {
			return (&nn.Norm{RMS: true, Eps: 1e-3}).Modulate(x[0], x[1], x[2])
		}},
		"permute": {shapes: [][]int{{2, 10, 12}}, f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].Permute(2, 0, 1) }},
		"slices":  {shapes: [][]int{{3, 7}}, f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].Slice(1, 0, 3).Mul(x[0].Slice(1, 2, 3)) }},
		"concat":  {shapes: [][]int{{2, 3}, {2, 1}, {2, 2}}, f: func(_ *nn.Tape, x vars) *nn.Var { return nn.Concat(1, x[0], x[1], x[2]) }},
		"rows":    {shapes: [][]int{{4, 5}}, f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].Rows(rows) }},
		"rows, ids there": {shapes: [][]int{{4, 5}}, f: func(t *nn.Tape, x vars) *nn.Var {
			return x[0].Rows(rows.To(t.Device()))
		}},
		"turn": {shapes: [][]int{{2, 3, 2, 8}}, f: func(t *nn.Tape, x vars) *nn.Var {
			return x[0].Turn(t.Device().FromAs(t.DType(), oracle.Normal(9, 12), 3, 4), true)
		}},
	}
}

// A small transformer, of an embedding, norms, layers with functions, attention by products and a
// loss by classes, learns on every device as on the CPU, and from the second step on the tape
// takes no memory.
func TestTransformerOnDevices(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		if !dev.CUDA() {
			return
		}
		const batch, length, width, classes = 2, 6, 16, 9
		ids := make([]int32, batch*length)
		for i := range ids {
			ids[i] = int32(i * i % classes)
		}
		var want []float64
		for _, d := range []*gpu.Device{gpu.CPU(), dev} {
			net := nn.NewParams(d, gpu.Float64)
			s := net.At("")
			table := nn.NewEmbedding(s.At("table"), classes, width)
			before, after := nn.NewLayerNorm(s.At("before"), width), nn.NewRMSNorm(s.At("after"), width)
			qkv, out := nn.NewLinear(s.At("qkv"), width, 3*width), nn.NewLinear(s.At("out"), width, width)
			up, down := nn.NewLinear(s.At("up"), width, 2*width).Then(ops.GELU), nn.NewLinear(s.At("down"), 2*width, width)
			head := nn.NewLinear(s.At("head"), width, classes)
			net.Init(3)
			opt, tape := nn.NewAdam(net, nn.AdamOptions{}), nn.NewTape(d, gpu.Float64)
			from, to := gpu.CPU().FromInt32(ids, batch, length), gpu.CPU().FromInt32(append(ids[1:], -1), batch, length)
			var fresh int
			for step := range 4 {
				tape.Run(func() {
					x := table.Forward(tape, from)
					h := qkv.Forward(before.Forward(x))
					q, k, v := h.Slice(2, 0, width), h.Slice(2, width, width), h.Slice(2, 2*width, width)
					a := q.MatMulNT(k).Affine(0.25, 0).Softmax()
					x = x.Add(out.Forward(a.MatMul(v)))
					x = x.Add(down.Forward(up.Forward(after.Forward(x))))
					tape.Backward(nn.CrossEntropy(head.Forward(x), to, 0.05).Mean())
				})
				opt.Step(0.01)
				if step == 1 {
					fresh = tape.Arena().Stats().Fresh
				}
			}
			if got := tape.Arena().Stats().Fresh; got != fresh {
				t.Errorf("on %v the tape took memory %d times after the second step", d, got-fresh)
			}
			got := floats(net.Value())
			if want == nil {
				want = got
				continue
			}
			oracle.Close64(t, got, oracle.Tol{Abs: 1e-9}, func(i int) float64 { return want[i] })
		}
	})
}
