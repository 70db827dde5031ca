package cpu

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
)

// Worker is one of the pool's OS threads; it carries that thread's scratch
// memory. A Worker belongs to the function that it was handed to, for the
// duration of that call: it must be neither kept nor shared.
type Worker struct {
	ID int // 0 <= ID < Workers()

	pool    *pool
	depth   int  // nested Enter calls
	helping bool // it works at another worker's job
	single  bool // OpenMP, where a library brings it, uses this thread alone
	floats  [scratchSlots][]float32
	//lint:ignore U1000 the handles of the native libraries, where there are any
	nativeWorker
}

// Panic is what Do and Each panic with when a function that they ran on a
// worker panicked: the value and the worker's stack.
type Panic struct {
	Value any
	Stack []byte
}

func (p *Panic) Error() string {
	return fmt.Sprintf("cpu: panic on a worker: %v\n\n%s", p.Value, p.Stack)
}

// Unwrap is the panic's value where it is an error.
func (p *Panic) Unwrap() error {
	err, _ := p.Value.(error)
	return err
}

// pool is a fixed number of goroutines, each locked to its OS thread.
type pool struct {
	jobs    chan *job
	tids    []atomic.Int64 // OS thread of each worker, to know a worker that waits for workers
	workers []atomic.Pointer[Worker]
	gate    sync.RWMutex // read: a library call of one worker; write: the exclusive phase
	asMany  bool         // as the default is
}

// job is one call of Do or Each; its runners share the counter.
type job struct {
	f       func(w *Worker, i int)
	n       int64
	next    atomic.Int64
	running sync.WaitGroup
	failed  atomic.Pointer[Panic]

	// Of a call in which the caller works too: it waits for the indices that
	// others have taken, not for workers that wake up when none is left.
	joined   bool
	guarded  bool          // f may panic
	finished atomic.Int64  // indices that are done
	holders  atomic.Int64  // who may still look at the job
	last     chan struct{} // tells the caller that the last index is done
}

var (
	setup   sync.Mutex
	threads int // what SetThreads asked for; 0 is the default
	shared  atomic.Pointer[pool]
	spare   jobList
)

// jobList are the jobs that nobody holds. A call of Join returns while workers
// that have not woken up yet still hold its job: as many jobs are out as the queue
// and the workers hold, which is how many newPool makes, so that calls allocate
// none. A sync.Pool would lose them to the collector, and to other processors.
type jobList struct {
	mu   sync.Mutex
	free []*job
}

// jobsKept bounds the list; more are only made by that many calls at once.
const jobsKept = 1024

func newJob() *job { return &job{last: make(chan struct{}, 1)} }

func (l *jobList) get() *job {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := len(l.free)
	if k == 0 {
		return newJob()
	}
	j := l.free[k-1]
	l.free = l.free[:k-1]
	return j
}

func (l *jobList) put(j *job) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.free) < jobsKept {
		l.free = append(l.free, j)
	}
}

// SetThreads sets the number of workers, W; 0 stands for the default,
// runtime.GOMAXPROCS(0), which W > 1 workers raise to W + 1 when they start. It must be called before the first use of the package
// and panics when the workers exist already in another number, or when n < 0.
func SetThreads(n int) {
	setup.Lock()
	defer setup.Unlock()
	if n < 0 {
		panic(fmt.Sprintf("cpu: SetThreads: n is %d, want >= 0", n))
	}
	if p := shared.Load(); p != nil && n != len(p.tids) && (n != 0 || !p.asMany) {
		panic(fmt.Sprintf("cpu: SetThreads: n is %d, but %d workers run already; call it before anything else of this package", n, len(p.tids)))
	}
	threads = n
}

// Workers is W, the number of workers. It starts them when they don't run yet.
func Workers() int { return len(thePool().tids) }

func thePool() *pool {
	if p := shared.Load(); p != nil {
		return p
	}
	setup.Lock()
	defer setup.Unlock()
	p := shared.Load()
	if p == nil {
		procs := runtime.GOMAXPROCS(0)
		n := threads
		if n == 0 {
			n = procs
		}
		p = newPool(n)
		p.asMany = n == procs
		// While all of Go's processors are in calls of libraries, Go's monitor takes them back and looks again every 20 µs, which
		// slows the calls down by a quarter; with one to spare it sleeps.
		if 1 < n && procs <= n {
			runtime.GOMAXPROCS(n + 1)
		}
		shared.Store(p)
	}
	return p
}

func newPool(n int) *pool {
	p := &pool{jobs: make(chan *job, 4*n), tids: make([]atomic.Int64, n), workers: make([]atomic.Pointer[Worker], n)}
	for range cap(p.jobs) + n + 1 {
		spare.put(newJob())
	}
	var up sync.WaitGroup
	up.Add(n)
	for i := range n {
		go p.work(&Worker{ID: i, pool: p}, up.Done)
	}
	up.Wait()
	return p
}

func (p *pool) work(w *Worker, up func()) {
	runtime.LockOSThread()
	p.tids[w.ID].Store(threadID())
	p.workers[w.ID].Store(w)
	up()
	for j := range p.jobs {
		for j != nil {
			shared := j.guarded
			if j.joined {
				w.helping = true
				j.help(w)
				w.helping = false
				j.drop()
			} else {
				p.run(w, j)
			}
			j = nil
			if shared {
				j = p.soon()
			}
		}
	}
	runtime.UnlockOSThread()
}

