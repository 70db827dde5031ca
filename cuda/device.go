package cuda

import (
	"errors"
	"fmt"
	"os"
	"sync"
)

// ErrNoDevice is what the errors of Available and Open wrap: there is no GPU to use.
var ErrNoDevice = errors.New("no usable device")

// Device describes one GPU.
type Device struct {
	Name    string
	Major   int    // compute capability, e.g. 9.0
	Minor   int    //
	Memory  uint64 // bytes
	Ordinal int    // the N of --device cuda:N
}

// The oldest driver that runs what is embedded (CUDA 13.0, driver r580), and the
// oldest compute capability that the kernels are built for.
const (
	minDriver = 13000
	minMajor  = 8
)

// Available returns nil when there is a GPU, else an ErrNoDevice with the reason.
func Available() error {
	_, err := Devices()
	return err
}

// Devices lists the GPUs; without any the error is an ErrNoDevice with the reason.
func Devices() ([]Device, error) { return probe() }

var probe = sync.OnceValues(func() ([]Device, error) {
	if why := openDriver(HostDevice()); why != "" {
		return nil, noDevice("%s", why)
	}
	n, err := deviceCount()
	if err != nil {
		return nil, noDevice("cuDeviceGetCount returned error %d; see nvidia-smi", code(err))
	}
	if n == 0 {
		return nil, noDevice("the NVIDIA driver is installed but sees no GPU")
	}
	if v := driverVersion(); v < minDriver {
		return nil, noDevice("the NVIDIA driver is for CUDA %d.%d, and the kernels need CUDA %d.%d; install driver r580 or newer",
			v/1000, v%1000/10, minDriver/1000, minDriver%1000/10)
	}
	list := make([]Device, 0, n)
	for i := range n {
		d, err := describe(i)
		if err != nil {
			return nil, noDevice("device %d of %d: driver error %d; see nvidia-smi", i, n, code(err))
		}
		list = append(list, d)
	}
	return list, nil
})

// HostDevice tells whether the environment asks for the host device in place of
// the driver, as it was when first asked.
func HostDevice() bool { return hostDevice() }

var hostDevice = sync.OnceValue(func() bool { return os.Getenv("FIDLAB_HOST_DEVICE") == "1" })

// hostArena tells whether the host device shall pool its memory as a GPU does. It
// does not of itself: each allocation is one of the heap, filled with NaN, so that
// a checker sees its bounds and a test its unwritten parts.
func hostArena() bool { return os.Getenv("FIDLAB_HOST_ARENA") == "1" }

func noDevice(format string, args ...any) error {
	return fmt.Errorf("cuda: %w: %s", ErrNoDevice, fmt.Sprintf(format, args...))
}
