package sampler

import (
	"context"
	"fmt"
	"math"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/rng"
)

// Convention is how a network is said to have been trained.
type Convention struct {
	Name string // what the message calls it beside the prediction and the path; may be ""
	Net  Net
	Path diffusion.Path
	Pred diffusion.Pred
}

func (c Convention) String() string {
	s := fmt.Sprintf("prediction %s on path %s", c.Pred, c.Path.Name())
	if c.Name != "" {
		s += ", " + c.Name
	}
	return s
}

// ProbeOptions say what a network's data are like.
type ProbeOptions struct {
	Shape     []int   // of one sample
	Mean, Dev float64 // of the data's values; Dev 0 is 1
	N         int     // samples to ask about, 0 is 8
	Cond      Cond    // of the N samples
	Others    []Convention
}

// ConventionError says that a network does not do what its convention promises.
type ConventionError struct {
	Declared Convention
	Fits     *Convention // one that fits; nil when none does
	Sigma    float64     // the path's highest finite noise level
	Off      float64     // the x0 estimate's distance there from the data's mean, in deviations
}

func (e *ConventionError) Error() string {
	s := fmt.Sprintf("sampler: %s: the network answers otherwise: at sigma %.4g its estimate of x0 lies %.3g deviations from the data's mean", e.Declared, e.Sigma, e.Off)
	if e.Fits != nil {
		return s + fmt.Sprintf("; what fits is %s", e.Fits)
	}
	return s + "; no convention that was tried fits: check the path, how the time and the input are scaled, the data's range, and that the network is trained"
}

// misfit beyond which a convention does not hold; the slopes that tell
// conventions apart differ by 1 or 2 (see slopes).
const misfit = 0.5

// Probe asks a network about smooth pictures at its path's highest, lowest and a
// middle noise level, and tells whether it was trained as c says. At the highest
// the estimate of x0 must be near the data's mean whatever the noise, at the
// lowest near the input; so the output must follow the noise n and the picture x0
// with the slopes that its prediction has there:
//
//	                x0  eps   v  flow  flow-reversed
//	on n,  highest   0    1   0     1             -1
//	on x0, lowest    1    0   0    -1              1
//
// edm, trigflow and v are told apart at sigma = Dev, where either a denoiser that
// knows pictures or one that only shrinks to the mean passes. The error, a
// *ConventionError, names the prediction, or the one of o.Others, that fits. A
// network that fits loosely at the highest level while one of o.Others, which
// differ in time or scaling, fits three times better is refused too.
func Probe(ctx context.Context, c Convention, o ProbeOptions) error {
	q, err := newQuestions(o)
	if err != nil {
		return err
	}
	own, err := q.measure(ctx, c)
	if err != nil {
		return err
	}
	high, worst := own.misfits(c.Pred)
	if worst < misfit && high < 0.1 {
		return nil
	}
	bad := &ConventionError{Declared: c, Sigma: own[0].sigma, Off: own[0].off}
	best := worst
	consider := func(alt Convention, s *slopes) {
		h, w := s.misfits(alt.Pred)
		if worst < misfit { // c fits; only a much better time or scaling is an argument
			if w < misfit && h < high/3 {
				high, bad.Fits = 3*h, &alt
			}
		} else if w < misfit && w < best {
			best, bad.Fits = w, &alt
		}
	}
	if worst >= misfit {
		for _, pred := range candidates(c.Path) {
			consider(Convention{c.Name, c.Net, c.Path, pred}, own)
		}
	}
	for _, alt := range o.Others {
		s, err := q.measure(ctx, alt)
		if err != nil {
			continue // an alternative that the network refuses is none
		}
		consider(alt, s)
		for _, pred := range candidates(alt.Path) {
			if worst >= misfit {
				consider(Convention{alt.Name, alt.Net, alt.Path, pred}, s)
			}
		}
	}
	if worst < misfit && bad.Fits == nil {
		return nil
	}
	return bad
}

// candidates are the predictions that networks on a path are known to have.
func candidates(p diffusion.Path) []diffusion.Pred {
	all := []diffusion.Pred{diffusion.PredX0, diffusion.PredEps, diffusion.PredScore}
	switch a, b := p.Input(1); {
	case p.Name() == "edm" || p.Name() == "trigflow":
		return append(all, diffusion.PredEDM, diffusion.PredTrigFlow)
	case a == 1 && b == 1: // the state as it is
		return all
	}
	return append(all, diffusion.PredV, diffusion.PredFlow, diffusion.PredFlowReversed)
}

// slopes are a network's answers at the highest, the middle and the lowest level.
type slopes [3]struct {
	sigma, a, b  float64
	onNoise, onX float64
	off          float64 // of the estimate of x0 from the mean, for the convention measured
}

// misfits is how far the slopes are from those of a prediction: at the highest
// level, and the worst of all.
func (s *slopes) misfits(p diffusion.Pred) (high, worst float64) {
	for i, l := range s {
		cx, c0, err := p.FromX0(l.a, l.b)
		if err != nil {
			return math.Inf(1), math.Inf(1)
		}
		unit := 1.0
		if p == diffusion.PredScore { // -n/b
			unit = max(1, 1/l.b)
		}
		var e float64
		switch i {
		case 0: // x0 is the mean, whatever n
			e = math.Abs(l.onNoise - cx*l.b)
			high = e / unit
		case 1: // between x0 itself and half of x/a, what is best for white data of this deviation
			e = toSegment(l.onNoise, l.onX, cx*l.b, cx*l.a+c0, cx*l.b+c0*l.b/(2*l.a), cx*l.a+c0/2)
		default: // x0 is x/a
			e = math.Abs(l.onX - cx*l.a - c0)
		}
		worst = max(worst, e/unit)
	}
	return high, worst
}

