package motion

import (
	"encoding/binary"
	"math"
	"os"
	"slices"
	"testing"

	"github.com/fidlab/fidlab/internal/oracle"
)

type goldenCase struct {
	Layout, Prefix string
	Bones          []float64
}

type golden struct {
	Cases      []goldenCase
	ParcoParts map[string][][]int `json:"parco_parts"`
	MMMUpper   []int              `json:"mmm_upper"`
}

func goldenFile(t *testing.T, name string) []float64 {
	t.Helper()
	b, err := os.ReadFile(oracle.Golden(t, "motion", name+".f64"))
	if err != nil {
		t.Fatal(err)
	}
	out := make([]float64, len(b)/8)
	for i := range out {
		out[i] = math.Float64frombits(binary.LittleEndian.Uint64(b[8*i:]))
	}
	return out
}

// near wants every number within tol.
func near(t *testing.T, what string, got, want []float64, tol float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %d numbers, want %d", what, len(got), len(want))
		return
	}
	worst, at := 0.0, 0
	for i := range want {
		if d := math.Abs(got[i] - want[i]); !(d <= worst) {
			worst, at = d, i
		}
	}
	if !(worst <= tol) {
		t.Errorf("%s: number %d is %v, want %v (off by %.2g, allowed %.2g)", what, at, got[at], want[at], worst, tol)
	}
}

// TestGoldenProgram: the program that made the published files, on clips of our own.
func TestGoldenProgram(t *testing.T) {
	var g golden
	oracle.GoldenJSON(t, &g, "motion", "cases.json")
	for _, c := range g.Cases {
		l := HumanML3D
		if c.Layout == KIT.Name {
			l = KIT
		}
		source := goldenFile(t, c.Prefix+"joints")
		retargeted, err := l.Skeleton.Retarget(source, c.Bones)
		if err != nil {
			t.Fatal(err)
		}
		near(t, c.Prefix+"retargeted", retargeted, goldenFile(t, c.Prefix+"retargeted"), 1e-11)
		prepared, err := l.Skeleton.Prepare(retargeted)
		if err != nil {
			t.Fatal(err)
		}
		near(t, c.Prefix+"prepared", prepared, goldenFile(t, c.Prefix+"prepared"), 1e-11)
		rows, err := Features(l, prepared, Published)
		if err != nil {
			t.Fatal(err)
		}
		near(t, c.Prefix+"rows", rows, goldenFile(t, c.Prefix+"rows"), 1e-10)
		joints, err := Recover(l, rows)
		if err != nil {
			t.Fatal(err)
		}
		near(t, c.Prefix+"recovered", joints, goldenFile(t, c.Prefix+"recovered"), 1e-10)
		rotated, err := RecoverRotated(l, rows, c.Bones)
		if err != nil {
			t.Fatal(err)
		}
		near(t, c.Prefix+"rotated", rotated, goldenFile(t, c.Prefix+"rotated"), 1e-10)
	}
	if len(g.Cases) != 4 {
		t.Errorf("%d cases, want 4", len(g.Cases))
	}
}

// TestGoldenParts: the tables of ParCo and MMM.
func TestGoldenParts(t *testing.T) {
	var g golden
	oracle.GoldenJSON(t, &g, "motion", "cases.json")
	n := 0
	for _, l := range []*Layout{HumanML3D, KIT} {
		p := SixParts(l, SharedByAll)
		for i, want := range g.ParcoParts[l.Name] {
			n++
			if got := p.List[i].Channels; !slices.Equal(got, want) {
				t.Errorf("%s, %s: channels %v, want %v", l.Name, p.List[i].Name, got, want)
			}
		}
	}
	upper := slices.Sorted(slices.Values(Halves(HumanML3D).List[0].Channels))
	if !slices.Equal(upper, g.MMMUpper) {
		t.Errorf("upper half %v, want %v", upper, g.MMMUpper)
	}
	if n != 12 {
		t.Errorf("%d parts compared, want 12", n)
	}
}
