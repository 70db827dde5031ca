package gaussteleport

import (
	"testing"

	"github.com/fidlab/fidlab/internal/oracle/network"
)

// The parts on trained networks are tried in package systems/all, on small ones.
func TestMain(m *testing.M) { network.MainWithoutAssets(m) }
