package fid

import (
	"context"
	"fmt"
	"math"

	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/rng"
)

// What the authors' code does.
const (
	fldCentres = 10000 // generated vectors that stand for the set
	fldBatch   = 10000 // training vectors of a step
	fldEpochs  = 50
	fldRate    = 0.5  // of Adam
	fldFlat    = 5e-4 // the last losses differ by no more: it is over
	fldClamp   = 40.0 // of logarithms of variances
	fldOrigin  = 0.81 // factor of squared distances to the training mean while fitting
	fldLeast   = 1e-3 // added to the least squared distances at the beginning
	fldLowest  = 40.0 // logarithms of shares that are smaller count for nothing in float64
)

// Streams of the subset of centres, of the order of training vectors and of the halves, apart from all others.
const fldStream = 0xf1d1 << 44

// FLDValue is the outcome of "fld".
type FLDValue struct {
	Value    float64 `json:"value"`
	Gap      float64 `json:"gap"`      // 100·(training - test) of the negative log likelihoods a dimension: the lower below 0, the more is copied
	NLL      float64 `json:"nll"`      // of a test vector, a dimension
	Baseline float64 `json:"baseline"` // the same under half of the training vectors
	Centres  int     `json:"centres"`
	Epochs   int     `json:"epochs"`
}

// Number is the divergence.
func (v FLDValue) Number() float64 { return v.Value }

// Figures are the divergence and the gap.
func (v FLDValue) Figures() []Figure { return []Figure{{"fld", v.Value}, {"fld-gap", v.Gap}} }

// computeFLD is the feature likelihood divergence (Jiralerspong et al. 2023): 100 times by how many nats a dimension the
// test vectors are less likely under the generated set than under half of the training set. Either set is a mixture of
// isotropic normal distributions around its vectors, whose variances are fitted to the training vectors, so that a
// generated vector that copies one of those becomes narrow and says nothing of the test set.
func computeFLD(ctx context.Context, c *comparison) (Value, []string, error) {
	if c.opt.Test == nil {
		return nil, nil, badInput("fld: there is no test set: pictures like the reference's that the generator was not trained on")
	}
	if err := needFeatures("fld", c.ref, c.gen, 4); err != nil {
		return nil, nil, err
	}
	test := c.opt.Test
	if err := needFeatures("fld", test, c.gen, 2); err != nil {
		return nil, nil, fmt.Errorf("the test set, as reference: %w", err)
	}
	scale, notes, err := newFLDScale(test)
	if err != nil {
		return nil, nil, err
	}
	seed := c.opt.Interval.Seed
	train, held, gen := scale.apply(c.ref, nil), scale.apply(test, nil), c.gen
	var rows []int
	if gen.N > fldCentres {
		rows = subset(rng.New(seed, fldStream), gen.N, fldCentres)
		notes = append(notes, fmt.Sprintf("fld: of %d generated vectors a random %d", gen.N, fldCentres))
	}
	centres := scale.apply(gen, rows)
	m, err := fitMixture(ctx, centres, train, seed)
	if err != nil {
		return nil, nil, err
	}
	v := FLDValue{Centres: centres.n, Epochs: m.epochs}
	if v.NLL, err = m.nll(ctx, held); err != nil {
		return nil, nil, err
	}
	seen, err := m.nll(ctx, train)
	if err != nil {
		return nil, nil, err
	}
	v.Gap = 100 * (seen - v.NLL)
	order := rng.New(seed, fldStream+1).Perm(train.n)
	half := min(centres.n, train.n/2)
	base, err := fitMixture(ctx, train.rows(order[:half]), train.rows(order[half:]), seed)
	if err != nil {
		return nil, nil, err
	}
	if v.Baseline, err = base.nll(ctx, held); err != nil {
		return nil, nil, err
	}
	v.Value = 100 * (v.NLL - v.Baseline)
	if half < centres.n {
		notes = append(notes, fmt.Sprintf("fld: compared with a mixture of %d training vectors, fewer than the %d generated: give more for the reference, or fewer generated", half, centres.n))
	}
	if v.Value > 1000 || v.Gap < -1000 {
		notes = append(notes, "fld: most of the generated set are copies of the reference")
	}
	return v, notes, nil
}

