package ops

import (
	"fmt"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/kernels"
)

// Resizer resizes batches of 8-bit RGB pictures of one size on a device, in any of
// imageio's ways and to the same bits as imageio.Resizer. It keeps the tables of
// weights on the device. It may be used by several goroutines at once.
type Resizer struct {
	dev        *gpu.Device
	inW, inH   int
	outW, outH int
	plan       imageio.ResizePlan
	host       *imageio.Resizer

	hStart, vStart   *gpu.Tensor // int32
	hWeight, vWeight *gpu.Tensor // float64, or int32 of a resize in integers
}

// NewResizer returns a resizer of pictures of inW by inH pixels to outW by outH on
// dev. It panics unless all sizes are at least 1.
func NewResizer(dev *gpu.Device, kind imageio.ResizeKind, inW, inH, outW, outH int) *Resizer {
	r := &Resizer{dev: dev, inW: inW, inH: inH, outW: outW, outH: outH, plan: kind.Plan(inW, inH, outW, outH)}
	if !dev.CUDA() {
		r.host = imageio.NewResizer(kind, outW, outH)
		return r
	}
	p := &r.plan
	r.hStart, r.vStart = dev.FromInt32(p.H.Start, len(p.H.Start)), dev.FromInt32(p.V.Start, len(p.V.Start))
	if p.Integer() {
		r.hWeight, r.vWeight = dev.FromInt32(p.HFixed, len(p.HFixed)), dev.FromInt32(p.VFixed, len(p.VFixed))
	} else {
		r.hWeight, r.vWeight = dev.From64(p.H.Weight, len(p.H.Weight)), dev.From64(p.V.Weight, len(p.V.Weight))
	}
	return r
}

// Float resizes pix, uint8 [B, inH, inW, 3], and writes v·scale + offset for every
// value v on the scale 0 to 255 to out, float32 [B, 3, outH, outW]: what
// imageio.Resizer.Into writes.
func (r *Resizer) Float(out, pix *gpu.Tensor, scale, offset float32) {
	n := r.check("Float", out, pix, gpu.Float32, []int{3, r.outH, r.outW})
	if r.dev.CUDA() {
		r.launch(out, pix, n, func(g cuda.Grid, from, at int) {
			s, p := r.dev.Stream(), &r.plan
			o := out.Rows(from, at).Ptr()
			x := pix.Rows(from, at).Ptr()
			if p.Integer() {
				kernels.ResizeFixedF32(s, g, o, x, r.hStart.Ptr(), r.hWeight.Ptr(), r.vStart.Ptr(), r.vWeight.Ptr(), scale, offset,
					flag(p.VerticalFirst), int32(p.H.Taps), int32(r.outW), int32(p.V.Taps), int32(r.outH), int32(r.inW), int32(r.inH))
				return
			}
			kernels.ResizeF32(s, g, o, x, r.hStart.Ptr(), r.hWeight.Ptr(), r.vStart.Ptr(), r.vWeight.Ptr(), scale, offset, flag(p.Clip),
				flag(p.VerticalFirst), int32(p.H.Taps), int32(r.outW), int32(p.V.Taps), int32(r.outH), int32(r.inW), int32(r.inH))
		})
		return
	}
	size := 3 * r.outW * r.outH
	cpu.Each(n, func(_ *cpu.Worker, i int) {
		r.host.Into(out.F32()[i*size:(i+1)*size], r.picture(pix, i), scale, offset, nil)
	})
}

// U8 resizes pix, uint8 [B, inH, inW, 3], to out, uint8 [B, outH, outW, 3]. It panics
// unless the resize is one in integers (imageio.PILU8).
func (r *Resizer) U8(out, pix *gpu.Tensor) {
	if !r.plan.Integer() {
		fail("Resizer: U8", "this resize has no 8-bit result; use Float")
	}
	n := r.check("U8", out, pix, gpu.Uint8, []int{r.outH, r.outW, 3})
	if r.dev.CUDA() {
		r.launch(out, pix, n, func(g cuda.Grid, from, at int) {
			p := &r.plan
			kernels.ResizeFixedU8(r.dev.Stream(), g, out.Rows(from, at).Ptr(), pix.Rows(from, at).Ptr(),
				r.hStart.Ptr(), r.hWeight.Ptr(), r.vStart.Ptr(), r.vWeight.Ptr(),
				flag(p.VerticalFirst), int32(p.H.Taps), int32(r.outW), int32(p.V.Taps), int32(r.outH), int32(r.inW), int32(r.inH))
		})
		return
	}
	size := 3 * r.outW * r.outH
	cpu.Each(n, func(_ *cpu.Worker, i int) {
		copy(out.U8()[i*size:(i+1)*size], r.host.U8(r.picture(pix, i)).Pix)
	})
}

func (r *Resizer) picture(pix *gpu.Tensor, i int) *imageio.Image {
	size := 3 * r.inW * r.inH
	return &imageio.Image{Width: r.inW, Height: r.inH, Pix: pix.U8()[i*size : (i+1)*size]}
}

// check returns the number of pictures.
func (r *Resizer) check(op string, out, pix *gpu.Tensor, dt gpu.DType, shape []int) int {
	op = "Resizer: " + op
	if d := sameDevice(op, out, pix); d != r.dev {
		fail(op, "the pictures are on %v, the resizer on %v", d, r.dev)
	}
	s := pix.Shape()
	if pix.DType() != gpu.Uint8 || len(s) != 4 || s[1] != r.inH || s[2] != r.inW || s[3] != 3 {
		fail(op, "the pictures are %v %v; want uint8 [B %d %d 3]", pix.DType(), s, r.inH, r.inW)
	}
	if want := append([]int{s[0]}, shape...); out.DType() != dt || fmt.Sprint(out.Shape()) != fmt.Sprint(want) {
		fail(op, "the output is %v %v; want %v %v", out.DType(), out.Shape(), dt, want)
	}
	return s[0]
}

// launch calls f for as many pictures at a time as a grid takes.
func (r *Resizer) launch(out, pix *gpu.Tensor, n int, f func(g cuda.Grid, from, to int)) {
	const most = 65535
	g := cuda.Grid{X: (r.outW + 31) / 32, Y: (r.outH + 31) / 32, Z: 1, BX: 256, BY: 1, BZ: 1}
	if g.Y > most {
		fail("Resizer", "%d rows; a GPU takes %d", r.outH, 32*most)
	}
	for lo := 0; lo < n; lo += most {
		hi := min(lo+most, n)
		g.Z = hi - lo
		f(g, lo, hi)
	}
}

func flag(b bool) int32 {
	if b {
		return 1
	}
	return 0
}
