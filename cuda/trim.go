package cuda

import (
	"fmt"
	"slices"
)

// trim gives every block and every slab that is wholly free back to the driver,
// once the work that may still use it is done. What belongs to a stream that
// captures a graph is left alone, since it cannot be waited for.
func (a *arena) trim() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.reclaim()
	idle := map[*slab]int{} // blocks of each slab that nothing uses
	synced := map[*Stream]bool{nil: true}
	wait := func(o *Stream) (ok bool, err error) {
		if !synced[o] && !o.capturing.Load() {
			err = a.dev.sync(o)
			synced[o] = err == nil
		}
		return synced[o], err
	}
	free := map[*block]bool{}
	for owner, l := range a.lists {
		for class := range l {
			for _, b := range l[class] {
				ok, err := wait(owner)
				for _, u := range b.users {
					if ok && err == nil {
						ok, err = wait(u)
					}
				}
				if err != nil {
					return failure("trim", err)
				}
				if ok {
					free[b] = true
					if b.slab != nil {
						idle[b.slab]++
					}
				}
			}
		}
	}
	var first error
	give := func(p Ptr) {
		if err := a.dev.free(p); first == nil && err != nil {
			first = failure("trim", err)
		}
	}
	for b := range free {
		switch {
		case b.slab == nil:
			give(b.ptr)
		case idle[b.slab] < b.slab.blocks:
			delete(free, b)
			continue
		}
		a.stats.Cached -= int64(b.size)
	}
	for _, l := range a.lists {
		for class := range l {
			l[class] = slices.DeleteFunc(l[class], func(b *block) bool { return free[b] })
		}
	}
	for sl, n := range idle {
		if n == sl.blocks {
			give(sl.ptr)
		}
	}
	return first
}

// Memory is the state of the device's memory as this process uses it.
func (d *Dev) Memory() Memory {
	d.memory.mu.Lock()
	defer d.memory.mu.Unlock()
	return d.memory.stats
}

// ResetPeak makes what is live now the peak.
func (d *Dev) ResetPeak() {
	d.memory.mu.Lock()
	defer d.memory.mu.Unlock()
	d.memory.stats.Peak = d.memory.stats.Live
}

// Free is the device's free and whole memory in bytes, as the driver tells; what
// is cached here counts as used.
func (d *Dev) Free() (free, total int64, err error) {
	if free, total, err = d.memory.dev.info(); err != nil {
		return 0, 0, d.fail("free memory", err)
	}
	return free, total, nil
}

// Trim waits for the device and gives memory that is kept for later use, its own
// and pinned memory of the host, back to the driver.
func (d *Dev) Trim() error {
	err := d.memory.trim()
	d.mu.Lock()
	spare := d.pinned
	d.pinned = nil
	d.mu.Unlock()
	for _, b := range spare {
		if e := d.do(func() error { return hostFree(b.mem) }); e != nil && err == nil {
			err = d.fail("trim", e)
		}
	}
	return err
}

// driverMemory is the backing of a real device's arena.
type driverMemory struct{ d *Dev }

func (m driverMemory) alloc(n int) (p Ptr, err error) {
	err = m.d.do(func() (err error) {
		p, err = memAlloc(n)
		return err
	})
	return p, err
}

func (m driverMemory) free(p Ptr) error { return m.d.do(func() error { return memFree(p) }) }

func (m driverMemory) info() (free, total int64, err error) {
	err = m.d.do(func() (err error) {
		free, total, err = memInfo()
		return err
	})
	return free, total, err
}

func (m driverMemory) order(first, then *Stream) error {
	then.After(first)
	return then.Err()
}

func (m driverMemory) sync(s *Stream) error {
	if s == nil {
		return nil
	}
	return m.d.do(func() error { return syncStream(s.raw) })
}

// size writes a number of bytes for people.
func size(n int) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.2f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d bytes", n)
}