// cloud is a set's vectors in the test set's units, in float32.
type cloud struct {
	n, d   int
	x      []float32
	square []float64 // squared lengths
}

// fldScale takes the test set's means away and divides by its deviations.
type fldScale struct {
	mean, inverse []float64
	kept          int // features that vary
}

func newFLDScale(test *Stats) (fldScale, []string, error) {
	n, d := test.N, test.Dim()
	s := fldScale{make([]float64, d), make([]float64, d), 0}
	offset := test.offset()
	for i := range n {
		for j, v := range test.Features[i*d : (i+1)*d] {
			s.mean[j] += (float64(v) + offset[j]) / float64(n)
		}
	}
	for i := range n {
		for j, v := range test.Features[i*d : (i+1)*d] {
			t := float64(v) + offset[j] - s.mean[j]
			s.inverse[j] += t * t / float64(n-1)
		}
	}
	for j, v := range s.inverse {
		s.inverse[j] = 0
		if v > 1e-24*s.mean[j]*s.mean[j] {
			s.inverse[j] = 1 / math.Sqrt(v)
			s.kept++
		}
	}
	switch {
	case s.kept == 0:
		return s, nil, numeric("fld: no feature varies in the test set")
	case s.kept < d:
		return s, []string{fmt.Sprintf("fld: %d of %d features do not vary in the test set and are left out", d-s.kept, d)}, nil
	}
	return s, nil, nil
}

// apply makes a cloud of the rows of a set; of all where rows is nil.
func (s *fldScale) apply(set *Stats, rows []int) *cloud {
	n, d := set.N, set.Dim()
	if rows != nil {
		n = len(rows)
	}
	c := &cloud{n: n, d: s.kept, x: make([]float32, n*s.kept), square: make([]float64, n)}
	offset := set.offset()
	const chunk = 64
	cpu.Each((n+chunk-1)/chunk, func(_ *cpu.Worker, k int) {
		for i := k * chunk; i < min(n, (k+1)*chunk); i++ {
			from := i
			if rows != nil {
				from = rows[i]
			}
			out := c.x[i*c.d : i*c.d : (i+1)*c.d]
			for j, v := range set.Features[from*d : (from+1)*d] {
				if s.inverse[j] != 0 {
					out = append(out, float32((float64(v)+offset[j]-s.mean[j])*s.inverse[j]))
				}
			}
			c.square[i] = squareOf(out)
		}
	})
	return c
}

func squareOf(x []float32) float64 {
	sum := 0.0
	for _, v := range x {
		sum += float64(v) * float64(v)
	}
	return sum
}

func (c *cloud) row(i int) []float32 { return c.x[i*c.d : (i+1)*c.d] }

// rows is a cloud of some of c's vectors.
func (c *cloud) rows(which []int) *cloud {
	out := &cloud{n: len(which), d: c.d, x: make([]float32, 0, len(which)*c.d), square: make([]float64, len(which))}
	for i, from := range which {
		out.x = append(out.x, c.row(from)...)
		out.square[i] = c.square[from]
	}
	return out
}

// mean is the vectors' mean.
func (c *cloud) mean() []float64 {
	out := make([]float64, c.d)
	for i := range c.n {
		for j, v := range c.row(i) {
			out[j] += float64(v) / float64(c.n)
		}
	}
	return out
}

// distances writes the squared distances of rows [i, i+m) of c and all rows of q to out [m, q.n]. Where |x|² + |y|² - 2·x·y loses
// digits they are taken from the differences, so that of equal vectors it is 0.
func (c *cloud) distances(w *cpu.Worker, out []float32, i, m int, q *cloud) {
	cpu.Gemm32(w, false, true, m, q.n, c.d, 1, c.x[i*c.d:], c.d, q.x, c.d, 0, out, q.n)
	for r := range m {
		row, x, xx := out[r*q.n:(r+1)*q.n], c.row(i+r), c.square[i+r]
		for k, dot := range row {
			d := xx + q.square[k] - 2*float64(dot)
			if d < 1e-2*(xx+q.square[k]) {
				d = 0
				for j, v := range q.row(k) {
					t := float64(x[j]) - float64(v)
					d += t * t
				}
			}
			row[k] = float32(d)
		}
	}
}

