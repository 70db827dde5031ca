package gsjacobi

import (
	"testing"

	"github.com/fidlab/fidlab/internal/oracle/proof"
)

// The proof runs through in its tiny tier, and twice to the same bits.
func TestTiny(t *testing.T) { proof.Tiny(t, "42") }
