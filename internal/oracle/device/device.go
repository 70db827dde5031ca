// Package device runs a test on every device there is. Only tests import it.
package device

import (
	"testing"

	"github.com/fidlab/fidlab/gpu"
)

// Each runs f as a subtest for every device: "cpu" always, "cuda" where the
// machine has a GPU, and "host", the kernels compiled for the CPU, in a build
// with the tag hostdev.
func Each(t *testing.T, f func(t *testing.T, dev *gpu.Device)) {
	t.Helper()
	for _, d := range devices(t) {
		t.Run(d.name, func(t *testing.T) { f(t, d.dev) })
	}
}

type named struct {
	name string
	dev  *gpu.Device
}

func devices(*testing.T) []named { return []named{{"cpu", gpu.CPU()}} }
