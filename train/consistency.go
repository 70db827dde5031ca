package train

import (
	"fmt"
	"math"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/rng"
)

// Consistency is the loss of consistency training (Song et al. 2023, arXiv 2303.01469) in the form of Song and Dhariwal
// 2024 (arXiv 2310.14189): with levels sigma_1 < … < sigma_N and pairs of neighbours drawn by DrawPair,
//
//	w·d(f(x0 + sigma_{i+1}·n, sigma_{i+1}), stop f(x0 + sigma_i·n, sigma_i)),   w = 1/(sigma_{i+1} - sigma_i),
//
// of one network with the same noise and the same dropout in both, d the pseudo-Huber distance and f = skip·x + out·F the
// model that is the identity at the least level (EDM.Boundary).
type Consistency struct {
	Net  models.Net
	Path diffusion.EDM
	// Huber is c of the distance; 0: 0.00054·√(values of an example), that of the source.
	Huber float64
	// Mean and Dev are those of the draw of ln sigma; both 0: -1.1 and 2.0, those of the source.
	Mean, Dev float64

	// What the method was before, to compare with (Song et al. 2023): the squared error, summed over an example, in place of the
	// pseudo-Huber distance; every pair alike; the weight 1; a teacher with weights of its own, an average of the network's.
	Squares, Uniform, Plain bool
	Teacher                 models.Net
	// Flow, a denoiser of EDM's form that is trained already, makes it consistency distillation: the lower state is one step of
	// Heun's method along its flow from the upper one, and not the same noise at the lower level.
	Flow models.Net

	levels []float64
	cum    []float64 // probabilities of the pairs, summed up
	noise  *gpu.Tensor
	lo, hi side
	step   *flowStep // of Flow
	weigh  *gpu.Tensor
	of     []float64
}

// side is one of the two levels of a pair.
type side struct {
	x, in     *gpu.Tensor // the state and the network's input
	times     *gpu.Tensor
	skip, out *gpu.Tensor // [B, 1, 1, 1]
	state     []float64
	input     []float64
	t, s, o   []float64
	ones      *gpu.Tensor // what times are made of
}

func newSide(x0 *gpu.Tensor) side {
	n := x0.Shape()[0]
	one := make([]int, len(x0.Shape()))
	for i := range one {
		one[i] = 1
	}
	one[0] = n
	dev, dt := x0.Device(), x0.DType()
	ones := dev.New(dt, n)
	ops.Fill(ones, 1)
	return side{ones: ones, x: x0.Like(), in: x0.Like(), times: dev.New(dt, n), skip: dev.New(dt, one...), out: dev.New(dt, one...),
		state: make([]float64, 2*n), input: make([]float64, n), t: make([]float64, n), s: make([]float64, n), o: make([]float64, n)}
}

// ConsistencyLevels are the N levels of the source, least first: Karras' with rho 7 between Min and Max.
func ConsistencyLevels(p diffusion.EDM, n int) []float64 {
	if n < 2 {
		panic(fmt.Sprintf("train: ConsistencyLevels: %d levels, want 2 or more", n))
	}
	const rho = 7
	lo, hi := math.Pow(p.Min, 1./rho), math.Pow(p.Max, 1./rho)
	out := make([]float64, n)
	for i := range out {
		out[i] = math.Pow(lo+(hi-lo)*float64(i)/float64(n-1), rho)
	}
	out[0], out[n-1] = p.Min, p.Max
	return out
}

// ConsistencyCount is the source's curriculum: the number of levels at a step of a run of so many, which doubles from first to
// last at equal times: min(first·2^⌊step/K'⌋, last) + 1 with K' = ⌊steps/(log2⌊last/first⌋ + 1)⌋.
func ConsistencyCount(step, steps, first, last int) int {
	every := math.Floor(float64(steps) / (math.Log2(math.Floor(float64(last)/float64(first))) + 1))
	return int(min(float64(first)*math.Pow(2, math.Floor(float64(step)/max(1, every))), float64(last))) + 1
}

