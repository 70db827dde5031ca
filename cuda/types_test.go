package cuda

import (
	"math"
	"testing"
)

// The slots hold each value's bits, the upper half of a short one zero.
func TestArgs(t *testing.T) {
	var a Args
	a.Ptr(1 << 60)
	a.I32(-2)
	a.U32(math.MaxUint32)
	a.I64(-3)
	a.U64(math.MaxUint64)
	a.F32(-1.5)
	a.F64(math.Pi)
	want := []uint64{1 << 60, 0xfffffffe, 0xffffffff, ^uint64(2), ^uint64(0), 0xbfc00000, 0x400921fb54442d18}
	if got := a.slot[:a.n]; len(got) != len(want) {
		t.Fatalf("%d slots", len(got))
	}
	for i, w := range want {
		if a.slot[i] != w {
			t.Errorf("slot %d is %#x, want %#x", i, a.slot[i], w)
		}
	}
}

// Grid1 covers every item once, also near the largest int.
func TestGrid1(t *testing.T) {
	for _, c := range []struct{ n, perBlock, blocks int }{
		{0, 1024, 0}, {1, 1024, 1}, {1024, 1024, 1}, {1025, 1024, 2}, {math.MaxInt, 1024, 1 << 53}, {1 << 42, 1024, 1 << 32},
	} {
		if g := Grid1(c.n, c.perBlock, 256); g.X != c.blocks || g.BX != 256 || g.empty() != (c.n == 0) {
			t.Errorf("Grid1(%d, %d, 256) is %v", c.n, c.perBlock, g)
		}
	}
}

// A tensor map stands at its place among the arguments, by value.
func TestArgsMap(t *testing.T) {
	var a Args
	m := TensorMap{15: 7}
	a.Ptr(1)
	a.Map(&m)
	m[15] = 0
	a.I32(2)
	a.Map(&m)
	if a.n != 4 || a.mapped != 2 || a.maps[0].place != 1 || a.maps[0].value[15] != 7 || a.maps[1].place != 3 || a.slot[2] != 2 {
		t.Errorf("%d arguments, maps %v", a.n, a.maps[:a.mapped])
	}
}
