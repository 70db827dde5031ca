package imageio

import (
	"fmt"

	"github.com/fidlab/fidlab/internal/cpu"
)

// ResizePlan is all that a resize computes with, for those who compute elsewhere.
type ResizePlan struct {
	H, V          cpu.ResampleAxis // the weights of the rows and of the columns
	VerticalFirst bool
	Clip          bool // to 0..255, at the end of a resize in floats

	// Weights in units of 2^-22 for a resize in integers, where half is added and
	// sums are shifted and clipped to 0..255 after each pass; else nil.
	HFixed, VFixed []int32
}

// Integer tells whether the resize is one in integers.
func (p *ResizePlan) Integer() bool { return p.HFixed != nil }

// Plan is the resize of a picture of inW by inH pixels to outW by outH. It panics
// unless all sizes are at least 1.
func (k ResizeKind) Plan(inW, inH, outW, outH int) ResizePlan {
	if inW < 1 || inH < 1 || outW < 1 || outH < 1 {
		panic(fmt.Sprintf("imageio: Plan: %dx%d to %dx%d; want at least 1x1", inW, inH, outW, outH))
	}
	h, v := k.table(inW, outW), k.table(inH, outH)
	return ResizePlan{
		H: h.ResampleAxis, V: v.ResampleAxis, HFixed: h.fixed, VFixed: v.fixed,
		VerticalFirst: k.verticalFirst(inW, inH, outW, outH), Clip: k.method == pilFloat,
	}
}
