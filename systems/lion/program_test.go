package lion

import (
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/rng"
)

func graphOf(t testing.TB, p *Program) *Graph {
	t.Helper()
	g, err := NewGraph(p)
	if err != nil {
		t.Fatal(err, "\n", p)
	}
	return g
}

// Text and program are one and the same, and a graph written as a program is that graph.
func TestProgramsPrint(t *testing.T) {
	list := []*Program{AdamW(1, 0.9, 0.999, 1e-8, 0.01), Lion(0.1, 0.95, 0.98, 1)}
	r := rng.New(1, 0)
	for range 300 {
		p := chance(r, 4+r.Intn(20))
		if p.Check() == nil {
			list = append(list, p)
		}
	}
	if len(list) < 150 {
		t.Fatalf("%d programs, want more to try", len(list))
	}
	for _, p := range list {
		q, err := Parse(p.String())
		if err != nil {
			t.Fatalf("%v of\n%s", err, p)
		}
		if !reflect.DeepEqual(p, q) {
			t.Fatalf("read back as\n%s, want\n%s", q, p)
		}
		g := graphOf(t, p)
		if again := graphOf(t, g.Program()); again.Text() != g.Text() || again.Hash() != g.Hash() {
			t.Fatalf("%s\nwritten from its graph is\n%s", p, g.Program())
		}
	}
}

// Names, order and dead statements do not count; numbers and the order of what matters do.
func TestGraphsCompare(t *testing.T) {
	base := graphOf(t, must("tensor m\nc = interpolate(g, m, 0.9)\nupdate = sign(c)\nm = interpolate(g, m, 0.99)\nupdate = update * lr"))
	for name, c := range map[string]struct {
		text string
		same bool
	}{
		"other names":      {"tensor z\nq = interpolate(g, z, 0.9)\nq = sign(q)\nz = interpolate(g, z, 0.99)\nupdate = q * lr", true},
		"other order":      {"tensor m\nn = interpolate(g, m, 0.99)\nc = interpolate(g, m, 0.9)\nupdate = sign(c)\nupdate = update * lr\nm = n", true},
		"dead statements":  {"tensor k\ntensor m\nk = square(g)\nc = cos(w)\nc = interpolate(g, m, 0.9)\nupdate = sign(c)\nm = interpolate(g, m, 0.99)\nupdate = update * lr\nx = dot(update, g)", true},
		"the same twice":   {"tensor m\nc = interpolate(g, m, 0.9)\nd = interpolate(g, m, 0.9)\nupdate = sign(d)\nm = interpolate(g, m, 0.99)\nupdate = update * lr", true},
		"another number":   {"tensor m\nc = interpolate(g, m, 0.9)\nupdate = sign(c)\nm = interpolate(g, m, 0.98)\nupdate = update * lr", false},
		"momentum first":   {"tensor m\nm = interpolate(g, m, 0.99)\nc = interpolate(g, m, 0.9)\nupdate = sign(c)\nupdate = update * lr", false},
		"another function": {"tensor m\nc = interpolate(g, m, 0.9)\nupdate = arctan(c)\nm = interpolate(g, m, 0.99)\nupdate = update * lr", false},
		"state forgotten":  {"tensor m\nc = interpolate(g, m, 0.9)\nupdate = sign(c)\nm = interpolate(g, g, 0.99)\nupdate = update * lr", false},
	} {
		g := graphOf(t, must(c.text))
		if (g.Text() == base.Text()) != c.same || (g.Hash() == base.Hash()) != c.same {
			t.Errorf("%s: the same is %t, want %t:\n%s\n%s", name, !c.same, c.same, g.Text(), base.Text())
		}
	}
	if base.Size() != 4 || base.States() != 1 || !base.Uses("sign") || base.Uses("sqrt") || !base.Learns() {
		t.Errorf("size %d, states %d", base.Size(), base.States())
	}
	if g := graphOf(t, must("update = w * 0.1")); g.Learns() {
		t.Error("a program without the gradient learns")
	}
	if g := graphOf(t, AdamW(1, 0.9, 0.999, 1e-8, 0)); g.States() != 2 || g.Uses("sign") {
		t.Errorf("AdamW keeps %d tensors; uses of sign %t", g.States(), g.Uses("sign"))
	}
}

