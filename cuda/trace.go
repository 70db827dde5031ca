package cuda

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// traced tells whether FIDLAB_SYNC=1 asks for every launch to be waited for and timed.
var traced = sync.OnceValue(func() bool { return os.Getenv("FIDLAB_SYNC") == "1" })

// traceTo is where the times go; tests put a buffer here.
var traceTo io.Writer = os.Stderr

// trace is Launch with a wait and a line of its time. An error that shows in the
// wait is this launch's own.
func (s *Stream) trace(f Func, fn *function, g Grid, a *Args) {
	start, err := s.dev.NewEvent()
	if err != nil {
		s.Fail(err)
		return
	}
	end, err := s.dev.NewEvent()
	if err != nil {
		s.Fail(err)
		return
	}
	s.Record(start)
	if status := launch(s.dev.ctx, fn.raw, s.raw, g, a); status != 0 {
		s.launchFailed(f, fn, g, status)
		return
	}
	s.Record(end)
	err = s.dev.do(func() error { return syncStream(s.raw) })
	if err != nil {
		s.launchFailed(f, fn, g, code(err))
		return
	}
	took, err := end.Since(start)
	if err != nil {
		s.Fail(err)
		return
	}
	fmt.Fprintf(traceTo, "fidlab: %-28s %9.1f us  %v\n", f.Name, float64(took)/float64(time.Microsecond), g)
}
