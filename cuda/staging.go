package cuda

import (
	"runtime"
	"sync"
	"unsafe"
)

// staging is a stream's pair of pinned buffers. The driver copies to and from
// pinned memory at the full speed of the bus and without making the caller wait;
// ordinary memory goes through here in pieces, so that the processor copies one
// piece while the device takes or brings the one before. Each stream has its own,
// since who copies from a busy stream waits, and others need not.
type staging struct {
	mu   sync.Mutex
	pair [2]*pinned
	next int
}

const stageSize = 4 << 20

// pinned is stageSize bytes of the host that the device reads and writes by itself.
type pinned struct {
	mem  unsafe.Pointer
	done *Event // the last copy from or to mem
	used bool   // done was recorded and not waited for
}

func (b *pinned) bytes(n int) []byte { return unsafe.Slice((*byte)(b.mem), n) }

// wait waits for the copy that uses b.
func (b *pinned) wait() error {
	if !b.used {
		return nil
	}
	b.used = false
	return b.done.Sync()
}

// buffer is the next of the pair, idle; s.staging is locked.
func (s *Stream) buffer() (*pinned, error) {
	at := &s.staging.pair[s.staging.next]
	s.staging.next = 1 - s.staging.next
	if *at == nil {
		b, err := s.dev.takePinned()
		if err != nil {
			return nil, err
		}
		*at = b
	}
	return *at, (*at).wait()
}

// takePinned is a buffer that no stream has.
func (d *Dev) takePinned() (*pinned, error) {
	d.mu.Lock()
	if last := len(d.pinned) - 1; last >= 0 {
		b := d.pinned[last]
		d.pinned = d.pinned[:last]
		d.mu.Unlock()
		return b, nil
	}
	d.mu.Unlock()
	e, err := d.event(false)
	if err != nil {
		return nil, err
	}
	b := &pinned{done: e}
	err = d.do(func() (err error) {
		b.mem, err = hostAlloc(stageSize)
		return err
	})
	if err != nil {
		return nil, d.fail("pinned memory", err)
	}
	return b, nil
}

// giveBack leaves the buffers of a stream that is idle to others.
func (s *Stream) giveBack() {
	s.staging.mu.Lock()
	defer s.staging.mu.Unlock()
	for i, b := range s.staging.pair {
		if b != nil {
			b.used = false
			s.dev.mu.Lock()
			s.dev.pinned = append(s.dev.pinned, b)
			s.dev.mu.Unlock()
			s.staging.pair[i] = nil
		}
	}
}

// CopyIn queues a copy of src to the device. When it returns src may change.
func (s *Stream) CopyIn(dst Ptr, src []byte) {
	if len(src) == 0 || s.Err() != nil {
		return
	}
	if s.capturing.Load() {
		s.Fail(errCapturing("a copy from the host"))
		return
	}
	s.staging.mu.Lock()
	defer s.staging.mu.Unlock()
	for len(src) > 0 && s.Err() == nil {
		b, err := s.buffer()
		if err != nil {
			s.Fail(err)
			return
		}
		n := min(len(src), stageSize)
		copyBytes(b.bytes(n), src[:n])
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
	s.staging.mu.Lock()
	defer s.staging.mu.Unlock()
	var before *pinned // its copy is under way
	var into []byte    // and belongs here
	for s.Err() == nil {
		var b *pinned
		n := min(len(dst), stageSize)
		if n > 0 {
			var err error
			if b, err = s.buffer(); err != nil {
				s.Fail(err)
				break
			}
			s.call("copy to the host", func() error { return copyOut(b.mem, src, n, s.raw) })
			s.Record(b.done)
			b.used = true
		}
		if before != nil {
			if err := before.wait(); err != nil {
				s.Fail(err)
				break
			}
			copyBytes(into, before.bytes(len(into)))
		}
		if b == nil {
			break
		}
		before, into = b, dst[:n]
		dst, src = dst[n:], src+Ptr(n)
	}
	return s.Err()
}

// copyBytes is copy by several goroutines where there is much: one core fills no bus.
func copyBytes(dst, src []byte) {
	const least = 1 << 20
	parts := min(4, runtime.GOMAXPROCS(0), len(src)/least)
	if parts < 2 {
		copy(dst, src)
		return
	}
	var wg sync.WaitGroup
	for i := range parts {
		from, to := i*len(src)/parts, (i+1)*len(src)/parts
		wg.Go(func() { copy(dst[from:to], src[from:to]) })
	}
	wg.Wait()
}
