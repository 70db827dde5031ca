package cuda

import "fmt"

// trim gives every block and every slab that is wholly free back to the driver,
// once the work that may still use it is done. What belongs to a stream that
// captures a graph is left alone, since it cannot be waited for.
func (a *arena) trim() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.reclaimLocked(nil)
	idle := map[*slab]int{} // blocks of each slab that nothing uses
	for owner, l := range a.lists {
		if owner != nil {
			if owner.capturing.Load() {
				continue
			}
			if err := a.dev.sync(owner); err != nil {
				return failure("trim", err)
			}
		}
		for class := range l[:smallClasses] {
			for _, b := range l[class] {
				idle[b.slab]++
			}
		}
	}
	for owner, l := range a.lists {
		if owner != nil && owner.capturing.Load() {
			continue
		}
		for class := range l {
			if err := a.thin(&l[class], idle); err != nil {
				return fmt.Errorf("cuda: trim: %w", err)
			}
		}
	}
	for sl, n := range idle {
		if n == sl.blocks {
			if err := a.dev.free(sl.ptr); err != nil {
				return failure("trim", err)
			}
		}
	}
	return nil
}

// thin drops the blocks of idle slabs from a list and frees those that have no slab.
func (a *arena) thin(list *[]*block, idle map[*slab]int) error {
	kept := (*list)[:0]
	var first error
	for _, b := range *list {
		switch {
		case b.slab != nil && idle[b.slab] < b.slab.blocks, first != nil:
			kept = append(kept, b)
			continue
		case b.slab == nil:
			if first = a.dev.free(b.ptr); first != nil {
				kept = append(kept, b)
				continue
			}
		}
		a.stats.Cached -= int64(b.size)
	}
	clear((*list)[len(kept):])
	*list = kept
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

// Trim waits for the device and gives memory that is kept for later allocations back to the driver.
func (d *Dev) Trim() error { return d.memory.trim() }

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
