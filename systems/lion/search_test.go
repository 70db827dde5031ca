package lion

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/fidlab/fidlab/rng"
)

// bowl scores a program by how near it comes to the least of a quadratic whose curvatures
// span four orders of magnitude, in every direction alike, through noise: fast, and exact.
func bowl(_ context.Context, g *Graph) (Score, error) {
	const n, steps = 8, 40
	w, grad, best := make([]float64, n), make([]float64, n), make([]float64, n)
	for i := range best {
		best[i] = math.Sin(float64(5*i + 2))
	}
	m, noise := NewMachine[float64](g, n), rng.New(11, 0)
	loss := 0.0
	for k := range steps {
		loss = 0
		for i := range w {
			c := math.Pow(10, -4*float64(i)/(n-1))
			loss += c * (w[i] - best[i]) * (w[i] - best[i]) / 2
			grad[i] = c * (w[i] - best[i] + 0.7*noise.Normal())
		}
		if math.IsNaN(loss) || math.IsInf(loss, 0) {
			return Score{Broken: true, Steps: k}, nil
		}
		m.Step(w, grad, 1-float64(k)/steps)
	}
	far := 0.0
	for i, v := range w {
		far += math.Abs(v-best[i]) / n
	}
	if math.IsNaN(far) || math.IsInf(far, 0) {
		return Score{Broken: true, Steps: steps}, nil
	}
	return Score{Accuracy: 1 / (1 + far), Loss: loss, Steps: steps}, nil
}

func start() *Program { return AdamW(0.001, 0.9, 0.999, 1e-8, 0.01) }

func options(way Way, n int) Options {
	return Options{Seed: 3, Way: way, Start: start(), Evaluations: n, Population: 30, Tournament: 8, MaxLength: 26, Restarts: 2, Keep: 10, Score: bowl}
}