// mixture is isotropic normal distributions of one weight around the vectors of a cloud.
type mixture struct {
	at     *cloud
	logVar []float64
	epochs int
}

// fldRows are the rows of a block of distances. Blocks are shared out to as many parts as there are at most, each with sums of
// its own, so that the result does not depend on the number of threads.
const (
	fldRows  = 64
	fldParts = 32
)

// fitMixture fits the variances to the vectors of x: Adam on the mean negative log likelihood a dimension, with one more
// distribution at x's mean, whose variance is fitted too, so that every vector is somewhat likely.
func fitMixture(ctx context.Context, at, x *cloud, seed uint64) (*mixture, error) {
	m := &mixture{at: at, logVar: make([]float64, at.n)}
	order := rng.New(seed, fldStream+2).Perm(x.n)
	x = x.rows(order)
	dist, origin := make([]float32, x.n*at.n), make([]float64, x.n)
	mean := x.mean()
	if err := eachBlock(ctx, x.n, func(w *cpu.Worker, _, i, rows int) {
		x.distances(w, dist[i*at.n:(i+rows)*at.n], i, rows, at)
		for r := i; r < i+rows; r++ {
			for j, v := range x.row(r) {
				t := float64(v) - mean[j]
				origin[r] += fldOrigin * t * t
			}
		}
	}); err != nil {
		return nil, err
	}
	least := make([]float64, at.n)
	for k := range least {
		least[k] = math.Inf(1)
	}
	for r := range x.n {
		for k, d := range dist[r*at.n : (r+1)*at.n] {
			least[k] = min(least[k], float64(d))
		}
	}
	for k, l := range least {
		m.logVar[k] = math.Log((l + fldLeast) / float64(x.d))
	}
	// The last entry is the distribution at the mean.
	state := newFLDAdam(append(m.logVar, 0))
	m.logVar = state.at[:at.n]
	var losses []float64
	for m.epochs < fldEpochs {
		sum, batches := 0.0, 0
		for i := 0; i < x.n; i += fldBatch {
			n := min(fldBatch, x.n-i)
			loss, err := m.gradient(ctx, dist[i*at.n:(i+n)*at.n], origin[i:i+n], state)
			if err != nil {
				return nil, err
			}
			state.step()
			sum, batches = sum+loss, batches+1
		}
		losses = append(losses, sum/float64(batches))
		m.epochs++
		if n := len(losses); n > 6 && spread(losses[n-5:]) < fldFlat {
			break
		}
	}
	return m, nil
}

// spread is the most by which one of the losses differs from the last.
func spread(losses []float64) float64 {
	most, last := 0.0, losses[len(losses)-1]
	for _, l := range losses {
		most = max(most, math.Abs(last-l))
	}
	return most
}

// gradient leaves the loss's gradient in state and returns the loss.
func (m *mixture) gradient(ctx context.Context, dist []float32, origin []float64, state *fldAdam) (float64, error) {
	n, k := len(origin), m.at.n
	t := m.terms(state.at[k])
	grads, losses := make([][]float64, fldParts), make([]float64, fldParts)
	err := eachBlock(ctx, n, func(_ *cpu.Worker, part, i, rows int) {
		if grads[part] == nil {
			grads[part] = make([]float64, k+1)
		}
		g, log := grads[part], make([]float64, k)
		for r := i; r < i+rows; r++ {
			last := t.lastConstant - t.lastInverse*origin[r]
			lse := t.logs(log, dist[r*k:(r+1)*k], last)
			losses[part] -= lse
			for j, l := range log {
				if l-lse > -fldLowest {
					g[j] -= math.Exp(l-lse) * (t.inverse[j]*float64(dist[r*k+j]) - float64(m.at.d)/2)
				}
			}
			g[k] -= math.Exp(last-lse) * (t.lastInverse*origin[r] - float64(m.at.d)/2)
		}
	})
	if err != nil {
		return 0, err
	}
	clear(state.grad)
	per := 1 / (float64(n) * float64(m.at.d))
	for _, g := range grads {
		for j := range state.grad {
			if g != nil {
				state.grad[j] += per * g[j]
			}
		}
	}
	return per * sum(losses), nil
}

