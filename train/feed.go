package train

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/rng"
)

// Examples are a data set in memory.
type Examples struct {
	X      []float32 // [n, Shape...]
	Shape  []int     // of one
	Labels []int32   // [n], or nil
}

// size is the number of values of an example.
func (e *Examples) size() int {
	n := 1
	for _, d := range e.Shape {
		n *= d
	}
	return n
}

// Len is the number of examples.
func (e *Examples) Len() int { return len(e.X) / e.size() }

// SHA256 is the hash of shape, values and labels, for a job's Config: a run goes on with the same data only.
func (e *Examples) SHA256() string {
	h := sha256.New()
	buf := make([]byte, 0, 1<<16)
	put := func(v uint32) {
		if buf = binary.LittleEndian.AppendUint32(buf, v); len(buf) == cap(buf) {
			h.Write(buf)
			buf = buf[:0]
		}
	}
	put(uint32(len(e.Shape)))
	for _, d := range e.Shape {
		put(uint32(d))
	}
	for _, v := range e.X {
		put(math.Float32bits(v))
	}
	for _, l := range e.Labels {
		put(uint32(l))
	}
	h.Write(buf)
	return hex.EncodeToString(h.Sum(nil))
}

// Feed hands out batches of examples: all of them once an epoch, each epoch in an order of its own. Which example
// is number k of a run depends on the data's seed and k alone. Phases have Feeds of their own.
type Feed struct {
	e      *Examples
	x      *Staged // [batch, shape...]
	labels []int32
	order  *Order
}

// NewFeed makes a Feed whose batches are tensors of dev, of a float dtype. It panics where there are no whole examples.
func NewFeed(e *Examples, dev *gpu.Device, dt gpu.DType, batch int) *Feed {
	n := e.Len()
	if n < 1 || len(e.X) != n*e.size() || e.Labels != nil && len(e.Labels) != n {
		panic(fmt.Sprintf("train: NewFeed: %d values and %d labels for examples of shape %v; want whole examples, at least one, with a label each or none", len(e.X), len(e.Labels), e.Shape))
	}
	return &Feed{e: e, x: NewStaged(dev, dt, append([]int{batch}, e.Shape...)...), labels: make([]int32, batch), order: NewOrder(n)}
}

// Next is the examples of a batch, and their labels, nil where there are none; they are valid until the next call.
func (f *Feed) Next(b *Batch) (x *gpu.Tensor, labels []int32) {
	size := f.e.size()
	if b.Size != len(f.labels) {
		panic(fmt.Sprintf("train: Feed: a batch of %d examples, it was made for %d", b.Size, len(f.labels)))
	}
	for i := range f.labels {
		at := f.order.At(b.Seeds.Data, b.First+uint64(i))
		copy(f.x.Values[i*size:(i+1)*size], f.e.X[at*size:])
		if f.e.Labels != nil {
			f.labels[i] = f.e.Labels[at]
		}
	}
	x = f.x.Send()
	if f.e.Labels == nil {
		return x, nil
	}
	return x, f.labels
}

// Staged is a tensor that is filled on the CPU, batch after batch.
type Staged struct {
	Values []float32 // to be written; the tensor's own where it is float32 on the CPU
	x      *gpu.Tensor
}

// NewStaged makes one on dev, of a float dtype.
func NewStaged(dev *gpu.Device, dt gpu.DType, shape ...int) *Staged {
	s := &Staged{x: dev.New(dt, shape...)}
	if s.Values = s.x.F32(); s.Values == nil {
		s.Values = make([]float32, s.x.Len())
	}
	return s
}

// Send is the tensor with the Values of now.
func (s *Staged) Send() *gpu.Tensor {
	if s.x.F32() == nil {
		s.x.Set(s.Values)
	}
	return s.x
}

// Order is which example of n is number k of a run: all of them once an epoch, each epoch in an order of its own,
// a function of the seed and k alone.
type Order struct {
	n      uint64
	epochs [2]epoch
}

// epoch is the order of an epoch.
type epoch struct {
	known        bool
	seed, number uint64
	at           []int
}

// NewOrder is the order of n examples. It panics where there are none.
func NewOrder(n int) *Order {
	if n < 1 {
		panic(fmt.Sprintf("train: NewOrder: %d examples, want at least one", n))
	}
	return &Order{n: uint64(n)}
}

// At is the number among the examples, from 0 on, of example k of a run under the data's seed. A batch has examples of
// two epochs at most where there are as many examples as it has; neighbouring epochs are kept both.
func (o *Order) At(seed, k uint64) int {
	number := k / o.n
	e := &o.epochs[number%2]
	if !e.known || e.seed != seed || e.number != number {
		if e.at == nil {
			e.at = make([]int, o.n)
		}
		for i := range e.at {
			e.at[i] = i
		}
		s := rng.ForImage(seed, number, rng.Order)
		for i := len(e.at) - 1; i > 0; i-- {
			j := s.Intn(i + 1)
			e.at[i], e.at[j] = e.at[j], e.at[i]
		}
		e.known, e.seed, e.number = true, seed, number
	}
	return e.at[k%o.n]
}
