package cli

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
)

// quietInterval is how often a long command says on a log, rather than on a
// terminal, how far it is.
const quietInterval = 10 * time.Second

// progress tells how far one stage of a command is: a moving bar with rate and
// time left on a terminal, else one line every quietInterval. Its methods may
// be called from any goroutine.
type progress struct {
	mu          sync.Mutex
	what, unit  string
	also        string // shown beside the rest
	total       int    // -1: not known before the end
	done, from  int
	limit       time.Duration // the stage ends then at the latest; 0: no limit
	w           io.Writer
	now         func() time.Time
	start, last time.Time
	bar         *progressbar.ProgressBar // nil without a terminal
}

// progress starts a stage of total units; total is -1 when only the end tells.
func (a *app) progress(what, unit string, total int) *progress {
	p := &progress{what: what, unit: unit, total: total, w: a.env.Stderr, now: a.env.Now}
	p.start = p.now()
	p.last = p.start
	if a.env.IsTTY {
		p.bar = progressbar.NewOptions(total,
			progressbar.OptionSetWriter(p.w),
			progressbar.OptionSetDescription(what),
			progressbar.OptionShowCount(),
			progressbar.OptionShowIts(),
			progressbar.OptionSetItsString(unit),
			progressbar.OptionSetPredictTime(total > 0),
			progressbar.OptionSetElapsedTime(true),
			progressbar.OptionSetWidth(20),
			progressbar.OptionThrottle(100*time.Millisecond),
			progressbar.OptionClearOnFinish(),
		)
	}
	return p
}

// Set tells that done units of the stage are complete.
func (p *progress) Set(done int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.set(done)
}

// From tells that so many units were complete before the stage began, and how long it may take at most, 0 for no limit.
func (p *progress) From(done int, limit time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done, p.from, p.limit = done, done, limit
	if p.bar != nil {
		_ = p.bar.Set(done)
	}
}

// Also is a text to show beside the rest from now on, such as a loss.
func (p *progress) Also(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.also = text
	if p.bar != nil {
		p.bar.Describe(p.what + ", " + text)
	}
}

// SetTotal tells how many units there are, once that is known.
func (p *progress) SetTotal(total int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if total == p.total {
		return
	}
	p.total = total
	if p.bar != nil {
		p.bar.ChangeMax(total)
	}
}

// Add tells that n more units are complete.
func (p *progress) Add(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.set(p.done + n)
}

func (p *progress) set(done int) {
	p.done = done
	if p.bar != nil {
		_ = p.bar.Set(done) // fails only above the maximum, and then shows the full bar
		return
	}
	if now := p.now(); now.Sub(p.last) >= quietInterval {
		p.last = now
		fmt.Fprintln(p.w, p.line(now))
	}
}

// line is, for example, "features of out/: 1200 of 10000 images, 85.1 images/s, 1m43s left".
func (p *progress) line(now time.Time) string {
	rate := float64(p.done-p.from) / now.Sub(p.start).Seconds()
	if p.total < 0 {
		return fmt.Sprintf("%s: %d %s, %.1f %s/s", p.what, p.done, p.unit, rate, p.unit)
	}
	s := fmt.Sprintf("%s: %d of %d %s, %.1f %s/s", p.what, p.done, p.total, p.unit, rate, p.unit)
	if rate > 0 {
		left := time.Duration(float64(max(p.total-p.done, 0)) / rate * float64(time.Second))
		if p.limit > 0 {
			left = min(left, max(0, p.limit-now.Sub(p.start)))
		}
		s += fmt.Sprintf(", %v left", left.Round(time.Second))
	}
	if p.also != "" {
		s += ", " + p.also
	}
	return s
}

// End removes the bar and returns the seconds that the stage took.
func (p *progress) End() float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar != nil {
		_ = p.bar.Finish()
	}
	return p.now().Sub(p.start).Seconds()
}
