package cuda

import (
	"sync"
	"unsafe"
)

// staging is a device's ring of pinned buffers. The driver copies to and from
// pinned memory at the full speed of the bus and without making the caller wait;
// ordinary memory goes through here in pieces, so that one piece is copied by the
// processor while the device takes or brings the one before.
type staging struct {
	stage sync.Mutex
	ring  [stages]stagingBuffer
	next  int
}

const (
	stages    = 4
	stageSize = 4 << 20
)

type stagingBuffer struct {
	mem  unsafe.Pointer // nil until the first use
	done *Event         // the last copy from or to mem
	used bool           // done was recorded
}

// buffer is the next of the ring, idle.
func (d *Dev) buffer() (*stagingBuffer, error) {
	b := &d.ring[d.next]
	d.next = (d.next + 1) % stages
	if b.mem == nil {
		e, err := d.event(false)
		if err != nil {
			return nil, err
		}
		err = d.do(func() (err error) {
			b.mem, err = hostAlloc(stageSize)
			return err
		})
		if err != nil {
			return nil, d.fail("pinned memory", err)
		}
		b.done = e
	}
	if b.used {
		if err := b.done.Sync(); err != nil {
			return nil, err
		}
		b.used = false
	}
	return b, nil
}

func (b *stagingBuffer) bytes(n int) []byte { return unsafe.Slice((*byte)(b.mem), n) }

// CopyIn queues a copy of src to the device. When it returns src may change.
func (s *Stream) CopyIn(dst Ptr, src []byte) {
	if len(src) == 0 || s.Err() != nil {
		return
	}
	if s.capturing.Load() {
		s.Fail(errCapturing("a copy from the host"))
		return
	}
	d := s.dev
	d.stage.Lock()
	defer d.stage.Unlock()
	for len(src) > 0 && s.Err() == nil {
		b, err := d.buffer()
		if err != nil {
			s.Fail(err)
			return
		}
		n := copy(b.bytes(stageSize), src)
		s.call("copy from the host", func() error { return copyIn(dst, b.mem, n, s.raw) })
		s.Record(b.done)
		b.used = true
		dst, src = dst+Ptr(n), src[n:]
	}
}

// CopyOut waits for what is queued and copies from the device to dst. It returns the error of s.
func (s *Stream) CopyOut(dst []byte, src Ptr) error {
	if len(dst) == 0 || s.Err() != nil {
		return s.Err()
	}
	if s.capturing.Load() {
		s.Fail(errCapturing("a copy to the host"))
		return s.Err()
	}
	d := s.dev
	d.stage.Lock()
	defer d.stage.Unlock()
	var before *stagingBuffer // its copy is under way
	var into []byte           // and belongs here
	for s.Err() == nil {
		var b *stagingBuffer
		n := min(len(dst), stageSize)
		if n > 0 {
			var err error
			if b, err = d.buffer(); err != nil {
				s.Fail(err)
				break
			}
			s.call("copy to the host", func() error { return copyOut(b.mem, src, n, s.raw) })
			s.Record(b.done)
			b.used = true
		}
		if before != nil {
			if err := before.done.Sync(); err != nil {
				s.Fail(err)
				break
			}
			before.used = false
			copy(into, before.bytes(len(into)))
		}
		if b == nil {
			break
		}
		before, into = b, dst[:n]
		dst, src = dst[n:], src+Ptr(n)
	}
	return s.Err()
}
