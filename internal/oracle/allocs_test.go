package oracle

import "testing"

func TestAllocations(t *testing.T) {
	var keep []byte
	if n := Allocations(5, func() { keep = make([]byte, 100) }); n != 1 {
		t.Errorf("%v allocations, want 1", n)
	}
	calls := 0
	if n := Allocations(5, func() {
		if calls++; calls < 6 { // in the first count alone
			keep = make([]byte, 100)
		}
	}); n != 0 {
		t.Errorf("%v allocations of a later call, want 0", n)
	}
	_ = keep
}
