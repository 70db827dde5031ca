package sampler_test

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/sampler"
)

// trained is the perfect network of Gaussian data, of the variance dev² along
// every direction, or, when it is smooth, along polynomials of the position of at
// most the sixth degree and none across them.
type trained struct {
	path      diffusion.Path
	pred      diffusion.Pred
	mean, dev float64
	smooth    bool
	noise     float64 // relative error of the answer, its sign changing from value to value
}

// legendre is an orthonormal basis of the polynomials on n points.
func legendre(n int) [][]float64 {
	var basis [][]float64
	for d := range 7 {
		v := make([]float64, n)
		for i := range v {
			v[i] = math.Pow(2*float64(i)/float64(n-1)-1, float64(d))
		}
		for range 2 { // twice: Gram and Schmidt lose digits
			for _, u := range basis {
				var dot float64
				for i := range v {
					dot += u[i] * v[i]
				}
				for i := range v {
					v[i] -= dot * u[i]
				}
			}
		}
		var norm float64
		for _, e := range v {
			norm += e * e
		}
		for i := range v {
			v[i] /= math.Sqrt(norm)
		}
		basis = append(basis, v)
	}
	return basis
}

func (n *trained) Forward(_ context.Context, out, x *gpu.Tensor, t []float64, _ sampler.Cond) error {
	size := x.Len() / len(t)
	for r, ti := range t {
		a, b := n.path.Input(n.path.Sigma(ti))
		cx, c0, err := n.pred.FromX0(a, b)
		if err != nil {
			return err
		}
		row, o := x.F32()[r*size:][:size], out.F32()[r*size:][:size]
		x0 := make([]float64, size)
		if n.smooth {
			v := n.dev * n.dev * float64(size) / 7 // so that a value's variance is dev²
			gain := a * v / (a*a*v + b*b)
			for i := range x0 {
				x0[i] = n.mean
			}
			for _, u := range legendre(size) {
				var dot float64
				for i := range u {
					dot += u[i] * (float64(row[i]) - a*n.mean)
				}
				for i := range u {
					x0[i] += gain * dot * u[i]
				}
			}
		} else {
			k, k0 := gaussian{n.mean, n.dev}.coeffs(a, b)
			for i := range x0 {
				x0[i] = k*float64(row[i]) + k0
			}
		}
		for i := range o {
			f := cx*float64(row[i]) + c0*x0[i]
			o[i] = float32(f * (1 + n.noise*float64(1-2*(i%2))))
		}
	}
	return nil
}

var probed = []struct {
	path  string
	preds []diffusion.Pred
}{
	{"vp", []diffusion.Pred{diffusion.PredX0, diffusion.PredEps, diffusion.PredV, diffusion.PredFlow, diffusion.PredFlowReversed, diffusion.PredScore}},
	{"vp-scaled", []diffusion.Pred{diffusion.PredX0, diffusion.PredEps, diffusion.PredV}},
	{"vp-sde", []diffusion.Pred{diffusion.PredEps, diffusion.PredScore}},
	{"ve", []diffusion.Pred{diffusion.PredX0, diffusion.PredEps, diffusion.PredScore}},
	{"edm", []diffusion.Pred{diffusion.PredX0, diffusion.PredEps, diffusion.PredEDM, diffusion.PredTrigFlow}},
	{"trigflow", []diffusion.Pred{diffusion.PredEDM, diffusion.PredTrigFlow}},
	{"flow", []diffusion.Pred{diffusion.PredX0, diffusion.PredEps, diffusion.PredV, diffusion.PredFlow, diffusion.PredFlowReversed}},
	{"flow-reversed", []diffusion.Pred{diffusion.PredFlow, diffusion.PredFlowReversed}},
}

// Of every pair of predictions on every path, the network's own passes, the other
// is refused, and the error names the network's own; with pixel-wise and smooth
// data, and an answer that is off by a tenth.
func TestProbeTellsPredictions(t *testing.T) {
	for _, c := range probed {
		path, err := diffusion.PathByName(c.path)
		if err != nil {
			t.Fatal(err)
		}
		for _, net := range []trained{{mean: 0.1, dev: 0.3}, {mean: -0.2, dev: 0.4, smooth: true}, {dev: 0.4, smooth: true, noise: 0.1}} {
			for _, is := range c.preds {
				net.path, net.pred = path, is
				for _, said := range c.preds {
					err := sampler.Probe(context.Background(), sampler.Convention{Net: &net, Path: path, Pred: said}, sampler.ProbeOptions{Shape: []int{64}, Mean: net.mean, Dev: net.dev})
					if is == said {
						if err != nil {
							t.Errorf("%s, %s, smooth %t: %v", c.path, is, net.smooth, err)
						}
						continue
					}
					var bad *sampler.ConventionError
					if !errors.As(err, &bad) || bad.Fits == nil || bad.Fits.Pred != is {
						t.Errorf("%s: %s taken for %s, smooth %t: error %v", c.path, is, said, net.smooth, err)
					}
				}
			}
		}
	}
}

