package gpu

import "github.com/fidlab/fidlab/cuda"

// Device is where tensors live and operations run.
type Device struct {
	name   string
	stream *cuda.Stream // nil on the CPU
}

// CPU is the host device; it is always there.
func CPU() *Device { return cpuDevice }

var cpuDevice = &Device{name: "cpu"}

func (d *Device) String() string { return d.name }

// CUDA tells whether the device is a GPU.
func (d *Device) CUDA() bool { return d.stream != nil }

// Stream is the queue that the device's operations are launched on; nil on the
// CPU.
func (d *Device) Stream() *cuda.Stream { return d.stream }
