package train

import (
	"math"
	"testing"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/rng"
)

// consistent is f of the network affine at a level, for state x, with weight w.
func consistent(p diffusion.EDM, w, x, sigma float64) float64 {
	sd, s := p.Data, sigma-p.Min
	f := w*x/math.Sqrt(sigma*sigma+sd*sd) + 0.1*math.Log(sigma)/4
	return sd*sd/(s*s+sd*sd)*x + sd*s/math.Sqrt(sigma*sigma+sd*sd)*f
}

// The loss is its formula in float64, and its gradient goes through the student alone.
func TestConsistencyIsItsFormula(t *testing.T) {
	const n, first, c = 6, 30, 0.02
	p := diffusion.EDM{Min: 0.002, Max: 80, Data: 0.5}
	x0 := pictures64(n)
	net := newAffine(gpu.Float64, 0)
	l := &Consistency{Net: net, Path: p, Huber: c}
	levels := ConsistencyLevels(p, 11)
	l.SetLevels(levels)
	formula := func(student float64) (v float64) {
		for i := range n {
			k := l.pair(rng.ForImage(5, first+uint64(i), rng.Time))
			noise := make([]float64, 6)
			rng.ForImage(5, first+uint64(i), rng.Noising).FillNormal64(noise)
			sum := 0.0
			for j := range 6 {
				x := x0.F64()[6*i+j]
				d := consistent(p, student, x+levels[k+1]*noise[j], levels[k+1]) - consistent(p, start, x+levels[k]*noise[j], levels[k])
				sum += d * d
			}
			v += (math.Sqrt(sum+c*c) - c) / (levels[k+1] - levels[k]) / n
		}
		return v
	}
	tape := nn.NewTape(gpu.CPU(), gpu.Float64)
	b := &Batch{Tape: tape, First: first, Size: n, Seeds: SeedsOf(5)}
	loss := l.Loss(b, x0, models.Inputs{})
	if got, want := loss.Item(), formula(start); math.Abs(got-want) > 1e-9*want {
		t.Errorf("loss %v, want %v", got, want)
	}
	tape.Backward(loss)
	const h = 1e-5
	if got, want := net.w.Grad().F64()[0], (formula(start+h)-formula(start-h))/(2*h); math.Abs(got-want) > 1e-5*math.Abs(want) {
		t.Errorf("gradient %v, want %v, that of the student", got, want)
	}
}

// The levels and their number are those of the source: 10 to 1280 double seven times at equal times.
func TestConsistencyCurriculum(t *testing.T) {
	const steps = 400000
	want := []int{11, 21, 41, 81, 161, 321, 641, 1281}
	for i, n := range want {
		for _, at := range []int{i * steps / 8, (i+1)*steps/8 - 1} {
			if got := ConsistencyCount(at, steps, 10, 1280); got != n {
				t.Errorf("step %d: %d levels, want %d", at, got, n)
			}
		}
	}
	if got := ConsistencyCount(steps, steps, 10, 1280); got != 1281 {
		t.Errorf("at the end %d levels", got)
	}
	p := diffusion.DefaultEDM()
	g, err := diffusion.Build(p, diffusion.Spec{Rule: "karras", Steps: 17, End: diffusion.Keep})
	if err != nil {
		t.Fatal(err)
	}
	levels := ConsistencyLevels(p, 18)
	for i, s := range g.Sigmas() { // noise first
		if d := math.Abs(levels[17-i] - s); d > 1e-12*s {
			t.Errorf("level %d is %v, Karras' grid has %v", 17-i, levels[17-i], s)
		}
	}
}

// Pairs are drawn as often as the normal law of ln sigma says.
func TestConsistencyPairs(t *testing.T) {
	const n = 40000
	l := &Consistency{Path: diffusion.DefaultEDM()}
	levels := ConsistencyLevels(l.Path, 21)
	l.SetLevels(levels)
	phi := func(s float64) float64 { return 0.5 * math.Erfc(-(math.Log(s)+1.1)/(2*math.Sqrt2)) }
	counts := make([]int, 20)
	for i := range n {
		counts[l.pair(rng.ForImage(1, uint64(i), rng.Time))]++
	}
	var chi float64
	for i, c := range counts {
		e := n * (phi(levels[i+1]) - phi(levels[i])) / (phi(80) - phi(0.002))
		chi += (float64(c) - e) * (float64(c) - e) / e
	}
	if chi > 19+5*math.Sqrt(2*19) {
		t.Errorf("χ² = %.1f with 19 degrees of freedom", chi)
	}
}

