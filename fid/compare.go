package fid

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/fidlab/fidlab/gpu"
)

// Options of a comparison; zeros stand for the defaults.
type Options struct {
	Metrics  []string // names of Metrics(); {"fid"}
	CI       bool     // estimate a confidence interval where the features allow it
	Interval IntervalOptions
	Force    bool   // compare sets that were not made alike and mark the result "mixed"
	Version  string // of fidlab, for the result

	Device *gpu.Device // that distances between sets are computed on; nil is the CPU

	NearestK int // neighbours of pr and dc; 0 is 3 and 5
	Splits   int // parts of the Inception score; 0 is 10
	// SplitSize, where it is above 0, makes parts of so many vectors, the last of what is left, as ADM does.
	SplitSize int
	// Population takes covariances with ddof 0 for "fid" and "fdr", as StyleGAN does.
	Population bool
	InOrder    bool   // the Inception score's parts are not shuffled
	Test       *Stats // vectors like the reference's that the generator was not trained on, for the metrics that need them; nil: none
	Boundary   string // whether a vector on a ball's boundary is in it: "inclusive" or "strict" for both; "" is as the papers' codes do, pr inclusive and dc strict
}

func (o *Options) wants(metric string) bool { return slices.Contains(o.Metrics, metric) }

// comparison is one call of Compare, with what its metrics share.
type comparison struct {
	ref, gen *Stats
	opt      Options
	near     *neighbourhood
}

// Metric is one way to compare two sets.
type Metric struct {
	Name    string
	Summary string // one line
	// Features tells that it needs the vectors themselves, not their statistics alone.
	Features bool
	// Test tells that it needs a test set, see Options.
	Test bool
	// Parts are what else it needs to be extracted.
	Parts   []string
	compute func(ctx context.Context, c *comparison) (v Value, notes []string, err error)
}

// metrics in the order in which they are listed.
var metrics = []Metric{
	{Name: "fid", Summary: "Fréchet distance between the normal distributions fitted to both sets", compute: computeFID},
	{Name: "fdr", Summary: "the distance over that of a test set from the reference: 1 is as near as real pictures are (Yang et al. 2026)", Test: true, compute: computeFDR},
	{Name: "sfid", Summary: "Fréchet distance of a part of a map that keeps its places, of the Inception network (Nash et al. 2021, as ADM)", Parts: []string{PartSpatial}, compute: func(_ context.Context, c *comparison) (Value, []string, error) { return computeSFID(c) }},
	{Name: "is", Summary: "Inception score of the generated set (Salimans et al. 2016), as torch-fidelity: 10 parts, shuffled", Parts: []string{PartLogits}, compute: computeIS},
	{Name: "kid", Summary: "kernel inception distance: unbiased MMD² of 100 subsets of 1000, kernel (x·y/d+1)³", Features: true, compute: computeKID},
	{Name: "kid-full", Summary: "kernel inception distance of the whole sets: unbiased MMD², kernel (x·y/d+1)³, with its standard error", Features: true, compute: computeMMD("kid-full", cubic)},
	{Name: "kid-rbf", Summary: "unbiased MMD² of the whole sets, kernel exp(-|x-y|²/200)", Features: true, compute: computeMMD("kid-rbf", gaussian)},
	{Name: "cmmd", Summary: "1000·MMD² of vectors of length 1, kernel exp(-|x-y|²/200), as of CLIP (Jayasumana et al. 2024)", Features: true, compute: computeCMMD},
	{Name: "mind", Summary: "sliced distance over 1000 directions, as torch-fidelity's MIND", Features: true, compute: computeMIND},
	{Name: "fid-inf", Summary: "Fréchet distance extrapolated to infinitely many generated vectors (Chong and Forsyth 2020)", Features: true, compute: computeInfinity},
	{Name: "pr", Summary: "precision and recall by balls to the 3rd nearest neighbour (Kynkäänniemi et al. 2019)", Features: true, compute: computePR},
	{Name: "dc", Summary: "density and coverage by balls to the 5th nearest neighbour (Naeem et al. 2020)", Features: true, compute: computeDC},
	{Name: "authpct", Summary: "percentage of generated vectors that are no copies of their nearest reference vector (Alaa et al. 2022)", Features: true, compute: computeAuth},
	{Name: "fld", Summary: "feature likelihood divergence and gap, by a test set (Jiralerspong et al. 2023)", Features: true, Test: true, compute: computeFLD},
	{Name: "vendi", Summary: "Vendi score: how many different vectors a set is worth (Friedman and Dieng 2023)", Features: true, compute: computeVendi},
}

// Metrics lists what there is.
func Metrics() []Metric { return append([]Metric(nil), metrics...) }

