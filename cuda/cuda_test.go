package cuda

import (
	"errors"
	"strings"
	"testing"
)

// Devices and Available agree, and a machine without a GPU is told why.
func TestAvailable(t *testing.T) {
	list, err := Devices()
	if again := Available(); (again == nil) != (err == nil) {
		t.Fatalf("Devices: %v, Available: %v", err, again)
	}
	if err == nil {
		for i, d := range list {
			if d.Name == "" || d.Major < 3 || d.Memory == 0 || d.Ordinal != i {
				t.Errorf("device %d is described as %+v", i, d)
			}
		}
		return
	}
	if len(list) != 0 || !errors.Is(err, ErrNoDevice) {
		t.Errorf("%d devices with error %v, want none with an ErrNoDevice", len(list), err)
	}
	if _, why, ok := strings.Cut(err.Error(), ErrNoDevice.Error()+": "); !ok || len(why) < 10 {
		t.Errorf("%q does not say why", err)
	}
}
