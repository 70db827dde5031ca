package cpu

import (
	"runtime/debug"
	"sync"
	"time"
)

const (
	// soonFor is how long a worker that has helped another one looks for the next
	// such job before it sleeps: as long as the other may still be at its last
	// index, and as waking it up takes. The functions of a training step follow
	// each other within microseconds.
	soonFor = 200 * time.Microsecond
	// lastSpins is how often a worker that has run out of indices asks whether
	// its helpers are done before it sleeps; a few microseconds.
	lastSpins = 4000
)

// current is the worker whose thread this is, nil elsewhere and where threads
// have no number that we know.
func (p *pool) current() *Worker {
	if id := threadID(); id != 0 {
		for i := range p.tids {
			if p.tids[i].Load() == id {
				return p.workers[i].Load()
			}
		}
	}
	return nil
}

// share is each on worker w, which takes indices itself: it waits only for
// indices that others are working at, so that it always ends.
func (p *pool) share(w *Worker, n int, f func(w *Worker, i int)) {
	if n == 1 || len(p.tids) == 1 {
		for i := range n {
			f(w, i)
		}
		return
	}
	j := spare.get()
	j.f, j.n, j.joined, j.guarded = f, int64(n), true, true
	j.failed.Store(nil)
	p.offer(j, min(n, len(p.tids))-1)
	j.help(w)
	for spin := 0; spin < lastSpins && j.finished.Load() < j.n; spin++ {
	}
	<-j.last
	failed := j.failed.Load()
	j.drop()
	if failed != nil {
		panic(failed)
	}
}

// call is one index of a job whose function may panic; after a panic the rest
// are skipped.
func (j *job) call(w *Worker, i int) {
	if j.failed.Load() != nil {
		return
	}
	depth, done := w.depth, false
	defer func() {
		if done {
			return
		}
		v := recover()
		if v == nil { // runtime.Goexit: this goroutine ends, and nobody counts the index
			v = "runtime.Goexit was called on a worker"
			defer func() {
				if j.finished.Add(1) == j.n {
					j.last <- struct{}{}
				}
				if w.helping { // else run, further up, sees to it
					w.helping = false
					j.drop()
					go w.pool.work(&Worker{ID: w.ID, pool: w.pool}, func() {})
				}
			}()
		}
		if inner, ok := v.(*Panic); ok {
			j.failed.CompareAndSwap(nil, inner)
		} else {
			j.failed.CompareAndSwap(nil, &Panic{Value: v, Stack: debug.Stack()})
		}
		for w.depth > depth {
			w.Leave()
		}
	}()
	j.f(w, i)
	done = true
}

// soon is a job that comes within soonFor, else nil.
func (p *pool) soon() *job {
	for until := time.Now().Add(soonFor); ; {
		for range 64 {
			select {
			case j := <-p.jobs:
				return j
			default:
			}
		}
		if time.Now().After(until) {
			return nil
		}
	}
}

// Run runs f on a worker and waits for it, as Do does, so that what f calls
// with a nil *Worker starts at once, without handing work to a sleeping thread:
// a chain of many short functions, such as the step of a training run. Where
// threads have no number that we know, f runs where it is called.
func Run(f func()) {
	if threadID() == 0 {
		f()
		return
	}
	r := runCalls.Get().(*runCall)
	r.f = f
	Each(1, r.each)
	r.f = nil
	runCalls.Put(r)
}

// runCall is a call of Run on its way to a worker, pooled with its closure.
type runCall struct {
	f    func()
	each func(w *Worker, i int)
}

var runCalls = sync.Pool{New: func() any {
	r := new(runCall)
	r.each = func(*Worker, int) { r.f() }
	return r
}}
