package cpu

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

func TestEachCoversEveryIndexOnce(t *testing.T) {
	for _, n := range []int{0, 1, 2, 3, 1000} {
		hits := make([]atomic.Int32, n)
		Each(n, func(w *Worker, i int) {
			if w.ID < 0 || w.ID >= Workers() {
				t.Errorf("worker %d of %d", w.ID, Workers())
			}
			hits[i].Add(1)
		})
		for i := range hits {
			if got := hits[i].Load(); got != 1 {
				t.Errorf("n=%d: index %d ran %d times", n, i, got)
			}
		}
	}
}

func TestWorkersAreExclusive(t *testing.T) {
	inside := make([]atomic.Int32, Workers())
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			Each(200, func(w *Worker, _ int) {
				if inside[w.ID].Add(1) != 1 {
					t.Error("a worker runs two functions at once")
				}
				runtime.Gosched()
				inside[w.ID].Add(-1)
			})
		})
	}
	wg.Wait()
}

func TestPanicReachesTheCaller(t *testing.T) {
	cause := errors.New("cause")
	for range 2 * Workers() { // a panic must not cost a worker
		func() {
			defer func() {
				p, ok := recover().(*Panic)
				if !ok || !errors.Is(p, cause) || !strings.Contains(string(p.Stack), "TestPanicReachesTheCaller") {
					t.Errorf("recovered %v, want a *Panic with the cause and the worker's stack", p)
				}
			}()
			Each(100, func(w *Worker, i int) {
				w.Enter() // left open by the panic
				if i == 3 {
					panic(cause)
				}
				w.Leave()
			})
			t.Error("Each returned")
		}()
	}
	exclusive(nil, func(*Worker, int) {}) // hangs when a panic left the gate open
}

func TestGoexitCostsNoWorker(t *testing.T) {
	for range 2 * Workers() {
		func() {
			defer func() {
				if v := recover(); v == nil || !strings.Contains(fmt.Sprint(v), "Goexit") {
					t.Errorf("recovered %v", v)
				}
			}()
			Do(func(*Worker) { runtime.Goexit() })
		}()
	}
	Each(4*Workers(), func(*Worker, int) {})
}

// On a worker, functions that are for the pool run there, nested to any depth
// and from all workers at once, and hand on panics; with one worker too.
func TestWorkersShareTheirWork(t *testing.T) {
	if threadID() == 0 {
		t.Skip("thread ids are not known on this system")
	}
	var hits atomic.Int64
	Each(4*Workers(), func(w *Worker, _ int) {
		Each(20, func(inner *Worker, _ int) {
			Do(func(same *Worker) {
				if same != inner {
					t.Errorf("Do on worker %d ran on %d", inner.ID, same.ID)
				}
			})
			Each(3, func(*Worker, int) { hits.Add(1) })
			Join(2, func(w *Worker, _ int) { hits.Add(1) })
		})
	})
	if got, want := hits.Load(), int64(4*Workers()*20*5); got != want {
		t.Errorf("%d calls, want %d", got, want)
	}
	cause := errors.New("cause")
	for range 50 {
		func() {
			defer func() {
				if p, ok := recover().(*Panic); !ok || !errors.Is(p, cause) {
					t.Errorf("recovered %v, want a *Panic with the cause", p)
				}
			}()
			Run(func() {
				Each(9, func(w *Worker, i int) {
					w.Enter()
					if i == 3 {
						panic(cause)
					}
					w.Leave()
				})
				t.Error("Each returned")
			})
		}()
		func() {
			defer func() {
				if v := recover(); v == nil || !strings.Contains(fmt.Sprint(v), "Goexit") {
					t.Errorf("recovered %v", v)
				}
			}()
			Run(func() { Each(9, func(*Worker, int) { runtime.Goexit() }) })
		}()
	}
	Each(4*Workers(), func(*Worker, int) {})
	exclusive(nil, func(*Worker, int) {})
}

func TestExclusiveMeetsNobodyInsideALibrary(t *testing.T) {
	var inside, alone atomic.Int32
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				Do(func(w *Worker) {
					w.Enter()
					w.Enter() // pairs nest
					inside.Add(1)
					if alone.Load() != 0 {
						t.Error("inside a library during an exclusive phase")
					}
					runtime.Gosched()
					inside.Add(-1)
					w.Leave()
					w.Leave()
				})
			}
		})
		wg.Go(func() {
			for range 50 {
				exclusive(nil, func(_ *Worker, threads int) {
					alone.Add(1)
					if threads != Workers() || inside.Load() != 0 || alone.Load() != 1 {
						t.Errorf("exclusive phase: %d threads, %d workers inside a library", threads, inside.Load())
					}
					runtime.Gosched()
					alone.Add(-1)
				})
			}
		})
	}
	wg.Wait()
}

func TestSetThreads(t *testing.T) {
	SetThreads(Workers()) // the number that runs already
	for _, n := range []int{-1, Workers() + 1} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("SetThreads(%d) did not panic", n)
				}
			}()
			SetThreads(n)
		}()
	}
}

func BenchmarkDo(b *testing.B) {
	for b.Loop() {
		Do(func(*Worker) {})
	}
}

// Join does every index once, whoever takes it, also when many call at once and
// when all workers are busy; a worker may not call it.
func TestJoin(t *testing.T) {
	release := make(chan struct{})
	var busy sync.WaitGroup
	busy.Add(Workers())
	hold := release
	go Each(Workers(), func(*Worker, int) {
		busy.Done()
		<-hold
	})
	busy.Wait()
	var callers sync.WaitGroup
	call := func() {
		defer callers.Done()
		for n := range 40 {
			seen := make([]atomic.Int32, n)
			Join(n, func(_ *Worker, i int) { seen[i].Add(1) })
			for i := range seen {
				if c := seen[i].Load(); c != 1 {
					t.Errorf("index %d of %d was done %d times", i, n, c)
				}
			}
		}
	}
	for range 2 { // all workers are busy, then none
		for range 8 {
			callers.Add(1)
			go call()
		}
		callers.Wait()
		if release != nil {
			close(release)
			release = nil
		}
	}
}
