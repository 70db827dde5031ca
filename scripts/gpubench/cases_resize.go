package main

import (
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/ops"
)

// Pictures to the size that Inception wants, in the ways of the tools that are compared with.
func init() {
	b, in, out := size(256, 1), size(256, 20), size(299, 23)
	pixels := float64(b) * 3 * float64(out) * float64(out)
	for _, w := range []struct {
		name, kernel string
		kind         imageio.ResizeKind
		taps         float64 // of both axes together, per value
	}{
		{"bicubic", "resize_f32", imageio.PILFloat(imageio.Bicubic), 8},
		{"bilinear", "resize_f32", imageio.PILFloat(imageio.Bilinear), 4},
		{"pil", "resize_fixed_f32", imageio.PILU8(imageio.Bilinear), 4},
	} {
		c := Case{
			Name: "resize." + w.name, Kernel: w.kernel, Shape: shape(b, 3, in, in) + " to " + shape(out, out), Peak: "memory",
			Bytes: float64(b)*3*float64(in)*float64(in) + 4*pixels, Flops: 2 * w.taps * pixels,
			Setup: func(dev *gpu.Device) (func(), error) {
				pix := make([]byte, b*in*in*3)
				for i := range pix {
					pix[i] = byte(i * 37)
				}
				r := ops.NewResizer(dev, w.kind, in, in, out, out)
				x, y := dev.FromUint8(pix, b, in, in, 3), dev.Empty(b, 3, out, out)
				return func() { r.Float(y, x, 1.0/255, 0) }, nil
			},
		}
		if w.name != "pil" {
			c.Torch = spec("resize", "b", b, "c", 3, "h", in, "w", in, "to", out, "mode", w.name)
		}
		register(c)
	}
	register(Case{
		Name: "resize.pil.u8", Kernel: "resize_fixed_u8", Shape: shape(b, 3, in, in) + " to " + shape(out, out), Peak: "memory",
		Bytes: float64(b)*3*float64(in)*float64(in) + pixels, Flops: 2 * 4 * pixels,
		Setup: func(dev *gpu.Device) (func(), error) {
			r := ops.NewResizer(dev, imageio.PILU8(imageio.Bilinear), in, in, out, out)
			x, y := dev.Zeros(gpu.Uint8, b, in, in, 3), dev.New(gpu.Uint8, b, out, out, 3)
			return func() { r.U8(y, x) }, nil
		},
	})
}
