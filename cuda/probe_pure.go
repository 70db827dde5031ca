//go:build !(native && cgo)

package cuda

import "fmt"

// Devices lists the GPUs; without any the error is an ErrNoDevice with the reason.
func Devices() ([]Device, error) {
	return nil, fmt.Errorf("cuda: %w: this binary was built without the tag native; build it with make build", ErrNoDevice)
}