// ErrUnknownMetric is inside the error of a metric name that does not exist.
var ErrUnknownMetric = errors.New("unknown metric")

// NeedFeatures tells whether one of the metrics needs feature vectors.
func NeedFeatures(names []string) bool {
	return slices.ContainsFunc(names, func(n string) bool {
		m := findMetric(n)
		return m != nil && m.Features
	})
}

// NeedParts lists what the metrics need to be extracted beside the features.
func NeedParts(names []string) []string {
	var parts []string
	for _, n := range names {
		if m := findMetric(n); m != nil {
			for _, p := range m.Parts {
				if !slices.Contains(parts, p) {
					parts = append(parts, p)
				}
			}
		}
	}
	return parts
}

// CheckMetrics returns an error around ErrUnknownMetric that lists what exists
// when one of the names does not.
func CheckMetrics(names []string) error {
	for _, n := range names {
		if findMetric(n) == nil {
			known := make([]string, 0, len(metrics))
			for _, m := range metrics {
				known = append(known, m.Name)
			}
			sort.Strings(known)
			return fmt.Errorf("fid: %w %q; there is %s", ErrUnknownMetric, n, strings.Join(known, ", "))
		}
	}
	return nil
}

func findMetric(name string) *Metric {
	for i := range metrics {
		if metrics[i].Name == name {
			return &metrics[i]
		}
	}
	return nil
}

// Compare computes the metrics between a reference and a generated set. Sets
// that were not made alike are refused with ErrUnlike unless Force is set.
// Seconds holds the metrics' time only, and Skipped is empty: the caller adds
// what reading the sets took and left out.
func Compare(ctx context.Context, ref, gen *Stats, opt Options) (*Result, error) {
	if len(opt.Metrics) == 0 {
		opt.Metrics = []string{"fid"}
	}
	if err := CheckMetrics(opt.Metrics); err != nil {
		return nil, err
	}
	res := &Result{
		Metrics: map[string]Value{}, N: Counts{ref.N, gen.N}, Skipped: []Skipped{}, Notes: []string{},
		Version: opt.Version, Schema: Schema,
	}
	if err := res.describe(ref, gen, opt.Force); err != nil {
		return nil, err
	}
	if opt.Splits < 0 || opt.SplitSize < 0 {
		return nil, fmt.Errorf("fid: %d parts of %d; wanted 0 or more", opt.Splits, opt.SplitSize)
	}
	if opt.NearestK < 0 || opt.Boundary != "" && opt.Boundary != "strict" && opt.Boundary != "inclusive" {
		return nil, fmt.Errorf("fid: %d neighbours with boundary %q; wanted 0 or more, and strict, inclusive or nothing", opt.NearestK, opt.Boundary)
	}
	if err := checkTest(ref, &opt); err != nil {
		return nil, err
	}
	start := time.Now()
	c := &comparison{ref: ref, gen: gen, opt: opt}
	for _, name := range opt.Metrics {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		v, notes, err := findMetric(name).compute(ctx, c)
		if err != nil {
			return nil, err
		}
		res.Metrics[name] = v
		res.Notes = append(res.Notes, notes...)
	}
	res.Seconds.Metric = time.Since(start).Seconds()
	return res, nil
}

// checkTest refuses a test set whose vectors are not like the reference's.
func checkTest(ref *Stats, opt *Options) error {
	test := opt.Test
	if test == nil {
		return nil
	}
	if test.Dim() != ref.Dim() {
		return badInput("the reference has %d features, the test set %d; extract both with one extractor", ref.Dim(), test.Dim())
	}
	if opt.Force {
		return nil
	}
	if err := CheckAlike(ref, test); err != nil {
		return fmt.Errorf("reference and test set: %w", err)
	}
	return nil
}

// mixed marks a result whose two sides differ in a respect.
const mixed = "mixed"

