package cuda

import (
	"fmt"
	"math/bits"
	"runtime"
	"slices"
	"sync"
	"time"
)

// backing is what an arena takes its memory from; tests put a pretended device here.
type backing interface {
	alloc(n int) (Ptr, error)
	free(p Ptr) error
	info() (free, total int64, err error)
	order(first, then *Stream) error // what is queued on then from now on waits for first
	sync(s *Stream) error
}

// arena keeps memory that was freed for the next allocation of a like size, since
// the driver's own calls take as long as a kernel and stop the device.
//
// Sizes up to 1 MiB are rounded to powers of two and cut from slabs of 2 MiB;
// larger ones are rounded by at most an eighth (2 MiB from 2 to 16 MiB) and are one
// driver allocation each. A freed block belongs to the stream that it was
// allocated for, and serves it again at once: later work of the stream comes after
// the work that still uses the block. Another stream gets it only when it waits
// for the owner first.
type arena struct {
	dev   backing
	exact bool // every allocation is one of the driver, so that a checker sees its bounds

	mu        sync.Mutex
	blocks    map[Ptr]*block // the live ones
	lists     map[*Stream]*freeLists
	abandoned []*block // given back by the garbage collector, not yet free; the oldest first
	stats     Memory
}

// block is a piece of memory of one size class.
type block struct {
	ptr   Ptr
	size  int
	class int
	owner *Stream   // nil: no work of an owner is pending on it
	users []*Stream // other streams whose work may use it
	slab  *slab     // nil: a driver allocation of its own
	since time.Time // when it was abandoned
}

// slab is a driver allocation that is cut into blocks of one class.
type slab struct {
	ptr    Ptr
	blocks int
}

type freeLists [classes][]*block

// Memory is the state of a device's memory in bytes, by the sizes that requests were rounded to.
type Memory struct {
	Live   int64 // in use
	Cached int64 // kept for later allocations
	Peak   int64 // the most that was live at once
	Allocs int64 // allocations so far
	Calls  int64 // those for which the driver was asked
}

const (
	smallest     = 512
	smallClasses = 12      // 512 B to 1 MiB
	slabSize     = 2 << 20 // also the unit of the larger sizes
	classes      = 164     // to 4 TiB
)

func newArena(dev backing, exact bool) *arena {
	return &arena{dev: dev, exact: exact, blocks: map[Ptr]*block{}, lists: map[*Stream]*freeLists{}}
}

// classOf is the class of a request for n > 0 bytes and the size of its blocks.
func classOf(n int) (class, size int) {
	if n <= smallest<<(smallClasses-1) {
		class = max(0, bits.Len(uint(n-1))-9)
		return class, smallest << class
	}
	units := (n + slabSize - 1) / slabSize
	if units <= 8 {
		return smallClasses + units - 1, units * slabSize
	}
	// units = eighths * 2^e, with 9 to 16 eighths
	e := bits.Len(uint(units-1)) - 4
	eighths := (units + 1<<e - 1) >> e
	return smallClasses + 8*e + eighths - 1, eighths << e * slabSize
}

// alloc returns n > 0 bytes for the work of s. When the device's memory is short,
// what is kept is given back first, and then what the garbage collector finds.
func (a *arena) alloc(s *Stream, n int) (Ptr, error) {
	if int64(n) > 1<<42 {
		return 0, a.shortage(n)
	}
	p, err := a.try(s, n)
	for round := range 4 {
		if code(err) != statusNoMemory || round > 0 && !a.forgotten() {
			break
		}
		if p, err = a.try(s, n); code(err) != statusNoMemory {
			break
		}
		if e := a.trim(); e != nil {
			return 0, e
		}
		p, err = a.try(s, n)
	}
	switch {
	case code(err) == statusNoMemory:
		return 0, a.shortage(n)
	case err != nil:
		return 0, s.dev.fail("allocation of "+size(n), err)
	}
	return p, nil
}

func (a *arena) shortage(n int) error {
	free, total, err := a.dev.info()
	if err != nil {
		return fmt.Errorf("cuda: %w: want %s; use a smaller batch", ErrMemory, size(n))
	}
	return fmt.Errorf("cuda: %w: want %s, %s of %s free; use a smaller batch", ErrMemory, size(n), size(int(free)), size(int(total)))
}

// try takes a free block, or one of the driver.
func (a *arena) try(s *Stream, n int) (Ptr, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	class, rounded := classOf(n)
	if a.exact {
		class, rounded = -1, n
	}
	b := a.take(s, class)
	if b == nil {
		a.reclaim()
		b = a.take(s, class)
	}
	if b == nil {
		var err error
		if b, err = a.grow(class, rounded); err != nil {
			return 0, err
		}
	}
	b.owner = s
	a.blocks[b.ptr] = b
	a.stats.Allocs++
	a.stats.Live += int64(b.size)
	a.stats.Peak = max(a.stats.Peak, a.stats.Live)
	return b.ptr, nil
}

// take finds a free block: of the stream, of no stream, then of another stream.
// Of the large ones those of the next two classes serve too.
func (a *arena) take(s *Stream, class int) *block {
	if class < 0 {
		return nil
	}
	last := class
	if class >= smallClasses {
		last = min(class+2, classes-1)
	}
	for c := class; c <= last; c++ {
		for _, owner := range [...]*Stream{s, nil} {
			if b := a.pop(owner, s, c); b != nil {
				return b
			}
		}
	}
	for owner := range a.lists {
		if owner != nil && owner != s {
			if b := a.pop(owner, s, class); b != nil {
				return b
			}
		}
	}
	return nil
}

