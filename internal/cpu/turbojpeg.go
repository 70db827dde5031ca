//go:build native && cgo

package cpu

// #cgo noescape jpeg_header
// #cgo nocallback jpeg_header
// #cgo noescape jpeg_pixels
// #cgo nocallback jpeg_pixels
// #include "native.h"
import "C"

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
)

// A 37×21 file with 4:2:0 chroma, and the SHA-256 of the pixels that Pillow
// 12.3.0 decodes it to (scripts/makejpeg.py).
//
//go:embed testdata/jpeg/420-q90.jpg
var jpegSample []byte

const jpegSampleSum = "604ae30fccf7afb0dae4fac555aec582ee8086288cde5955400becd98e91f2cf"

var turbo struct {
	once sync.Once
	lib  Library
	ok   bool
}

// haveTurbo opens and tests TurboJPEG at its first call, on worker w.
func haveTurbo(w *Worker) bool {
	turbo.once.Do(func() {
		l := &turbo.lib
		*l = Library{Name: jpegName, Purpose: jpegPurpose, Install: "apt-get install libturbojpeg0"}
		why := C.jpeg_open()
		l.Path = C.GoString(C.jpeg_path())
		if why != nil {
			l.Why = C.GoString(why)
			return
		}
		l.Version = soVersion(l.Path)
		img, err := decodeJPEG(w, jpegSample, 1<<20)
		if err != nil {
			l.Why = "self-test failed: " + err.Error()
			return
		}
		if sum := sha256.Sum256(img.Pix); hex.EncodeToString(sum[:]) != jpegSampleSum {
			l.Why = "self-test failed: its pixels are not those of Pillow (other DCT or chroma interpolation)"
			return
		}
		l.Install = ""
		l.Used, turbo.ok = true, true
	})
	return turbo.ok
}

func nativeDecodeJPEG(w *Worker, data []byte, maxPixels int) (*JPEG, error) {
	if !haveTurbo(w) {
		return nil, ErrNoTurbo
	}
	calls.jpeg.Add(1)
	return decodeJPEG(w, data, maxPixels)
}

// decodeJPEG decodes with w's decoder, which it gives up after an error: an
// error in a header leaves the decoder in the middle of that file, and it would
// take the start of the next one for the rest of it.
func decodeJPEG(w *Worker, data []byte, maxPixels int) (_ *JPEG, err error) {
	defer func() {
		if err != nil && w.jpeg != nil {
			C.jpeg_free(w.jpeg)
			w.jpeg = nil
		}
	}()
	if w.jpeg == nil {
		if w.jpeg = C.jpeg_decoder(); w.jpeg == nil {
			return nil, errors.New("cpu: DecodeJPEG: no memory for a decoder")
		}
	}
	in := (*C.uchar)(&data[0])
	var width, height, channels C.int
	if C.jpeg_header(w.jpeg, in, C.size_t(len(data)), &width, &height, &channels) != 0 {
		return nil, errors.New("cpu: DecodeJPEG: header: " + C.GoString(C.jpeg_error(w.jpeg)))
	}
	img := &JPEG{Width: int(width), Height: int(height), Channels: int(channels)}
	if img.Width <= 0 || img.Height <= 0 || img.Width > maxPixels/img.Height {
		return nil, fmt.Errorf("cpu: DecodeJPEG: %d×%d pixels, want at least 1 and at most %d", img.Width, img.Height, maxPixels)
	}
	img.Pix = make([]byte, img.Width*img.Height*img.Channels)
	switch C.jpeg_pixels(w.jpeg, in, C.size_t(len(data)), width, height, channels, (*C.uchar)(&img.Pix[0])) {
	case 0:
	case 1:
		img.Warning = C.GoString(C.jpeg_error(w.jpeg))
		if strings.Contains(img.Warning, "Premature end of JPEG file") {
			return nil, errors.New("cpu: DecodeJPEG: the file ends before the image does")
		}
	default:
		return nil, errors.New("cpu: DecodeJPEG: " + C.GoString(C.jpeg_error(w.jpeg)))
	}
	return img, nil
}
