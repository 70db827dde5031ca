package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/onnx"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/tensor"
)

// onnxPath is the path in the sidecar of a model.
func onnxPath(name string) (diffusion.Path, error) {
	side, err := onnx.ReadSidecar(name)
	if err != nil {
		return nil, &inputError{err}
	}
	path, _, err := side.Convention()
	return path, err
}

// openONNX opens a network and checks that it was trained as its sidecar says.
func openONNX(ctx context.Context, a *app, o opening) (*model, error) {
	out := &model{name: o.model}
	var err error
	if out.sha256, err = tensor.FileSHA256(o.model); err != nil {
		return nil, &inputError{err}
	}
	if out.sidecar, err = tensor.FileSHA256(onnx.SidecarPath(o.model)); err != nil {
		return nil, &inputError{err}
	}
	opt := onnx.Options{Library: o.net.library, Getenv: a.env.Getenv}
	if _, _, err := onnx.Library(opt.Env()); err != nil {
		return nil, err
	}
	m, err := onnx.Open(o.model, opt)
	if err != nil {
		return nil, &inputError{err}
	}
	side := m.Sidecar
	out.close = m.Close
	out.den, out.pred = sampler.Adapt(sampler.NetFunc(m.Forward), m.Path(), m.Pred()), m.Pred().String()
	out.shape, out.latent, out.chw = m.Shape(), side.Range == nil, side.Layout == "chw"
	if out.hi = 1; !out.latent {
		out.lo, out.hi = side.Range[0], side.Range[1]
	}
	if m.TakesClass() {
		for k := range side.Classes {
			out.classes = append(out.classes, k)
		}
		if side.NoClass != nil {
			out.classes = append(out.classes, -1)
		} else if len(o.classes) == 0 {
			m.Close()
			return nil, usagef("model %s is conditioned on a class; give --class, one of %v", o.model, out.classes)
		}
	}
	if out.inputs, err = readInputs("--input", o.net.inputs, o.model, m.Asks(), o.n); err == nil && side.Probes() {
		err = probeONNX(ctx, o.model, m, o.classes, out.inputs)
	}
	if err != nil {
		m.Close()
		return nil, err
	}
	return out, nil
}

// probed is how many samples the check of the convention asks about.
const probed = 8

// probeONNX asks the network whether it does what its sidecar says.
func probeONNX(ctx context.Context, name string, m *onnx.Model, classes []int, inputs map[string]*gpu.Tensor) error {
	c := sampler.Convention{Net: sampler.NetFunc(m.Forward), Path: m.Path(), Pred: m.Pred()}
	opt := sampler.ProbeOptions{Shape: m.Shape(), N: probed, Cond: sampler.Cond{Classes: inTurn(classes, probed), Inputs: map[string]*gpu.Tensor{}}}
	opt.Mean, opt.Dev = m.Sidecar.Data()
	for name, t := range inputs {
		opt.Cond.Inputs[name] = repeated(t, probed)
	}
	for _, v := range m.Variants() {
		opt.Others = append(opt.Others, sampler.Convention{Name: v.Name, Net: sampler.NetFunc(v.Forward), Path: v.Path(), Pred: v.Pred()})
	}
	if err := sampler.Probe(ctx, c, opt); err != nil {
		return inputf("%s: %w; \"probe\": false leaves out this check", onnx.SidecarPath(name), err)
	}
	return nil
}

// netOptions are the flags of networks in files.
type netOptions struct {
	inputs, negative []string // NAME=FILE.npy
	library          string
	average          float64 // of a trained network's weights; below 0: the first
}

func (o *netOptions) flags(f *pflag.FlagSet) {
	f.StringArrayVar(&o.inputs, "input", nil, "give a network its input `NAME=F.npy`, [n, ...] or [1, ...] for all (a text's encoding)")
	f.StringArrayVar(&o.negative, "negative-input", nil, "guide away from the input `NAME=F.npy`, [1, ...] (the encoding of an empty or a negative text)")
	f.Float64Var(&o.average, "average", -1, "of a checkpoint take the average of the weights with the decay `D`; 0 takes the weights themselves, below 0 the first average")
	f.StringVar(&o.library, "onnxruntime", "", "open the onnxruntime of `LIB`, its file or folder; default: "+onnx.LibraryEnv+", or where fidlab doctor finds it")
}

// empty is the condition of guidance where a model has inputs.
func (o *netOptions) empty(m *model, dev *gpu.Device) (map[string]*gpu.Tensor, error) {
	if m.null != nil {
		out := map[string]*gpu.Tensor{}
		for name, t := range m.null {
			out[name] = t.To(dev)
		}
		return out, nil
	}
	asks := slices.Sorted(maps.Keys(m.inputs))
	out, err := readInputs("--negative-input", o.negative, m.name, asks, 1)
	for name, t := range out {
		out[name] = t.Rows(0, 1).To(dev)
	}
	return out, err
}

// readInputs reads the files of a flag, for n samples, and refuses others than the model asks for.
func readInputs(flag string, pairs []string, model string, asks []string, n int) (map[string]*gpu.Tensor, error) {
	out := map[string]*gpu.Tensor{}
	for _, pair := range pairs {
		name, path, ok := strings.Cut(pair, "=")
		if !ok || path == "" {
			return nil, usagef("%s %q: want NAME=FILE.npy", flag, pair)
		}
		if !slices.Contains(asks, name) {
			return nil, usagef("%s %s: model %s asks for %s", flag, name, model, listed(asks))
		}
		arr, err := tensor.ReadNPY(path)
		if err != nil {
			return nil, &inputError{err}
		}
		if s := arr.Shape; len(s) < 2 || s[0] != 1 && s[0] < n {
			return nil, inputf("%s %s: %s has shape %v; want [1, ...] for all samples, or at least [%d, ...]", flag, name, path, arr.Shape, n)
		}
		v, x := arr.F64(), gpu.CPU().Empty(arr.Shape...)
		for i, e := range v {
			x.F32()[i] = float32(e)
		}
		out[name] = x
	}
	for _, name := range asks {
		if out[name] == nil {
			return nil, usagef("model %s asks for %s; give each with %s NAME=FILE.npy", model, listed(asks), flag)
		}
	}
	return out, nil
}

func listed(asks []string) string {
	if len(asks) == 0 {
		return "no inputs"
	}
	return fmt.Sprintf("the inputs %s", strings.Join(asks, ", "))
}

// repeated is n rows of t: its first ones, in turn where there are fewer.
func repeated(t *gpu.Tensor, n int) *gpu.Tensor {
	have := t.Shape()[0]
	if have >= n {
		return t.Rows(0, n)
	}
	out := t.Device().New(t.DType(), append([]int{n}, t.Shape()[1:]...)...)
	for i := range n {
		out.Rows(i, i+1).Copy(t.Rows(i%have, i%have+1))
	}
	return out
}
