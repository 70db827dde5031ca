package arflow

import (
	"testing"

	"github.com/fidlab/fidlab/internal/oracle/proof"
)

func TestTinyProof(t *testing.T) { proof.Tiny(t, "arflow") }
