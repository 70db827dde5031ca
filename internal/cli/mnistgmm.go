package cli

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"

	"github.com/fidlab/fidlab/data/mnist"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/tensor"
)

// mnistGMMFit are the settings of the built-in model mnist-gmm: ten components
// for each digit in the hundred leading principal dimensions of the digits'
// fields, without noise outside them. They were chosen by eye and by the Fréchet
// distance of gradient histograms to the training images', with 20 steps of
// dpm++2m: 0.085 (40 dimensions 0.165, 60: 0.117, 150: 0.076 at twice the cost;
// gray values instead of fields, 60 dimensions: 0.233; test images: 0.016).
var mnistGMMFit = sampler.FitOptions{Components: 10, Dims: 100, Iterations: 8, PCAStride: 6, Pool: 30, Seed: 1}

// mnistGMMVersion changes whenever what is fitted does.
const mnistGMMVersion = 1

// mnistGMM is the model mnist-gmm: a Gaussian mixture over 28×28 fields, of
// which the values from 0 to 1 are the picture (clip, then scale to gray). Its
// components are labelled with their digit. It is fitted to MNIST's training
// images at first use, kept in the cache, and fitted again when the cached file
// is damaged or of other settings. tell hears in one line what is done and why;
// progress, which may be nil, the share of the fit that is done. sum is the hash
// of the settings and parameters.
func mnistGMM(ctx context.Context, getenv func(string) string, tell func(string), progress func(float64)) (m *sampler.Mixture, sum string, err error) {
	path, err := cacheFile(getenv, "mnist-gmm.npz")
	if err != nil {
		return nil, "", err
	}
	spec, err := keptMixture(path, tell, func() (*sampler.MixtureSpec, error) {
		set, err := mnist.Load(mnist.Train)
		if err != nil {
			return nil, &inputError{err}
		}
		return fitMNISTGMM(ctx, set, mnistGMMFit, progress)
	})
	if err != nil {
		return nil, "", err
	}
	m, err = sampler.NewMixture(*spec)
	return m, hex.EncodeToString(hashMNISTGMM(mnistGMMEntries(spec))), err
}

// openMNISTGMM opens the model for fidlab sample.
func openMNISTGMM(ctx context.Context, a *app, o opening) (*model, error) {
	var p *progress
	m, sum, err := mnistGMM(ctx, a.env.Getenv, func(line string) { a.say("%s", line) }, func(share float64) {
		if p == nil {
			p = a.progress("fitting "+o.model, "percent", 100)
		}
		p.Set(int(100 * share))
	})
	if p != nil {
		p.End()
	}
	if err != nil {
		return nil, err
	}
	out := mixtureModel(o.model, sum, m)
	out.field = digitField
	return out, nil
}

// keptMixture reads the mixture at path, or fits and keeps it there.
func keptMixture(path string, tell func(string), fit func() (*sampler.MixtureSpec, error)) (*sampler.MixtureSpec, error) {
	spec, err := readMNISTGMM(path)
	switch {
	case err == nil:
		return spec, nil
	case errors.Is(err, fs.ErrNotExist):
		tell("mnist-gmm: fitting a mixture to the MNIST training images, once; it is kept in " + path)
	default:
		tell(fmt.Sprintf("mnist-gmm: fitting again: %v", err))
	}
	if spec, err = fit(); err != nil {
		return nil, err
	}
	if err := writeMNISTGMM(path, spec); err != nil {
		tell(fmt.Sprintf("mnist-gmm: not kept for the next time: %v", err))
	}
	return spec, nil
}

func fitMNISTGMM(ctx context.Context, set *mnist.Set, o sampler.FitOptions, progress func(float64)) (*sampler.MixtureSpec, error) {
	rows := sampler.Rows{
		N: len(set.Images), D: mnist.Height * mnist.Width,
		At: func(i int, dst []float64) { digitField(dst, set.Images[i]) },
	}
	spec, err := sampler.FitMixture(ctx, rows, set.Labels, o, progress)
	if err != nil {
		return nil, err
	}
	spec.Shape = []int{mnist.Height, mnist.Width, 1}
	return spec, nil
}

