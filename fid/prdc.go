package fid

import (
	"context"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// The numbers of neighbours that the papers take.
const (
	prNearest = 3 // Kynkäänniemi et al. 2019
	dcNearest = 5 // Naeem et al. 2020
)

// PRValue is the outcome of "pr".
type PRValue struct {
	Precision float64 `json:"precision"`
	Recall    float64 `json:"recall"`
	F1        float64 `json:"f1"` // 2PR/max(1e-5, P+R)
	K         int     `json:"k"`
	Rule      string  `json:"rule"` // "inclusive" or "strict"
}

// Number is the precision.
func (v PRValue) Number() float64 { return v.Precision }

// Figures are both.
func (v PRValue) Figures() []Figure {
	return []Figure{{"precision", v.Precision}, {"recall", v.Recall}}
}

// DCValue is the outcome of "dc".
type DCValue struct {
	Density  float64 `json:"density"`
	Coverage float64 `json:"coverage"`
	K        int     `json:"k"`
	Rule     string  `json:"rule"`
}

// Number is the density.
func (v DCValue) Number() float64 { return v.Density }

// Figures are both.
func (v DCValue) Figures() []Figure {
	return []Figure{{"density", v.Density}, {"coverage", v.Coverage}}
}

// AuthValue is the outcome of "authpct".
type AuthValue struct {
	Percent float64 `json:"percent"` // of generated vectors that are authentic
	Copies  float64 `json:"copies"`  // share of those at distance 0 from a reference
}

// Number is the percentage.
func (v AuthValue) Number() float64 { return v.Percent }

// neighbourhood is what the k-NN metrics have in common, computed once for those
// that are asked for.
type neighbourhood struct {
	k        int       // of the radii
	ref, gen []float64 // squared distances to the 1st to k-th nearest others, [n, k]; gen is nil when not needed
	pr, dc   inside    // gen in the balls around ref
	reverse  inside    // ref in the balls around gen
	nearest  []int     // of gen, in ref; as meeting has it
	dist     []float64 // squared
}

// rules of the metrics under opt.
func (o *Options) neighbours() (prK, dcK int, prStrict, dcStrict bool) {
	prK, dcK, dcStrict = prNearest, dcNearest, true
	if o.NearestK > 0 {
		prK, dcK = o.NearestK, o.NearestK
	}
	switch o.Boundary {
	case "strict":
		prStrict = true
	case "inclusive":
		dcStrict = false
	}
	return prK, dcK, prStrict, dcStrict
}

func ruleName(strict bool) string {
	if strict {
		return "strict"
	}
	return "inclusive"
}

// neighbourhood computes or recalls the common part.
func (c *comparison) neighbourhood(ctx context.Context, metric string) (*neighbourhood, error) {
	if c.near != nil {
		return c.near, nil
	}
	prK, dcK, _, _ := c.opt.neighbours()
	k := 1
	if c.opt.wants("pr") {
		k = max(k, prK)
	}
	if c.opt.wants("dc") {
		k = max(k, dcK)
	}
	if err := needFeatures(metric, c.ref, c.gen, k+1); err != nil {
		return nil, err
	}
	n := &neighbourhood{k: k}
	find := func(by neighbours) error { return n.find(ctx, &c.opt, by) }
	var err error
	if dev := c.opt.onDevice(c.ref.Dim()); dev != nil && k <= ops.NearestMost {
		err = forked(dev, func(dev *gpu.Device) error {
			by := newDeviceNeighbours(dev, c.ref, c.gen)
			defer by.free()
			return find(by)
		})
	} else {
		err = find(cpuNeighbours{newPoints(c.ref, c.ref.Mu), newPoints(c.gen, c.ref.Mu)})
	}
	if err != nil {
		return nil, err
	}
	c.near = n
	return n, nil
}

// find fills in what the metrics under opt ask for.
func (n *neighbourhood) find(ctx context.Context, opt *Options, by neighbours) error {
	prK, dcK, prStrict, dcStrict := opt.neighbours()
	k := n.k
	var err error
	if n.ref, err = by.radii(ctx, 0, k); err != nil {
		return err
	}
	var around, reverse []ball
	column := func(r []float64, which int) []float64 {
		out := make([]float64, len(r)/k)
		for i := range out {
			out[i] = r[i*k+which-1]
		}
		return out
	}
	if opt.wants("pr") {
		if n.gen, err = by.radii(ctx, 1, k); err != nil {
			return err
		}
		around = append(around, ball{column(n.ref, prK), prStrict})
		reverse = append(reverse, ball{column(n.gen, prK), prStrict})
	}
	if opt.wants("dc") {
		around = append(around, ball{column(n.ref, dcK), dcStrict})
	}
	m, err := by.meet(ctx, around, reverse, opt.wants("authpct") || len(opt.Metrics) == 0)
	if err != nil {
		return err
	}
	n.nearest, n.dist = m.nearest, m.dist
	of := m.of
	if opt.wants("pr") {
		n.pr, n.reverse, of = of[0], m.rev[0], of[1:]
	}
	if opt.wants("dc") {
		n.dc = of[0]
	}
	return nil
}

// computePR is improved precision and recall (Kynkäänniemi et al. 2019): with
// r_k(x) the distance of x to its k-th nearest neighbour in its own set, itself
// not counted,
//
//	precision = share of generated vectors within r_k of some reference vector
//	recall    = share of reference vectors within r_k of some generated vector
//
// k is 3, and a vector on the boundary is inside, as in the authors' code, ADM's
// and torch-fidelity's; prdc leaves it outside (Options.Boundary).
func computePR(ctx context.Context, c *comparison) (Value, []string, error) {
	n, err := c.neighbourhood(ctx, "pr")
	if err != nil {
		return nil, nil, err
	}
	k, _, strict, _ := c.opt.neighbours()
	v := PRValue{Precision: shareInside(n.pr.balls), Recall: shareInside(n.reverse.balls), K: k, Rule: ruleName(strict)}
	v.F1 = 2 * v.Precision * v.Recall / max(1e-5, v.Precision+v.Recall)
	return v, nil, nil
}

// computeDC is density and coverage (Naeem et al. 2020):
//
//	density  = mean over generated vectors of the number of reference balls around them, divided by k
//	coverage = share of reference balls with a generated vector inside
//
// k is 5, and a vector on the boundary is outside, as in the authors' code.
func computeDC(ctx context.Context, c *comparison) (Value, []string, error) {
	n, err := c.neighbourhood(ctx, "dc")
	if err != nil {
		return nil, nil, err
	}
	_, k, _, strict := c.opt.neighbours()
	v := DCValue{K: k, Rule: ruleName(strict)}
	var balls int64
	for _, b := range n.dc.balls {
		balls += int64(b)
	}
	v.Density = float64(balls) / float64(k) / float64(len(n.dc.balls))
	held := 0
	for _, a := range n.dc.any {
		if a {
			held++
		}
	}
	v.Coverage = float64(held) / float64(len(n.dc.any))
	return v, nil, nil
}

func shareInside(balls []int32) float64 {
	in := 0
	for _, b := range balls {
		if b > 0 {
			in++
		}
	}
	return float64(in) / float64(len(balls))
}

// computeAuth is the percentage of authentic vectors (Alaa et al. 2022): a
// generated vector counts as a copy where its nearest reference vector has no
// other reference vector as near as it.
func computeAuth(ctx context.Context, c *comparison) (Value, []string, error) {
	n, err := c.neighbourhood(ctx, "authpct")
	if err != nil {
		return nil, nil, err
	}
	authentic, copies := 0, 0
	for j, i := range n.nearest {
		if n.dist[j] > n.ref[i*n.k] {
			authentic++
		}
		if n.dist[j] == 0 {
			copies++
		}
	}
	total := float64(len(n.nearest))
	return AuthValue{100 * float64(authentic) / total, float64(copies) / total}, nil, nil
}
