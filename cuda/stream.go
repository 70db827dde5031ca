package cuda

import (
	"fmt"
	"sync"
	"sync/atomic"
)

// Stream is a queue of work on a device. It keeps the first error of any call
// made on it, and then does nothing more. Its methods may be called from any
// goroutine; what is queued runs in the order of the calls.
type Stream struct {
	dev       *Dev
	raw       rawStream
	err       atomic.Pointer[error]
	capturing atomic.Bool
	staging   staging

	closing atomic.Bool
	life    sync.RWMutex // held while other streams and the device use raw
	closed  bool
}

// Dev is the device of s.
func (s *Stream) Dev() *Dev { return s.dev }

// Err is the first error of s or the fault that ended its device; it waits for nothing.
func (s *Stream) Err() error {
	if e := s.err.Load(); e != nil {
		return *e
	}
	return s.dev.Err()
}

// Fail makes err the error of s, unless it has one.
func (s *Stream) Fail(err error) {
	if err != nil {
		s.err.CompareAndSwap(nil, &err)
	}
}

// Recover forgets the error of s and returns it, so that work can go on with less
// memory, say. The fault of a lost device stays.
func (s *Stream) Recover() error {
	if e := s.err.Swap(nil); e != nil {
		return *e
	}
	return s.dev.Err()
}

// call runs a driver call of s, unless s has an error.
func (s *Stream) call(what string, f func() error) {
	if s.Err() != nil {
		return
	}
	if err := s.dev.do(f); err != nil {
		s.Fail(s.dev.fail(what, err))
	}
}

// Launch queues kernel f with geometry g. An empty grid does nothing.
func (s *Stream) Launch(f Func, g Grid, a *Args) {
	if g.empty() || s.Err() != nil {
		return
	}
	g = g.normal()
	fn, err := s.dev.function(f)
	if err != nil {
		s.Fail(err)
		return
	}
	if why := g.misfit(); why != "" {
		s.Fail(fmt.Errorf("cuda: %s: launch %v: %s (%s)", f.Name, g, reasons[statusInvalidValue], why))
		return
	}
	if err := s.dev.permit(fn, g.Shared); err != nil {
		s.Fail(fmt.Errorf("cuda: %s: launch %v: %w", f.Name, g, err))
		return
	}
	if traced() && !s.capturing.Load() {
		b := *a // the closure's own, so that without a trace a stays where it is
		if status := s.trace(f.Name, g, func() int { return launch(s.dev.ctx, fn.raw, s.raw, g, &b) }); status != 0 {
			s.launchFailed(f, fn, g, status)
		}
		return
	}
	if status := launch(s.dev.ctx, fn.raw, s.raw, g, a); status != 0 {
		s.launchFailed(f, fn, g, status)
	}
}

// launchFailed says as exactly as can be why a launch was refused.
func (s *Stream) launchFailed(f Func, fn *function, g Grid, status int) {
	why := reason(status)
	if threads := g.BX * g.BY * g.BZ; threads > fn.block {
		why += fmt.Sprintf(" (the block limit of this kernel is %d)", fn.block)
	}
	err := fmt.Errorf("cuda: %s: launch %v: %s", f.Name, g, why)
	if fatal(status) {
		err = s.dev.fail(fmt.Sprintf("%s: launch %v", f.Name, g), driverStatus(status))
	}
	s.Fail(err)
}

// driverStatus is a status as an error of the seam.
type driverStatus int

func (d driverStatus) Error() string { return reason(int(d)) }

// Sync waits until all that was queued is done and returns the error of s.
func (s *Stream) Sync() error {
	if s.capturing.Load() {
		s.Fail(errCapturing("Sync"))
		return s.Err()
	}
	s.life.RLock()
	defer s.life.RUnlock()
	if !s.closed {
		s.call("sync", func() error { return syncStream(s.raw) })
	}
	return s.Err()
}

// Copy queues a copy of n bytes within the device. The ranges do not overlap.
func (s *Stream) Copy(dst, src Ptr, n int) {
	if n > 0 {
		s.call("copy", func() error { return copyWithin(dst, src, n, s.raw) })
	}
}

// CopyFrom queues a copy of n bytes that other streams of the same or another
// device have written: it comes after all that was queued on from.
func (s *Stream) CopyFrom(dst Ptr, src Ptr, from *Stream, n int) {
	if n <= 0 {
		return
	}
	if err := from.Err(); err != nil {
		s.Fail(err)
	}
	s.After(from)
	if s.dev == from.dev {
		s.Copy(dst, src, n)
		return
	}
	s.call("copy between devices", func() error { return copyPeer(dst, s.dev.ctx, src, from.dev.ctx, n, s.raw) })
}

// Memset queues the setting of n bytes to value.
func (s *Stream) Memset(dst Ptr, value byte, n int) {
	if n > 0 {
		s.call("memset", func() error { return memset(dst, value, n, s.raw) })
	}
}

// Alloc returns n bytes of memory for the work of s, or 0 for n = 0 and when s
// has an error. The contents are unspecified.
func (s *Stream) Alloc(n int) Ptr {
	if n <= 0 || s.Err() != nil {
		return 0
	}
	if s.capturing.Load() {
		s.Fail(errCapturing(fmt.Sprintf("an allocation of %s", size(n))))
		return 0
	}
	p, err := s.dev.memory.alloc(s, n)
	if err != nil {
		s.Fail(err)
		return 0
	}
	return p
}

// Free gives memory of Alloc back. Work of s that is queued may still use it, as
// may no other stream's. Freeing 0 does nothing, freeing twice panics.
func (s *Stream) Free(p Ptr) {
	if p == 0 {
		return
	}
	if s.capturing.Load() {
		s.Fail(errCapturing("Free"))
		return
	}
	s.dev.memory.free(p)
}

// Abandon is Free for a cleanup that the garbage collector runs: the memory is used
// again a little later, when no goroutine can be about to launch what uses it.
func (s *Stream) Abandon(p Ptr) {
	if p != 0 {
		s.dev.memory.abandon(p)
	}
}

// Share tells that the work of s uses memory that was allocated for another stream
// of the device, so that after its Free it is not used again before that work is done.
func (s *Stream) Share(p Ptr) {
	if p != 0 {
		s.dev.memory.share(p, s)
	}
}

// Close waits for the work of s and ends it; s is not used after. It returns the
// error of s. Closing again does nothing.
func (s *Stream) Close() error {
	err := s.Err()
	if s.closing.Swap(true) {
		return err
	}
	// Also when s has an error: others get its memory.
	wait := s.dev.do(func() error { return syncStream(s.raw) })
	s.dev.memory.disown(s)
	s.giveBack()
	s.dev.forget(s)
	// Not earlier: the arena, locked, asks for life.
	s.life.Lock()
	defer s.life.Unlock()
	s.closed = true
	end := s.dev.do(func() error { return destroyStream(s.raw) })
	for _, e := range []error{wait, end} {
		if err == nil && e != nil {
			err = s.dev.fail("close of a stream", e)
		}
	}
	return err
}

func errCapturing(what string) error {
	return fmt.Errorf("cuda: %s during capture: a graph repeats launches and copies within the device only; do this before Capture", what)
}