// writeMNISTGMM keeps the mixture, with the hash of its arrays.
func writeMNISTGMM(path string, s *sampler.MixtureSpec) error {
	entries := mnistGMMEntries(s)
	sum := hashMNISTGMM(entries)
	entries = append(entries, tensor.NPZEntry{Name: "sha256", Array: tensor.FromU8(sum, len(sum))})
	return tensor.WriteNPZ(path, entries, false, tensor.Overwrite)
}

// mnistGMMEntries are the arrays that say everything of the mixture.
func mnistGMMEntries(s *sampler.MixtureSpec) []tensor.NPZEntry {
	K, d, D := len(s.Weights), len(s.Means[0]), len(s.Subspace.Mean)
	var means, covs, basis []float64
	labels := make([]byte, K)
	for k := range K {
		means = append(means, s.Means[k]...)
		for _, row := range s.Covs[k] {
			covs = append(covs, row...)
		}
		labels[k] = byte(s.Labels[k])
	}
	for _, row := range s.Subspace.Basis {
		basis = append(basis, row...)
	}
	return []tensor.NPZEntry{
		{Name: "weights", Array: tensor.FromF64(s.Weights, K)},
		{Name: "means", Array: tensor.FromF64(means, K, d)},
		{Name: "covs", Array: tensor.FromF64(covs, K, d, d)},
		{Name: "labels", Array: tensor.FromU8(labels, K)},
		{Name: "mean", Array: tensor.FromF64(s.Subspace.Mean, D)},
		{Name: "basis", Array: tensor.FromF64(basis, d, D)},
	}
}

// hashMNISTGMM covers the settings too, so that a file of other settings does not pass.
func hashMNISTGMM(entries []tensor.NPZEntry) []byte {
	h := sha256.New()
	fmt.Fprintf(h, "mnist-gmm %d %+v %g %d\n", mnistGMMVersion, mnistGMMFit, fieldSlope, fieldReach)
	for _, e := range entries {
		fmt.Fprintf(h, "%s %s %v\n", e.Name, e.Array.DType, e.Array.Shape)
		h.Write(e.Array.Data)
	}
	return h.Sum(nil)
}

func readMNISTGMM(path string) (*sampler.MixtureSpec, error) {
	z, err := tensor.OpenNPZ(path)
	if err != nil {
		return nil, err
	}
	defer z.Close()
	var entries []tensor.NPZEntry
	arrays := map[string]*tensor.Array{}
	for _, name := range []string{"weights", "means", "covs", "labels", "mean", "basis"} {
		a, err := z.Read(name)
		if err != nil {
			return nil, err
		}
		entries = append(entries, tensor.NPZEntry{Name: name, Array: a})
		arrays[name] = a
	}
	kept, err := z.Read("sha256")
	if err != nil {
		return nil, err
	}
	if sum := hashMNISTGMM(entries); !bytes.Equal(sum, kept.Data) {
		return nil, fmt.Errorf("%s: its hash is %s, its settings and arrays have %s", path, hex.EncodeToString(kept.Data), hex.EncodeToString(sum))
	}
	// The hash vouches for the shapes: the arrays are those that were written.
	K, d, D := arrays["means"].Shape[0], arrays["means"].Shape[1], arrays["mean"].Shape[0]
	means, covs, basis := arrays["means"].F64(), arrays["covs"].F64(), arrays["basis"].F64()
	s := &sampler.MixtureSpec{
		Weights: arrays["weights"].F64(), Shape: []int{mnist.Height, mnist.Width, 1},
		Subspace: &sampler.Subspace{Mean: arrays["mean"].F64()},
	}
	for k := range K {
		s.Means = append(s.Means, means[k*d:(k+1)*d])
		s.Labels = append(s.Labels, int(arrays["labels"].Data[k]))
		cov := make([][]float64, d)
		for i := range cov {
			cov[i] = covs[(k*d+i)*d:][:d]
		}
		s.Covs = append(s.Covs, cov)
	}
	for i := range d {
		s.Subspace.Basis = append(s.Subspace.Basis, basis[i*D:(i+1)*D])
	}
	return s, nil
}
