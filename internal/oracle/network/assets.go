package network

import (
	"os"
	"testing"

	"github.com/fidlab/fidlab/assets"
)

// MainWithoutAssets is the TestMain of packages whose tests must not find the trained networks that ship: what depends on them
// would take minutes in pure Go.
func MainWithoutAssets(m *testing.M) {
	assets.SetDefault(assets.Finder{Index: &assets.Index{}})
	os.Exit(m.Run())
}
