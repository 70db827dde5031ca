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
