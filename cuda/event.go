package cuda

import (
	"runtime"
	"time"
)

// Event marks a place in a stream's order, with its time.
type Event struct {
	dev *Dev
	raw rawEvent
}

// NewEvent makes an event. It lasts as long as something refers to it.
func (d *Dev) NewEvent() (*Event, error) { return d.event(true) }

func (d *Dev) event(timing bool) (*Event, error) {
	e := &Event{dev: d}
	err := d.do(func() (err error) {
		e.raw, err = newEvent(timing)
		return err
	})
	if err != nil {
		return nil, d.fail("new event", err)
	}
	runtime.AddCleanup(e, func(raw rawEvent) {
		_ = d.do(func() error { return destroyEvent(raw) }) // nobody is left to tell
	}, e.raw)
	return e, nil
}

// Record puts e at the end of what is queued on s.
func (s *Stream) Record(e *Event) {
	s.call("record", func() error { return recordEvent(e.raw, s.raw) })
	runtime.KeepAlive(e)
}

// Wait lets what is queued on s from now on wait until e, of any stream, has passed.
func (s *Stream) Wait(e *Event) {
	s.call("wait", func() error { return waitEvent(s.raw, e.raw) })
	runtime.KeepAlive(e)
}

// After lets what is queued on s from now on wait for all that is queued on o.
func (s *Stream) After(o *Stream) {
	if s == o {
		return
	}
	o.life.RLock()
	defer o.life.RUnlock()
	if o.closed { // its work is done
		return
	}
	e, err := o.dev.mark()
	if err != nil {
		s.Fail(err)
		return
	}
	// Also when o has an error: what was queued before may still run.
	if err := o.dev.do(func() error { return recordEvent(e.raw, o.raw) }); err != nil {
		s.Fail(o.dev.fail("record", err))
		return
	}
	s.Wait(e)
	// The wait is for what was recorded now; another record does not change it.
	o.dev.mu.Lock()
	o.dev.marks = append(o.dev.marks, e)
	o.dev.mu.Unlock()
}

// mark is an event without a time, an old one where there is one.
func (d *Dev) mark() (*Event, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if last := len(d.marks) - 1; last >= 0 {
		e := d.marks[last]
		d.marks = d.marks[:last]
		return e, nil
	}
	return d.event(false)
}

// Sync waits until e has passed.
func (e *Event) Sync() error {
	if err := e.dev.do(func() error { return syncEvent(e.raw) }); err != nil {
		return e.dev.fail("sync with an event", err)
	}
	runtime.KeepAlive(e)
	return nil
}

// Since is the device's time between two recorded events; it waits for e.
func (e *Event) Since(start *Event) (time.Duration, error) {
	if err := e.Sync(); err != nil {
		return 0, err
	}
	var ms float64
	err := e.dev.do(func() (err error) {
		ms, err = elapsed(start.raw, e.raw)
		return err
	})
	runtime.KeepAlive(start)
	if err != nil {
		return 0, e.dev.fail("time between events", err)
	}
	return time.Duration(ms * float64(time.Millisecond)), nil
}
