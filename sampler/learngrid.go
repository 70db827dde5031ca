package sampler

import (
	"context"
	"fmt"
	"math"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
)

// LearnGrid chooses the levels of steps first-order steps among those of a fine
// grid, for one denoiser, by dynamic programming over a reference trajectory (in
// the manner of Pei et al. 2025, "Optimal Stepsize for Diffusion Sampling",
// arXiv 2503.21774). With x_i the reference's states over A and D_i = D(x_i), a
// step from level i to level j would miss x_j by
//
//	e(i,j) = r·x_i + (1-r)·D_i - x_j,   r = sigma_j/sigma_i,
//
// which costs no evaluation. Among the chains of that many steps from the first
// level to the last, the sum of |e(i,j)|·s/s_j is least: s_j is the spread of
// the images' states at level j and s at the end, so that s/s_j is how much of an
// error at j is left at the end. The cost is a bound of the end's error in terms
// of root mean squares over the values of o's images.
//
// The reference walks the fine grid by Heun's method. It evaluates the denoiser
// three times for every level of it, for each of the o.N images. The result
// keeps the fine grid's ends.
func LearnGrid(ctx context.Context, den Denoiser, fine *diffusion.Grid, steps int, o Options) (*diffusion.Grid, float64, error) {
	n := len(fine.Steps)
	if steps < 1 || steps > n {
		return nil, 0, fmt.Errorf("sampler: learn grid: %d steps out of %d; wanted at least 1, and a finer grid to choose from", steps, n)
	}
	if err := Walks(Heun{}, fine); err != nil {
		return nil, 0, err
	}
	if fine.Space == diffusion.FlowSpace {
		fine = fine.In(diffusion.VPSpace) // Heun's steps in sigma
	}
	if first := fine.Steps[0].From; first.A == 0 {
		return nil, 0, fmt.Errorf("sampler: learn grid: grid %s starts at infinite noise, where no step has a length; start it lower", fine.Name)
	}
	t := &trajectory{x: make([][]float64, n+1), d: make([][]float64, n+1)}
	o.Double, o.Each, o.Trajectory = true, nil, t.record
	if _, err := Run(ctx, den, Heun{}, fine, o); err != nil {
		return nil, 0, err
	}
	if err := t.denoise(ctx, den, fine, o); err != nil {
		return nil, 0, err
	}
	chain, cost := t.shortest(fine, steps)
	out := &diffusion.Grid{Name: fmt.Sprintf("learned from %s", fine.Name), Space: fine.Space, Notes: fine.Notes}
	at := func(i int) diffusion.Point {
		if i < n {
			return fine.Steps[i].From
		}
		return fine.Steps[n-1].To
	}
	for k := 1; k < len(chain); k++ {
		out.Steps = append(out.Steps, diffusion.Step{From: at(chain[k-1]), To: at(chain[k])})
	}
	return out, cost, out.Check()
}

// trajectory is a reference: for each level all images' states over A, and
// what the denoiser says there.
type trajectory struct{ x, d [][]float64 }

func (t *trajectory) record(e Event) error {
	v := make([]float64, e.X.Len())
	if err := e.X.Read64(v); err != nil {
		return err
	}
	for i := range v {
		v[i] /= e.At.A
	}
	t.x[e.Step] = append(t.x[e.Step], v...)
	return nil
}

// denoise asks at every noisy level.
func (t *trajectory) denoise(ctx context.Context, den Denoiser, g *diffusion.Grid, o Options) error {
	ask := newAsker(den)
	dev := o.Device
	if dev == nil {
		dev = gpu.CPU()
	}
	shape := append([]int{o.N}, o.Shape...)
	at := make([]diffusion.Point, o.N)
	for i, s := range g.Steps {
		tellStep(den, g, i)
		for b := range at {
			at[b] = diffusion.Point{T: s.From.T, A: 1, B: s.From.Sigma()}
		}
		x := dev.From64(t.x[i], shape...)
		out := x.Like()
		if err := ask.ask(ctx, out, x, at, o.Cond); err != nil {
			return err
		}
		t.d[i] = make([]float64, out.Len())
		if err := out.Read64(t.d[i]); err != nil {
			return err
		}
	}
	return nil
}

// spread is the root mean square of level i's values about their mean over the images.
func (t *trajectory) spread(i int) float64 {
	var mean, sum float64
	for _, v := range t.x[i] {
		mean += v / float64(len(t.x[i]))
	}
	for _, v := range t.x[i] {
		sum += (v - mean) * (v - mean)
	}
	return math.Sqrt(sum / float64(len(t.x[i])))
}

// miss is the root mean square of e(i,j).
func (t *trajectory) miss(i, j int, r float64) float64 {
	var sum float64
	for k, x := range t.x[i] {
		e := r*x + (1-r)*t.d[i][k] - t.x[j][k]
		sum += e * e
	}
	return math.Sqrt(sum / float64(len(t.x[i])))
}

// shortest is the chain of that many steps of least cost, as level numbers.
func (t *trajectory) shortest(g *diffusion.Grid, steps int) ([]int, float64) {
	sigmas := g.Sigmas()
	n := len(sigmas) - 1
	last := t.spread(n)
	cost := make([][]float64, n)
	keep := make([]float64, n+1) // of an error at a level, at the end
	for j := range keep {
		keep[j] = last / max(t.spread(j), math.SmallestNonzeroFloat64)
	}
	for i := range cost {
		cost[i] = make([]float64, n+1)
		for j := i + 1; j <= n; j++ {
			cost[i][j] = t.miss(i, j, sigmas[j]/sigmas[i]) * keep[j]
		}
	}
	best := make([][]float64, steps+1) // best[k][j]: of k steps from level 0 to j
	from := make([][]int, steps+1)
	for k := range best {
		best[k], from[k] = make([]float64, n+1), make([]int, n+1)
		for j := range best[k] {
			best[k][j] = math.Inf(1)
			for i := 0; k > 0 && i < j; i++ {
				if c := best[k-1][i] + cost[i][j]; c < best[k][j] {
					best[k][j], from[k][j] = c, i
				}
			}
		}
		if k == 0 {
			best[0][0] = 0
		}
	}
	chain := make([]int, steps+1)
	chain[steps] = n
	for k := steps; k > 0; k-- {
		chain[k-1] = from[k][chain[k]]
	}
	return chain, best[steps][n]
}
