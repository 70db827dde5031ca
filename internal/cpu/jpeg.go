package cpu

import (
	"errors"
	"fmt"
)

const (
	jpegName    = "TurboJPEG"
	jpegPurpose = "decoding JPEG files, bit-equal to Pillow"
)

// ErrNoTurbo is DecodeJPEG's answer where there is no usable TurboJPEG; the
// caller then decodes with image/jpeg, whose pixels differ by a few levels.
var ErrNoTurbo = errors.New("cpu: no usable TurboJPEG")

// JPEG is a decoded file.
type JPEG struct {
	Width, Height int
	// Channels is 1 for gray, 3 for RGB and 4 for CMYK as the file stores it:
	// Adobe's programs store inverted values, 255 for no ink, and Pillow takes
	// every CMYK file for one of theirs. YCCK is converted to CMYK.
	Channels int
	Pix      []byte // interleaved, rows without gaps: Width*Height*Channels
	Warning  string // what the decoder found wrong with data that it decoded nevertheless, or ""
}

// DecodeJPEG decodes a whole JPEG file with TurboJPEG at libjpeg's default
// settings, accurate DCT and interpolated chroma, which gives the bits that
// Pillow gives. The size in the header is compared with maxPixels before
// memory is allocated. The error is ErrNoTurbo, or names what is wrong with
// the file; a file that ends early is an error, other damage that libjpeg
// decodes around is a Warning. Decoding runs on w, or on any worker for nil.
func DecodeJPEG(w *Worker, data []byte, maxPixels int) (*JPEG, error) {
	if len(data) < 4 || data[0] != 0xff || data[1] != 0xd8 {
		return nil, fmt.Errorf("cpu: DecodeJPEG: not a JPEG (%d bytes, starts with % x)", len(data), data[:min(2, len(data))])
	}
	if w != nil {
		return nativeDecodeJPEG(w, data, maxPixels)
	}
	var img *JPEG
	var err error
	Do(func(w *Worker) { img, err = nativeDecodeJPEG(w, data, maxPixels) })
	return img, err
}
