package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/rng"
	"github.com/fidlab/fidlab/sampler"
)

// session runs one command line and wants it to succeed.
func session(t *testing.T, args ...string) (stdout []byte) {
	t.Helper()
	var out, errs bytes.Buffer
	env := &Env{
		Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs,
		Now: time.Now, Getenv: func(string) string { return "" },
	}
	if code := Main(args, env); code != exitOK {
		t.Fatalf("fidlab %s: exit code %d\n%s", strings.Join(args, " "), code, errs.String())
	}
	return out.Bytes()
}

func compare(t *testing.T, args ...string) *compareResult {
	t.Helper()
	r := new(compareResult)
	if err := json.Unmarshal(session(t, append([]string{"compare-samplers", "--json"}, args...)...), r); err != nil {
		t.Fatal(err)
	}
	return r
}

// row finds a sampler at a budget.
func (r *compareResult) row(t *testing.T, name string, budget int) compareRowJSON {
	t.Helper()
	for _, row := range r.Rows {
		if row.Name == name && row.Budget != nil && *row.Budget == budget {
			return row
		}
	}
	t.Fatalf("no row of %s at %d: %+v", name, budget, r.Rows)
	return compareRowJSON{}
}

func mixtureFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "m.json")
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	return "gmm:" + path
}

// gaussianLine is N(0.3, 0.5²) in one dimension, whose sampling equation is
// linear: everything about it is known.
const (
	lineMean, lineSD = 0.3, 0.5
	lineMax, lineMin = 10.0, 0.02
)

func lineDenoised(x, sigma float64) float64 {
	return lineMean + (x-lineMean)*lineSD*lineSD/(lineSD*lineSD+sigma*sigma)
}

// lineEnds are the end of n steps of DDIM from unit noise z, and the exact one:
// the flow of a normal distribution scales its deviation like its spread.
func lineEnds(z float64, n int) (ddim, exact float64) {
	sigma := make([]float64, n+1) // Karras et al. 2022, eq. 5, then 0
	for i := range n {
		sigma[i] = math.Pow(math.Pow(lineMax, 1.0/7)+float64(i)/float64(n-1)*(math.Pow(lineMin, 1.0/7)-math.Pow(lineMax, 1.0/7)), 7)
	}
	x := lineMax * z
	exact = lineMean + (x-lineMean)*math.Hypot(lineSD, lineMin)/math.Hypot(lineSD, lineMax)
	exact = lineDenoised(exact, lineMin) // the step to zero
	for i := range n {
		x = lineDenoised(x, sigma[i]) + sigma[i+1]/sigma[i]*(x-lineDenoised(x, sigma[i]))
	}
	return x, exact
}

// The error of one cell against the closed form of the same images, and its
// interval against that of 200,000 others.
func TestCompareErrorByHand(t *testing.T) {
	model := mixtureFile(t, `{"weights":[1],"means":[[0.3]],"vars":[0.25]}`)
	r := compare(t, "--model", model, "--budget", "8", "--samplers", "ddim,heun", "-n", "150", "--seed", "5", "--sigma-max", "10", "--sigma-min", "0.02")
	byHand := func(seed uint64, n int) float64 {
		var a, b float64
		for i := range n {
			x, y := lineEnds(rng.ForImage(seed, uint64(i), rng.Init).Normal(), 8)
			a, b = a+(x-y)*(x-y), b+y*y
		}
		return math.Sqrt(a / b)
	}
	row := r.row(t, "ddim", 8)
	if *row.Steps != 8 || *row.NFE != 8 {
		t.Errorf("ddim: %d steps, %g evaluations; want 8", *row.Steps, *row.NFE)
	}
	// What the reference is off by is what it says itself.
	if want := byHand(5, 150); math.Abs(*row.Value-want) > r.Reference.Error {
		t.Errorf("error of ddim %.6f, by hand %.6f; the reference says it is right to %.2g", *row.Value, want, r.Reference.Error)
	}
	if r.Reference.Error > *row.Value/referenceMargin || r.Reference.Error > *r.row(t, "heun", 8).Value/referenceMargin {
		t.Errorf("the reference's own error %g is no tenth of the errors", r.Reference.Error)
	}
	if all := byHand(6, 200000); all < row.CI[0] || all > row.CI[1] || !(row.CI[0] < *row.Value && *row.Value < row.CI[1]) {
		t.Errorf("interval %v around %g; 200,000 other images give %g", *row.CI, *row.Value, all)
	}
}