// renamed tells a network other times.
func renamed(net sampler.Net, told func(t float64) float64) sampler.Net {
	return sampler.NetFunc(func(ctx context.Context, out, x *gpu.Tensor, t []float64, _ []int, _ map[string]*gpu.Tensor) error {
		u := make([]float64, len(t))
		for i := range t {
			u[i] = told(t[i])
		}
		return net.Forward(ctx, out, x, u, sampler.Cond{})
	})
}

// A wrong time, direction or scaling is refused too, and what fits is named.
func TestProbeTellsTimes(t *testing.T) {
	vp, ve := pathOf(t, "vp"), pathOf(t, "ve")
	flow, back := pathOf(t, "flow"), pathOf(t, "flow-reversed")
	eps := &trained{path: vp, pred: diffusion.PredEps, dev: 0.4, smooth: true}
	velocity := &trained{path: back, pred: diffusion.PredFlowReversed, dev: 0.4, smooth: true}
	raw := &trained{path: ve, pred: diffusion.PredEps, dev: 0.4, smooth: true}
	for _, c := range []struct {
		said, is sampler.Convention
		want     string
	}{
		{ // the table's index, said to be told sigma
			sampler.Convention{Net: renamed(eps, vp.Sigma), Path: vp, Pred: diffusion.PredEps},
			sampler.Convention{Name: "time index", Net: eps, Path: vp, Pred: diffusion.PredEps},
			"what fits is prediction eps on path vp, time index",
		},
		{ // data at 1, said to have them at 0
			sampler.Convention{Net: velocity, Path: flow, Pred: diffusion.PredFlow},
			sampler.Convention{Net: velocity, Path: back, Pred: diffusion.PredFlow},
			"what fits is prediction flow-reversed on path flow-reversed",
		},
		{ // fed as it is, said to be fed in VP scaling
			sampler.Convention{Net: renamed(raw, vp.Sigma), Path: vp, Pred: diffusion.PredEps},
			sampler.Convention{Net: raw, Path: diffusion.VE{Min: 0.01, Max: 150}, Pred: diffusion.PredEps},
			"prediction eps on path ve",
		},
	} {
		o := sampler.ProbeOptions{Shape: []int{64}, Dev: 0.4, Others: []sampler.Convention{c.is}}
		if err := sampler.Probe(context.Background(), c.said, o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want %q", err, c.want)
		}
		o.Others = []sampler.Convention{c.said}
		right := c.is
		right.Pred = map[bool]diffusion.Pred{true: diffusion.PredFlowReversed, false: c.is.Pred}[right.Path == back]
		if err := sampler.Probe(context.Background(), right, o); err != nil {
			t.Errorf("%s against %s: %v", right, c.said, err)
		}
	}
}

func pathOf(t *testing.T, name string) diffusion.Path {
	t.Helper()
	p, err := diffusion.PathByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// A network that fits nothing is refused without a guess, with the number.
func TestProbeRefuses(t *testing.T) {
	vp := pathOf(t, "vp")
	zero := sampler.NetFunc(func(_ context.Context, out, x *gpu.Tensor, _ []float64, _ []int, _ map[string]*gpu.Tensor) error {
		for i, v := range x.F32() {
			out.F32()[i] = 0.6*v + 3*float32(math.Sin(float64(i)))
		}
		return nil
	})
	nan := sampler.NetFunc(func(_ context.Context, out, _ *gpu.Tensor, _ []float64, _ []int, _ map[string]*gpu.Tensor) error {
		out.F32()[3] = float32(math.NaN())
		return nil
	})
	ask := func(net sampler.Net, o sampler.ProbeOptions) error {
		return sampler.Probe(context.Background(), sampler.Convention{Net: net, Path: vp, Pred: diffusion.PredEps}, o)
	}
	ok := sampler.ProbeOptions{Shape: []int{8}}
	for want, err := range map[string]error{
		"no convention that was tried fits":                            ask(zero, ok),
		"prediction eps on path vp: the network answers otherwise: at": ask(zero, ok),
		"NaN":              ask(nan, ok),
		"deviation -1":     ask(zero, sampler.ProbeOptions{Shape: []int{8}, Dev: -1}),
		"mean NaN":         ask(zero, sampler.ProbeOptions{Shape: []int{8}, Mean: math.NaN()}),
		"-2 samples":       ask(zero, sampler.ProbeOptions{Shape: []int{8}, N: -2}),
		"wanted some":      ask(zero, sampler.ProbeOptions{Shape: []int{0}}),
		"context canceled": sampler.Probe(canceled(), sampler.Convention{Net: fails{}, Path: vp, Pred: diffusion.PredEps}, ok),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// fails returns its context's error.
type fails struct{}

func (fails) Forward(ctx context.Context, _, _ *gpu.Tensor, _ []float64, _ sampler.Cond) error {
	return ctx.Err()
}
