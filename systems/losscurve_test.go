package systems

import (
	"math"
	"testing"

	"github.com/fidlab/fidlab/report"
)

func TestThinned(t *testing.T) {
	var p []report.Point
	for i := range 107 {
		p = append(p, report.Point{X: float64(i), Y: 2 * float64(i)})
	}
	got := thinned(p, 50)
	if len(got) != 36 || got[0] != (report.Point{X: 1, Y: 2}) || got[35] != (report.Point{X: 105.5, Y: 211}) {
		t.Errorf("%d points, %+v to %+v", len(got), got[0], got[len(got)-1])
	}
	for i, q := range got {
		if math.Abs(q.Y-2*q.X) > 1e-9 {
			t.Errorf("point %d is %+v", i, q)
		}
	}
	if same := thinned(p[:50], 50); len(same) != 50 || same[7] != p[7] {
		t.Errorf("few points became %d", len(same))
	}
}
