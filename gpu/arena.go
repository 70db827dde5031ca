package gpu

import (
	"fmt"
	"math"
	"math/bits"
)

// Arena hands out tensors that live for one step, say of a training run, and
// takes them all back at its end:
//
//	a := dev.NewArena()
//	for step := range steps {
//		a.Reset()
//		h := a.New(gpu.Float32, batch, width)
//		...
//	}
//
// Storage that was given back, by Reset or by Free in the middle of a step, is
// handed out again, the latest first, which a cache still holds. When steps ask
// for the same sizes in the same order nothing new is allocated from the second
// on. An Arena belongs to one goroutine at a time.
type Arena struct {
	dev    *Device
	free   [len(dtypes)][]([]*slot) // by dtype and size class
	slots  []*slot                  // all there are
	log    []*slot                  // as they were handed out since Reset, some again and again
	heads  [][]Tensor               // headers, in pieces that never move
	used   int                      // headers of this step
	dims   [][]int                  // shapes, likewise
	dim    int                      // piece of dims in use
	left   []int                    // what is left of it
	poison bool
	stats  ArenaStats
}

// ArenaStats counts what an Arena has done.
type ArenaStats struct {
	Fresh int   // times that memory was taken from the Go heap or the device, ever
	Held  int64 // bytes that the arena has
	Live  int64 // of them in use now
	Peak  int64 // the most that ever was
}

// slot is the storage of one tensor.
type slot struct {
	class int
	dt    DType
	bytes int64
	taken bool
	kept  bool
	t     Tensor // a tensor of all of it
}

const (
	arenaHeads = 256
	arenaDims  = 1024
)

// NewArena makes an arena of d's memory.
func (d *Device) NewArena() *Arena { return &Arena{dev: d} }

// Device is where the arena's tensors live.
func (a *Arena) Device() *Device { return a.dev }

// Stats is what the arena has done so far.
func (a *Arena) Stats() ArenaStats { return a.stats }

// Poison makes New fill tensors on the CPU with NaN (integers: the smallest
// number), so that a read of what nobody wrote shows in a test.
func (a *Arena) Poison(on bool) { a.poison = on }

// sizeClass is the class of n >= 1 elements and its size: 64, or the next
// multiple of an eighth of a power of two, so that at most an eighth is wasted.
func sizeClass(n int) (class, size int) {
	if n <= 64 {
		return 0, 64
	}
	e := bits.Len(uint(n - 1)) // 2^(e-1) < n <= 2^e
	unit := 1 << (e - 4)
	k := (n + unit - 1) / unit // 9 to 16
	return (e-7)*8 + k - 8, k * unit
}

// New makes a tensor. Its contents are undefined, which includes zeros.
func (a *Arena) New(dt DType, shape ...int) *Tensor {
	if int(dt) >= len(dtypes) {
		panic(fmt.Sprintf("gpu: Arena.New: unknown dtype %v", dt))
	}
	t := a.header(shape)
	t.dt = dt
	if t.n == 0 {
		return t
	}
	s := a.slot(dt, t.n)
	t.slot = s
	t.cut(&s.t)
	if a.poison {
		t.poison()
	}
	return t
}

// View is t's memory under another shape of as many elements, as Tensor.View,
// with a header of the arena. The arena may give the memory back by either.
func (a *Arena) View(t *Tensor, shape ...int) *Tensor {
	v := a.header(shape)
	if v.n != t.n {
		mustHold(v.shape, t.n)
	}
	v.dev, v.dt, v.slot = t.dev, t.dt, t.slot
	v.cut(t)
	return v
}

// cut gives t the first n elements of from's memory.
func (t *Tensor) cut(from *Tensor) {
	n := t.n
	switch {
	case from.gpu != nil:
		t.gpu, t.off = from.gpu, from.off
	case from.f32 != nil:
		t.f32 = from.f32[:n:n]
	case from.f64 != nil:
		t.f64 = from.f64[:n:n]
	case from.u16 != nil:
		t.u16 = from.u16[:n:n]
	case from.i32 != nil:
		t.i32 = from.i32[:n:n]
	case from.u8 != nil:
		t.u8 = from.u8[:n:n]
	}
}

