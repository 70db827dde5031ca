package cpu

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zlib"
)

const (
	inflateName    = "libdeflate"
	inflatePurpose = "decompressing PNG files"
)

// ErrTooLong is Inflate's error for a stream that holds more bytes than were
// asked for; dst holds the first of them then.
var ErrTooLong = errors.New("cpu: Inflate: the stream holds more data than expected")

// Inflate decompresses the zlib stream src (RFC 1950, checksum included) into
// dst and returns the number of bytes written, fewer than len(dst) when the
// stream holds fewer. What follows the stream in src is ignored. The error is
// ErrTooLong, or says that the stream is damaged or cut; what dst holds is
// then undefined. Decompression runs on w, or on any worker for nil.
func Inflate(w *Worker, dst, src []byte) (int, error) {
	var n int
	var err error
	inflate := func(w *Worker) {
		var ok bool
		if len(src) > 0 && len(dst) > 0 {
			n, ok, err = nativeInflate(w, dst, src)
		}
		if !ok || errors.Is(err, ErrTooLong) { // libdeflate gives no partial result
			n, err = goInflate(dst, src)
		}
	}
	if w != nil {
		inflate(w)
	} else {
		Do(inflate)
	}
	return n, err
}

// inflaters are zlib readers; they implement zlib.Resetter.
var inflaters sync.Pool

func goInflate(dst, src []byte) (int, error) {
	in := bytes.NewReader(src)
	z, _ := inflaters.Get().(io.ReadCloser)
	var err error
	if z == nil {
		z, err = zlib.NewReader(in)
	} else {
		err = z.(zlib.Resetter).Reset(in, nil)
	}
	if z != nil {
		defer inflaters.Put(z)
	}
	n := 0
	for err == nil && n < len(dst) {
		var k int
		k, err = z.Read(dst[n:])
		n += k
	}
	if err == nil { // full: the checksum comes with the end of the stream
		var more [1]byte
		for err == nil {
			var k int
			if k, err = z.Read(more[:]); k > 0 {
				return n, ErrTooLong
			}
		}
	}
	switch {
	case errors.Is(err, io.EOF) && z != nil:
		return n, nil
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return 0, fmt.Errorf("cpu: Inflate: the stream of %d bytes is cut", len(src))
	}
	return 0, fmt.Errorf("cpu: Inflate: damaged stream of %d bytes: %w", len(src), err)
}