// run calls j's function for indices until none is left.
func (p *pool) run(w *Worker, j *job) {
	done := false
	defer func() {
		v := recover()
		if !done && v == nil { // runtime.Goexit, which nothing stops: a fresh worker takes this one's place
			v = "runtime.Goexit was called on a worker"
			go p.work(&Worker{ID: w.ID, pool: p}, func() {})
		}
		if v != nil {
			if inner, ok := v.(*Panic); ok {
				j.failed.CompareAndSwap(nil, inner)
			} else {
				j.failed.CompareAndSwap(nil, &Panic{Value: v, Stack: debug.Stack()})
			}
			j.next.Store(j.n)
			for w.depth > 0 {
				w.Leave()
			}
		}
		j.running.Done()
	}()
	for {
		i := j.next.Add(1) - 1
		if i >= j.n {
			break
		}
		j.f(w, int(i))
	}
	done = true
}

// help calls j's function for indices until none is left. Unless j is guarded
// the function is our own, must not panic and gets no worker from the caller.
func (j *job) help(w *Worker) {
	for {
		i := j.next.Add(1) - 1
		if i >= j.n {
			return
		}
		if j.guarded {
			j.call(w, int(i))
		} else {
			j.f(w, int(i))
		}
		if j.finished.Add(1) == j.n {
			j.last <- struct{}{}
		}
	}
}

// drop is each holder's last look at j.
func (j *job) drop() {
	if j.holders.Add(-1) == 0 {
		j.f, j.joined, j.guarded = nil, false, false
		spare.put(j)
	}
}

// Join is Each for short calls: the caller takes indices itself while workers
// wake up, which can take longer than the work. f must not need its worker, which
// is nil where the caller runs it and is no worker, and must not panic.
func Join(n int, f func(w *Worker, i int)) {
	if n > 0 {
		thePool().join(n, f)
	}
}

func (p *pool) join(n int, f func(w *Worker, i int)) {
	if w := p.current(); w != nil {
		p.share(w, n, f)
		return
	}
	j := spare.get()
	j.f, j.n, j.joined = f, int64(n), true
	p.offer(j, min(n-1, len(p.tids)-1))
	j.help(nil)
	<-j.last
	j.drop()
}

// offer asks that many workers to help with j, fewer where the queue is full.
func (p *pool) offer(j *job, helpers int) {
	j.next.Store(0)
	j.finished.Store(0)
	j.holders.Store(int64(1 + helpers))
	for i := range helpers {
		select {
		case p.jobs <- j:
		default: // all are busy, and more calls wait for them
			j.holders.Add(int64(i - helpers))
			helpers = i
		}
		if i == helpers {
			break
		}
	}
}

func (p *pool) each(n int, f func(w *Worker, i int)) {
	if n <= 0 {
		return
	}
	if w := p.current(); w != nil {
		p.share(w, n, f)
		return
	}
	j := spare.get()
	j.f, j.n = f, int64(n)
	j.next.Store(0)
	j.failed.Store(nil)
	runners := min(n, len(p.tids))
	j.running.Add(runners)
	for range runners {
		p.jobs <- j
	}
	j.running.Wait()
	failed := j.failed.Load()
	j.f = nil
	spare.put(j)
	if failed != nil {
		panic(failed)
	}
}

// Do runs f on a worker, the caller where it is one, and waits for it. It
// panics with a *Panic when f panics.
func Do(f func(w *Worker)) {
	thePool().each(1, func(w *Worker, _ int) { f(w) })
}

// Each runs f(w, i) for every i of 0..n-1, spread over all workers as they
// become free, and waits until all are done. Indices are handed out in
// ascending order. The first panic of an f ends the loop early and is raised
// again here, as a *Panic. Any number of goroutines may call Each at once.
// Called on a worker, that worker takes indices itself and the others help.
func Each(n int, f func(w *Worker, i int)) { thePool().each(n, f) }

// on runs f(i) for i of 0..n-1: on w one after another, or over all workers when w is nil.
func on(w *Worker, n int, f func(w *Worker, i int)) {
	if w == nil {
		thePool().each(n, f)
		return
	}
	for i := range n {
		f(w, i)
	}
}

// Enter is called on a worker's thread before a call into a library (oneDNN,
// OpenBLAS), Leave after it. Between them no exclusive phase runs, and the
// library uses this thread alone. Pairs nest.
func (w *Worker) Enter() {
	if w.depth == 0 {
		w.pool.gate.RLock()
		if !w.single {
			w.single = singleThread()
		}
	}
	w.depth++
}

// Leave ends what Enter began.
func (w *Worker) Leave() {
	w.depth--
	if w.depth == 0 {
		w.pool.gate.RUnlock()
	}
}

// exclusive runs f(w, W) on a worker while no other worker is inside a
// library, so that the library may use W threads. On a worker that the caller
// owns, f shares the machine with the others and gets 1.
func exclusive(w *Worker, f func(w *Worker, threads int)) {
	if w != nil {
		w.Enter()
		defer w.Leave()
		f(w, 1)
		return
	}
	p := thePool()
	p.each(1, func(w *Worker, _ int) {
		p.gate.Lock()
		defer p.gate.Unlock()
		f(w, len(p.tids))
	})
}

// The uses of a worker's scratch memory that may overlap in time.
const (
	scratchWork = iota
	scratchAttention
	scratchA // rounded operands
	scratchB
	scratchSum
	scratchRows // few rows among zeros, and their products
	scratchProducts
	scratchSlots
)

// f32 is n floats of scratch memory with undefined contents, valid until the
// slot's next use on this worker.
func (w *Worker) f32(slot, n int) []float32 {
	if cap(w.floats[slot]) < n {
		w.floats[slot] = make([]float32, n)
	}
	return w.floats[slot][:n]
}
