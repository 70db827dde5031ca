//go:build native && cgo

package cpu

// #cgo noescape deflate_zlib
// #cgo nocallback deflate_zlib
// #include "native.h"
import "C"

import (
	"bytes"
	"compress/zlib"
	"errors"
	"fmt"
	"sync"
	"unsafe"
)

var deflate struct {
	once sync.Once
	lib  Library
	ok   bool
}

// haveDeflate opens and tests libdeflate at its first call, on worker w.
func haveDeflate(w *Worker) bool {
	deflate.once.Do(func() {
		l := &deflate.lib
		*l = Library{Name: inflateName, Purpose: inflatePurpose, Install: "apt-get install libdeflate0"}
		why := C.deflate_open()
		l.Path = C.GoString(C.deflate_path())
		if why != nil {
			l.Why = C.GoString(why)
			return
		}
		l.Version = soVersion(l.Path)
		if why := testDeflate(w); why != "" {
			l.Why = "self-test failed: " + why
			return
		}
		l.Install = ""
		l.Used, deflate.ok = true, true
	})
	return deflate.ok
}

// testDeflate decompresses what the standard library compressed: stored,
// fixed and dynamic blocks with matches near and far.
func testDeflate(w *Worker) string {
	data := make([]byte, 70000)
	for i, v := range noise[float32](len(data)/2, 8) {
		data[i] = byte(v * 8)
	}
	copy(data[len(data)-20000:], data[:20000])
	for level := zlib.NoCompression; level <= zlib.BestCompression; level += 3 {
		var z bytes.Buffer
		zw, err := zlib.NewWriterLevel(&z, level)
		if err == nil {
			_, err = zw.Write(data)
		}
		if err == nil {
			err = zw.Close()
		}
		if err != nil {
			return err.Error()
		}
		back := make([]byte, len(data)+1)
		n, err := inflate(w, back, z.Bytes())
		if err != nil || !bytes.Equal(back[:n], data) {
			return fmt.Sprintf("level %d: %d bytes of %d, %v", level, n, len(data), err)
		}
	}
	return ""
}

func nativeInflate(w *Worker, dst, src []byte) (n int, ok bool, err error) {
	if !haveDeflate(w) {
		return 0, false, nil
	}
	calls.inflate.Add(1)
	n, err = inflate(w, dst, src)
	return n, true, err
}

func inflate(w *Worker, dst, src []byte) (int, error) {
	if w.inflate == nil {
		if w.inflate = C.deflate_decoder(); w.inflate == nil {
			return 0, errors.New("cpu: Inflate: no memory for a decoder")
		}
	}
	var n C.size_t
	switch C.deflate_zlib(w.inflate, unsafe.Pointer(&src[0]), C.size_t(len(src)), unsafe.Pointer(&dst[0]), C.size_t(len(dst)), &n) {
	case 0:
		return int(n), nil
	case 3:
		return 0, ErrTooLong
	}
	return 0, fmt.Errorf("cpu: Inflate: damaged or cut stream of %d bytes", len(src))
}
