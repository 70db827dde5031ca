package gsjacobi

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/models/flow"
	"github.com/fidlab/fidlab/nn"
)

// powerNorm is the spectral norm of a matrix by many steps of the power method.
func powerNorm(m []float64, columns int) float64 {
	v := make([]float64, columns)
	for i := range v {
		v[i] = 1 + float64(i)*0.37
	}
	var norm float64
	for range 800 {
		u := make([]float64, columns)
		for r := 0; r < len(m); r += columns {
			var s float64
			for i := range v {
				s += m[r+i] * v[i]
			}
			for i := range u {
				u[i] += s * m[r+i]
			}
		}
		norm = 0
		for _, e := range u {
			norm += e * e
		}
		if norm = math.Sqrt(norm); norm == 0 {
			return 0
		}
		for i := range v {
			v[i] = u[i] / norm
		}
	}
	return math.Sqrt(norm)
}

func TestSpectralNorm(t *testing.T) {
	for _, c := range []struct {
		m       []float64
		columns int
		want    float64
	}{
		{[]float64{3, 0, 0, -4}, 2, 4}, {[]float64{1, 1, 1, 1}, 2, 2}, {[]float64{0, 0, 0}, 3, 0}, {[]float64{3, 4}, 1, 5}, {[]float64{3, 4}, 2, 5},
	} {
		if got, err := spectralNorm(c.m, c.columns); err != nil || math.Abs(got-c.want) > 1e-12 {
			t.Errorf("%v has the norm %g, %v; want %g", c.m, got, err, c.want)
		}
	}
	m := oracle.Normal(4, 7*5)
	v := make([]float64, len(m))
	for i, e := range m {
		v[i] = float64(e)
	}
	for _, columns := range []int{5, 7} {
		if got, err := spectralNorm(v, columns); err != nil || math.Abs(got-powerNorm(v, columns)) > 1e-9 {
			t.Errorf("norm %g, %v; the power method gives %g", got, err, powerNorm(v, columns))
		}
	}
}

// The metrics are the formulas', over pictures one at a time and norms by another method, in the order of sampling.
func TestMetrics(t *testing.T) {
	for name, change := range map[string]func(c *flow.Config){"classes": func(*flow.Config) {}, "plain": func(c *flow.Config) { c.Classes = 0 }, "additive": func(c *flow.Config) { c.Additive = true }} {
		c := small()
		change(&c)
		const n = 53 // more than go through at a time
		m, tape := made(t, c, gpu.Float64), nn.NewTape(gpu.CPU(), gpu.Float64)
		x := gpu.CPU().FromAs(gpu.Float64, oracle.Normal(9, n*6*8), n, 1, 6, 8)
		r, err := Analyze(tape, m, x, 1e-4)
		if err != nil {
			t.Fatal(err)
		}
		size := c.Tokens() * c.Dim()
		sums := make([][3][]float64, c.Blocks)
		for k := range sums {
			for i := range sums[k] {
				sums[k][i] = make([]float64, size)
			}
		}
		var none *gpu.Tensor
		if c.Classes > 0 {
			none = gpu.CPU().FromInt32([]int32{int32(c.Classes)}, 1)
		}
		coefficients := func(b *flow.Block, v []float64) (a, shift []float64) {
			tape.Run(func() {
				av, bv := b.Coefficients(tape.Input(gpu.CPU().From64(v, 1, c.Tokens(), c.Dim())), none)
				if shift, a = floats(bv.Value()), make([]float64, size); av != nil {
					a = floats(av.Value())
				}
			})
			return a, shift
		}
		for i := range n {
			var tokens []float64
			tape.Run(func() { tokens = floats(tape.Input(x.Rows(i, i+1)).Patchify(2, nn.ChannelsFirst).Value()) })
			for k, b := range m.Blocks {
				turn := func(v []float64) []float64 {
					out := slices.Clone(v)
					if b.Reverse {
						for at := range v {
							out[at] = v[(c.Tokens()-1-at/c.Dim())*c.Dim()+at%c.Dim()]
						}
					}
					return out
				}
				v := turn(tokens)
				a, shift := coefficients(b, v)
				z, zeros := make([]float64, size), make([]float64, size)
				for at := range v {
					z[at] = (v[at] - shift[at]) * math.Exp(-a[at])
					sums[k][0][at] += math.Exp(-a[at]) * v[at] / n
				}
				copy(zeros, z[:c.Dim()])
				for which, start := range [][]float64{z, zeros} {
					a, shift := coefficients(b, start)
					for at := range v {
						sums[k][1+which][at] += (z[at]*math.Exp(a[at]) + shift[at] - v[at]) / n
					}
				}
				tokens = turn(z)
			}
		}
		var total float64
		for i, got := range r.Blocks {
			k := c.Blocks - 1 - i
			w, half := m.Blocks[k].Out.W.Value.F64(), 0
			wa := 0.0
			if !c.Additive {
				half = c.Dim() * c.Width
				wa = powerNorm(w[:half], c.Width)
			}
			crm := powerNorm(sums[k][0], c.Dim())*wa + powerNorm(w[half:], c.Width)
			for what, p := range map[string][2]float64{
				"CRM": {got.CRM, crm}, "IGM of the latent": {got.FromLatent, powerNorm(sums[k][1], c.Dim())}, "IGM of zeros": {got.FromZeros, powerNorm(sums[k][2], c.Dim())},
			} {
				if math.Abs(p[0]-p[1]) > 1e-7*(1+p[1]) {
					t.Errorf("%s, block %d: %s is %g, want %g", name, k, what, p[0], p[1])
				}
			}
			if got.Block != k || (got.Start == "zeros") != (got.FromZeros < got.FromLatent) || (got.Even.Start == FromZeros) != (got.Start == "zeros") || got.Iterations < 1 {
				t.Errorf("%s: %+v", name, got)
			}
			total += got.Share
		}
		if math.Abs(total-1) > 1e-12 {
			t.Errorf("%s: shares add up to %g", name, total)
		}
	}
}