// At level 0.8 the interval holds the true ratio in about 80 of 100 trials. Its truth
// here: x - y = d + p·z and y = m + q·z with z normal, so that E² = (d²+p²)/(m²+q²).
func TestPowerRatioCovers(t *testing.T) {
	zero, ez := lineEnds(0, 8)
	one, eo := lineEnds(1, 8)
	p, d, m, q := (one-eo)-(zero-ez), zero-ez, ez, eo-ez
	want := math.Sqrt((d*d + p*p) / (m*m + q*q))
	const trials, n = 200, 100
	held := 0
	for k := range trials {
		a, b := make([]float64, n), make([]float64, n)
		s := rng.New(1, uint64(k))
		for i := range a {
			z := s.Normal()
			a[i], b[i] = (d+p*z)*(d+p*z), (m+q*z)*(m+q*z)
		}
		if v := powerRatio(a, b, 0.5, 0.8); v[1] <= want && want <= v[2] {
			held++
		}
	}
	// Five standard deviations of the count, 5.7 each, below 160, and as many above.
	if held < 132 || held > 188 {
		t.Errorf("%d of %d intervals hold the true error %g", held, trials, want)
	}
}

// On a smooth mixture the orders of convergence show: twice the evaluations
// divide the error of a first-order method by about 2, of a second-order one by 4.
func TestCompareOrdersOfError(t *testing.T) {
	model := mixtureFile(t, `{"weights":[0.4,0.6],"means":[[0.5,0.2],[-0.4,0.3]],"vars":[0.3,0.2]}`)
	r := compare(t, "--model", model, "--budget", "10,40,80", "-n", "40", "--sigma-max", "10", "--sigma-min", "0.1", "--end", "min", "--samplers", "ddim,euler,heun,dpm++2m")
	value := func(name string, budget int) float64 { return *r.row(t, name, budget).Value }
	if a, b := value("dpm++2m", 10), value("ddim", 10); !(a < b) {
		t.Errorf("10 evaluations: dpm++2m %g, ddim %g; want the second-order method better", a, b)
	}
	for name, order := range map[string]float64{"ddim": 1, "euler": 1, "heun": 2, "dpm++2m": 2} {
		if got := math.Log2(value(name, 40) / value(name, 80)); math.Abs(got-order) > 0.25 {
			t.Errorf("%s: order %.2f from 40 to 80 evaluations, want %g", name, got, order)
		}
	}
	if v := r.row(t, "dpm++2m", 80); *v.Ratio != 1 || v.RatioCI != nil {
		t.Errorf("dpm++2m is the best at 80 and has the ratio %g %v to it", *v.Ratio, v.RatioCI)
	}
	d := r.row(t, "ddim", 80)
	if want := value("ddim", 80) / value("dpm++2m", 80); math.Abs(*d.Ratio-want) > 1e-12*want || d.RatioCI[0] > want || d.RatioCI[1] < want {
		t.Errorf("ratio of ddim %g %v; want %g", *d.Ratio, *d.RatioCI, want)
	}
}

// The FID of a cell is that of the same images on disk.
func TestCompareFIDIsThatOfFiles(t *testing.T) {
	dir := t.TempDir()
	other := mixtureFile(t, `{"weights":[1],"means":[[0.4,0.5,0.6,0.5,0.4,0.3]],"vars":[0.05],"shape":[2,3,1]}`)
	model := mixtureFile(t, `{"weights":[0.3,0.7],"means":[[0.1,0.2,0.9,0.5,0.4,0.3],[0.9,0.8,0.1,0.2,0.4,0.6]],"vars":[0.01,0.02],"shape":[2,3,1]}`)
	ref := filepath.Join(dir, "ref")
	session(t, "sample", "--model", other, "-n", "60", "--no-grid", "-o", ref)
	r := compare(t, "--model", model, "--budget", "4", "--samplers", "euler-a,dpm++2m", "--ref", ref, "--features", "identity", "-n", "50", "--seeds", "2", "--seed", "7")
	for _, name := range []string{"euler-a", "dpm++2m"} {
		row := r.row(t, name, 4)
		var want []float64
		for _, seed := range []string{"7", "8"} {
			out := filepath.Join(dir, name+seed)
			session(t, "sample", "--model", model, "--sampler", name, "--steps", "4", "-n", "50", "--seed", seed, "--no-grid", "-o", out)
			text := strings.TrimSpace(string(session(t, "fid", ref, out, "--features", "identity", "--no-ci", "--json")))
			var one struct {
				Metrics struct{ FID struct{ Value float64 } }
			}
			if err := json.Unmarshal([]byte(text), &one); err != nil {
				t.Fatal(err)
			}
			want = append(want, one.Metrics.FID.Value)
		}
		if !slices.Equal(row.Values, want) {
			t.Errorf("%s: FIDs %v; those of the files are %v", name, row.Values, want)
		}
		// t of one degree of freedom is 12.7062, and the deviation of two values is |a-b|/√2.
		half := 12.7062 * math.Abs(want[0]-want[1]) / 2
		mean := (want[0] + want[1]) / 2
		if math.Abs(*row.Value-mean) > 1e-12 || math.Abs(row.CI[1]-mean-half) > 1e-4*half || row.CI[0] > mean {
			t.Errorf("%s: %g %v; want %g ± %g", name, *row.Value, *row.CI, mean, half)
		}
	}
	if !slices.ContainsFunc(r.Notes, func(n string) bool { return strings.Contains(n, "50 images raise every FID by about") }) {
		t.Errorf("no note on the bias: %q", r.Notes)
	}
}

