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

// trace queues work and waits for it, and writes a line with the device's time.
// It returns what the driver said to either.
func (s *Stream) trace(name string, work fmt.Stringer, queue func() int) (status int) {
	start, err := s.dev.NewEvent()
	if err != nil {
		s.Fail(err)
		return 0
	}
	end, err := s.dev.NewEvent()
	if err != nil {
		s.Fail(err)
		return 0
	}
	s.Record(start)
	if status := queue(); status != 0 {
		return status
	}
	s.Record(end)
	if err := s.dev.do(func() error { return syncStream(s.raw) }); err != nil {
		return code(err)
	}
	took, err := end.Since(start)
	if err != nil {
		s.Fail(err)
		return 0
	}
	fmt.Fprintf(traceTo, "fidlab: %-28s %9.1f us  %v\n", name, float64(took)/float64(time.Microsecond), work)
	return 0
}
