package cuda

import (
	"fmt"
	"sort"
	"strings"
	"sync"
)

var (
	registryMu sync.Mutex
	registry   = map[string]string{}
)

// Register gives the device code of a module, a fatbin. A device loads it when
// a launch first names the module. Registering another code under a name that
// is taken panics.
func Register(module, fatbin string) {
	registryMu.Lock()
	defer registryMu.Unlock()
	if old, ok := registry[module]; ok && old != fatbin {
		panic(fmt.Sprintf("cuda: Register: module %q is registered twice", module))
	}
	registry[module] = fatbin
}

// Modules lists the registered modules by name.
func Modules() []string {
	registryMu.Lock()
	defer registryMu.Unlock()
	var names []string
	for name := range registry {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// noCode is an empty fatbin, for the host device, whose kernels are in the program.
const noCode = "\x50\xed\x55\xba\x01\x00\x10\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// module finds or loads a module; d.mu is held.
func (d *Dev) module(name string) (rawModule, error) {
	if m, ok := d.modules[name]; ok {
		return m, nil
	}
	registryMu.Lock()
	fatbin, ok := registry[name]
	registryMu.Unlock()
	if !ok {
		return rawModule{}, fmt.Errorf("no module %q is registered; import package kernels", name)
	}
	if !HostDevice() {
		if fatbin == "" {
			return rawModule{}, fmt.Errorf("module %q: the kernels are not built: make kernels", name)
		}
		if err := checkFatbin(fatbin); err != nil {
			return rawModule{}, fmt.Errorf("module %q is damaged: %w; make kernels builds it anew", name, err)
		}
	}
	if fatbin == "" {
		fatbin = noCode
	}
	var m rawModule
	err := d.do(func() (err error) {
		m, err = loadModule(fatbin)
		return err
	})
	switch status := code(err); status {
	case 0:
		d.modules[name] = m
		return m, nil
	case statusNoImage:
		return m, fmt.Errorf("module %q has no code for compute capability %d.%d; built for %s",
			name, d.info.Major, d.info.Minor, strings.Join(architectures(fatbin), ", "))
	case statusBadImage, statusBadPTX:
		return m, fmt.Errorf("module %q is damaged: the driver says %s; make kernels builds it anew", name, reason(status))
	default:
		_ = d.fail("", err) // remembers a fault; the caller names the kernel
		return m, fmt.Errorf("module %q: %s", name, reason(status))
	}
}
