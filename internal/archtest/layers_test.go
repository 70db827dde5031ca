package archtest

import (
	"slices"
	"strings"
	"testing"
)

// testOnly are packages that every test may import and no other code may.
var testOnly = []string{"internal/oracle", "internal/oracle/device", "internal/oracle/network", "internal/oracle/nets", "internal/oracle/proof"}

// outside are folders that belong to no layer: programs for developers.
func outside(rel string) bool {
	return rel == "." || strings.HasPrefix(rel, "scripts/") || strings.HasPrefix(rel, "internal/archtest") || slices.Contains(testOnly, rel)
}

// violation says why package from may not import package to, or "".
func violation(rules []rule, from, to string, test bool) string {
	if slices.Contains(testOnly, to) {
		if test {
			return ""
		}
		return "only tests import it"
	}
	rf, ok := find(rules, from)
	if !ok {
		return "the importing package is not in layers.txt"
	}
	rt, ok := find(rules, to)
	if !ok {
		return "it is not in layers.txt"
	}
	if rt.row < rf.row || from == to {
		return ""
	}
	for _, e := range rf.extra {
		if match(e, to) {
			return ""
		}
	}
	return "it is not in a lower row and no arrow leads there"
}

func TestLayers(t *testing.T) {
	rules := table(t, "layers.txt", true)
	for _, fl := range flavours {
		t.Run(fl.name, func(t *testing.T) {
			n := 0
			for _, p := range list(t, fl.tags, fl.cgo) {
				from := p.rel()
				if outside(from) {
					continue
				}
				check := func(imports []string, test bool) {
					for _, i := range imports {
						to, ours := strings.CutPrefix(i, module+"/")
						if !ours {
							continue
						}
						n++
						if why := violation(rules, from, to, test); why != "" {
							t.Errorf("%s imports %s: %s", from, to, why)
						}
					}
				}
				check(p.Imports, false)
				check(p.TestImports, true)
				check(p.XTestImports, true)
			}
			if n == 0 {
				t.Error("no import of the project was checked")
			}
		})
	}
}

func TestLayersCatchesWrongImport(t *testing.T) {
	rules := table(t, "layers.txt", true)
	for _, c := range []struct {
		from, to string
		test, ok bool
	}{
		{"sampler", "ops", false, true},
		{"sampler", "models", false, false},
		{"fid", "sampler", true, false},
		{"fid/extract", "fid", false, true},
		{"tensor", "rng", false, false},
		{"ops", "internal/oracle", false, false},
		{"ops", "internal/oracle", true, true},
		{"systems/lion", "systems/msd", false, false},
		{"nowhere", "tensor", false, false},
	} {
		if got := violation(rules, c.from, c.to, c.test) == ""; got != c.ok {
			t.Errorf("%s imports %s (test %v): allowed %v, want %v", c.from, c.to, c.test, got, c.ok)
		}
	}
}

// TestLibraries holds every import from outside the standard library and the
// project against libraries.txt.
func TestLibraries(t *testing.T) {
	rules := table(t, "libraries.txt", false)
	n := 0
	for _, fl := range flavours {
		for _, p := range list(t, fl.tags, fl.cgo) {
			check := func(imports []string, test bool) {
				for _, i := range imports {
					first, _, _ := strings.Cut(i, "/")
					if !strings.Contains(first, ".") || strings.HasPrefix(i, module) {
						continue
					}
					n++
					if !allowed(rules, i, p.rel(), test) {
						t.Errorf("%s (tests: %v) uses %s: libraries.txt does not allow it there", p.rel(), test, i)
					}
				}
			}
			check(p.Imports, false)
			check(append(slices.Clone(p.TestImports), p.XTestImports...), true)
		}
	}
	if n == 0 {
		t.Error("no library import was checked")
	}
}

// allowed looks for a line of libraries.txt whose library is a prefix of the
// import and whose packages include the importer; "test:" before a package
// allows its tests only.
func allowed(rules []rule, imp, from string, test bool) bool {
	for _, r := range rules {
		if imp != r.pattern && !strings.HasPrefix(imp, r.pattern+"/") {
			continue
		}
		for _, e := range r.extra {
			name, onlyTest := strings.CutPrefix(e, "test:")
			if match(name, from) && (test || !onlyTest) {
				return true
			}
		}
	}
	return false
}

// TestCgoRooms: C code is compiled in four rooms only.
func TestCgoRooms(t *testing.T) {
	rooms := []string{"cuda", "kernels", "internal/cpu", "internal/cpu/plan", "onnx"}
	for _, p := range list(t, "native", "1") {
		if len(p.CgoFiles) > 0 && !slices.Contains(rooms, p.rel()) {
			t.Errorf("%s: %v use cgo; only %v may", p.rel(), p.CgoFiles, rooms)
		}
	}
}