// wandering says that its NFE varies, though it takes one evaluation a step.
type wandering struct{ sampler.DDIM }

func (wandering) Name() string            { return "wandering" }
func (wandering) NFE(*diffusion.Grid) int { return sampler.Varies }

func TestPlanSolver(t *testing.T) {
	p := diffusion.DefaultVE()
	build := func(steps int) (*diffusion.Grid, error) {
		return diffusion.Build(p, diffusion.Spec{Rule: "karras", Steps: steps})
	}
	for _, c := range []struct {
		name  string
		want  string // steps:evaluations at the budgets 1, 2, 5, 6, 20
		cells int
	}{
		{"ddim", "1:1 2:2 5:5 6:6 20:20", 5},
		{"heun", "1:1 1:1 3:5 3:5 10:19", 3}, // 2n-1: the step to zero takes one
		{"dpm++2m", "- 2:2 5:5 6:6 20:20", 4},
	} {
		s, err := sampler.ByName(c.name)
		if err != nil {
			t.Fatal(err)
		}
		rows, cells := planSolver(c.name, "karras", s, []int{1, 2, 5, 6, 20}, build)
		var got []string
		for _, r := range rows {
			if r.cell == nil {
				got = append(got, "-")
				if !strings.Contains(r.reason, "1 of the 2 steps") {
					t.Errorf("%s at %d: reason %q", c.name, r.budget, r.reason)
				}
				continue
			}
			got = append(got, strconv.Itoa(len(r.cell.grid.Steps))+":"+nfeText(r.cell.nfe))
		}
		if strings.Join(got, " ") != c.want || len(cells) != c.cells {
			t.Errorf("%s: %q in %d cells; want %q in %d", c.name, got, len(cells), c.want, c.cells)
		}
	}
	// A solver of varying NFE is run once and stands at what it took.
	rows, cells := planSolver("wandering", "karras", wandering{}, []int{3, 7}, build)
	ddim, more := planSolver("ddim", "karras", sampler.DDIM{}, []int{3, 7}, build)
	r := &comparison{
		o:    &compareOptions{n: 9, ciLevel: 0.95, measure: "error", grids: "karras", guide: guideOptions{weight: 1, rule: "cfg", negative: -1}, model: mixtureFile(t, `{"weights":[1],"means":[[0.3]],"vars":[0.25]}`)},
		rows: append(ddim, rows...), cells: append(more, cells...), spec: diffusion.Spec{}, path: p, device: "cpu",
	}
	a := newApp(&Env{Stdout: new(bytes.Buffer), Stderr: new(bytes.Buffer), Now: time.Now})
	entry, err := findModel(r.o.model)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.measureError(context.Background(), a, entry); err != nil {
		t.Fatal(err)
	}
	r.collectNotes()
	last := r.table().Rows[2]
	if last[0] != "-" || last[1] != "wandering" || last[2] != "7" || last[3] != "7" || last[6] != "-" || last[4] != r.table().Rows[1][4] {
		t.Errorf("row %q; want wandering, 7 steps, 7 evaluations, the value of ddim %q, no ratio", last, r.table().Rows[1])
	}
	if s := r.figure().Series; len(s) != 2 || len(s[1].Points) != 1 || s[1].Points[0].X != 7 || len(s[0].Points) != 2 {
		t.Errorf("figure %+v; want ddim at 3 and 7, wandering at 7", s)
	}
	if !strings.Contains(strings.Join(r.notes, "\n"), "wandering decides on the way") {
		t.Errorf("notes %q", r.notes)
	}
}

func TestSplitSpecs(t *testing.T) {
	for list, want := range map[string][]string{
		"ddim":                             {"ddim"},
		"ddim, heun":                       {"ddim", "heun"},
		"ddim:eta=0.5,clip=2,heun,a:b=1":   {"ddim:eta=0.5,clip=2", "heun", "a:b=1"},
		"ddim,eta=1":                       {"ddim", "eta=1"},
		"dpm++2m:lower-final=1,ddim:eta=0": {"dpm++2m:lower-final=1", "ddim:eta=0"},
	} {
		if got := splitSpecs(list); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", list, got, want)
		}
	}
}

// What is drawn for FID is what fidlab sample writes, planes of colour too.
func TestKindOfPlanes(t *testing.T) {
	k := kindOf(&model{shape: []int{3, 2, 1}, chw: true, lo: -1, hi: 1}, 1)
	m := k.batch(0, gpu.CPU().From([]float32{-1, 1, 0, 1, 1, -1}, 1, 3, 2, 1)).pictures[0]
	if want := []uint8{0, 128, 255, 255, 255, 0}; m.Width != 1 || m.Height != 2 || !slices.Equal(m.Pix, want) {
		t.Errorf("%dx%d %v, want 1x2 %v", m.Width, m.Height, m.Pix, want)
	}
	if k := kindOf(&model{shape: []int{3, 2, 1}, latent: true}, 1); k.pictures {
		t.Error("latents count as pictures")
	}
}
