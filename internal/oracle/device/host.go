//go:build native && cgo && hostdev

package device

import (
	"os"

	_ "github.com/fidlab/fidlab/kernels" // has the host device
)

const second = "host"

// The driver is chosen when it is first asked for, so before any test runs.
func init() {
	if err := os.Setenv("FIDLAB_HOST_DEVICE", "1"); err != nil {
		panic(err)
	}
}