// SetLevels gives the levels, least first; a curriculum calls it again as it goes on. Pair i has the probability of ln sigma between
// its levels under the normal draw: erf((ln sigma_{i+1} - Mean)/(√2·Dev)) - erf((ln sigma_i - Mean)/(√2·Dev)).
func (l *Consistency) SetLevels(levels []float64) {
	mean, dev := l.Mean, l.Dev
	if mean == 0 && dev == 0 {
		mean, dev = -1.1, 2
	}
	if len(levels) < 2 || levels[0] != l.Path.Min || !(dev > 0) {
		panic(fmt.Sprintf("train: Consistency: levels %v with a deviation of %g, want two or more from the path's least, %g, on", levels, dev, l.Path.Min))
	}
	l.levels, l.cum = levels, l.cum[:0]
	at := func(s float64) float64 { return math.Erf((math.Log(s) - mean) / (math.Sqrt2 * dev)) }
	sum := 0.0
	for i := range len(levels) - 1 {
		if !(levels[i+1] > levels[i]) {
			panic(fmt.Sprintf("train: Consistency: level %d is %g after %g; want rising levels", i+1, levels[i+1], levels[i]))
		}
		if l.Uniform {
			sum++
		} else {
			sum += at(levels[i+1]) - at(levels[i])
		}
		l.cum = append(l.cum, sum)
	}
}

// pair draws the lower level's number.
func (l *Consistency) pair(s *rng.Stream) int {
	u := s.Float64() * l.cum[len(l.cum)-1]
	for i, c := range l.cum {
		if u < c {
			return i
		}
	}
	return len(l.cum) - 1
}

// Loss is the loss of a batch. in is made by the caller for both levels: classes and the like; the caller's network
// draws the same dropout both times (Batch.Mask).
func (l *Consistency) Loss(b *Batch, x0 *gpu.Tensor, in models.Inputs) *nn.Var {
	if l.levels == nil {
		panic("train: Consistency: Loss before SetLevels")
	}
	if l.noise == nil || l.noise.Len() != x0.Len() {
		l.noise, l.lo, l.hi = x0.Like(), newSide(x0), newSide(x0)
		l.weigh, l.of = x0.Device().New(x0.DType(), b.Size), make([]float64, b.Size)
	}
	for i := range b.Size {
		k := l.pair(b.Stream(b.Seeds.Noise, i, rng.Time))
		if l.of[i] = 1; !l.Plain {
			l.of[i] = 1 / (l.levels[k+1] - l.levels[k])
		}
		l.lo.at(l.Path, i, l.levels[k])
		l.hi.at(l.Path, i, l.levels[k+1])
	}
	ops.LinCombRows(l.weigh, l.of, l.lo.ones)
	ops.Normals(l.noise, ops.ImageNoise(b.Seeds.Noise, b.First, rng.Noising))
	ops.LinCombRows(l.lo.x, l.lo.state, x0, l.noise)
	ops.LinCombRows(l.hi.x, l.hi.state, x0, l.noise)
	who := l.Net
	if l.Teacher != nil {
		who = l.Teacher
	}
	var teacher *nn.Var
	b.Tape.NoGrad(func() {
		if l.Flow != nil {
			if l.step == nil || l.step.d.Len() != x0.Len() {
				l.step = &flowStep{d: x0.Like(), d2: x0.Like(), mid: newSide(x0), c: make([]float64, 3*b.Size)}
			}
			l.step.heun(b.Tape, l.Path, l.Flow, &l.hi, &l.lo, in)
		}
		teacher = l.lo.model(b.Tape, who, in)
	})
	student := l.hi.model(b.Tape, l.Net, in)
	if l.Squares {
		each := nn.SquaredError(student, teacher).Scale(float64(x0.Len() / b.Size))
		return each.Mul(b.Tape.Input(l.weigh)).Mean()
	}
	c := l.Huber
	if c == 0 {
		c = 0.00054 * math.Sqrt(float64(x0.Len()/b.Size))
	}
	return nn.PseudoHuber(student, teacher, c).Mul(b.Tape.Input(l.weigh)).Mean()
}

func (s *side) at(p diffusion.EDM, i int, sigma float64) {
	skip, out := p.Boundary(sigma)
	s.set(p, i, sigma, skip, out)
}

// set is at with the coefficients of another model.
func (s *side) set(p diffusion.EDM, i int, sigma, skip, out float64) {
	a, _ := p.Input(sigma)
	s.state[2*i], s.state[2*i+1], s.input[i] = 1, sigma, a
	s.t[i], s.s[i], s.o[i] = p.Time(sigma), skip, out
}

// model is skip·x + out·F(c_in·x, c_noise) of the state x.
func (s *side) model(t *nn.Tape, net models.Net, in models.Inputs) *nn.Var {
	ops.LinCombRows(s.in, s.input, s.x)
	ops.LinCombRows(s.times, s.t, s.ones)
	ops.LinCombRows(s.skip.View(len(s.s)), s.s, s.ones)
	ops.LinCombRows(s.out.View(len(s.o)), s.o, s.ones)
	f := net.Forward(t.Input(s.in), t.Input(s.times), in)
	return t.Input(s.x).Mul(t.Input(s.skip)).AddMul(f, t.Input(s.out))
}