// toSegment is the distance of (x, y) from the segment between two points.
func toSegment(x, y, x1, y1, x2, y2 float64) float64 {
	dx, dy := x2-x1, y2-y1
	u := 0.0
	if q := dx*dx + dy*dy; q > 0 {
		u = min(max(((x-x1)*dx+(y-y1)*dy)/q, 0), 1)
	}
	return math.Hypot(x-x1-u*dx, y-y1-u*dy)
}

// questions are what networks are asked about.
type questions struct {
	o      ProbeOptions
	size   int
	x0, n  []float64 // [N, size]
	x, out *gpu.Tensor
}

func newQuestions(o ProbeOptions) (*questions, error) {
	if o.N == 0 {
		o.N = 8
	}
	if o.Dev == 0 {
		o.Dev = 1
	}
	if o.N < 1 || !(o.Dev > 0) || math.IsInf(o.Dev, 1) || math.IsNaN(o.Mean-o.Mean) {
		return nil, fmt.Errorf("sampler: Probe: %d samples of data of mean %g and deviation %g; wanted finite numbers, at least one sample", o.N, o.Mean, o.Dev)
	}
	q := &questions{o: o, size: sizeOf(o.Shape), x: gpu.CPU().Empty(append([]int{o.N}, o.Shape...)...)}
	if o.N*q.size < 3 {
		return nil, fmt.Errorf("sampler: Probe: samples of shape %v; wanted some values", o.Shape)
	}
	q.out = q.x.Like()
	q.n = make([]float64, o.N*q.size)
	for i := range o.N {
		rng.ForImage(0, uint64(i), rng.Init).FillNormal64(q.n[i*q.size : (i+1)*q.size])
	}
	q.x0 = q.pictures()
	return q, nil
}

// pictures are smooth: waves of at most one length along every axis, of the
// data's mean and deviation over all.
func (q *questions) pictures() []float64 {
	x := make([]float64, len(q.n))
	for b := range q.o.N {
		s := rng.ForImage(0, uint64(b), rng.Time)
		phase := 2 * math.Pi * s.Float64()
		row := x[b*q.size : (b+1)*q.size]
		for i := range row {
			row[i] = phase
		}
		stride := q.size
		for _, d := range q.o.Shape {
			stride /= d
			rate := 2 * math.Pi * (s.Float64() - 0.5) * 2 / float64(d)
			for i := range row {
				row[i] += rate * float64(i/stride%d)
			}
		}
	}
	var mean, square float64
	for i, v := range x {
		x[i] = math.Cos(v)
		mean += x[i] / float64(len(x))
	}
	for _, v := range x {
		square += (v - mean) * (v - mean) / float64(len(x))
	}
	for i, v := range x {
		x[i] = q.o.Mean + q.o.Dev*(v-mean)/math.Sqrt(square)
	}
	return x
}

// measure asks a network at the three levels.
func (q *questions) measure(ctx context.Context, c Convention) (*slopes, error) {
	most, least := c.Path.Range()
	high, low := c.Path.Sigma(most), c.Path.Sigma(least)
	if math.IsInf(high, 1) { // pure noise: a step of a thousand before it
		high = c.Path.Sigma(most + (least-most)/1000)
	}
	if low == 0 {
		low = c.Path.Sigma(least + (most-least)/1000)
	}
	s := &slopes{}
	for i, sigma := range []float64{high, min(max(q.o.Dev, low), high), low} {
		l := &s[i]
		l.sigma = sigma
		l.a, l.b = c.Path.Input(sigma)
		if err := q.ask(ctx, c, sigma, l.a, l.b); err != nil {
			return nil, err
		}
		l.onNoise, l.onX = q.regress()
		cx, cf, err := c.Pred.ToX0(l.a, l.b)
		if err != nil {
			return nil, err
		}
		for j, f := range q.out.F32() {
			d := cx*float64(q.x.F32()[j]) + cf*float64(f) - q.o.Mean
			l.off += d * d / float64(len(q.n))
		}
		if l.off = math.Sqrt(l.off) / q.o.Dev; math.IsNaN(l.off+l.onNoise+l.onX) || math.IsInf(l.off, 0) {
			return nil, &NotFiniteError{Sigma: sigma}
		}
	}
	return s, nil
}

// ask fills out with the network's answers to a·x0 + b·n.
func (q *questions) ask(ctx context.Context, c Convention, sigma, a, b float64) error {
	times := make([]float64, q.o.N)
	for i := range times {
		times[i] = c.Path.Time(sigma)
	}
	for i := range q.n {
		q.x.F32()[i] = float32(a*q.x0[i] + b*q.n[i])
	}
	return c.Net.Forward(ctx, q.out, q.x, times, q.o.Cond)
}

// regress fits the answers by a constant, n and x0, and returns the slopes.
func (q *questions) regress() (onNoise, onX float64) {
	N := float64(len(q.n))
	var mf, mn, mx float64
	f := q.out.F32()
	for i := range q.n {
		mf, mn, mx = mf+float64(f[i])/N, mn+q.n[i]/N, mx+q.x0[i]/N
	}
	var nn, nx, xx, fn, fx float64
	for i := range q.n {
		df, dn, dx := float64(f[i])-mf, q.n[i]-mn, q.x0[i]-mx
		nn, nx, xx, fn, fx = nn+dn*dn, nx+dn*dx, xx+dx*dx, fn+df*dn, fx+df*dx
	}
	det := nn*xx - nx*nx
	return (fn*xx - fx*nx) / det, (fx*nn - fn*nx) / det
}
