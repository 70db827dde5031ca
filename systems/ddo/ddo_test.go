package ddo

import (
	"math"
	"testing"

	"github.com/fidlab/fidlab/internal/oracle/proof"
	"github.com/fidlab/fidlab/systems"
)

// The proof runs through in its tiny tier, and twice to the same bits.
func TestTiny(t *testing.T) {
	proof.Tiny(t, "33", func(p *systems.Proof) {
		proof.Values(p.Record, func(experiment, arm, measure string, v float64) {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				t.Errorf("%s, %s: %s is %g", experiment, arm, measure, v)
			}
		})
	})
}