// Free gives t's memory back before the step ends; neither t nor a view of it is
// used after. It panics when t is not the arena's, or was freed.
func (a *Arena) Free(t *Tensor) {
	if t.n == 0 {
		return
	}
	s := t.slot
	if s == nil || !s.taken {
		panic(fmt.Sprintf("gpu: Arena.Free: tensor of shape %v is not one of the arena that is in use", t.shape))
	}
	a.putBack(s)
}

func (a *Arena) putBack(s *slot) {
	s.taken = false
	a.stats.Live -= s.bytes
	a.free[s.dt][s.class] = append(a.free[s.dt][s.class], s)
}

// Reset takes all tensors back; none of them is used after.
func (a *Arena) Reset() {
	for _, s := range a.slots {
		if s.taken {
			a.putBack(s)
		}
	}
	a.log = a.log[:0]
	a.used, a.dim, a.left = 0, 0, nil
}

// Mark is a place in the sequence of New calls since Reset, for FreeSince.
func (a *Arena) Mark() int { return len(a.log) }

// FreeSince frees all tensors that New made after the mark and that are in use, except
// those that kept yields, which it is asked for twice; views count for what they show.
func (a *Arena) FreeSince(mark int, kept func(yield func(t *Tensor))) {
	kept(func(t *Tensor) {
		if t.slot != nil {
			t.slot.kept = true
		}
	})
	for _, s := range a.log[mark:] {
		if s.taken && !s.kept {
			a.putBack(s)
		}
	}
	kept(func(t *Tensor) {
		if t.slot != nil {
			t.slot.kept = false
		}
	})
}

// Drop forgets the arena's memory, which goes back to the Go heap, or to the
// device at once. It is Reset besides.
func (a *Arena) Drop() {
	for _, s := range a.slots {
		s.t.Free()
	}
	stats := ArenaStats{Fresh: a.stats.Fresh, Peak: a.stats.Peak}
	*a = Arena{dev: a.dev, poison: a.poison, stats: stats}
}

func (a *Arena) slot(dt DType, n int) *slot {
	class, size := sizeClass(n)
	for len(a.free[dt]) <= class {
		a.free[dt] = append(a.free[dt], nil)
	}
	var s *slot
	if list := a.free[dt][class]; len(list) > 0 {
		s = list[len(list)-1]
		a.free[dt][class] = list[:len(list)-1]
	} else {
		s = &slot{class: class, dt: dt, bytes: int64(size) * int64(dt.Size()), t: *a.dev.New(dt, size)}
		a.slots = append(a.slots, s)
		a.stats.Fresh++
		a.stats.Held += s.bytes
	}
	s.taken = true
	a.log = append(a.log, s)
	a.stats.Live += s.bytes
	a.stats.Peak = max(a.stats.Peak, a.stats.Live)
	return s
}

// header is a tensor of that shape without memory.
func (a *Arena) header(shape []int) *Tensor {
	if a.used == arenaHeads*len(a.heads) {
		a.heads = append(a.heads, make([]Tensor, arenaHeads))
	}
	t := &a.heads[a.used/arenaHeads][a.used%arenaHeads]
	a.used++
	k := len(shape)
	if k > len(a.left) {
		if a.dim == len(a.dims) {
			a.dims = append(a.dims, make([]int, max(arenaDims, k)))
		}
		a.left = a.dims[a.dim]
		a.dim++
	}
	own := a.left[:k:k]
	a.left = a.left[k:]
	copy(own, shape)
	*t = Tensor{dev: a.dev, shape: own, n: count(own)}
	return t
}

func (t *Tensor) poison() {
	nan := math.NaN()
	for i := range t.f32 {
		t.f32[i] = float32(nan)
	}
	for i := range t.f64 {
		t.f64[i] = nan
	}
	for i := range t.u16 {
		t.u16[i] = 0x7fff // NaN in float16 and in bfloat16
	}
	for i := range t.i32 {
		t.i32[i] = math.MinInt32
	}
	clear(t.u8)
}