// flowStep is the memory of a step along a trained denoiser's flow.
type flowStep struct {
	d, d2 *gpu.Tensor
	mid   side
	c     []float64 // [B, 3]
}

// heun sets lo's state to a step of Heun's method from hi's, dx/dsigma = (x - D)/sigma with D = c_skip·x + c_out·F.
func (w *flowStep) heun(t *nn.Tape, p diffusion.EDM, net models.Net, hi, lo *side, in models.Inputs) {
	denoise := func(d, x *gpu.Tensor, of *side) {
		ops.LinComb(w.mid.x, []float64{1}, x)
		for i := range of.t {
			sigma := of.state[2*i+1]
			q := sigma*sigma + p.Data*p.Data
			w.mid.set(p, i, sigma, p.Data*p.Data/q, sigma*p.Data/math.Sqrt(q))
		}
		d.Copy(w.mid.model(t, net, in).Value())
	}
	denoise(w.d, hi.x, hi)
	for i := range hi.t { // Euler: r·x + (1 - r)·D
		r := lo.state[2*i+1] / hi.state[2*i+1]
		w.c[2*i], w.c[2*i+1] = r, 1-r
	}
	ops.LinCombRows(lo.x, w.c[:2*len(hi.t)], hi.x, w.d)
	denoise(w.d2, lo.x, lo)
	for i := range hi.t { // and (1 - r)/(2r)·(D2 - D)
		r := lo.state[2*i+1] / hi.state[2*i+1]
		half := (1 - r) / (2 * r)
		w.c[3*i], w.c[3*i+1], w.c[3*i+2] = 1, -half, half
	}
	ops.LinCombRows(lo.x, w.c, lo.x, w.d, w.d2)
}

// Bounded is a consistency model as samplers ask networks: of a network F on EDM's path, it says x0 = skip·x + out·F with the
// coefficients of EDM.Boundary, so that at the least level it is the identity.
type Bounded struct {
	Net  models.Net
	Path diffusion.EDM
}

// Params implements models.Net.
func (m Bounded) Params() *nn.Params { return m.Net.Params() }

// Takes implements models.Net.
func (m Bounded) Takes() models.Takes { return m.Net.Takes() }

// Forward implements models.Net: x is c_in·(x0 + sigma·n), as EDM's networks are given it. It reads the times, for which it waits on a
// GPU.
func (m Bounded) Forward(x, time *nn.Var, in models.Inputs) *nn.Var {
	v := time.Value()
	n := v.Len()
	times := make([]float32, n)
	if err := v.Read(times); err != nil {
		panic(fmt.Sprintf("train: Bounded: the times: %v", err))
	}
	shape := make([]int, len(x.Shape()))
	for i := range shape {
		shape[i] = 1
	}
	shape[0] = n
	skips, outs := make([]float64, n), make([]float64, n)
	for i, t := range times {
		sigma := math.Min(math.Max(m.Path.Sigma(float64(t)), m.Path.Min), m.Path.Max) // a float32's rounding must not lead below the least
		a, _ := m.Path.Input(sigma)
		skips[i], outs[i] = m.Path.Boundary(sigma)
		skips[i] /= a // x comes scaled
	}
	ones := v.Like()
	ops.Fill(ones, 1)
	skip, out := v.Device().New(v.DType(), shape...), v.Device().New(v.DType(), shape...)
	ops.LinCombRows(skip.View(n), skips, ones)
	ops.LinCombRows(out.View(n), outs, ones)
	tape := x.Tape()
	return x.Mul(tape.Input(skip)).AddMul(m.Net.Forward(x, time, in), tape.Input(out))
}

// ConsistencyCountFirst is the curriculum of the method's first form (Song et al. 2023, appendix C): the number of levels at a step of so
// many, ⌈√(step/steps·((last+1)² - first²) + first²) - 1⌉ + 1, and the decay of its teacher's average, exp(first·ln decay/levels).
func ConsistencyCountFirst(step, steps, first, last int, decay float64) (levels int, average float64) {
	s0, s1 := float64(first), float64(last)
	levels = int(math.Ceil(math.Sqrt(float64(step)/float64(steps)*((s1+1)*(s1+1)-s0*s0)+s0*s0)-1)) + 1
	return levels, math.Exp(s0 * math.Log(decay) / float64(levels))
}
