// Package network makes denoisers of networks: a models.Net with its weights as they are,
// or with their averages, is what a solver asks.
//
//	den := network.Denoiser(net, path, pred, network.Options{})
//	r, err := sampler.Run(ctx, den, solver, grid, options)
//
// sampler.Adapt does the arithmetic of paths and predictions, in float64; here are the tape
// without gradients, batches, dtypes, devices and conditions.
package network

import (
	"context"
	"fmt"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/sampler"
)

// Options change how a network is asked; the zero value is usual.
type Options struct {
	// Batch is how many pictures the network computes at a time, whatever the solver's own batch is: the last few are filled up, so
	// that a picture's bits do not depend on how many others there are. 0 is 16.
	Batch int
}

// Network is a models.Net as package sampler asks it. It keeps scratch memory, so one Network serves one goroutine at a time,
// and uses the parameters as they are at each call: between two calls they may be trained on, or exchanged with averages.
type Network struct {
	net   models.Net
	takes models.Takes
	batch int
	tape  *nn.Tape

	x, times, out *gpu.Tensor // of a batch, on the network's device
	classes       *gpu.Tensor
	inputs        map[string]*gpu.Tensor
	buf           []float32
	ones          *gpu.Tensor // what times are made of
	timesOf       []float64
	memory        *memory // nil where the network has none
}

// New makes a Network of net, which is laid out.
func New(net models.Net, o Options) *Network {
	if o.Batch < 0 {
		panic(fmt.Sprintf("network: New: a batch of %d, want 0 or more", o.Batch))
	}
	if o.Batch == 0 {
		o.Batch = 16
	}
	v := net.Params().Value()
	n := &Network{net: net, takes: net.Takes(), batch: o.Batch, tape: nn.NewTape(v.Device(), v.DType()), timesOf: make([]float64, o.Batch)}
	n.times, n.ones = v.Device().New(v.DType(), o.Batch), v.Device().New(v.DType(), o.Batch)
	ops.Fill(n.ones, 1)
	if n.takes.Classes > 0 {
		n.classes = gpu.CPU().New(gpu.Int32, o.Batch)
	}
	if s, ok := net.(models.Stateful); ok {
		n.memory = newMemory(s, o.Batch)
	}
	return n
}

// Denoiser is net as a denoiser: it predicts pred on path.
func Denoiser(net models.Net, path diffusion.Path, pred diffusion.Pred, o Options) *sampler.Adapted {
	return sampler.Adapt(New(net, o), path, pred)
}

// Forward implements sampler.Net for x [B, C, H, W] of any float dtype and device. Class -1, and no classes at all, are the network's class for
// none. Inputs of the condition are the network's tokens [B, L, width] and vectors [B, width] by their names, and "extra" its further
// channels. Of a network that predicts more channels than it takes the first ones are meant.
func (n *Network) Forward(ctx context.Context, out, x *gpu.Tensor, t []float64, c sampler.Cond) error {
	if err := n.check(x, t, c); err != nil {
		return err
	}
	s := x.Shape()
	if n.memory != nil {
		if err := n.memory.ask(s[0]); err != nil {
			return err
		}
	}
	if n.x == nil || n.x.Len() != n.batch*s[1]*s[2]*s[3] || n.x.Shape()[2] != s[2] {
		n.x, n.out = n.times.Device().New(n.times.DType(), n.batch, s[1], s[2], s[3]), n.times.Device().New(n.times.DType(), n.batch, s[1], s[2], s[3])
	}
	for lo := 0; lo < s[0]; lo += n.batch {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := n.some(out, x, t, c, lo, min(lo+n.batch, s[0])); err != nil {
			return err
		}
	}
	return nil
}

