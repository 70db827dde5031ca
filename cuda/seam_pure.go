//go:build !(native && cgo)

package cuda

import "unsafe"

// Built without the driver's binding there is never a Dev, so nothing below but
// openDriver is reached; it keeps the package one for every flavour.
type (
	rawContext struct{}
	rawStream  struct{}
	rawEvent   struct{}
	rawModule  struct{}
	rawFunc    struct{}
	rawGraph   unsafe.Pointer
)

func openDriver(host bool) string {
	return "this binary was built without the tag native; build it with make build"
}

func statusText(s int) string                                       { return "" }
func driverVersion() int                                            { return 0 }
func deviceCount() (int, error)                                     { return 0, nil }
func describe(i int) (Device, error)                                { return Device{}, ErrNoDevice }
func retain(i int) (ctx rawContext, shared int, err error)          { return ctx, 0, ErrNoDevice }
func within(ctx rawContext, f func() error) error                   { return ErrNoDevice }
func memInfo() (free, total int64, err error)                       { return 0, 0, ErrNoDevice }
func memAlloc(n int) (Ptr, error)                                   { return 0, ErrNoDevice }
func memFree(p Ptr) error                                           { return ErrNoDevice }
func hostAlloc(n int) (unsafe.Pointer, error)                       { return nil, ErrNoDevice }
func hostFree(p unsafe.Pointer) error                               { return ErrNoDevice }
func copyIn(dst Ptr, src unsafe.Pointer, n int, s rawStream) error  { return ErrNoDevice }
func copyOut(dst unsafe.Pointer, src Ptr, n int, s rawStream) error { return ErrNoDevice }
func copyWithin(dst, src Ptr, n int, s rawStream) error             { return ErrNoDevice }
func copyPeer(dst Ptr, to rawContext, src Ptr, from rawContext, n int, s rawStream) error {
	return ErrNoDevice
}
func memset(dst Ptr, value byte, n int, s rawStream) error               { return ErrNoDevice }
func newStream() (s rawStream, err error)                                { return s, ErrNoDevice }
func destroyStream(s rawStream) error                                    { return ErrNoDevice }
func syncStream(s rawStream) error                                       { return ErrNoDevice }
func newEvent(timing bool) (e rawEvent, err error)                       { return e, ErrNoDevice }
func destroyEvent(e rawEvent) error                                      { return ErrNoDevice }
func recordEvent(e rawEvent, s rawStream) error                          { return ErrNoDevice }
func waitEvent(s rawStream, e rawEvent) error                            { return ErrNoDevice }
func syncEvent(e rawEvent) error                                         { return ErrNoDevice }
func elapsed(start, end rawEvent) (float64, error)                       { return 0, ErrNoDevice }
func loadModule(fatbin string) (m rawModule, err error)                  { return m, ErrNoDevice }
func moduleFunc(m rawModule, name string) (f rawFunc, err error)         { return f, ErrNoDevice }
func funcAttribute(f rawFunc, attr int) (int, error)                     { return 0, ErrNoDevice }
func setFuncAttribute(f rawFunc, attr, value int) error                  { return ErrNoDevice }
func launch(ctx rawContext, f rawFunc, s rawStream, g Grid, a *Args) int { return statusUnknown }
func encodeTiles(m *TensorMap, t *Tiles) int                             { return statusUnknown }
func beginCapture(s rawStream) error                                     { return ErrNoDevice }
func endCapture(s rawStream) (rawGraph, error)                           { return nil, ErrNoDevice }
func launchGraph(g rawGraph, s rawStream) error                          { return ErrNoDevice }
func destroyGraph(g rawGraph) error                                      { return ErrNoDevice }