func TestBadPrograms(t *testing.T) {
	for text, want := range map[string]string{
		"":                                      "update is never assigned",
		"m = g * 2":                             "update is never assigned",
		"update = lr * 2":                       "update is a scalar in the end",
		"update = sqrtt(g)":                     "line 1: unknown function sqrtt; did you mean",
		"update = sig(g)":                       "unknown function sig",
		"update = sign(g, 2)":                   "line 1: sign has 2 operands, want 1",
		"# first\n\nupdate = interpolate(g, w)": "line 3: interpolate has 2 operands, want 3",
		"update = sign()":                       "sign has 0 operands, want 1",
		"update = m * 2":                        "line 1: m is not assigned before",
		"update = g * nan":                      "the number nan, want a finite one",
		"update = g * 1e999":                    `1e999`,
		"update = g * 2x":                       `the operand "2x"`,
		"update = interpolate(g, w, g)":         "its third operand is a tensor, want a scalar",
		"update = clip_by_global_norm(g, w)":    "a tensor and a tensor, want a tensor and a scalar",
		"d = dot(g, lr)\nupdate = g * d":        "line 1: dot: an operand is a scalar, want tensors",
		"tensor g\nupdate = g * 1":              `state "g" is declared twice`,
		"tensor m\nscalar m\nupdate = g * 1":    `state "m" is declared twice`,
		"tensor update\nupdate = g * 1":         "or of the result",
		"tensor m\nm = dot(g, g)\nupdate = g*1": `line 3: "g*1", want FUNCTION`[:6],
		"scalar m\nm = g * 2\nupdate = g * m":   "state m is a tensor in the end, want a scalar",
		"update = g * 1\ntensor m":              "line 2: state is declared after the first assignment",
		"vector m\nupdate = g * 1":              `line 1: "vector m"`,
		"3m = g * 1":                            `the name "3m"`,
		"pi = g * 1":                            "the name pi is a number's",
		"update = g ** 2":                       "want FUNCTION(OPERAND",
		"update = (g * 2)":                      `the operand "(g"`,
		strings.Repeat("#", maxText+1):          "want at most",
	} {
		p, err := Parse(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v, %v; want an error with %q", text, p, err, want)
		}
	}
	var e *Error
	if err := (&Program{Body: []Statement{{"update", "sign", []Arg{Var("x")}}}}).Check(); err == nil {
		t.Error("an unknown operand passes")
	} else if e = err.(*Error); e.Line != 1 {
		t.Errorf("line %d, want 1", e.Line)
	}
}

// Every function, of tensors and scalars alike, is its formula.
func TestEveryFunction(t *testing.T) {
	const n = 7
	x := []float64{0.31, -0.45, 0.77, -0.12, 0.5, 0.93, -0.64}
	y := []float64{1.2, 0.4, -0.8, 0.6, -1.5, 0.25, 0.33}
	for _, f := range functions {
		tried := 0
		for mask := range 1 << f.arity { // operand k is a tensor where bit k is set
			s := Statement{To: "r", Func: f.name}
			kinds := make([]Kind, f.arity)
			for k := range f.arity {
				s.Args = append(s.Args, []Arg{Num(0.7), Num(1.3), Num(0.35)}[k])
				if mask>>k&1 == 1 {
					s.Args[k], kinds[k] = []Arg{Var("w"), Var("g"), Var("g")}[k], Tensor
				}
			}
			if _, wrong := f.result(kinds); wrong != "" {
				continue
			}
			tried++
			p := &Program{Body: []Statement{s, {"update", "multiply", []Arg{Var("g"), Var("r")}}}}
			a := append([]float64(nil), x...)
			if f.name == "arccosh" { // its domain begins at 1
				for i := range a {
					a[i] = 1.5 + a[i]/2
				}
			}
			b := append([]float64(nil), a...)
			single, grad := make([]float32, n), make([]float32, n)
			for i := range a {
				single[i], grad[i] = float32(a[i]), float32(y[i])
			}
			NewMachine[float64](graphOf(t, p), n).Step(a, y, 1)
			NewMachine[float32](graphOf(t, p), n).Step(single, grad, 1)
			newNaive(p, n).step(b, y, 1)
			for i := range a {
				if d := math.Abs(a[i] - b[i]); !(d <= 1e-13*(1+math.Abs(b[i]))) && !(math.IsNaN(a[i]) && math.IsNaN(b[i])) {
					t.Errorf("%s, operands %b: element %d is %v, want %v", f.name, mask, i, a[i], b[i])
				}
				if d := math.Abs(float64(single[i]) - b[i]); !(d <= 3e-6*(1+math.Abs(b[i]))) && !math.IsNaN(b[i]) {
					t.Errorf("%s in float32, operands %b: element %d is %v, want %v", f.name, mask, i, single[i], b[i])
				}
			}
		}
		if tried == 0 {
			t.Errorf("%s was not tried", f.name)
		}
	}
}

