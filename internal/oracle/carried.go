package oracle

import (
	"os"
	"testing"
)

// NeedsSources skips a test that reads the checkout or runs a compiler, where
// the test program was carried to another machine (FIDLAB_CARRIED=1, scripts/gpu/gpu.sh).
func NeedsSources(t testing.TB) {
	t.Helper()
	if os.Getenv("FIDLAB_CARRIED") == "1" {
		t.Skip("needs the sources and a compiler; this program was carried to a machine without")
	}
}
