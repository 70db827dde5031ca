//go:build !(native && cgo)

package onnx

import (
	"strings"
	"testing"

	"github.com/fidlab/fidlab/internal/oracle"
)

// The pure flavour says why it opens nothing, after it has read the sidecar.
func TestOpenInPureGo(t *testing.T) {
	if _, err := Open(oracle.Golden(t, "onnx", "unet.onnx"), Options{}); err == nil || !strings.Contains(err.Error(), "pure Go") || !strings.Contains(err.Error(), "make build") {
		t.Errorf("error %v", err)
	}
	if _, _, err := Library(nil); err == nil || !strings.Contains(err.Error(), "pure Go") {
		t.Errorf("library: %v", err)
	}
}
