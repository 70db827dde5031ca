package cuda

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
)

// pretend is a device's memory as far as an arena needs it.
type pretend struct {
	t      *testing.T
	budget int
	next   Ptr
	held   map[Ptr]int
	used   int
	waits  []*Stream // pairs: first, then
	syncs  int
}

func (p *pretend) alloc(n int) (Ptr, error) {
	if p.used+n > p.budget {
		return 0, driverStatus(statusNoMemory)
	}
	q := p.next
	p.next += Ptr(n+slabSize-1) / slabSize * slabSize
	p.held[q] = n
	p.used += n
	return q, nil
}

func (p *pretend) free(q Ptr) error {
	n, ok := p.held[q]
	if !ok {
		p.t.Errorf("%#x goes back to the driver and is not from there", uint64(q))
	}
	delete(p.held, q)
	p.used -= n
	return nil
}

func (p *pretend) info() (free, total int64, err error) {
	return int64(p.budget - p.used), int64(p.budget), nil
}

func (p *pretend) order(first, then *Stream) error {
	p.waits = append(p.waits, first, then)
	return nil
}

func (p *pretend) sync(*Stream) error {
	p.syncs++
	return nil
}

func newPretend(t *testing.T, budget int) (*pretend, *arena) {
	p := &pretend{t: t, budget: budget, next: 1 << 30, held: map[Ptr]int{}}
	return p, newArena(p, false)
}

