package fid

import (
	"cmp"
	"context"
	"math"
	"slices"
)

// Ranked is one of several generated sets that were compared with one reference.
type Ranked struct {
	Index int     `json:"index"` // in the order given
	Value float64 `json:"value"` // its distance
	// Difference is its distance less the next better set's, and its interval:
	// the chance of the reference, which both share, drops out of it. They are
	// zero and null for the best, and null without features of all three sets.
	Difference float64     `json:"difference"`
	CI         *[2]float64 `json:"ci"`
}

// Distinct tells whether the interval leaves 0 out.
func (r Ranked) Distinct() bool { return r.CI != nil && (r.CI[0] > 0 || r.CI[1] < 0) }

// Rank orders generated sets by their Fréchet distance to a reference, the least
// first. The interval of each one's difference to the set before it is the
// jackknife's, over blocks of the reference, the same for both distances, and of
// either set. Sets of unlike sizes are biased unlike, which the caller should
// tell; the interval does not hold for that.
func Rank(ctx context.Context, ref *Stats, gens []*Stats, opt IntervalOptions) ([]Ranked, error) {
	opt = opt.withDefaults()
	blocks := min(opt.Blocks, ref.N/2)
	for _, g := range gens {
		blocks = min(blocks, g.N/2)
	}
	out := make([]Ranked, len(gens))
	for i, g := range gens {
		d, err := Frechet(ref, g)
		if err != nil {
			return nil, err
		}
		out[i] = Ranked{Index: i, Value: d.Value}
	}
	slices.SortStableFunc(out, func(a, b Ranked) int { return cmp.Compare(a.Value, b.Value) })
	type left struct{ ref, gen []float64 }
	known := map[int]left{}
	of := func(i int) (left, error) {
		if l, ok := known[i]; ok {
			return l, nil
		}
		r, g, err := deletions(ctx, ref, gens[i], blocks, opt.Seed)
		known[i] = left{r, g}
		return known[i], err
	}
	for i := 1; i < len(out); i++ {
		out[i].Difference = out[i].Value - out[i-1].Value
		if ref.Features == nil || gens[out[i].Index].Features == nil || gens[out[i-1].Index].Features == nil || blocks < 2 {
			continue
		}
		a, err := of(out[i].Index)
		if err != nil {
			return nil, err
		}
		b, err := of(out[i-1].Index)
		if err != nil {
			return nil, err
		}
		shared := make([]float64, blocks)
		for k := range shared {
			shared[k] = a.ref[k] - b.ref[k]
		}
		variance := 0.0
		for _, side := range [][]float64{shared, a.gen, b.gen} {
			dev := deviation(side, sum(side)/float64(blocks))
			variance += dev * dev * float64(blocks-1)
		}
		half := studentT(opt.Level, 2*(blocks-1)) * math.Sqrt(variance)
		out[i].CI = &[2]float64{out[i].Difference - half, out[i].Difference + half}
	}
	return out, nil
}
