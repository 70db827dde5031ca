package cli

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
)

// checkGlobals refuses global flags that no command could honour.
func (a *app) checkGlobals() error {
	if a.threads < 0 {
		return usagef("--threads %d: want 0 (all cores) or more", a.threads)
	}
	if a.threads > 0 {
		cpu.SetThreads(a.threads)
	}
	if err := a.useAssets(); err != nil {
		return err
	}
	switch kind, index, found := strings.Cut(a.device, ":"); {
	case a.device == "auto" || a.device == "cpu" || a.device == "cuda":
		return nil
	case kind == "cuda" && found:
		if n, err := strconv.Atoi(index); err == nil && n >= 0 {
			return nil
		}
	}
	return usagef("--device %q: want auto, cpu, cuda or cuda:N", a.device)
}

// useDevice settles where a command without GPU code computes: on the CPU. cuda
// is refused, with the reason.
func (a *app) useDevice() (string, error) {
	if strings.HasPrefix(a.device, "cuda") {
		if err := cuda.Available(); err != nil {
			return "", err
		}
		return "", fmt.Errorf("--device %s: this command computes on the CPU only; --device cpu runs it", a.device)
	}
	return "cpu", nil
}

// openDevice is where a command with GPU code computes; auto is what suits it.
func (a *app) openDevice(auto string) (*gpu.Device, error) {
	if a.device == "auto" {
		return gpu.Open(auto)
	}
	return gpu.Open(a.device)
}

// gpuName is the model of a GPU that is open, and what decides which code it runs.
func gpuName(device string) (string, error) {
	d, err := gpu.Open(device)
	if err != nil {
		return "", err
	}
	i := d.Stream().Dev().Info()
	return fmt.Sprintf("%s, compute %d.%d", i.Name, i.Major, i.Minor), nil
}