// fldTerms are what log(share · density) of a distribution is at a squared distance: constant - inverse·distance.
type fldTerms struct {
	constant, inverse         []float64
	lastConstant, lastInverse float64
}

// terms are those of m, and of one more distribution, of share 1.
func (m *mixture) terms(logVar float64) fldTerms {
	half := float64(m.at.d) / 2
	of := func(l float64) (constant, inverse float64) {
		return -half * (l + math.Log(2*math.Pi)), 0.5 * math.Exp(-l)
	}
	t := fldTerms{constant: make([]float64, m.at.n), inverse: make([]float64, m.at.n)}
	for j := range t.constant {
		t.constant[j], t.inverse[j] = of(m.logVar[j])
		t.constant[j] -= math.Log(float64(m.at.n))
	}
	t.lastConstant, t.lastInverse = of(logVar)
	return t
}

// logs writes the logarithms at the distances to log and returns that of the sum of their exponentials and of last's.
func (t *fldTerms) logs(log []float64, dist []float32, last float64) float64 {
	most := last
	for j, d := range dist {
		l := t.constant[j] - t.inverse[j]*float64(d)
		log[j] = l
		most = max(most, l)
	}
	total := math.Exp(last - most)
	for _, l := range log {
		if l-most > -fldLowest {
			total += math.Exp(l - most)
		}
	}
	return most + math.Log(total)
}

// nll is the mean negative log likelihood of x's vectors, a dimension.
func (m *mixture) nll(ctx context.Context, x *cloud) (float64, error) {
	t, k := m.terms(0), m.at.n
	sums := make([]float64, fldParts)
	err := eachBlock(ctx, x.n, func(w *cpu.Worker, part, i, rows int) {
		dist, log := make([]float32, rows*k), make([]float64, k)
		x.distances(w, dist, i, rows, m.at)
		for r := range rows {
			sums[part] -= t.logs(log, dist[r*k:(r+1)*k], math.Inf(-1))
		}
	})
	return sum(sums) / float64(x.n) / float64(x.d), err
}

// eachBlock calls f for blocks of rows of n, those of a part one after another.
func eachBlock(ctx context.Context, n int, f func(w *cpu.Worker, part, i, rows int)) error {
	blocks := (n + fldRows - 1) / fldRows
	errs := make([]error, fldParts)
	cpu.Each(fldParts, func(w *cpu.Worker, part int) {
		for b := part; b < blocks && errs[part] == nil; b += fldParts {
			f(w, part, b*fldRows, min(fldRows, n-b*fldRows))
			errs[part] = ctx.Err()
		}
	})
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// fldAdam is Adam (Kingma and Ba 2015) with its usual constants.
type fldAdam struct {
	at, grad, first, second []float64
	steps                   int
}

func newFLDAdam(at []float64) *fldAdam {
	n := len(at)
	return &fldAdam{at: at, grad: make([]float64, n), first: make([]float64, n), second: make([]float64, n)}
}

// step changes all but clamps only the distributions of the mixture, whose entries are all but the last.
func (a *fldAdam) step() {
	a.steps++
	b1, b2 := 1-math.Pow(0.9, float64(a.steps)), 1-math.Pow(0.999, float64(a.steps))
	for j, g := range a.grad {
		a.first[j] = 0.9*a.first[j] + 0.1*g
		a.second[j] = 0.999*a.second[j] + 0.001*g*g
		a.at[j] -= fldRate * a.first[j] / b1 / (math.Sqrt(a.second[j]/b2) + 1e-8)
		if j < len(a.at)-1 {
			a.at[j] = min(max(a.at[j], -fldClamp), fldClamp)
		}
	}
}
