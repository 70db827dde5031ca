package gsjacobi

import (
	"fmt"
	"math"
	"slices"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/models/flow"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

// BlockReport is what a block's metrics say.
type BlockReport struct {
	Block int `json:"block"` // its number in the flow
	// CRM, the convergence ranking metric, ‖mean(exp(-a)·x)‖·‖W_a‖ + ‖W_b‖ with the mean over pictures, [T, D], W the output layer's two
	// halves and spectral norms, and its share of the sum over blocks. A block with a large one takes many iterations.
	CRM   float64 `json:"crm"`
	Share float64 `json:"share"`
	// IGM, the initial guessing metric, ‖mean(update(start) - x)‖ of both starts: how far one iteration lands from the tokens.
	FromLatent float64 `json:"igm_latent"`
	FromZeros  float64 `json:"igm_zeros"`
	Start      string  `json:"start"` // of the smaller one
	// Iterations of Jacobi's iteration of the whole block, from Start, of the slowest of the pictures tried.
	Iterations int     `json:"iterations"`
	Tough      bool    `json:"tough"`
	Fewest     Setting `json:"fewest"` // the setting with the fewest calls of the network
	Even       Setting `json:"even"`   // cut so that no segment takes more iterations than a block that is not tough
}

// Report is the blocks' metrics in the order of sampling, the last block first.
type Report struct {
	Blocks []BlockReport `json:"blocks"`
}

// Strategy is the suggested one: the fewest calls, or with even the less work.
func (r *Report) Strategy(even bool) Strategy {
	var s Strategy
	for _, b := range r.Blocks {
		if even {
			s = append(s, b.Even)
		} else {
			s = append(s, b.Fewest)
		}
	}
	return s
}

// Probed is how many pictures the iterations are tried on.
const Probed = 32

// Analyze computes the metrics of a flow's blocks of pictures x [N, C, H, W], about 1000 such as it was trained on, in one pass, without
// a class where the flow has classes, and suggests strategies for a bound (see Options):
//
//   - a block starts as its IGM says;
//   - the fewest blocks that hold half of all CRM are tough;
//   - the others are one segment each. J is the most iterations that one of them takes on the first of the pictures;
//   - a tough block is cut into the fewest segments that each take at most J, the even strategy; of the ways to cut it up to there, the
//     other strategy takes the one with the fewest calls of the network, all segments together.
//
// How many iterations a segment takes is left open: they end when it has converged.
func Analyze(t *nn.Tape, m *flow.Net, x *gpu.Tensor, bound float64) (*Report, error) {
	c, s := &m.Config, x.Shape()
	if len(s) != 4 || s[0] < 1 || s[1] != c.Channels || s[2] != c.PictureHeight || s[3] != c.PictureWidth {
		return nil, refuse("pictures of shape %v; want [N, %d, %d, %d]", s, c.Channels, c.PictureHeight, c.PictureWidth)
	}
	a := &analysis{t: t, m: m, o: Options{Bound: bound}}
	if err := a.o.check(*c); err != nil {
		return nil, err
	}
	for range m.Blocks {
		n := c.Tokens() * c.Dim()
		a.sums = append(a.sums, blockSums{make([]float64, n), make([]float64, n), make([]float64, n)})
	}
	for first := 0; first < s[0]; first += analyzed {
		a.pass(x.Rows(first, min(first+analyzed, s[0])), first == 0)
	}
	r, err := a.report(s[0])
	if err != nil {
		return nil, err
	}
	return r, a.suggest(r)
}

// analyzed is how many pictures go through the flow at a time.
const analyzed = 50

// blockSums are sums over pictures, [T, D], in the block's order.
type blockSums struct{ scaled, latent, zeros []float64 }

type analysis struct {
	t       *nn.Tape
	m       *flow.Net
	o       Options
	sums    []blockSums
	latents []*gpu.Tensor // of the pictures that are tried, of each block
}

// none is n times no class.
func (a *analysis) none(n int) *gpu.Tensor {
	if a.m.Config.Classes == 0 {
		return nil
	}
	return gpu.CPU().FromInt32(slices.Repeat([]int32{int32(a.m.Config.Classes)}, n), n)
}

// pass takes pictures through the flow.
func (a *analysis) pass(x *gpu.Tensor, keep bool) {
	n, c := x.Shape()[0], &a.m.Config
	none := a.none(n)
	at := a.t.Device().New(a.t.DType(), n, c.Tokens(), c.Dim())
	a.t.Run(func() {
		a.t.NoGrad(func() { at.Copy(a.t.Input(x).Patchify(c.Patch, nn.ChannelsFirst).Value()) })
	})
	for k, b := range a.m.Blocks {
		order := func(v *nn.Var) *nn.Var {
			if b.Reverse {
				return v.Flip(1)
			}
			return v
		}
		next := at.Like()
		a.t.Run(func() {
			a.t.NoGrad(func() {
				t := a.t
				v := order(t.Input(at))
				scale, shift := b.Coefficients(v, none)
				scaled, z := v, v.Sub(shift)
				if scale != nil {
					down := scale.Neg().Exp()
					scaled, z = v.Mul(down), z.Mul(down)
				}
				addTo(a.sums[k].scaled, scaled)
				next.Copy(order(z).Value())
				zeros := nn.Concat(1, z.Slice(1, 0, 1), t.Const(0, n, c.Tokens()-1, c.Dim()))
				addTo(a.sums[k].latent, updated(b, z, z, none).Sub(v))
				addTo(a.sums[k].zeros, updated(b, zeros, z, none).Sub(v))
			})
		})
		at = next
		if keep {
			a.latents = append(a.latents, at.Rows(0, min(n, Probed)))
		}
	}
}

// updated is an iteration of tokens x of a block with latent z, both in its order.
func updated(b *flow.Block, x, z *nn.Var, classes *gpu.Tensor) *nn.Var {
	scale, shift := b.Coefficients(x, classes)
	if scale != nil {
		z = z.Mul(scale.Exp())
	}
	return z.Add(shift)
}

// addTo adds x [N, T, D], summed over the first axis in its order, in float64.
func addTo(sum []float64, x *nn.Var) {
	v := make([]float64, x.Value().Len())
	if x.Value().Read64(v) != nil {
		return // the device has failed, which report says
	}
	for i, e := range v {
		sum[i%len(sum)] += e
	}
}

func (a *analysis) report(n int) (*Report, error) {
	c := &a.m.Config
	r := &Report{}
	var total float64
	for k := len(a.m.Blocks) - 1; k >= 0; k-- {
		norm := func(sum []float64) (float64, error) {
			mean := make([]float64, len(sum))
			for i, e := range sum {
				mean[i] = e / float64(n)
			}
			return spectralNorm(mean, c.Dim())
		}
		out := BlockReport{Block: k}
		scaled, err := norm(a.sums[k].scaled)
		if err != nil {
			return nil, blockError(k, err)
		}
		wa, wb, err := outNorms(a.m.Blocks[k])
		if err != nil {
			return nil, blockError(k, err)
		}
		out.CRM = scaled*wa + wb
		if out.FromLatent, err = norm(a.sums[k].latent); err != nil {
			out.FromLatent = math.MaxFloat64 // the iterate overflows
		}
		if out.FromZeros, err = norm(a.sums[k].zeros); err != nil {
			out.FromZeros = math.MaxFloat64
		}
		if out.FromZeros < out.FromLatent {
			out.Even.Start = FromZeros
		}
		out.Start = out.Even.Start.String()
		total += out.CRM
		r.Blocks = append(r.Blocks, out)
	}
	for i := range r.Blocks {
		if total > 0 {
			r.Blocks[i].Share = r.Blocks[i].CRM / total
		}
	}
	return r, a.t.Device().Err()
}

func blockError(k int, err error) error { return fmt.Errorf("gsjacobi: block %d: %w", k, err) }

// outNorms are the spectral norms of the output layer's halves, of a and of b; that of a is 0 for an additive flow.
func outNorms(b *flow.Block) (wa, wb float64, err error) {
	w := b.Out.W.Value // [2·D, width]
	v := make([]float64, w.Len())
	if err := w.Read64(v); err != nil {
		return 0, 0, err
	}
	width := b.Config.Width
	half := b.Config.Dim() * width
	if !b.Config.Additive {
		if wa, err = spectralNorm(v[:half], width); err != nil {
			return 0, 0, err
		}
		v = v[half:]
	}
	wb, err = spectralNorm(v, width)
	return wa, wb, err
}

// spectralNorm is the greatest singular value of a matrix with so many columns: the root of the greatest eigenvalue of its square, of
// the smaller of both orders.
func spectralNorm(m []float64, columns int) (float64, error) {
	rows := len(m) / columns
	n, at := columns, func(i, k int) float64 { return m[k*columns+i] }
	inner := rows
	if rows < columns {
		n, inner, at = rows, columns, func(i, k int) float64 { return m[i*columns+k] }
	}
	g := make([]float64, n*n)
	for i := range n {
		for j := range i + 1 {
			var s float64
			for k := range inner {
				s += at(i, k) * at(j, k)
			}
			g[i*n+j], g[j*n+i] = s, s
		}
	}
	values := gpu.CPU().New(gpu.Float64, 1, n)
	if err := ops.Eigh(values, nil, gpu.CPU().From64(g, 1, n, n)); err != nil {
		return 0, err
	}
	return math.Sqrt(max(slices.Max(values.F64()), 0)), nil
}

// suggest makes the strategy.
func (a *analysis) suggest(r *Report) error {
	byCRM := make([]int, len(r.Blocks))
	for i := range byCRM {
		byCRM[i] = i
	}
	slices.SortStableFunc(byCRM, func(i, j int) int {
		switch {
		case r.Blocks[i].CRM > r.Blocks[j].CRM:
			return -1
		case r.Blocks[i].CRM < r.Blocks[j].CRM:
			return 1
		}
		return 0
	})
	var held float64
	for _, i := range byCRM {
		if held >= 0.5 || len(r.Blocks) == 1 {
			break
		}
		r.Blocks[i].Tough = true
		held += r.Blocks[i].Share
	}
	most := 1 // J
	for i := range r.Blocks {
		b := &r.Blocks[i]
		b.Even.Segments = 1
		b.Fewest = b.Even
		var err error
		if b.Iterations, _, err = a.try(b.Block, b.Even); err != nil {
			return err
		}
		if !b.Tough {
			most = max(most, b.Iterations)
		}
	}
	for i := range r.Blocks {
		b := &r.Blocks[i]
		fewest := b.Iterations
		for n := b.Iterations; b.Tough && n > most; {
			list := divisors(a.m.Config.Tokens())
			b.Even.Segments = list[slices.Index(list, b.Even.Segments)+1] // as many as there are tokens take one iteration each
			var calls int
			var err error
			if n, calls, err = a.try(b.Block, b.Even); err != nil {
				return err
			}
			if calls <= fewest { // of equals the one of less work
				b.Fewest, fewest = b.Even, calls
			}
		}
	}
	return nil
}

// try is the most iterations that a segment of a block takes on the pictures that are tried, and the calls of all.
func (a *analysis) try(block int, how Setting) (most, calls int, err error) {
	z := a.latents[block]
	o := a.o
	o.Classes = a.none(z.Shape()[0])
	r := newSolver(a.t, a.m, z.Shape()[0], o)
	x := z.Like()
	x.Copy(z)
	if err := r.block(block, how, x); err != nil {
		return 0, 0, err
	}
	return slices.Max(r.stats.Iterations[block]), r.stats.Calls, nil
}