// check refuses what the network cannot be asked.
func (n *Network) check(x *gpu.Tensor, t []float64, c sampler.Cond) error {
	s := x.Shape()
	if len(s) != 4 || s[0] != len(t) || s[1] != n.takes.Channels {
		return fmt.Errorf("network: states of shape %v at %d times; the network takes [n, %d, height, width]", s, len(t), n.takes.Channels)
	}
	if c.Classes != nil && n.takes.Classes == 0 {
		for _, k := range c.Classes {
			if k >= 0 {
				return fmt.Errorf("network: class %d asked of a network that knows none", k)
			}
		}
	}
	for _, k := range c.Classes {
		if k < -1 || n.takes.Classes > 0 && k >= n.takes.Classes {
			return fmt.Errorf("network: class %d, the network has 0 to %d, and -1 for none", k, n.takes.Classes-1)
		}
	}
	for name := range c.Inputs {
		_, tokens := n.takes.Tokens[name]
		if _, vector := n.takes.Vectors[name]; !tokens && !vector && !(name == "extra" && n.takes.Extra > 0) {
			return fmt.Errorf("network: an input %q is given, which the network does not take", name)
		}
	}
	return nil
}

// some asks about images lo to hi, filled up with copies of the last one.
func (n *Network) some(out, x *gpu.Tensor, t []float64, c sampler.Cond, lo, hi int) error {
	if err := n.fill(n.x, x, lo, hi); err != nil {
		return err
	}
	for i := range n.timesOf {
		n.timesOf[i] = t[min(lo+i, hi-1)]
	}
	ops.LinCombRows(n.times, n.timesOf, n.ones)
	if n.classes != nil {
		for i := range n.classes.I32() {
			k := -1
			if c.Classes != nil {
				k = c.Classes[min(lo+i, hi-1)]
			}
			if k < 0 {
				k = n.takes.Classes
			}
			n.classes.I32()[i] = int32(k)
		}
	}
	var failed error
	n.tape.Run(func() {
		n.tape.NoGrad(func() {
			in, err := n.condition(c, lo, hi)
			if err == nil {
				err = n.takes.Check(n.x.Shape(), in)
			}
			if err != nil {
				failed = err
				return
			}
			y := n.predict(in, lo, hi)
			if n.takes.Out > n.takes.Channels {
				y = y.Slice(1, 0, n.takes.Channels)
			}
			n.out.Copy(y.Value())
		})
	})
	if failed != nil {
		return failed
	}
	return n.back(out.Rows(lo, hi), n.out.Rows(0, hi-lo))
}

// condition is that of images lo to hi on the tape.
func (n *Network) condition(c sampler.Cond, lo, hi int) (models.Inputs, error) {
	in := models.Inputs{Classes: n.classes}
	for name, x := range c.Inputs {
		if n.inputs[name] == nil || n.inputs[name].Len() != n.batch*x.Len()/x.Shape()[0] {
			if n.inputs == nil {
				n.inputs = map[string]*gpu.Tensor{}
			}
			n.inputs[name] = n.times.Device().New(n.times.DType(), append([]int{n.batch}, x.Shape()[1:]...)...)
		}
		if err := n.fill(n.inputs[name], x, lo, hi); err != nil {
			return in, err
		}
		v := n.tape.Input(n.inputs[name])
		switch _, tokens := n.takes.Tokens[name]; {
		case tokens:
			if in.Tokens == nil {
				in.Tokens = map[string]models.Tokens{}
			}
			in.Tokens[name] = models.Tokens{States: v}
		case name == "extra" && n.takes.Extra > 0:
			in.Extra = v
		default:
			if in.Vectors == nil {
				in.Vectors = map[string]*nn.Var{}
			}
			in.Vectors[name] = v
		}
	}
	return in, nil
}

// fill copies rows lo to hi of src to dst, and the last of them to the rows that are left.
func (n *Network) fill(dst, src *gpu.Tensor, lo, hi int) error {
	if err := n.back(dst.Rows(0, hi-lo), src.Rows(lo, hi)); err != nil {
		return err
	}
	for i := hi - lo; i < n.batch; i++ {
		dst.Rows(i, i+1).Copy(dst.Rows(hi-lo-1, hi-lo))
	}
	return nil
}

// back copies src to dst, which may be of another dtype or device.
func (n *Network) back(dst, src *gpu.Tensor) error {
	if dst.DType() == src.DType() {
		dst.Copy(src)
		return nil
	}
	if len(n.buf) < src.Len() {
		n.buf = make([]float32, src.Len())
	}
	if err := src.Read(n.buf[:src.Len()]); err != nil {
		return fmt.Errorf("network: %w", err)
	}
	dst.Set(n.buf[:src.Len()])
	return nil
}
