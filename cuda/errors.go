package cuda

import (
	"errors"
	"fmt"
	"reflect"
)

// ErrMemory is what an error wraps when the device's memory was not enough.
var ErrMemory = errors.New("out of memory")

// ErrLost is what an error wraps when a fault has made the device useless to this process.
var ErrLost = errors.New("the device is lost to this process")

// The driver's statuses that are told apart here (CUresult of cuda.h).
const (
	statusInvalidValue = 1
	statusNoMemory     = 2
	statusNoImage      = 209
	statusBadImage     = 200
	statusBadPTX       = 218
	statusNotFound     = 500
	statusResources    = 701
	statusUnknown      = 999
)

// code is the driver's status within an error of the seam; its types are integers.
func code(err error) int {
	if err == nil {
		return 0
	}
	if v := reflect.ValueOf(err); v.CanInt() {
		return int(v.Int())
	}
	return statusUnknown
}

// reasons are the statuses that users meet; the driver's own text serves for the others.
var reasons = map[int]string{
	statusInvalidValue: "invalid value",
	statusNoMemory:     "out of memory",
	4:                  "the driver is shutting down",
	46:                 "the device is busy or exclusive to another process",
	100:                "no device",
	101:                "invalid device",
	statusBadImage:     "invalid device code",
	201:                "invalid context",
	statusNoImage:      "no code for this device",
	214:                "uncorrectable ECC error",
	statusBadPTX:       "invalid PTX",
	220:                "uncorrectable NVLink error",
	222:                "its PTX is newer than the driver",
	400:                "invalid handle",
	statusNotFound:     "not found",
	700:                "illegal memory access",
	statusResources:    "too many resources (registers or shared memory) for a launch",
	702:                "the kernel ran into the time limit",
	710:                "a device-side assertion failed",
	714:                "hardware stack error",
	715:                "illegal instruction",
	716:                "misaligned address",
	717:                "invalid address space",
	718:                "invalid program counter",
	719:                "the kernel failed",
	801:                "not supported",
	900:                "not permitted during capture",
	901:                "an earlier error has ended the capture",
}

func reason(status int) string {
	if s, ok := reasons[status]; ok {
		return s
	}
	if s := statusText(status); s != "" {
		return fmt.Sprintf("%s (driver error %d)", s, status)
	}
	return fmt.Sprintf("driver error %d", status)
}

// fatal tells whether a status means that the context can do no more work.
func fatal(status int) bool {
	switch status {
	case 4, 201, 214, 220, 700, 702, 710, 714, 715, 716, 717, 718, 719:
		return true
	}
	return false
}

// failure is the error of a driver call: "cuda: what: reason".
func failure(what string, err error) error {
	switch status := code(err); {
	case status == statusNoMemory:
		return fmt.Errorf("cuda: %s: %w", what, ErrMemory)
	case fatal(status):
		return fmt.Errorf("cuda: %s: %s in this or an earlier launch; %w: start it again (FIDLAB_SYNC=1 names the launch)",
			what, reason(status), ErrLost)
	default:
		return fmt.Errorf("cuda: %s: %s", what, reason(status))
	}
}