// Ends of domains: the sign of zero is zero, logarithms and roots are of |x|.
func TestEnds(t *testing.T) {
	for _, c := range []struct {
		text string
		g    float64
		want float64
	}{
		{"update = sign(g)", 0, 0},
		{"update = sign(g)", math.Copysign(0, -1), 0},
		{"update = sqrt(g)", -4, 2},
		{"update = log(g)", -math.E, 1},
		{"update = log2(g)", -8, 3},
		{"update = log1p(g)", -1, math.Ln2},
		{"update = g / g", 0, math.NaN()},
		{"x = arcsin(g)\nupdate = sign(x)", 2, math.NaN()},
		{"update = clip_by_global_norm(g, 0.5)", 2, 0.5},
		{"update = clip_by_global_norm(g, 0.5)", 0.25, 0.25},
	} {
		w := []float64{0, 0}
		NewMachine[float64](graphOf(t, must(c.text)), 2).Step(w, []float64{c.g, 0}, 1)
		if got := -w[0]; math.Abs(got-c.want) > 1e-15 || math.IsNaN(got) != math.IsNaN(c.want) {
			t.Errorf("%s of %v is %v, want %v", c.text, c.g, got, c.want)
		}
	}
}

// Machines compute what the statements say, one by one, over several steps.
func TestMachinesFollowPrograms(t *testing.T) {
	const n, steps = 5, 4
	r := rng.New(2, 0)
	tried, compared, states := 0, 0, 0
	for tried < 1000 {
		p := chance(r, 3+r.Intn(16))
		if p.Check() != nil {
			continue
		}
		g := graphOf(t, p)
		m, again, want := NewMachine[float64](g, n), NewMachine[float64](graphOf(t, g.Program()), n), newNaive(p, n)
		a, grads := make([]float64, n), make([]float64, n)
		for i := range a {
			a[i] = 0.3 * r.Normal()
		}
		b, c := append([]float64(nil), a...), append([]float64(nil), a...)
		for step := range steps {
			for i := range grads {
				grads[i] = 0.4 * r.Normal()
			}
			lr := 1 / float64(step+1)
			before := append([]float64(nil), grads...)
			m.Step(a, grads, lr)
			again.Step(c, grads, lr)
			if !reflect.DeepEqual(before, grads) {
				t.Fatal("the gradient was changed by\n", p)
			}
			want.step(b, grads, lr)
			if want.wild {
				break
			}
			compared++
			for i := range a {
				if !near(a[i], b[i]) || a[i] != c[i] && !(math.IsNaN(a[i]) && math.IsNaN(c[i])) {
					t.Fatalf("step %d, element %d is %v, written from the graph %v, want %v:\n%s", step, i, a[i], c[i], b[i], p)
				}
			}
		}
		tried++
		states += len(g.states)
	}
	if compared < 600 || states < 100 {
		t.Errorf("%d steps compared, %d states in all, want more to try", compared, states)
	}
}

// near allows for other orders of rounding.
func near(a, b float64) bool { return math.Abs(a-b) <= 1e-8*(1+math.Abs(b)) }

func TestMachinesAllocateNothing(t *testing.T) {
	r := rng.New(3, 0)
	list := []*Program{AdamW(1, 0.9, 0.999, 1e-8, 0.1), Lion(1, 0.9, 0.99, 0.1)}
	for len(list) < 30 {
		if p := chance(r, 20); p.Check() == nil {
			list = append(list, p)
		}
	}
	w, g := make([]float32, 100), make([]float32, 100)
	for _, p := range list {
		m := NewMachine[float32](graphOf(t, p), len(w))
		if n := oracle.Allocations(5, func() { m.Step(w, g, 0.1) }); n > 0 {
			t.Errorf("%v allocations a step of\n%s", n, p)
		}
	}
}

func TestMachinesRefuse(t *testing.T) {
	m := NewMachine[float64](graphOf(t, Lion(1, 0.9, 0.99, 0)), 3)
	defer func() {
		if e := recover(); e == nil || !strings.Contains(e.(string), "2 parameters and 3 gradients, want 3 of each") {
			t.Errorf("panic %v", e)
		}
	}()
	m.Step(make([]float64, 2), make([]float64, 3), 1)
}
