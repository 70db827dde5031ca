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
	x      *gpu.Tensor // [batch, shape...]
	cpu    []float32
	labels []int32
	orders [2]order
}

// order is the order of an epoch.
type order struct {
	known       bool
	seed, epoch uint64
	at          []int
}

// NewFeed makes a Feed whose batches are tensors of dev, of a float dtype. It panics where there are no whole examples.
func NewFeed(e *Examples, dev *gpu.Device, dt gpu.DType, batch int) *Feed {
	n := e.Len()
	if n < 1 || len(e.X) != n*e.size() || e.Labels != nil && len(e.Labels) != n {
		panic(fmt.Sprintf("train: NewFeed: %d values and %d labels for examples of shape %v; want whole examples, at least one, with a label each or none", len(e.X), len(e.Labels), e.Shape))
	}
	f := &Feed{e: e, x: dev.New(dt, append([]int{batch}, e.Shape...)...), labels: make([]int32, batch)}
	if f.cpu = f.x.F32(); f.cpu == nil {
		f.cpu = make([]float32, f.x.Len())
	}
	return f
}

// Next is the examples of a batch, and their labels, nil where there are none; they are valid until the next call.
func (f *Feed) Next(b *Batch) (x *gpu.Tensor, labels []int32) {
	size, n := f.e.size(), uint64(f.e.Len())
	if b.Size != len(f.labels) {
		panic(fmt.Sprintf("train: Feed: a batch of %d examples, it was made for %d", b.Size, len(f.labels)))
	}
	for i := range f.labels {
		k := b.First + uint64(i)
		at := f.order(b.Seeds.Data, k/n)[k%n]
		copy(f.cpu[i*size:(i+1)*size], f.e.X[at*size:])
		if f.e.Labels != nil {
			f.labels[i] = f.e.Labels[at]
		}
	}
	if f.x.F32() == nil {
		f.x.Set(f.cpu)
	}
	if f.e.Labels == nil {
		return f.x, nil
	}
	return f.x, f.labels
}

// order is that of an epoch. A batch has examples of two epochs at most where there are as many examples as
// it has; neighbouring epochs have places of their own.
func (f *Feed) order(seed, epoch uint64) []int {
	o := &f.orders[epoch%2]
	if o.known && o.seed == seed && o.epoch == epoch {
		return o.at
	}
	if o.at == nil {
		o.at = make([]int, f.e.Len())
	}
	for i := range o.at {
		o.at[i] = i
	}
	s := rng.ForImage(seed, epoch, rng.Order)
	for i := len(o.at) - 1; i > 0; i-- {
		j := s.Intn(i + 1)
		o.at[i], o.at[j] = o.at[j], o.at[i]
	}
	o.known, o.seed, o.epoch = true, seed, epoch
	return o.at
}
