//go:build native && cgo

package cuda

// #cgo LDFLAGS: -L${SRCDIR}/link -ldl
// #cgo noescape fidlab_launch
// #cgo nocallback fidlab_launch
// #cgo noescape fidlab_encode_tiles
// #cgo nocallback fidlab_encode_tiles
// #include "driver.h"
import "C"

import (
	"runtime"
	"unsafe"

	"gorgonia.org/cu"
)

// The binding's handles.
type (
	rawContext = cu.CUContext
	rawStream  = cu.Stream
	rawEvent   = cu.Event
	rawModule  = cu.Module
	rawFunc    = cu.Function
	rawGraph   = unsafe.Pointer // a CUgraphExec, which the binding does not have
)

// status is what the calls made here return; the binding's own errors are integers too.
type status C.int

func (s status) Error() string { return reason(int(s)) }

func result(rc C.int) error {
	if rc == 0 {
		return nil
	}
	return status(rc)
}

// openDriver fills the driver's slots and returns the reason when there is nothing to fill them with.
func openDriver(host bool) string {
	var why [256]C.char
	var h C.int
	if host {
		h = 1
	}
	if C.fidlab_driver_open(h, &why[0], C.size_t(len(why))) != 0 {
		return C.GoString(&why[0])
	}
	return ""
}

func statusText(s int) string {
	var text *C.char
	if C.cuGetErrorString(C.int(s), &text) != 0 || text == nil {
		return ""
	}
	return C.GoString(text)
}

func driverVersion() int { return cu.Version() }

func deviceCount() (int, error) { return cu.NumDevices() }

// describe asks for what the list of devices tells of device i.
func describe(i int) (Device, error) {
	dev, err := cu.GetDevice(i)
	if err != nil {
		return Device{}, err
	}
	d := Device{Ordinal: i}
	if d.Name, err = dev.Name(); err != nil {
		return d, err
	}
	if d.Major, err = dev.Attribute(cu.ComputeCapabilityMajor); err != nil {
		return d, err
	}
	if d.Minor, err = dev.Attribute(cu.ComputeCapabilityMinor); err != nil {
		return d, err
	}
	n, err := dev.TotalMem()
	d.Memory = uint64(n)
	return d, err
}

// attrSharedOptin is CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN.
const attrSharedOptin = 97

// retain makes device i's primary context, and tells its limit of shared memory per block.
func retain(i int) (ctx rawContext, shared int, err error) {
	dev, err := cu.GetDevice(i)
	if err != nil {
		return ctx, 0, err
	}
	if shared, err = dev.Attribute(cu.DeviceAttribute(attrSharedOptin)); err != nil {
		return ctx, 0, err
	}
	ctx, err = dev.RetainPrimaryCtx()
	return ctx, shared, err
}

// within runs f with ctx current. A goroutine may move between OS threads, and
// the current context is a property of the thread.
func within(ctx rawContext, f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cu.SetCurrentContext(ctx); err != nil {
		return err
	}
	return f()
}

func memInfo() (free, total int64, err error) { return cu.MemInfo() }

func memAlloc(n int) (Ptr, error) {
	p, err := cu.MemAlloc(int64(n))
	return Ptr(p), err
}

func memFree(p Ptr) error { return cu.MemFree(cu.DevicePtr(p)) }

func hostAlloc(n int) (unsafe.Pointer, error) {
	var p unsafe.Pointer
	err := result(C.cuMemHostAlloc(&p, C.size_t(n), 0))
	return p, err
}

func hostFree(p unsafe.Pointer) error { return cu.MemFreeHost(p) }

func copyIn(dst Ptr, src unsafe.Pointer, n int, s rawStream) error {
	return cu.MemcpyHtoDAsync(cu.DevicePtr(dst), src, int64(n), s)
}

func copyOut(dst unsafe.Pointer, src Ptr, n int, s rawStream) error {
	return cu.MemcpyDtoHAsync(dst, cu.DevicePtr(src), int64(n), s)
}

func copyWithin(dst, src Ptr, n int, s rawStream) error {
	return cu.MemcpyDtoDAsync(cu.DevicePtr(dst), cu.DevicePtr(src), int64(n), s)
}

func copyPeer(dst Ptr, to rawContext, src Ptr, from rawContext, n int, s rawStream) error {
	return cu.MemcpyPeerAsync(cu.DevicePtr(dst), to, cu.DevicePtr(src), from, int64(n), s)
}

