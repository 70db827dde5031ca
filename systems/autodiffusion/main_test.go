package autodiffusion

import (
	"os"
	"testing"

	"github.com/fidlab/fidlab/assets"
)

// The parts on trained networks are tried in package systems/all, on small ones; the one that ships would take minutes in pure Go.
func TestMain(m *testing.M) {
	assets.SetDefault(assets.Finder{Index: &assets.Index{}})
	os.Exit(m.Run())
}
