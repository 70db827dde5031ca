package main

import (
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
)

const (
	minReps   = 20
	hotTime   = 200 * time.Microsecond // that the runs between two events take at least
	maxInner  = 256
	flushSize = 256 << 20 // twice the largest second-level cache of today
)

// result is what one case gave.
type result struct {
	Name     string  `json:"name"`
	Kernel   string  `json:"kernel"`
	Shape    string  `json:"shape"`
	Peak     string  `json:"peak"`
	Bytes    float64 `json:"bytes"`
	Flops    float64 `json:"flops"`
	Cold     float64 `json:"cold_us"` // microseconds, median, caches empty
	Hot      float64 `json:"hot_us"`  // microseconds, median, back to back
	Spread   float64 `json:"spread"`  // of the figure that counts: (9th tenth - 1st tenth) / median
	Roofline float64 `json:"roofline_us,omitempty"`
	Reached  float64 `json:"reached,omitempty"` // fraction of the roofline by the data sheet
	Limit    float64 `json:"limit,omitempty"`   // fraction of the roofline by the probes of the same run
	Goal     float64 `json:"goal,omitempty"`
	Torch    string  `json:"torch,omitempty"`
	TorchUS  float64 `json:"torch_us,omitempty"`
	Peer     string  `json:"peer,omitempty"`  // what of torch was fastest
	Ratio    float64 `json:"ratio,omitempty"` // the peer's time over ours
	Plain    string  `json:"plain,omitempty"` // the case of plain loops
	Error    string  `json:"error,omitempty"`

	Launches []launch `json:"launches,omitempty"`
}

// time that counts for the case, in microseconds.
func (r result) time() float64 {
	if r.Peak == "memory" {
		return r.Cold
	}
	return r.Hot
}

// timer times runs on one device.
type timer struct {
	dev    *gpu.Device
	reps   int
	flush  *gpu.Tensor
	events []*cuda.Event
}

func newTimer(dev *gpu.Device, reps int) (*timer, error) {
	t := &timer{dev: dev, reps: reps, flush: dev.New(gpu.Uint8, size(flushSize, 4096))}
	for range 2 * t.reps {
		e, err := dev.Stream().Dev().NewEvent()
		if err != nil {
			return nil, err
		}
		t.events = append(t.events, e)
	}
	return t, dev.Sync()
}

// warm runs until the clocks have risen and everything is loaded.
func (t *timer) warm(run func()) error {
	for start, i := time.Now(), 0; i < size(3, 1) || time.Since(start) < 50*time.Millisecond && i < 100 && !tiny; i++ {
		run()
		if err := t.dev.Sync(); err != nil {
			return err
		}
	}
	return nil
}

// times gives t.reps times in microseconds of one run, inner of them between two events.
func (t *timer) times(run func(), inner int, cold bool) ([]float64, error) {
	s := t.dev.Stream()
	for i := range t.reps {
		if cold {
			s.Memset(t.flush.Ptr(), byte(i), t.flush.Len())
		}
		s.Record(t.events[2*i])
		for range inner {
			run()
		}
		s.Record(t.events[2*i+1])
	}
	if err := t.dev.Sync(); err != nil {
		return nil, err
	}
	var list []float64
	for i := range t.reps {
		d, err := t.events[2*i+1].Since(t.events[2*i])
		if err != nil {
			return nil, err
		}
		list = append(list, float64(d)/float64(time.Microsecond)/float64(inner))
	}
	slices.Sort(list)
	return list, nil
}

func median(sorted []float64) float64 {
	n := len(sorted)
	return (sorted[n/2] + sorted[(n-1)/2]) / 2
}

// spread is the width of the middle four fifths, in medians.
func spread(sorted []float64) float64 {
	n := len(sorted)
	if m := median(sorted); m > 0 {
		return (sorted[n-1-n/10] - sorted[n/10]) / m
	}
	return 0
}

// measure times one case.
func (t *timer) measure(c Case, p peaks) (r result) {
	r = result{Name: c.Name, Kernel: c.Kernel, Shape: c.Shape, Peak: c.Peak, Bytes: c.Bytes, Flops: c.Flops, Goal: c.Goal, Torch: c.Torch, Plain: c.Plain}
	defer func() {
		runtime.GC()                  // gives the operands' memory back
		if p := recover(); p != nil { // a case with shapes that its operation refuses costs its own row only
			r.Error = fmt.Sprint(p)
		}
		if err := t.dev.Recover(); err != nil && r.Error == "" {
			r.Error = err.Error()
		}
	}()
	defer cuda.Range(c.Name)()
	run, err := c.Setup(t.dev)
	if err == nil {
		err = t.warm(run)
	}
	var cold, hot []float64
	if err == nil {
		cold, err = t.times(run, 1, true)
	}
	if err == nil {
		inner := 1
		if m := median(cold); m > 0 && !tiny {
			inner = min(maxInner, 1+int(float64(hotTime/time.Microsecond)/m))
		}
		hot, err = t.times(run, inner, false)
	}
	if err != nil {
		r.Error = err.Error()
		return r
	}
	r.Cold, r.Hot, r.Spread = median(cold), median(hot), spread(hot)
	if c.Peak == "memory" {
		r.Spread = spread(cold)
	}
	r.Roofline = 1e6 * p.roofline(c.whole())
	if us := r.time(); us > 0 {
		r.Reached = r.Roofline / us
	}
	return r
}

// limits times the probes, once each, and gives what this device really does.
func (t *timer) limits(p peaks) (peaks, map[string]result) {
	got, rows := peaks{}, map[string]result{}
	for kind, name := range probes {
		for _, c := range cases {
			if c.Name != name {
				continue
			}
			r := t.measure(c, p)
			rows[name] = r
			switch us := r.time(); {
			case r.Error != "" || us == 0:
			case kind == "memory":
				got[kind] = 1e6 * c.Bytes / us
			default:
				got[kind] = 1e6 * c.Flops / us
			}
		}
	}
	return got, rows
}
