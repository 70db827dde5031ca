package oracle

import "testing"

func TestRefuses(t *testing.T) {
	f := &failures{TB: t}
	Refuses(f, map[string]func(){
		"no such axis":  func() { panic("x: no such axis 3") },
		"another thing": func() { panic("x: no such axis 3") },
		"no panic":      func() {},
	})
	if f.n != 2 {
		t.Errorf("%d failures, want 2: other words, and none at all", f.n)
	}
}
