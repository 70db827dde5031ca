package gpu

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/fidlab/fidlab/cuda"
)

// Device is where tensors live and operations run: the CPU, or a GPU with one
// stream. Operations of one Device run in the order of the calls; a goroutine
// that does not mean to share an order takes a Fork.
type Device struct {
	name   string
	stream *cuda.Stream // nil on the CPU
	fork   bool
}

// CPU is the host device; it is always there.
func CPU() *Device { return cpuDevice }

var cpuDevice = &Device{name: "cpu"}

var (
	gpusMu sync.Mutex
	gpus   = map[int]*Device{}
	forks  atomic.Int64 // so far, for their names
)

// ParseName checks a device's name: auto, cpu, cuda or cuda:N. It returns N, 0
// for auto and cuda, and -1 for cpu.
func ParseName(name string) (ordinal int, err error) {
	switch name {
	case "auto", "cuda":
		return 0, nil
	case "cpu":
		return -1, nil
	}
	if index, ok := strings.CutPrefix(name, "cuda:"); ok {
		if n, err := strconv.Atoi(index); err == nil && n >= 0 {
			return n, nil
		}
	}
	return 0, fmt.Errorf("gpu: device %q: want auto, cpu, cuda or cuda:N", name)
}

// Open is the device of that name: auto (the first GPU that can be used, else the
// CPU), cpu, cuda or cuda:N. The same name gives the same Device every time. The
// error for a GPU that is not there is a cuda.ErrNoDevice and says why.
func Open(name string) (*Device, error) {
	ordinal, err := ParseName(name)
	if err != nil {
		return nil, err
	}
	if ordinal < 0 {
		return CPU(), nil
	}
	d, err := open(ordinal)
	if err != nil && name == "auto" {
		return CPU(), nil
	}
	return d, err
}

func open(ordinal int) (*Device, error) {
	gpusMu.Lock()
	defer gpusMu.Unlock()
	if d := gpus[ordinal]; d != nil {
		return d, nil
	}
	dev, err := cuda.Open(ordinal)
	if err != nil {
		return nil, err
	}
	s, err := dev.NewStream()
	if err != nil {
		return nil, err
	}
	d := &Device{name: fmt.Sprintf("cuda:%d", ordinal), stream: s}
	gpus[ordinal] = d
	return d, nil
}

func (d *Device) String() string { return d.name }

// CUDA tells whether the device is a GPU.
func (d *Device) CUDA() bool { return d.stream != nil }

// Stream is the queue that the device's operations are launched on; nil on the
// CPU.
func (d *Device) Stream() *cuda.Stream { return d.stream }

// Fork is the same GPU with a stream and an error of its own; its work comes after
// what is queued on d. Tensors of d get there by To or On. The CPU is its own Fork.
func (d *Device) Fork() (*Device, error) {
	if !d.CUDA() {
		return d, nil
	}
	s, err := d.stream.Dev().NewStream()
	if err != nil {
		return nil, err
	}
	s.After(d.stream)
	name, _, _ := strings.Cut(d.name, " ")
	return &Device{name: fmt.Sprintf("%s (fork %d)", name, forks.Add(1)), stream: s, fork: true}, nil
}

// Sync waits for all operations of d and returns their first error.
func (d *Device) Sync() error {
	if !d.CUDA() {
		return nil
	}
	return d.stream.Sync()
}

// SyncAll waits for all operations of d's GPU, those of every Fork too, and returns
// the first error of any.
func (d *Device) SyncAll() error {
	if !d.CUDA() {
		return nil
	}
	return d.stream.Dev().Sync()
}

// Err is the first error of d's operations as far as it is known; it waits for nothing.
func (d *Device) Err() error {
	if !d.CUDA() {
		return nil
	}
	return d.stream.Err()
}

// Recover forgets the error of d and returns it, so that work can go on, say with a
// smaller batch. The fault of a lost device stays.
func (d *Device) Recover() error {
	if !d.CUDA() {
		return nil
	}
	return d.stream.Recover()
}

// Close waits for a Fork's operations, ends its stream and returns their first
// error. Neither it nor its tensors are used after. A device of Open lasts as long
// as the process; for it Close is Sync.
func (d *Device) Close() error {
	if !d.fork {
		return d.Sync()
	}
	return d.stream.Close()
}