func memset(dst Ptr, value byte, n int, s rawStream) error {
	return cu.MemsetD8Async(cu.DevicePtr(dst), value, int64(n), s)
}

// newStream makes a stream that does not wait for the legacy default stream.
func newStream() (rawStream, error) { return cu.MakeStream(cu.NonBlocking) }

func destroyStream(s rawStream) error { return s.Destroy() }

func syncStream(s rawStream) error { return s.Synchronize() }

func newEvent(timing bool) (rawEvent, error) {
	if timing {
		return cu.MakeEvent(cu.DefaultEvent)
	}
	return cu.MakeEvent(cu.DisableTiming)
}

func destroyEvent(e rawEvent) error { return cu.DestroyEvent(&e) }

func recordEvent(e rawEvent, s rawStream) error { return e.Record(s) }

func waitEvent(s rawStream, e rawEvent) error { return s.Wait(e, 0) }

func syncEvent(e rawEvent) error { return e.Synchronize() }

// elapsed is the time between two events in milliseconds.
func elapsed(start, end rawEvent) (float64, error) { return start.Elapsed(end) }

func loadModule(fatbin string) (rawModule, error) { return cu.LoadData(fatbin) }

func moduleFunc(m rawModule, name string) (rawFunc, error) { return m.Function(name) }

func funcAttribute(f rawFunc, attr int) (int, error) {
	return f.Attribute(cu.FunctionAttribute(attr))
}

func setFuncAttribute(f rawFunc, attr, value int) error {
	return result(C.cuFuncSetAttribute(cFunc(f), C.int(attr), C.int(value)))
}

// launch is one call into C, which makes ctx current, and allocates nothing.
func launch(ctx rawContext, f rawFunc, s rawStream, g Grid, a *Args) int {
	return int(C.fidlab_launch(*(*unsafe.Pointer)(unsafe.Pointer(&ctx)), cFunc(f), cStream(s),
		C.uint(g.X), C.uint(g.Y), C.uint(g.Z), C.uint(g.BX), C.uint(g.BY), C.uint(g.BZ), C.uint(g.Shared),
		(*C.ulonglong)(unsafe.Pointer(&a.slot[0])), C.int(a.n), (*C.struct_fidlab_map)(unsafe.Pointer(&a.maps[0])), C.int(a.mapped)))
}

// encodeTiles asks the driver for a tensor map. The driver reads nothing at base.
func encodeTiles(m *TensorMap, t *Tiles) int {
	return int(C.fidlab_encode_tiles((*C.ulonglong)(unsafe.Pointer(&m[0])), C.int(t.Type), C.int(t.Rank), C.ulonglong(t.Base),
		(*C.ulonglong)(unsafe.Pointer(&t.Dims[0])), (*C.ulonglong)(unsafe.Pointer(&t.Strides[0])), (*C.uint)(unsafe.Pointer(&t.Box[0])), C.int(t.Swizzle)))
}

// cFunc and cStream are the handles within the binding's one-field structs.
func cFunc(f rawFunc) unsafe.Pointer     { return *(*unsafe.Pointer)(unsafe.Pointer(&f)) }
func cStream(s rawStream) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&s)) }

// captureRelaxed is CU_STREAM_CAPTURE_MODE_RELAXED: a goroutine may move between
// threads, and other goroutines may allocate meanwhile.
const captureRelaxed = 2

func beginCapture(s rawStream) error {
	return result(C.cuStreamBeginCapture_v2(cStream(s), captureRelaxed))
}

// endCapture ends the capture and makes what was captured ready for launch.
func endCapture(s rawStream) (rawGraph, error) {
	var graph, exec unsafe.Pointer
	if err := result(C.cuStreamEndCapture(cStream(s), &graph)); err != nil {
		return nil, err
	}
	err := result(C.cuGraphInstantiateWithFlags(&exec, graph, 0))
	if e := result(C.cuGraphDestroy(graph)); err == nil {
		err = e
	}
	return exec, err
}

func launchGraph(g rawGraph, s rawStream) error { return result(C.cuGraphLaunch(g, cStream(s))) }

func destroyGraph(g rawGraph) error { return result(C.cuGraphExecDestroy(g)) }
