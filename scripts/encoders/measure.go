package main

import (
	"errors"
	"fmt"
	"math"

	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/fid/extract"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/nn/tower"
	"github.com/fidlab/fidlab/rng"
)

// blank is an encoder of the task with no weights to speak of, for its ways with pictures.
func (t *task) blank() *extract.Encoder {
	spec := t.spec()
	params := nn.NewParams(gpu.CPU(), gpu.Float32)
	net := tower.NewEncoder(params.At(""), spec.Network)
	params.Init(0)
	return extract.NewEncoder(spec, params, net, "")
}

// vectors are features of several pictures, in their order.
type vectors struct {
	dim  int
	rows []float32
}

func (v vectors) n() int { return len(v.rows) / v.dim }

// picked are those of the given numbers.
func (v vectors) picked(which []int) vectors {
	out := vectors{dim: v.dim}
	for _, i := range which {
		out.rows = append(out.rows, v.rows[i*v.dim:(i+1)*v.dim]...)
	}
	return out
}

// features are those of n pictures, each cut into its views.
func features(e *extract.Encoder, n int, picture func(i int) *imageio.Image) (vectors, error) {
	d := e.Info().Dim
	all, errs := make([][]float32, n), make([]error, n)
	cpu.Each(n, func(w *cpu.Worker, i int) {
		views := e.Cut(picture(i))
		all[i] = make([]float32, len(views)*d)
		errs[i] = e.Features(w, views, all[i])
	})
	out := vectors{dim: d}
	for _, r := range all {
		out.rows = append(out.rows, r...)
	}
	return out, errors.Join(errs...)
}

// distance is the Fréchet distance of two sets of vectors.
func distance(a, b vectors) (float64, error) {
	var s [2]*fid.Stats
	for k, v := range []vectors{a, b} {
		var err error
		if s[k], err = fid.FromFeatures(v.rows, v.n(), v.dim); err != nil {
			return 0, err
		}
	}
	d, err := fid.Frechet(s[0], s[1])
	return d.Value, err
}

// score is how well a head answers.
type score struct {
	Head  string  `json:"head"`
	Right float64 `json:"right"` // share of right classes, or of right flags
	All   float64 `json:"all"`   // share of items whose flags are all right; of numbers 1 − the squared error over the variance
}

// judge compares the answers of the heads from features with the truth, both by view.
func judge(e interface {
	Answers(features []float32) []float32
}, heads []extract.Head, v vectors, truth [][]float32) []score {
	out := make([]score, len(heads))
	squares, sums, sumSquares := make([]float64, len(heads)), make([]float64, len(heads)), make([]float64, len(heads))
	for i := range truth {
		z, want := e.Answers(v.rows[i*v.dim:(i+1)*v.dim]), truth[i]
		for k, h := range heads {
			own := z[:h.N]
			z = z[h.N:]
			switch h.Kind {
			case extract.Class:
				best := 0
				for j, x := range own {
					if x > own[best] {
						best = j
					}
				}
				if best == int(want[0]) {
					out[k].Right++
					out[k].All++
				}
				want = want[1:]
				continue
			case extract.Flags:
				right := 0
				for j, x := range own {
					if (x > 0) == (want[j] > 0.5) {
						right++
					}
				}
				out[k].Right += float64(right) / float64(h.N)
				if right == h.N {
					out[k].All++
				}
			default:
				for j, x := range own {
					d, y := float64(x)-float64(want[j]), float64(want[j])
					squares[k] += d * d / float64(h.N)
					sums[k] += y / float64(h.N)
					sumSquares[k] += y * y / float64(h.N)
				}
			}
			want = want[h.N:]
		}
	}
	n := float64(len(truth))
	for k, h := range heads {
		out[k].Head = h.Name
		if h.Kind == extract.Number {
			out[k].Right = math.NaN()
			out[k].All = math.NaN() // where all items have one answer there is nothing to explain
			if v := sumSquares[k] - sums[k]*sums[k]/n; v > 0 {
				out[k].All = 1 - squares[k]/v
			}
			continue
		}
		out[k].Right /= n
		out[k].All /= n
	}
	return out
}

// scores judges an encoder on the first n items of the split test.
func (s source) scores(e *extract.Encoder, n int) ([]score, vectors, error) {
	var truth [][]float32
	for i := range n {
		truth = append(truth, s.answers(s.test, i)...)
	}
	v, err := features(e, n, func(i int) *imageio.Image { return s.picture(s.test, i) })
	if err != nil {
		return nil, v, err
	}
	return judge(e, e.Spec().Heads, v, truth), v, nil
}

// floor is the distance of two real sets of n vectors.
type floor struct {
	N     int
	Floor float64 // of two halves of ref
	Test  float64 // of test and a half of ref
}

// floors are the floors for several n: means over draws of disjoint random parts.
func floors(test, ref vectors, ns []int) ([]floor, error) {
	var out []floor
	for _, n := range ns {
		if n > test.n() || 2*n > ref.n() {
			continue
		}
		draws := 5
		f := floor{N: n}
		for k := range draws {
			r := rng.New(3, uint64(k))
			order, own := r.Perm(ref.n()), r.Perm(test.n())
			a, b, c := ref.picked(order[:n]), ref.picked(order[n:2*n]), test.picked(own[:n])
			d, err := distance(a, b)
			if err != nil {
				return nil, err
			}
			f.Floor += d / float64(draws)
			if d, err = distance(a, c); err != nil {
				return nil, err
			}
			f.Test += d / float64(draws)
		}
		out = append(out, f)
	}
	return out, nil
}

// curve is the distance of a damaged set from ref by level.
type curve struct {
	damage
	values []float64
}

// rises tells whether every level is farther away than the one before.
func (c curve) rises() bool {
	for i := 1; i < len(c.values); i++ {
		if !(c.values[i] > c.values[i-1]) {
			return false
		}
	}
	return true
}

// curves measures every damage on the first n items of test.
func (s source) curves(e *extract.Encoder, ref vectors, n int) ([]curve, error) {
	var out []curve
	for _, d := range s.damages {
		c := curve{damage: d}
		for _, level := range d.levels {
			v, err := features(e, n, func(i int) *imageio.Image { return d.worse(s.test, i, level) })
			if err != nil {
				return nil, err
			}
			far, err := distance(ref, v)
			if err != nil {
				return nil, fmt.Errorf("%s %g: %w", d.name, level, err)
			}
			c.values = append(c.values, far)
		}
		out = append(out, c)
	}
	return out, nil
}

// refFeatures are those of the first n items of ref.
func (s source) refFeatures(e *extract.Encoder, n int) (vectors, error) {
	return features(e, n, func(i int) *imageio.Image { return s.picture(s.ref, i) })
}
