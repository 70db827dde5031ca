package cuda

import (
	"fmt"
	"math"
	"unsafe"
)

// Ptr is an address in a device's memory; 0 is none.
type Ptr uint64

// Bytes is the memory of v, as the copies of a Stream take it.
func Bytes[T any](v []T) []byte {
	var zero T
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(v))), len(v)*int(unsafe.Sizeof(zero)))
}

// Func names a kernel: the module that holds it (a file of package kernels) and its entry point.
type Func struct{ Module, Name string }

// Grid is the geometry of a launch: blocks in X, Y and Z, threads of a block in
// BX, BY and BZ, and bytes of dynamic shared memory. BY and BZ may be 0 for 1.
type Grid struct{ X, Y, Z, BX, BY, BZ, Shared int }

// Grid1 is the geometry for n items in blocks of threads threads that do perBlock items each.
func Grid1(n, perBlock, threads int) Grid {
	blocks := n / perBlock
	if n%perBlock > 0 {
		blocks++
	}
	return Grid{X: blocks, Y: 1, Z: 1, BX: threads, BY: 1, BZ: 1}
}

// normal is g with 1 for the sizes that may be left out.
func (g Grid) normal() Grid {
	if g.BY == 0 {
		g.BY = 1
	}
	if g.BZ == 0 {
		g.BZ = 1
	}
	return g
}

// empty tells whether a launch of g would have no block.
func (g Grid) empty() bool { return g.X == 0 || g.Y == 0 || g.Z == 0 }

// The limits of every device of compute capability 3.0 and newer.
const (
	maxGridX  = math.MaxInt32
	maxGridYZ = 65535
	maxBlock  = 1024
	maxBlockZ = 64
)

// misfit says what of g no device can launch, or "".
func (g Grid) misfit() string {
	switch {
	case g.X < 0 || g.Y < 0 || g.Z < 0 || g.BX < 1 || g.BY < 1 || g.BZ < 1 || g.Shared < 0:
		return "negative or zero size"
	case g.X > maxGridX:
		return fmt.Sprintf("the grid limit in x is %d", maxGridX)
	case g.Y > maxGridYZ || g.Z > maxGridYZ:
		return fmt.Sprintf("the grid limit in y and z is %d", maxGridYZ)
	case g.BX > maxBlock || g.BY > maxBlock || g.BZ > maxBlock || g.BX*g.BY*g.BZ > maxBlock:
		return fmt.Sprintf("the block limit is %d", maxBlock)
	case g.BZ > maxBlockZ:
		return fmt.Sprintf("the block limit in z is %d", maxBlockZ)
	case g.Shared > math.MaxInt32:
		return "more shared memory than any device has"
	}
	return ""
}

func (g Grid) String() string {
	s := fmt.Sprintf("%dx%dx%d of %d threads", g.X, g.Y, g.Z, g.BX*g.BY*g.BZ)
	if g.Shared > 0 {
		s += fmt.Sprintf(" and %d bytes of shared memory", g.Shared)
	}
	return s
}

// maxArgs is also MAX_ARGS of driver.c.
const (
	maxArgs = 48
	maxMaps = 4
)

// Args are a launch's arguments, each in a slot of 8 bytes, in the kernel's order.
// The zero value is ready for use; more than 48 arguments, or four tensor maps
// among them, panic.
type Args struct {
	slot   [maxArgs]uint64
	n      int
	maps   [maxMaps]mapArg
	mapped int
}

// mapArg is struct fidlab_map of driver.h: a tensor map, whose slot stays unused.
type mapArg struct {
	value TensorMap
	place int64
}

// Map adds a tensor map by value.
func (a *Args) Map(m *TensorMap) {
	a.maps[a.mapped] = mapArg{*m, int64(a.n)}
	a.mapped++
	a.add(0)
}

// Ptr adds a pointer.
func (a *Args) Ptr(p Ptr) { a.add(uint64(p)) }

// I32 adds an int.
func (a *Args) I32(v int32) { a.add(uint64(uint32(v))) }

// U32 adds an unsigned int.
func (a *Args) U32(v uint32) { a.add(uint64(v)) }

// I64 adds a long long.
func (a *Args) I64(v int64) { a.add(uint64(v)) }

// U64 adds an unsigned long long.
func (a *Args) U64(v uint64) { a.add(v) }

// F32 adds a float.
func (a *Args) F32(v float32) { a.add(uint64(math.Float32bits(v))) }

// F64 adds a double.
func (a *Args) F64(v float64) { a.add(math.Float64bits(v)) }

func (a *Args) add(v uint64) {
	a.slot[a.n] = v
	a.n++
}