// What the method was before: squares of whole examples, weights of 1, pairs alike, a teacher of its own.
func TestConsistencyFirstForm(t *testing.T) {
	const n, first, other = 6, 30, 0.25
	p := diffusion.EDM{Min: 0.002, Max: 80, Data: 0.5}
	x0 := pictures64(n)
	net, teacher := newAffine(gpu.Float64, 0), newAffine(gpu.Float64, 0)
	teacher.w.Value.F64()[0] = other
	l := &Consistency{Net: net, Path: p, Squares: true, Plain: true, Uniform: true, Teacher: teacher}
	levels := ConsistencyLevels(p, 11)
	l.SetLevels(levels)
	for i, c := range l.cum {
		if math.Abs(c-float64(i+1)) > 1e-12 {
			t.Errorf("pairs up to %d have %g, want %d", i, c, i+1)
		}
	}
	var want float64
	for i := range n {
		k := l.pair(rng.ForImage(5, first+uint64(i), rng.Time))
		noise := make([]float64, 6)
		rng.ForImage(5, first+uint64(i), rng.Noising).FillNormal64(noise)
		for j := range 6 {
			x := x0.F64()[6*i+j]
			d := consistent(p, start, x+levels[k+1]*noise[j], levels[k+1]) - consistent(p, other, x+levels[k]*noise[j], levels[k])
			want += d * d / n
		}
	}
	tape := nn.NewTape(gpu.CPU(), gpu.Float64)
	b := &Batch{Tape: tape, First: first, Size: n, Seeds: SeedsOf(5)}
	loss := l.Loss(b, x0, models.Inputs{})
	if got := loss.Item(); math.Abs(got-want) > 1e-9*want {
		t.Errorf("loss %v, want %v", got, want)
	}
	tape.Backward(loss)
	if net.w.Grad().F64()[0] == 0 || teacher.w.Grad().F64()[0] != 0 {
		t.Errorf("gradients %g of the student and %g of the teacher", net.w.Grad().F64()[0], teacher.w.Grad().F64()[0])
	}
	if n, mu := ConsistencyCountFirst(0, 1000, 2, 150, 0.9); n != 2 || math.Abs(mu-0.9) > 1e-12 {
		t.Errorf("at first %d levels and %g", n, mu)
	}
	if n, mu := ConsistencyCountFirst(1000, 1000, 2, 150, 0.9); n != 151 || math.Abs(mu-math.Exp(2*math.Log(0.9)/151)) > 1e-12 {
		t.Errorf("in the end %d levels and %g", n, mu)
	}
}

// gaussianEDM is the F of the exact denoiser of N(0, s²): D = s²/(s² + sigma²)·x.
type gaussianEDM struct {
	*affine
	p diffusion.EDM
	s float64
}

func (g *gaussianEDM) Forward(x, time *nn.Var, _ models.Inputs) *nn.Var {
	n := x.Shape()[0]
	c := make([]float64, n)
	for i, v := range time.Value().F64() {
		sigma := g.p.Sigma(v)
		q := sigma*sigma + g.p.Data*g.p.Data
		// D = c_skip·x + c_out·F, and what comes is c_in·x.
		c[i] = (g.s*g.s/(g.s*g.s+sigma*sigma) - g.p.Data*g.p.Data/q) / (sigma * g.p.Data / math.Sqrt(q)) * math.Sqrt(q)
	}
	return x.Mul(x.Tape().Input(gpu.CPU().From64(c, n, 1, 1, 1)))
}

// Distillation goes along the flow: the lower state of a Gaussian's flow is √((s² + lo²)/(s² + hi²)) of the upper one, to the third order of
// the step, and with the same noise it is another.
func TestConsistencyAlongFlow(t *testing.T) {
	const n, s = 6, 0.7
	p := diffusion.EDM{Min: 0.002, Max: 80, Data: 0.5}
	x0 := pictures64(n)
	net := newAffine(gpu.Float64, 0)
	off := func(levels int) (worst float64) {
		l := &Consistency{Net: net, Path: p, Flow: &gaussianEDM{net, p, s}}
		l.SetLevels(ConsistencyLevels(p, levels))
		tape := nn.NewTape(gpu.CPU(), gpu.Float64)
		l.Loss(&Batch{Tape: tape, First: 1, Size: n, Seeds: SeedsOf(5)}, x0, models.Inputs{})
		for i := range n {
			hi, lo := l.hi.state[2*i+1], l.lo.state[2*i+1]
			want := math.Sqrt((s*s + lo*lo) / (s*s + hi*hi))
			for j := range 6 {
				worst = math.Max(worst, math.Abs(l.lo.x.F64()[6*i+j]/l.hi.x.F64()[6*i+j]-want))
			}
		}
		return worst
	}
	a, b := off(81), off(641)
	if a > 1e-3 || b > a/200 { // 8³ = 512 with steps an eighth as long
		t.Errorf("off by %g with 81 levels, by %g with 641", a, b)
	}
}

// A bounded network is the identity at the least level, and f of the source at every other.
func TestBounded(t *testing.T) {
	p := diffusion.EDM{Min: 0.002, Max: 80, Data: 0.5}
	net := newAffine(gpu.Float32, 0)
	m := Bounded{Net: net, Path: p}
	sigmas := []float64{0.002, 0.01, 0.5, 3, 80}
	x, in, times := make([]float32, 30), make([]float32, 30), make([]float32, 5)
	for i, s := range sigmas {
		a, _ := p.Input(s)
		times[i] = float32(p.Time(s))
		for j := range 6 {
			x[6*i+j] = float32(s) * float32(j-3)
			in[6*i+j] = float32(a) * x[6*i+j]
		}
	}
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	got := m.Forward(tape.Input(gpu.CPU().From(in, 5, 1, 2, 3)), tape.Input(gpu.CPU().From(times, 5)), models.Inputs{}).Value().F32()
	for i, s := range sigmas {
		for j := range 6 {
			v := float64(x[6*i+j])
			want := consistent(p, start, v, s)
			if i == 0 {
				want = v
			}
			if d := math.Abs(float64(got[6*i+j]) - want); d > 1e-5*(math.Abs(v)+1) {
				t.Errorf("at %g, x = %g: %g, want %g", s, v, got[6*i+j], want)
			}
		}
	}
}
