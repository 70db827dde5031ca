package sampler

import (
	"fmt"
	"math"
	"slices"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/tensor"
)

// Recorder collects the states of a run for a trajectory file. Its Record is an
// Options.Trajectory.
type Recorder struct {
	grid   *diffusion.Grid
	n      int
	double bool
	shape  []int
	states []float64 // [steps+1, n, ...]
	first  int
	seen   int
}

// maxRecorded bounds the values of a trajectory: 4 GB in float64.
const maxRecorded = 1 << 29

// NewRecorder makes room for the states of o's images along g. Trajectories
// are large; one of more than 2^29 values is refused.
func NewRecorder(g *diffusion.Grid, o Options) (*Recorder, error) {
	size := sizeOf(o.Shape)
	r := &Recorder{grid: g, n: o.N, double: o.Double, shape: o.Shape, first: o.First}
	if total := float64(len(g.Steps)+1) * float64(o.N) * float64(size); total > maxRecorded {
		return nil, fmt.Errorf("sampler: a trajectory of %d states of %d images of %v has %.3g values; wanted at most %d: record fewer images",
			len(g.Steps)+1, o.N, o.Shape, total, maxRecorded)
	}
	r.states = make([]float64, (len(g.Steps)+1)*o.N*size)
	return r, nil
}

// Record keeps one state.
func (r *Recorder) Record(e Event) error {
	n := e.X.Shape()[0]
	size := e.X.Len() / n
	dst := r.states[(e.Step*r.n+e.First-r.first)*size:][:n*size]
	r.seen += n
	return e.X.Read64(dst)
}

// Entries are the arrays of a trajectory file:
//
//	states  [steps+1, N, ...]  float32 or float64, as they were computed
//	sigmas  [steps+1]          noise level of each state, +Inf for pure noise
//	a, b    [steps+1]          each state is a·x0 + b·n
//	times   [steps+1]          the path's time of each state
//
// It panics when the run has not finished.
func (r *Recorder) Entries() []tensor.NPZEntry {
	steps := len(r.grid.Steps)
	if r.seen != (steps+1)*r.n {
		panic(fmt.Sprintf("sampler: Recorder: %d states of %d recorded", r.seen, (steps+1)*r.n))
	}
	var sigmas, a, b, t []float64
	add := func(p diffusion.Point) {
		sigmas, a, b, t = append(sigmas, p.Sigma()), append(a, p.A), append(b, p.B), append(t, p.T)
	}
	add(r.grid.Steps[0].From)
	for _, s := range r.grid.Steps {
		add(s.To)
	}
	shape := append([]int{steps + 1, r.n}, r.shape...)
	states := tensor.FromF64(r.states, shape...)
	if !r.double {
		states = tensor.FromF32(states.F32(), shape...)
	}
	return []tensor.NPZEntry{
		{Name: "states", Array: states},
		{Name: "sigmas", Array: tensor.FromF64(sigmas, steps+1)},
		{Name: "a", Array: tensor.FromF64(a, steps+1)},
		{Name: "b", Array: tensor.FromF64(b, steps+1)},
		{Name: "times", Array: tensor.FromF64(t, steps+1)},
	}
}

// ReadStart reads a .npy file of floats for Options.Noise, Image or State: its
// shape must be [n, shape...] or [n, product of shape], with at least n images,
// of which the first n are used.
func ReadStart(path string, n int, shape []int, double bool) (*gpu.Tensor, error) {
	arr, err := tensor.ReadNPY(path)
	if err != nil {
		return nil, err
	}
	if arr.DType != tensor.F32 && arr.DType != tensor.F64 && arr.DType != tensor.F16 {
		return nil, fmt.Errorf("%s: elements are %s; wanted float16, float32 or float64", path, arr.DType)
	}
	size := sizeOf(shape)
	s := arr.Shape
	fits := len(s) > 0 && (slices.Equal(s[1:], shape) || len(s) == 2 && s[1] == size)
	if !fits || s[0] < n {
		return nil, fmt.Errorf("%s: shape %v; wanted [%d or more, then %v]", path, s, n, shape)
	}
	full := append([]int{n}, shape...)
	if double {
		return gpu.CPU().From64(arr.F64()[:n*size], full...), nil
	}
	v := arr.F32()[:n*size]
	for i, e := range v {
		if math.IsInf(float64(e), 0) {
			return nil, fmt.Errorf("%s: element %d does not fit float32 (or is infinite)", path, i)
		}
	}
	return gpu.CPU().From(v, full...), nil
}
