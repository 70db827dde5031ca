package gpu_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle/device"
)

// No value is used by two at a time, no more than two are made, and one whose use failed is replaced.
func TestLanes(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		type value struct{ users, uses atomic.Int32 }
		var made, dropped atomic.Int32
		l := gpu.NewLanes(dev, func(own *gpu.Device) (*value, error) {
			made.Add(1)
			if own.CUDA() != dev.CUDA() || own.CUDA() && own == dev {
				t.Errorf("a value on %v of %v, want one with a stream of its own", own, dev)
			}
			return new(value), nil
		}, func(*value) { dropped.Add(1) })
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				err := l.Use(func(_ *gpu.Device, v *value) error {
					if v.users.Add(1) != 1 {
						t.Error("a value is used twice at a time")
					}
					v.uses.Add(1)
					v.users.Add(-1)
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := made.Load(); n < 1 || n > 2 || dropped.Load() != 0 {
			t.Errorf("%d values made, %d dropped", n, dropped.Load())
		}
		before := made.Load()
		wrong := errors.New("wrong")
		for range 2 {
			if err := l.Use(func(*gpu.Device, *value) error { return wrong }); !errors.Is(err, wrong) {
				t.Errorf("%v, want the error of the use", err)
			}
		}
		if dropped.Load() != 2 || made.Load() > before+1 {
			t.Errorf("%d dropped, %d made after two failures", dropped.Load(), made.Load()-before)
		}
		l.Close()
	})
}

// What cannot be made is an error of the use, and made again by the next.
func TestLanesOfNothing(t *testing.T) {
	tries, wrong := 0, errors.New("no memory")
	l := gpu.NewLanes(gpu.CPU(), func(*gpu.Device) (int, error) {
		if tries++; tries == 1 {
			return 0, wrong
		}
		return 7, nil
	}, func(int) {})
	use := func() (got int, err error) {
		err = l.Use(func(_ *gpu.Device, v int) error { got = v; return nil })
		return got, err
	}
	for range 2 {
		if v, err := use(); v == 7 && err == nil {
			continue
		} else if !errors.Is(err, wrong) {
			t.Errorf("%d, %v", v, err)
		}
	}
	if v, err := use(); v != 7 || err != nil {
		t.Errorf("%d, %v; want it made by now", v, err)
	}
	l.Close()
}
