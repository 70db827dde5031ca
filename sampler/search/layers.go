package search

import (
	"fmt"
	"slices"

	"github.com/fidlab/fidlab/rng"
)

// Layers is the space of both stages: levels of T, and the layers of the network
// that each step leaves out. Its budget is the number of layers that run in all
// steps together, Σ_i (L - |skip_i|) ≤ Most, so that layers left out buy further
// steps, and candidates differ in length. A candidate always has as many steps as
// the budget pays for.
//
// The stages follow the published search: no layer is left out until epoch 5, or
// until the best candidate has not changed for an epoch; then the share of its
// layers that a step may leave out grows by MaxSkip/5 an epoch up to MaxSkip. How
// many a step leaves out is drawn evenly from MinSkip·L to that share of L, both
// rounded down; but it may always be one, so that networks of few layers have a
// second stage too (our choice). A step that the rest of the budget pays for only
// without more layers than drawn leaves out as many as it must, within the share.
type Layers struct {
	T                int
	Names            []string // of the layers
	Most             int
	MaxSkip, MinSkip float64 // shares of the layers; MaxSkip 0 is 0.1

	on    bool
	share float64
}

// Check refuses a budget that no step fits in, and shares outside [0, 1).
func (l *Layers) Check() error {
	L := len(l.Names)
	if l.T < 1 {
		return fmt.Errorf("search: %d levels; wanted at least 1", l.T)
	}
	if L == 0 {
		return fmt.Errorf("search: the network has no layers to leave out; wanted named ones, or a search over steps alone")
	}
	if l.Most < L {
		return fmt.Errorf("search: a budget of %d layers; one step takes %d: wanted at least that", l.Most, L)
	}
	if l.Most > L*l.T {
		return fmt.Errorf("search: a budget of %d layers; all %d levels take %d with all layers: wanted at most that", l.Most, l.T, L*l.T)
	}
	if top := l.most(); !(l.MinSkip >= 0 && l.MinSkip <= top && top < 1) {
		return fmt.Errorf("search: steps leave out a share of %g to %g of the layers; wanted 0 <= least <= most < 1", l.MinSkip, top)
	}
	return nil
}

func (l *Layers) most() float64 {
	if l.MaxSkip == 0 {
		return 0.1
	}
	return l.MaxSkip
}

// restart is called at the beginning of a search.
func (l *Layers) restart() { l.on, l.share = false, 0 }

// Begin implements Staged. Epochs count from 0.
func (l *Layers) Begin(epoch int, changed bool) {
	l.on = l.on || epoch > 4 || epoch > 0 && !changed
	if l.on {
		l.share = min(l.share+l.most()/5, l.most())
	}
}

// limit is how many layers a step may leave out at present.
func (l *Layers) limit() int {
	if !l.on {
		return 0
	}
	return max(int(l.share*float64(len(l.Names))+1e-9), 1)
}

// skip draws the layers that a step leaves out, at least least of them.
func (l *Layers) skip(r *rng.Stream, least int) []int {
	top := l.limit()
	if top == 0 {
		return nil
	}
	L := len(l.Names)
	low := min(max(least, int(l.MinSkip*float64(L))), top)
	n := low + r.Intn(top-low+1)
	var out []int
	for range n {
		out = append(out, unused(r, 0, L-1, out))
	}
	slices.Sort(out)
	return out
}

// Key implements Space.
func (l *Layers) Key(c Choice) string { return c.Key() }

// First implements Space: as many uniform steps as the budget pays for with all layers.
func (l *Layers) First() []Choice {
	k := l.Most / len(l.Names)
	return []Choice{{Steps: Uniform(l.T, k), Skips: make([][]int, k)}}
}

// fit drops steps of a candidate until the budget pays for it, and adds steps
// while it pays for more. It sorts the steps.
func (l *Layers) fit(r *rng.Stream, c Choice) Choice {
	L := len(l.Names)
	for c.Executed(L) > l.Most {
		i := r.Intn(len(c.Steps))
		c.Steps, c.Skips = slices.Delete(c.Steps, i, i+1), slices.Delete(c.Skips, i, i+1)
	}
	for len(c.Steps) < l.T {
		need := L - (l.Most - c.Executed(L)) // layers to leave out at least
		if need > l.limit() {
			break
		}
		c.Steps = append(c.Steps, unused(r, 0, l.T-1, c.Steps))
		c.Skips = append(c.Skips, l.skip(r, need))
	}
	order := make([]int, len(c.Steps))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int { return c.Steps[i] - c.Steps[j] })
	out := Choice{}
	for _, i := range order {
		out.Steps, out.Skips = append(out.Steps, c.Steps[i]), append(out.Skips, c.Skips[i])
	}
	return out
}

// Random implements Space.
func (l *Layers) Random(r *rng.Stream) (Choice, bool) { return l.fit(r, Choice{}), true }

// Mutate implements Space: with probability p each, a step's level is replaced by
// an unused one, and the layers that it leaves out are drawn anew.
func (l *Layers) Mutate(r *rng.Stream, c Choice, p float64) (Choice, bool) {
	out := Choice{Steps: slices.Clone(c.Steps), Skips: slices.Clone(c.Skips)}
	for i := range out.Steps {
		if r.Float64() < p {
			if v := unused(r, 0, l.T-1, out.Steps); v >= 0 {
				out.Steps[i] = v
			}
		}
		if r.Float64() < p {
			out.Skips[i] = l.skip(r, 0)
		}
	}
	return l.fit(r, out), true
}

// Cross implements Space: step i, with the layers that it leaves out, is that of
// either parent, and there are as many as the longer one has or, by the same
// coin, fewer. A level that is there already is drawn anew.
func (l *Layers) Cross(r *rng.Stream, a, b Choice) (out Choice, repaired int, ok bool) {
	for i := range max(len(a.Steps), len(b.Steps)) {
		from := a
		if r.Float64() < 0.5 {
			from = b
		}
		if i >= len(from.Steps) {
			continue
		}
		v := from.Steps[i]
		if slices.Contains(out.Steps, v) {
			repaired++
			if v = unused(r, 0, l.T-1, out.Steps); v < 0 {
				continue
			}
		}
		out.Steps, out.Skips = append(out.Steps, v), append(out.Skips, from.Skips[i])
	}
	return l.fit(r, out), repaired, true
}