func search(t *testing.T, o Options) *Outcome {
	t.Helper()
	out, err := Search(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// same compares what is to be the same: programs, scores, counts.
func same(a, b *Outcome) bool {
	if len(a.Best) != len(b.Best) || !reflect.DeepEqual(a.Report, b.Report) {
		return false
	}
	for i := range a.Best {
		if a.Best[i].Program.String() != b.Best[i].Program.String() || a.Best[i].Score != b.Best[i].Score || a.Best[i].At != b.Best[i].At {
			return false
		}
	}
	return true
}

// Equal seeds give equal outcomes at any number of workers, other seeds others.
func TestSearchRepeats(t *testing.T) {
	for _, way := range []Way{Evolve, Tune, Random} {
		o := options(way, 300)
		o.Workers = 1
		one := search(t, o)
		o.Workers = 3
		if three := search(t, o); !same(one, three) {
			t.Errorf("%s: three workers find another outcome:\n%+v\n%+v", way, one.Report, three.Report)
		}
		o.Seed = 4
		if other := search(t, o); same(one, other) {
			t.Errorf("%s: another seed finds the same", way)
		}
		if r := one.Report; r.Evaluated != 300 || r.Candidates != r.Evaluated+r.Known || len(r.Curve) != 100 {
			t.Errorf("%s: %d evaluated, %d known of %d candidates, curve of %d", way, r.Evaluated, r.Known, r.Candidates, len(r.Curve))
		}
	}
}

// A search that was broken off goes on from its journal to the outcome of one that was not.
func TestSearchResumes(t *testing.T) {
	o := options(Evolve, 300)
	whole := search(t, o)
	path := filepath.Join(t.TempDir(), "journal")
	open := func(of string) (*Journal, error) { return OpenJournal(path, of) }
	j, err := open("this")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var calls atomic.Int32
	o.Journal, o.Score = j, func(ctx context.Context, g *Graph) (Score, error) {
		if calls.Add(1) > 120 {
			stop()
			return Score{}, ctx.Err()
		}
		return bowl(ctx, g)
	}
	if _, err := Search(ctx, o); !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v, want that it was broken off", err)
	}
	j.Close()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString(`{"graph":"cut o`)
	f.Close()
	if j, err = open("this"); err != nil {
		t.Fatal(err)
	}
	kept := j.Len()
	calls.Store(0)
	o.Journal, o.Score = j, func(ctx context.Context, g *Graph) (Score, error) { calls.Add(1); return bowl(ctx, g) }
	if out := search(t, o); !same(out, whole) {
		t.Errorf("resumed: %+v, want %+v", out.Report, whole.Report)
	}
	if n := int(calls.Load()); kept < 100 || n != 301-kept {
		t.Errorf("%d scores in the journal and %d made anew, want 301 in all", kept, n)
	}
	j.Close()

	for _, c := range []struct{ text, want string }{
		{"", "is of another search: of this, this one is that"}, // the file as it is
		{"tensor m\n", "has no first line"},
		{"tensor m", "has no first line"},
		{`{"format":"fidlab program scores 1","of":"that"}` + "\n{\"graph\":1}\n", "is damaged in line 2"},
	} {
		if c.text != "" {
			if err := os.WriteFile(path, []byte(c.text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		var e *JournalError
		if _, err := open("that"); !errors.As(err, &e) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: %v, want %q", c.text, err, c.want)
		}
	}
}

// Hashes that collide change nothing: texts decide.
func TestCollisions(t *testing.T) {
	o := options(Evolve, 200)
	want := search(t, o)
	o.hash = func(g *Graph) (h [16]byte) { h[0] = g.Hash()[0] & 3; return h }
	got := search(t, o)
	if got.Report.Collisions < 100 || want.Report.Collisions != 0 {
		t.Errorf("%d collisions of two bits, %d of all; want many and none", got.Report.Collisions, want.Report.Collisions)
	}
	got.Report.Collisions = 0
	if !same(got, want) {
		t.Error("collisions change the outcome")
	}
}

// Searches are better than where they start, which has no sign, and evolution is better
// than programs that build on nothing; what they hand back is in order, without doubles, and scored truly.
func TestSearchFinds(t *testing.T) {
	if g := graphOf(t, start()); g.Uses("sign") {
		t.Fatal("the start has a sign")
	}
	best := map[Way]float64{}
	for _, way := range []Way{Evolve, Tune, Random} {
		out := search(t, options(way, 1500))
		best[way] = out.Best[0].Score.Fitness()
		seen := map[string]bool{}
		for i := range out.Best {
			f := &out.Best[i]
			g := graphOf(t, f.Program)
			if s, _ := bowl(context.Background(), g); s != f.Score || seen[g.Text()] || g.Text() != f.Graph.Text() {
				t.Errorf("%s: place %d: score %v, want %v; seen before %t", way, i, f.Score, s, seen[g.Text()])
			}
			seen[g.Text()] = true
			if i > 0 && f.better(&out.Best[i-1]) {
				t.Errorf("%s: place %d is better than the one before", way, i)
			}
		}
		if way == Tune {
			if a, b := shape(out.Best[0].Graph), shape(graphOf(t, start())); !reflect.DeepEqual(a, b) {
				t.Errorf("tuning made another program, of %v, not %v", a, b)
			}
		}
		r := out.Report
		t.Logf("%s: %.6f; %d tried, %d invalid, %d redundant, %d known", way, best[way], r.Tried, r.Invalid, r.Redundant, r.Known)
	}
	first, _ := bowl(context.Background(), graphOf(t, start()))
	if best[Evolve] < best[Random] || best[Random] < first.Fitness() || best[Tune] < first.Fitness()+0.1 {
		t.Errorf("evolution %v, tuning %v, random %v, the start %v", best[Evolve], best[Tune], best[Random], first.Fitness())
	}
}

// shape is how often a graph has each function.
func shape(g *Graph) map[string]int {
	out := map[string]int{}
	for i := range g.nodes {
		if f := g.nodes[i].f; f != nil {
			out[f.name]++
		}
	}
	return out
}

// Mutations are valid, compute something else than before, and keep within the length.
func TestMutations(t *testing.T) {
	r := rng.New(9, 0)
	m := Mutator{MaxLength: 22}
	p := start()
	g := graphOf(t, p)
	lengths := map[int]int{}
	var count Moves
	for range 2000 {
		q, h := m.Mutate(r, p, g, &count)
		if err := q.Check(); err != nil {
			t.Fatal(err)
		}
		if h.Text() == g.Text() || graphOf(t, q).Text() != h.Text() || !h.Learns() {
			t.Fatalf("a mutation that computes the same, or not what is said:\n%s\n%s", p, q)
		}
		if len(q.Body) > m.MaxLength {
			t.Fatalf("%d statements, want at most %d", len(q.Body), m.MaxLength)
		}
		lengths[len(q.Body)-len(p.Body)]++
		if p, g = q, h; r.Intn(40) == 0 {
			p, g = start(), graphOf(t, start())
		}
	}
	if lengths[-1] < 200 || lengths[0] < 200 || lengths[1] < 200 || len(lengths) != 3 {
		t.Errorf("changes of length %v, want each of -1, 0 and 1 often", lengths)
	}
	if count.Invalid == 0 || count.Redundant == 0 || count.Tried != 2000+count.Invalid+count.Redundant {
		t.Errorf("%+v", count)
	}
	// Tuning keeps a setting one setting: both weights of β1 stay equal, all below one, and
	// the ones of the corrections stay.
	p, g = start(), graphOf(t, start())
	for range 300 {
		p, g = Mutator{Numbers: true}.Mutate(r, p, g, &count)
		weights := map[string]float64{}
		for _, s := range p.Body {
			if s.Func != "interpolate" {
				continue
			}
			if v := s.Args[2].Value; v < 0 || v >= 1 {
				t.Fatalf("a weight of %v in\n%s", v, p)
			}
			if weights[s.To] = s.Args[2].Value; (s.To == "c" || s.To == "d") && s.Args[0].Value != 1 {
				t.Fatalf("the correction is of %v in\n%s", s.Args[0], p)
			}
		}
		if weights["m"] != weights["c"] || weights["v"] != weights["d"] {
			t.Fatalf("the moments' weights and their corrections' are %v", weights)
		}
	}
	none := must("update = g * lr") // nothing to tune
	if q, _ := (Mutator{Numbers: true}).Mutate(r, none, graphOf(t, none), &count); q != none {
		t.Errorf("tuning of no numbers made\n%s", q)
	}
}

func TestSearchRefuses(t *testing.T) {
	for want, change := range map[string]func(*Options){
		`search by "guess"`:                       func(o *Options) { o.Way = "guess" },
		"wants a program":                         func(o *Options) { o.Start = nil },
		"at most 13 statements, the start has 14": func(o *Options) { o.MaxLength = 13 },
		"0 evaluations":                           func(o *Options) { o.Evaluations = 0 },
		"population 1":                            func(o *Options) { o.Population = 1 },
		"tournaments of 31":                       func(o *Options) { o.Tournament = 31 },
		"0 populations":                           func(o *Options) { o.Restarts = 0 },
		"0 kept":                                  func(o *Options) { o.Keep = 0 },
		"update is never assigned":                func(o *Options) { o.Start = &Program{} },
		"-1 workers":                              func(o *Options) { o.Workers = -1 },
	} {
		o := options(Evolve, 10)
		change(&o)
		if _, err := Search(context.Background(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want an error with %q", err, want)
		}
	}
	broken := errors.New("no data")
	o := options(Evolve, 10)
	o.Score = func(context.Context, *Graph) (Score, error) { return Score{}, broken }
	if _, err := Search(context.Background(), o); !errors.Is(err, broken) {
		t.Errorf("%v, want the scorer's error", err)
	}
}

// The funnel takes the program that does well on what the search did not see.
func TestFunnel(t *testing.T) {
	make := func(text string, score float64) Found {
		p := must(text)
		return Found{Program: p, Graph: graphOf(t, p), Score: Score{Accuracy: score}}
	}
	list := []Found{make("update = g * 0.9", 0.95), make("update = g * 0.5", 0.94), make("update = g * 0.1", 0.93), make("update = g * 0.2", 0.92)}
	at := func(by map[float64]float64) Scorer {
		return func(_ context.Context, g *Graph) (Score, error) {
			w := []float64{0}
			NewMachine[float64](g, 1).Step(w, []float64{1}, 1)
			return Score{Accuracy: by[-w[0]]}, nil
		}
	}
	stages := []Stage{
		{Tasks: []Scorer{at(map[float64]float64{0.9: 0.1, 0.5: 0.8, 0.1: 0.6, 0.2: 0.6}), at(map[float64]float64{0.9: 0.1, 0.5: 0.8, 0.1: 0.8, 0.2: 0.6})}, Keep: 2},
		{Tasks: []Scorer{at(map[float64]float64{0.9: 1, 0.5: 0.6, 0.1: 0.7, 0.2: 1})}, Keep: 1},
	}
	got, err := Funnel(context.Background(), list, stages)
	if err != nil {
		t.Fatal(err)
	}
	want := []struct {
		value, fitness float64
		stage          int
	}{{0.1, 0.7, 2}, {0.5, 0.6, 2}, {0.2, 0.6, 1}, {0.9, 0.1, 1}}
	for i, w := range want {
		if v := got[i].Program.Body[0].Args[1].Value; v != w.value || math.Abs(got[i].Fitness-w.fitness) > 1e-12 || got[i].Stage != w.stage {
			t.Errorf("place %d: %v, fitness %v, stage %d, want %+v", i, v, got[i].Fitness, got[i].Stage, w)
		}
	}
	if _, err := Funnel(context.Background(), nil, stages); err == nil {
		t.Error("no programs pass")
	}
	if _, err := Funnel(context.Background(), list, nil); err == nil {
		t.Error("no stages pass")
	}
}

// What has no effect goes: here all but the sign of a momentum and the step.
func TestSimplify(t *testing.T) {
	p := must(`
tensor m
tensor v
scalar k
v = square(g)
k = cos(0.3)
c = clip_by_global_norm(g, 1000)
c = interpolate(c, m, 0.9)
a = arcsin(1e-9)
s = square(c)
s = sqrt(s)
s = s + 1e-12
u = sign(c)
z = u * a
u = u + z
m = interpolate(g, m, 0.99)
r = sqrt(1e-2)
lr = lr * r
update = u * lr
`)
	fit := func(ctx context.Context, g *Graph) (float64, error) {
		s, err := bowl(ctx, g)
		return s.Fitness(), err
	}
	before, _ := fit(context.Background(), graphOf(t, p))
	q, err := Simplify(context.Background(), p, fit, 1e-6)
	if err != nil {
		t.Fatal(err)
	}
	g := graphOf(t, q)
	after, _ := fit(context.Background(), g)
	if g.Size() > 5 || after < before-1e-6 || !g.Uses("sign") || g.States() > 1 {
		t.Errorf("fitness from %v to %v by\n%s", before, after, q)
	}
	if g.Uses("arcsin") || g.Uses("clip_by_global_norm") {
		t.Errorf("what had no effect is still there:\n%s", q)
	}
	// Without slack nothing that counts may change, but numbers are computed beforehand.
	exact, err := Simplify(context.Background(), must("r = sqrt(1e-4)\nr = r * 3.0000000001\nlr = lr * r\nupdate = g * lr"), func(_ context.Context, g *Graph) (float64, error) {
		w := []float64{0}
		NewMachine[float64](g, 1).Step(w, []float64{1}, 2)
		return -math.Abs(w[0] + 2*(0.01*3.0000000001)), nil
	}, 0)
	if err != nil || exact.String() != "t0 = lr * 0.030000000001\nupdate = g * t0\n" {
		t.Errorf("%v, simplified to\n%s", err, exact)
	}
}