// describe fills in what the result says about how both sets were made.
func (r *Result) describe(ref, gen *Stats, force bool) error {
	r.Extractor.Dim = ref.Dim()
	if err := CheckAlike(ref, gen); err != nil {
		if !force {
			return err
		}
		r.Notes = append(r.Notes, "mixed: compared by force: "+strings.TrimPrefix(err.Error(), "fid: "))
	}
	p, q := ref.Provenance, gen.Provenance
	for i, s := range []*Stats{ref, gen} {
		if s.Provenance == nil {
			r.Notes = append(r.Notes, fmt.Sprintf("%s: nothing tells how these statistics were made; the comparison means something only if it was as on the other side", sides[i]))
		}
	}
	if p == nil && q == nil {
		r.Preset, r.Device, r.Precision = "unknown", "cpu", "unknown"
		return nil
	}
	if p == nil {
		p = q
	}
	if q == nil {
		q = p
	}
	x, y := p.Extractor, q.Extractor
	r.Extractor.Name, r.Extractor.SHA256 = either(x.Name, y.Name), either(x.SHA256, y.SHA256)
	r.Preset, r.Precision = either(x.Preset, y.Preset), either(x.Precision, y.Precision)
	r.Device = either(p.Device, q.Device)
	if r.Device == mixed {
		r.Notes = append(r.Notes, fmt.Sprintf("the sets were made on different devices (%s and %s)", p.Device, q.Device))
	}
	if len(p.Decoders) > 0 && len(q.Decoders) > 0 && !slices.Equal(lossyDecoders(p), lossyDecoders(q)) {
		r.Notes = append(r.Notes, fmt.Sprintf("the reference was decoded by %s, the generated set by %s; a lossy format on one side, or another decoder of it, shifts the score",
			strings.Join(p.Decoders, ", "), strings.Join(q.Decoders, ", ")))
	}
	seen := map[string]bool{}
	for i, s := range []*Stats{ref, gen} {
		if s.Provenance == nil {
			continue
		}
		if n := s.Provenance.Extractor.Note; n != "" && !seen[n] {
			seen[n] = true
			r.Notes = append(r.Notes, n)
		}
		for _, n := range s.Provenance.Notes {
			r.Notes = append(r.Notes, sides[i]+": "+n)
		}
	}
	return nil
}

func either(a, b string) string {
	if a == b {
		return a
	}
	return mixed
}

// NeedTest lists those of the metrics that need a test set.
func NeedTest(names []string) []string {
	var out []string
	for _, n := range names {
		if m := findMetric(n); m != nil && m.Test {
			out = append(out, n)
		}
	}
	return out
}

func computeFID(ctx context.Context, c *comparison) (Value, []string, error) {
	ref, gen, opt := c.ref, c.gen, c.opt
	sample, err := FrechetOn(opt.Device, ref, gen)
	if err != nil {
		return nil, nil, err
	}
	d, err := opt.covariances(sample, ref, gen)
	if err != nil {
		return nil, nil, err
	}
	opt.Interval = opt.Interval.withDefaults()
	v := FIDValue{Value: d.Value, MeanTerm: d.MeanTerm, CovTerm: d.CovTerm, CILevel: opt.Interval.Level}
	notes := d.Notes
	if !opt.CI {
		return v, notes, nil
	}
	ci, err := ConfidenceInterval(ctx, ref, gen, opt.Interval)
	var refused *NumericError
	switch {
	case errors.Is(err, ErrNoFeatures), errors.As(err, &refused):
		return v, append(notes, "no confidence interval: "+strings.TrimPrefix(err.Error(), "fid: ")), nil
	case err != nil:
		return nil, nil, err
	}
	if opt.Population { // of ddof 1; the two differ by a number that hardly varies
		ci.Lo, ci.Hi = max(0, ci.Lo+d.Value-sample.Value), max(0, ci.Hi+d.Value-sample.Value)
	}
	v.CI = &[2]float64{ci.Lo, ci.Hi}
	note := "confidence interval by " + ci.Method
	switch {
	case ci.AtN:
		note += fmt.Sprintf(" for sets of just as many images (%d and %d): in %d dimensions that is too few to tell how much the value exceeds the distance of the distributions",
			ref.N, gen.N, ref.Dim())
	case ci.Hi < v.Value:
		note += fmt.Sprintf(" for the distance of the distributions; it lies below the value, which this many images raise by about %.3g", ci.Bias)
	default:
		note += fmt.Sprintf(" for the distance of the distributions; this many images raise the value by about %.3g", max(ci.Bias, 0))
	}
	return v, append(notes, note), nil
}

// frechet is the distance with the covariances that are asked for.
func (o *Options) frechet(ref, gen *Stats) (Distance, error) {
	d, err := FrechetOn(o.Device, ref, gen)
	if err != nil {
		return d, err
	}
	return o.covariances(d, ref, gen)
}

// covariances is a distance with the covariances that are asked for in place of those of ddof 1.
func (o *Options) covariances(d Distance, ref, gen *Stats) (Distance, error) {
	if !o.Population {
		return d, nil
	}
	if ref.N < 2 || gen.N < 2 {
		return d, badInput("a covariance with ddof 0 needs the number of vectors, which a file of statistics does not tell")
	}
	return d.population(ref.N, gen.N), nil
}

// lossyDecoders are those of p's decoders whose pixels depend on the decoder:
// every decoder of a lossless format gives the same.
func lossyDecoders(p *Provenance) []string {
	var out []string
	for _, d := range p.Decoders {
		if strings.Contains(d, "jpeg") || strings.Contains(d, "webp") {
			out = append(out, d)
		}
	}
	return out
}