// The strategies are as they are said to be: tough blocks hold half of CRM, no segment of the even one takes more iterations on the
// pictures that were tried than a block that is not tough, and the other has no more calls than Jacobi's iteration.
func TestSuggestions(t *testing.T) {
	c := small()
	m, tape := made(t, c, gpu.Float64), nn.NewTape(gpu.CPU(), gpu.Float64)
	for i := range m.Blocks[2].Out.W.Value.F64() { // the last one is tough
		m.Blocks[2].Out.W.Value.F64()[i] *= 1.8
	}
	for _, k := range []int{0, 1} {
		for i := range m.Blocks[k].Out.W.Value.F64() {
			m.Blocks[k].Out.W.Value.F64()[i] *= 0.3
		}
	}
	x := gpu.CPU().FromAs(gpu.Float64, oracle.Normal(9, 40*6*8), 40, 1, 6, 8)
	r, err := Analyze(tape, m, x, 1e-4)
	if err != nil {
		t.Fatal(err)
	}
	if !r.Blocks[0].Tough || r.Blocks[1].Tough || r.Blocks[2].Tough || r.Blocks[0].Share < 0.5 {
		t.Fatalf("%+v", r.Blocks)
	}
	if r.Blocks[0].Even.Segments < 2 {
		t.Fatalf("the tough block is not cut: %+v", r.Blocks)
	}
	most := max(r.Blocks[1].Iterations, r.Blocks[2].Iterations)
	a := &analysis{t: tape, m: m, o: Options{Bound: 1e-4}}
	for range m.Blocks {
		n := c.Tokens() * c.Dim()
		a.sums = append(a.sums, blockSums{make([]float64, n), make([]float64, n), make([]float64, n)})
	}
	a.pass(x, true)
	n, _, err := a.try(2, r.Blocks[0].Even)
	if err != nil || n > most {
		t.Errorf("a segment takes %d iterations, %v; the others take %d", n, err, most)
	}
	less := r.Blocks[0].Even
	list := divisors(12)
	less.Segments = list[slices.Index(list, less.Segments)-1]
	if n, _, err = a.try(2, less); err != nil || n <= most {
		t.Errorf("fewer segments would have done: %d iterations, %v", n, err)
	}
	if _, calls, err := a.try(2, r.Blocks[0].Fewest); err != nil || calls > r.Blocks[0].Iterations {
		t.Errorf("%+v takes %d calls, %v; Jacobi's iteration %d", r.Blocks[0].Fewest, calls, err, r.Blocks[0].Iterations)
	}
	if s := r.Strategy(true); s.Check(c) != nil || !strings.HasPrefix(s.String(), Strategy{r.Blocks[0].Even}.String()) {
		t.Errorf("%v", s)
	}
}

// Of a block that overflows from its latent, zeros are the better start.
func TestOverflowingStart(t *testing.T) {
	m, tape := wild(t), nn.NewTape(gpu.CPU(), gpu.Float32)
	// x_1 is nearly nothing, since exp(-5·x_0) is; the latent has -18 there, and exp(5·18) is beyond float32.
	x := gpu.CPU().FromAs(gpu.Float32, []float32{15, float32(-18 * math.Exp(-75)), 0, 0, 0, 0}, 1, 1, 1, 6)
	r, err := Analyze(tape, m, x, 1e-4)
	if err != nil {
		t.Fatal(err)
	}
	if b := r.Blocks[0]; b.FromLatent != math.MaxFloat64 || b.Start != "zeros" || b.Even.Start != FromZeros {
		t.Errorf("%+v", b)
	}
}

func TestAnalyzeRefuses(t *testing.T) {
	c := small()
	m, tape := made(t, c, gpu.Float32), nn.NewTape(gpu.CPU(), gpu.Float32)
	x := gpu.CPU().New(gpu.Float32, 2, 1, 6, 6)
	if _, err := Analyze(tape, m, x, 0); err == nil || !strings.Contains(err.Error(), "pictures of shape [2 1 6 6]; want [N, 1, 6, 8]") {
		t.Error(err)
	}
	if _, err := Analyze(tape, m, gpu.CPU().Zeros(gpu.Float32, 2, 1, 6, 8), math.NaN()); err == nil || !strings.Contains(err.Error(), "a bound of NaN") {
		t.Error(err)
	}
}

// Ranks with equals, by values known: of Spearman's own kind of table.
func TestSpearman(t *testing.T) {
	for _, c := range []struct {
		x, y []float64
		want float64
	}{
		{[]float64{1, 2, 3, 4}, []float64{10, 20, 30, 40}, 1},
		{[]float64{1, 2, 3, 4}, []float64{9, 7, 5, 3}, -1},
		{[]float64{1, 2, 3, 4}, []float64{2, 1, 4, 3}, 0.6},                   // 1 - 6·4/(4·15)
		{[]float64{1, 2, 2, 3}, []float64{1, 2, 3, 4}, 4.5 / math.Sqrt(22.5)}, // ranks 1 2.5 2.5 4
		{[]float64{5, 5, 5}, []float64{1, 2, 3}, 0},
	} {
		if got := spearman(c.x, c.y); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("%v and %v: %g, want %g", c.x, c.y, got, c.want)
		}
	}
	if n := reaches([]float64{1, 0.1, 9e-4, 2e-3}); n != 3 {
		t.Errorf("reached after %d", n)
	}
	if n := reaches([]float64{1, 0.1}); n != 2 {
		t.Errorf("never reached is %d", n)
	}
}
