package cuda

import (
	"fmt"
	"runtime"
)

// Graph is a sequence of launches and copies within the device that is queued as
// one, at a fraction of the cost of queueing each.
type Graph struct {
	dev  *Dev
	raw  rawGraph
	keep func() // what was captured; its variables hold the tensors that the graph uses
}

// Capture runs step, whose work on s is not done but recorded, and returns it as a
// graph. The graph works on the same memory every time, so step allocates and frees
// nothing, and neither waits nor copies from or to the host; any of it makes Capture
// fail and stays the error of s. Meanwhile only step uses s.
func (s *Stream) Capture(step func()) (*Graph, error) {
	if err := s.Err(); err != nil {
		return nil, err
	}
	if !s.capturing.CompareAndSwap(false, true) {
		return nil, fmt.Errorf("cuda: Capture within Capture")
	}
	s.call("capture", func() error { return beginCapture(s.raw) })
	if err := s.Err(); err != nil {
		s.capturing.Store(false)
		return nil, err
	}
	g := &Graph{dev: s.dev, keep: step}
	end := func() error {
		defer s.capturing.Store(false)
		return s.dev.do(func() (err error) {
			g.raw, err = endCapture(s.raw)
			return err
		})
	}
	ended := false
	defer func() {
		if !ended {
			_ = end() // step panics, and that goes on
		}
	}()
	step()
	ended = true
	err := end()
	if g.raw != nil {
		runtime.AddCleanup(g, func(raw rawGraph) {
			_ = s.dev.do(func() error { return destroyGraph(raw) }) // nobody is left to tell
		}, g.raw)
	}
	if e := s.Err(); e != nil { // of a call within step, which says more than the driver's
		return nil, e
	}
	if err != nil {
		s.Fail(s.dev.fail("end of the capture", err))
		return nil, s.Err()
	}
	return g, nil
}

func (g *Graph) String() string { return "all of it" }

// LaunchGraph queues all of g on s.
func (s *Stream) LaunchGraph(g *Graph) {
	if g.dev != s.dev {
		s.Fail(fmt.Errorf("cuda: LaunchGraph: the graph is of cuda:%d, the stream of cuda:%d; capture it there", g.dev.info.Ordinal, s.dev.info.Ordinal))
		return
	}
	if traced() && s.Err() == nil && !s.capturing.Load() {
		status := s.trace("graph", g, func() (status int) {
			return code(s.dev.do(func() error { return launchGraph(g.raw, s.raw) }))
		})
		if status != 0 {
			s.Fail(s.dev.fail("graph", driverStatus(status)))
		}
		return
	}
	s.call("graph", func() error { return launchGraph(g.raw, s.raw) })
	runtime.KeepAlive(g)
}
