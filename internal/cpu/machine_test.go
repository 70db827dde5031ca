package cpu

import (
	"math"
	"runtime"
	"testing"
)

func TestMeasure(t *testing.T) {
	all := Measure()
	seen := map[string]int{}
	for _, m := range all {
		t.Logf("%-26s %d threads %8.1f %s", m.Name, m.Threads, m.Value, m.Unit)
		if !(m.Value > 0) || math.IsInf(m.Value, 0) || m.Unit == "" || m.Threads != 1 && m.Threads != Workers() {
			t.Errorf("%+v", m)
		}
		seen[m.Name] |= 1 << min(m.Threads, 2)
	}
	want := 4
	if HasBF16() {
		want++
	}
	if len(seen) != want {
		t.Errorf("%d kinds of measurement, want %d", len(seen), want)
	}
	for name, threads := range seen {
		if threads != 2 && Workers() == 1 || threads != 6 && Workers() > 1 {
			t.Errorf("%s is not measured on one worker and on all", name)
		}
	}
}

func TestFeatures(t *testing.T) {
	if f := Features(); len(f) == 0 && (runtime.GOARCH == "amd64" || runtime.GOARCH == "arm64") {
		t.Error("no features on", runtime.GOARCH)
	}
	if HasBF16() { // what oneDNN uses must be what the processor has
		has := map[string]bool{}
		for _, f := range Features() {
			has[f.Name] = f.Has
		}
		if !has["AVX512_BF16"] && !has["AMX bf16"] {
			t.Errorf("oneDNN uses bf16 instructions, the processor has none: %v", Features())
		}
	}
}