func mustAlloc(t *testing.T, a *arena, s *Stream, n int) Ptr {
	t.Helper()
	p, err := a.alloc(s, n)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// A class holds what is asked for and wastes little; larger requests have larger classes.
func TestClassOf(t *testing.T) {
	sizes := map[int]int{}
	last, lastSize := 0, 0
	for n := 1; n < 1<<42; n += max(1, n/97) {
		class, size := classOf(n)
		if size < n || class < last || size < lastSize || class >= classes {
			t.Fatalf("%d bytes: class %d of %d bytes, after class %d of %d", n, class, size, last, lastSize)
		}
		if was, ok := sizes[class]; ok && was != size {
			t.Fatalf("class %d has %d and %d bytes", class, was, size)
		}
		sizes[class], last, lastSize = size, class, size
		switch {
		case n <= smallest && size != smallest,
			n > smallest && n <= 1<<20 && size >= 2*n,
			n > 1<<20 && n <= 16<<20 && size >= n+slabSize,
			n > 16<<20 && float64(size) > 1.125*float64(n):
			t.Fatalf("%d bytes take %d", n, size)
		}
	}
	if class, size := classOf(1 << 42); class >= classes || size != 1<<42 {
		t.Errorf("4 TiB: class %d of %d bytes", class, size)
	}
}

// Freed memory serves its stream at once; another stream waits for the owner first.
func TestReuse(t *testing.T) {
	for _, n := range []int{100, 1 << 20, 5 << 20} {
		p, a := newPretend(t, 1<<30)
		s, o := &Stream{}, &Stream{}
		x := mustAlloc(t, a, s, n)
		a.free(x)
		if y := mustAlloc(t, a, s, n); y != x || len(p.waits) != 0 {
			t.Errorf("%d bytes: %#x after %#x, waits %d", n, y, x, len(p.waits))
		}
		a.free(x)
		used := p.used
		for len(a.lists[s][a.classFor(n)]) > 0 { // all that s has of this class
			mustAlloc(t, a, o, n)
		}
		if p.used != used || len(p.waits) == 0 || p.waits[0] != s || p.waits[1] != o {
			t.Errorf("%d bytes for another stream: %d more bytes, waits %v", n, p.used-used, p.waits)
		}
		// What a stream records cannot be waited for.
		a.free(x)
		b := &Stream{}
		b.capturing.Store(true)
		o.capturing.Store(true)
		if y := mustAlloc(t, a, s, n); y == x {
			t.Errorf("%d bytes: a block of a stream that captures is reused", n)
		}
	}
}

func (a *arena) classFor(n int) int {
	class, _ := classOf(n)
	return class
}

// A block that another stream has shared is used again after that stream's work.
func TestShare(t *testing.T) {
	p, a := newPretend(t, 1<<30)
	s, user := &Stream{}, &Stream{}
	x := mustAlloc(t, a, s, 4<<20)
	a.share(x, user)
	a.share(x, user)
	a.free(x)
	if y := mustAlloc(t, a, s, 4<<20); y != x || len(p.waits) != 2 || p.waits[0] != user || p.waits[1] != s {
		t.Errorf("%#x again as %#x after the waits %v", x, y, p.waits)
	}
	a.free(x)
	a.disown(s) // s is idle: anyone may have it
	p.waits = nil
	if y := mustAlloc(t, a, user, 4<<20); y != x || len(p.waits) != 0 {
		t.Errorf("after the owner's end: %#x, waits %v", y, p.waits)
	}
}

// When memory is short the cache goes first; then the error says what there is, and nothing is lost.
func TestShortage(t *testing.T) {
	p, a := newPretend(t, 64<<20)
	s := &Stream{}
	var held []Ptr
	for range 4 {
		held = append(held, mustAlloc(t, a, s, 10<<20))
	}
	for _, q := range held {
		a.free(q)
	}
	if p.used != 40<<20 {
		t.Fatalf("%d bytes are kept", p.used)
	}
	big := mustAlloc(t, a, s, 50<<20) // fits only without the four
	small := mustAlloc(t, a, s, 100)
	before := a.stats
	_, err := a.alloc(s, 20<<20)
	want := "cuda: out of memory: want 20.0 MiB, 10.0 MiB of 64.0 MiB free; use a smaller batch"
	if err == nil || err.Error() != want || !errors.Is(err, ErrMemory) {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	if a.stats.Live != before.Live || p.used != 52<<20+slabSize {
		t.Errorf("after the refusal %d live, %d used; before %d live", a.stats.Live, p.used, before.Live)
	}
	if _, err := a.alloc(s, 1<<50); !errors.Is(err, ErrMemory) {
		t.Errorf("a pebibyte: %v", err)
	}
	a.free(big)
	a.abandon(small)
	if err := a.trim(); err != nil || len(a.abandoned) != 1 {
		t.Fatalf("what was just abandoned is free: %d are not, %v", len(a.abandoned), err)
	}
	a.abandoned[0].since = a.abandoned[0].since.Add(-grace)
	if err := a.trim(); err != nil {
		t.Fatal(err)
	}
	if p.used != 0 || len(p.held) != 0 || a.stats.Live != 0 || a.stats.Cached != 0 {
		t.Errorf("all is free: %d bytes at the driver, %+v", p.used, a.stats)
	}
}

func TestDoubleFree(t *testing.T) {
	_, a := newPretend(t, 1<<30)
	x := mustAlloc(t, a, &Stream{}, 100)
	a.free(x)
	defer func() {
		if r, ok := recover().(string); !ok || !strings.Contains(r, "free already") {
			t.Errorf("a second Free: %v", r)
		}
	}()
	a.free(x)
}

// Whatever the order of calls, live blocks never overlap and the sums are right.
func TestArenaRandom(t *testing.T) {
	const seed = 7
	r := rand.New(rand.NewPCG(seed, 0))
	for _, exact := range []bool{false, true} {
		p, a := newPretend(t, 512<<20)
		a.exact = exact
		streams := []*Stream{{}, {}, {}}
		for _, s := range streams {
			s.dev = &Dev{}
		}
		live := map[Ptr]int{}
		var order []Ptr
		for step := range 20000 {
			switch k := r.IntN(100); {
			case k < 50 || len(order) == 0:
				n := 1 + r.IntN(1<<(1+r.IntN(23)))
				q, err := a.alloc(streams[r.IntN(3)], n)
				if errors.Is(err, ErrMemory) {
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				for o, m := range live {
					if q < o+Ptr(m) && o < q+Ptr(n) {
						t.Fatalf("seed %d, step %d: [%#x, +%d] overlaps [%#x, +%d]", seed, step, q, n, o, m)
					}
				}
				live[q] = n
				order = append(order, q)
			case k < 98:
				i := r.IntN(len(order))
				q := order[i]
				order[i] = order[len(order)-1]
				order = order[:len(order)-1]
				delete(live, q)
				switch k % 3 {
				case 0:
					a.abandon(q)
				case 1:
					a.share(q, streams[r.IntN(3)])
					a.free(q)
				default:
					a.free(q)
				}
			case k == 98:
				for _, b := range a.abandoned { // as if time had passed
					b.since = b.since.Add(-grace)
				}
			default:
				if err := a.trim(); err != nil {
					t.Fatal(err)
				}
			}
			abandoned := 0
			for _, b := range a.abandoned {
				abandoned += b.size
			}
			if int64(p.used) != a.stats.Live+a.stats.Cached+int64(abandoned) {
				t.Fatalf("seed %d, step %d: the driver has given %d bytes, we know of %+v and %d", seed, step, p.used, a.stats, abandoned)
			}
		}
		for q := range live {
			a.free(q)
		}
		for _, b := range a.abandoned {
			b.since = b.since.Add(-grace)
		}
		if err := a.trim(); err != nil || p.used != 0 {
			t.Errorf("exact %v: %d bytes are left, %v", exact, p.used, err)
		}
	}
}
