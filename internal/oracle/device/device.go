// Package device runs a test on every device there is. Only tests import it.
package device

import (
	"testing"

	"github.com/fidlab/fidlab/gpu"
)

// Each runs f as a subtest for every device: "cpu" always, "cuda" where the
// machine has a GPU, and in its place "host", the kernels compiled for the CPU,
// in a build with the tag hostdev. Each subtest has a stream of its own; an
// error that is left on it, not taken by Recover, fails the subtest.
func Each(t *testing.T, f func(t *testing.T, dev *gpu.Device)) {
	t.Helper()
	t.Run("cpu", func(t *testing.T) { f(t, gpu.CPU()) })
	dev, err := gpu.Open("cuda")
	if err != nil {
		if second == "host" {
			t.Errorf("the host device: %v", err)
		}
		return
	}
	t.Run(second, func(t *testing.T) {
		fork, err := dev.Fork()
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := fork.Close(); err != nil {
				t.Errorf("an error is left on the device: %v", err)
			}
		}()
		f(t, fork)
	})
}
