package fid

import (
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/internal/cpu"
)

// ExtractorInfo identifies what a feature vector means. Two sets may be
// compared only when theirs are equal.
type ExtractorInfo struct {
	Name      string `json:"name"`           // "inception", "mnist", "pixels", "random", "identity"
	SHA256    string `json:"sha256"`         // of the weights; "" when there are none
	Dim       int    `json:"dim"`            // features per image
	Preset    string `json:"preset"`         // resize and range: "pytorch-fid", "clean", "tf", "native", ...
	Precision string `json:"precision"`      // "fp32", "bf16", "bf16x3"
	Note      string `json:"note,omitempty"` // a label that every output must carry, e.g. "random weights"
}

// Extractor turns pictures into feature vectors. It is safe for concurrent use
// by the workers of internal/cpu.
type Extractor interface {
	Info() ExtractorInfo
	// Batch is the fixed number of images of one Features call; the pipeline
	// pads the tail, so that features never depend on how images were grouped.
	Batch() int
	// Features writes Dim values for each of the images (1 to Batch() of them)
	// to out, running on worker w. A nil w submits the work to the pool.
	Features(w *cpu.Worker, imgs []*imageio.Image, out []float32) error
}

// Cutter is an Extractor that looks at the pieces of a picture, each for itself: a picture
// gives as many vectors. Cut's pieces are pictures for Features, at least one.
type Cutter interface {
	Extractor
	Cut(img *imageio.Image) []*imageio.Image
}

// Placed is an Extractor that may run elsewhere than on the CPU.
type Placed interface {
	Extractor
	Device() string // "cpu", "cuda:0", ...
}

// DeviceOf is where an extractor runs.
func DeviceOf(ex Extractor) string {
	if p, ok := ex.(Placed); ok {
		return p.Device()
	}
	return "cpu"
}