// pop takes a block off owner's list and lets s wait for the other streams that may still use it.
func (a *arena) pop(owner, s *Stream, class int) *block {
	l := a.lists[owner]
	if l == nil || len(l[class]) == 0 || busy(owner, s) {
		return nil
	}
	last := len(l[class]) - 1
	b := l[class][last]
	for _, u := range b.users {
		if busy(u, s) {
			return nil
		}
	}
	if owner != nil && owner != s && a.dev.order(owner, s) != nil {
		return nil
	}
	for _, u := range b.users {
		if u != s && a.dev.order(u, s) != nil {
			return nil
		}
	}
	b.users = nil
	l[class][last] = nil
	l[class] = l[class][:last]
	a.stats.Cached -= int64(b.size)
	return b
}

// busy tells whether s cannot wait for o, since o is recording a graph.
func busy(o, s *Stream) bool { return o != nil && o != s && o.capturing.Load() }

func (a *arena) push(b *block) {
	l := a.lists[b.owner]
	if l == nil {
		l = new(freeLists)
		a.lists[b.owner] = l
	}
	l[b.class] = append(l[b.class], b)
	a.stats.Cached += int64(b.size)
}

// grow asks the driver for a block of rounded bytes; the others of its slab become free.
func (a *arena) grow(class, rounded int) (*block, error) {
	a.stats.Calls++
	if class < 0 || class >= smallClasses {
		p, err := a.dev.alloc(rounded)
		return &block{ptr: p, size: rounded, class: class}, err
	}
	p, err := a.dev.alloc(slabSize)
	if err != nil {
		return nil, err
	}
	sl := &slab{ptr: p, blocks: slabSize / rounded}
	for i := sl.blocks - 1; i > 0; i-- {
		a.push(&block{ptr: p + Ptr(i*rounded), size: rounded, class: class, slab: sl})
	}
	return &block{ptr: p, size: rounded, class: class, slab: sl}, nil
}

// drop takes a live block out of the table.
func (a *arena) drop(p Ptr) *block {
	b := a.blocks[p]
	if b == nil {
		panic(fmt.Sprintf("cuda: Free of %#x: it was not allocated or is free already", uint64(p)))
	}
	delete(a.blocks, p)
	a.stats.Live -= int64(b.size)
	return b
}

func (a *arena) free(p Ptr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.release(a.drop(p))
}

// release makes a block free.
func (a *arena) release(b *block) {
	if !a.exact {
		a.push(b)
		return
	}
	err := a.dev.sync(b.owner)
	for _, u := range b.users {
		if err == nil {
			err = a.dev.sync(u)
		}
	}
	if err == nil {
		err = a.dev.free(b.ptr)
	}
	if err != nil && b.owner != nil {
		b.owner.Fail(b.owner.dev.fail("free", err))
	}
}

// grace is how long abandoned memory waits. A goroutine may have asked for the
// address of its tensor, and not yet have queued the launch, when the tensor is
// found to be garbage; it is between two instructions then, and not for long.
const grace = 100 * time.Millisecond

// abandon is free for the garbage collector's cleanups.
func (a *arena) abandon(p Ptr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	b := a.drop(p)
	b.since = time.Now()
	a.abandoned = append(a.abandoned, b)
}

// reclaim frees the blocks that were abandoned long enough ago; a.mu is locked.
func (a *arena) reclaim() {
	n := 0
	for n < len(a.abandoned) && time.Since(a.abandoned[n].since) >= grace { // they are in order
		a.release(a.abandoned[n])
		n++
	}
	a.abandoned = slices.Delete(a.abandoned, 0, n)
}

// forgotten lets the garbage collector look for memory, and tells whether it found any.
func (a *arena) forgotten() bool {
	runtime.GC()
	time.Sleep(5 * time.Millisecond) // the cleanups run in goroutines of their own
	a.mu.Lock()
	n := len(a.abandoned)
	a.mu.Unlock()
	if n == 0 {
		return false
	}
	time.Sleep(grace)
	return true
}

// share notes that the work of s uses a live block of another stream.
func (a *arena) share(p Ptr, s *Stream) {
	a.mu.Lock()
	defer a.mu.Unlock()
	b := a.blocks[p]
	if b == nil {
		panic(fmt.Sprintf("cuda: Share of %#x: it was not allocated or is free already", uint64(p)))
	}
	if b.owner != s && !slices.Contains(b.users, s) {
		b.users = append(b.users, s)
	}
}

// disown makes the blocks of a stream that is idle and closes everybody's.
func (a *arena) disown(s *Stream) {
	a.mu.Lock()
	defer a.mu.Unlock()
	forget := func(b *block) {
		if b.owner == s {
			b.owner = nil
		}
		b.users = slices.DeleteFunc(b.users, func(u *Stream) bool { return u == s })
	}
	for _, b := range a.blocks {
		forget(b)
	}
	for _, b := range a.abandoned {
		forget(b)
	}
	own := a.lists[s]
	for _, l := range a.lists {
		for _, list := range l {
			for _, b := range list {
				forget(b)
			}
		}
	}
	delete(a.lists, s)
	if own != nil {
		for _, list := range own {
			for _, b := range list {
				a.stats.Cached -= int64(b.size)
				a.push(b)
			}
		}
	}
}
