package cuda

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
)

// Dev is one GPU that is open: its primary context, its modules and its memory.
// Open returns the same Dev for one ordinal every time; it lasts as long as the process.
type Dev struct {
	info   Device
	ctx    rawContext
	optin  int // bytes of shared memory that a block may ask for
	memory *arena

	lost atomic.Pointer[error] // the fault that ended the context

	mu      sync.Mutex
	modules map[string]rawModule
	funcs   atomic.Pointer[map[Func]*function] // copied on write, so that launches take no lock
	streams []*Stream
	marks   []*Event  // to use again
	pinned  []*pinned // to use again
}

var (
	openMu sync.Mutex
	opened = map[int]*Dev{}
)

// Open opens the GPU of that ordinal. Where there is none the error is an
// ErrNoDevice and says why.
func Open(ordinal int) (*Dev, error) {
	list, err := Devices()
	if err != nil {
		return nil, err
	}
	if ordinal < 0 || ordinal >= len(list) {
		return nil, noDevice("cuda:%d; this machine has cuda:0 to cuda:%d", ordinal, len(list)-1)
	}
	info := list[ordinal]
	if info.Major < minMajor {
		return nil, noDevice("cuda:%d (%s) has compute capability %d.%d; the kernels are built for %d.0 and newer",
			ordinal, info.Name, info.Major, info.Minor, minMajor)
	}
	openMu.Lock()
	defer openMu.Unlock()
	if d := opened[ordinal]; d != nil {
		return d, nil
	}
	d := &Dev{info: info, modules: map[string]rawModule{}}
	if d.ctx, d.optin, err = retain(ordinal); err != nil {
		return nil, noDevice("cuda:%d (%s): %s; see nvidia-smi", ordinal, info.Name, reason(code(err)))
	}
	d.funcs.Store(&map[Func]*function{})
	d.memory = newArena(driverMemory{d}, HostDevice() && !hostArena())
	opened[ordinal] = d
	return d, nil
}

// Info describes the device.
func (d *Dev) Info() Device { return d.info }

// do runs f with the device's context current.
func (d *Dev) do(f func() error) error { return within(d.ctx, f) }

// fail turns a driver's error into ours and remembers a fault of the device.
func (d *Dev) fail(what string, err error) error {
	e := failure(what, err)
	if fatal(code(err)) {
		d.lost.CompareAndSwap(nil, &e)
	}
	return e
}

// Err is the fault that made the device useless, or nil.
func (d *Dev) Err() error {
	if e := d.lost.Load(); e != nil {
		return *e
	}
	return nil
}

// Sync waits for all work of all streams, and returns the first stream's error.
func (d *Dev) Sync() error {
	d.mu.Lock()
	streams := slices.Clone(d.streams)
	d.mu.Unlock()
	var first error
	for _, s := range streams {
		if err := s.Sync(); first == nil {
			first = err
		}
	}
	if first == nil {
		first = d.Err()
	}
	return first
}

// NewStream makes a stream, with an order of its own. It lasts until Close.
func (d *Dev) NewStream() (*Stream, error) {
	if err := d.Err(); err != nil {
		return nil, err
	}
	s := &Stream{dev: d}
	err := d.do(func() (err error) {
		s.raw, err = newStream()
		return err
	})
	if err != nil {
		return nil, d.fail("new stream", err)
	}
	d.mu.Lock()
	d.streams = append(d.streams, s)
	d.mu.Unlock()
	return s, nil
}

// function is a kernel that is loaded.
type function struct {
	raw    rawFunc
	static int // bytes of shared memory that it declares
	block  int // the most threads that a block of it can have

	mu      sync.Mutex
	dynamic atomic.Int64 // bytes of dynamic shared memory that it may use
}

// The attributes of a function that are read or set (CUfunction_attribute).
const (
	attrMaxThreads = 0
	attrStatic     = 1
	attrMaxDynamic = 8
)

// freeShared is the shared memory, the kernel's own included, that needs no permission.
const freeShared = 48 << 10

// function finds or loads a kernel.
func (d *Dev) function(f Func) (*function, error) {
	if fn := (*d.funcs.Load())[f]; fn != nil {
		return fn, nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	old := *d.funcs.Load()
	if fn := old[f]; fn != nil {
		return fn, nil
	}
	m, err := d.module(f.Module)
	if err != nil {
		return nil, fmt.Errorf("cuda: %s: %w", f.Name, err)
	}
	fn := &function{}
	err = d.do(func() (err error) {
		if fn.raw, err = moduleFunc(m, f.Name); err != nil {
			return err
		}
		if fn.static, err = funcAttribute(fn.raw, attrStatic); err != nil {
			return err
		}
		fn.block, err = funcAttribute(fn.raw, attrMaxThreads)
		return err
	})
	if code(err) == statusNotFound {
		return nil, fmt.Errorf("cuda: %s: module %s has no such kernel; make kernels builds it", f.Name, f.Module)
	}
	if err != nil {
		return nil, d.fail(f.Name, err)
	}
	fn.dynamic.Store(int64(max(0, freeShared-fn.static)))
	next := make(map[Func]*function, len(old)+1)
	for k, v := range old {
		next[k] = v
	}
	next[f] = fn
	d.funcs.Store(&next)
	return fn, nil
}

// permit lets a launch of fn use n bytes of dynamic shared memory: where that and
// what the kernel declares exceed 48 KiB the driver wants to be asked, once for a function, since asking for all that
// there is costs nothing.
func (d *Dev) permit(fn *function, n int) error {
	if int64(n) <= fn.dynamic.Load() {
		return nil
	}
	limit := d.optin - fn.static
	if n > limit {
		return fmt.Errorf("the device allows %d bytes of dynamic shared memory to this kernel", limit)
	}
	fn.mu.Lock()
	defer fn.mu.Unlock()
	if int64(n) <= fn.dynamic.Load() {
		return nil
	}
	if err := d.do(func() error { return setFuncAttribute(fn.raw, attrMaxDynamic, limit) }); err != nil {
		return fmt.Errorf("asking for %d bytes of dynamic shared memory: %s", limit, reason(code(err)))
	}
	fn.dynamic.Store(int64(limit))
	return nil
}

// forget takes a closed stream off the list.
func (d *Dev) forget(s *Stream) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.streams = slices.DeleteFunc(d.streams, func(o *Stream) bool { return o == s })
}
