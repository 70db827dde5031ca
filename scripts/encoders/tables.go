package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/fidlab/fidlab/fid/extract"
	"github.com/fidlab/fidlab/imageio"
)

// sizes are the n of the tables of floors.
var sizes = []int{256, 512, 1024, 2048, 4096}

// printTables measures the built-in encoder and prints what docs/encoders.md has, as Markdown.
func (t *task) printTables(n int, w io.Writer) error {
	s, err := t.open()
	if err != nil {
		return err
	}
	e, err := extract.OpenEncoder(t.name)
	if err != nil {
		return err
	}
	scores, test, err := s.scores(e, s.len(s.test))
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "### %s\n\n", t.name)
	printScores(w, e.Spec().Heads, scores)
	ref, err := s.refFeatures(e, s.len(s.ref))
	if err != nil {
		return err
	}
	f, err := floors(test, ref, sizes)
	if err != nil {
		return err
	}
	printFloors(w, f)
	n = min(n, s.len(s.test))
	fmt.Fprintf(w, "%d pictures of %s, %d of %s:\n\n", n, s.test, s.len(s.ref), s.ref)
	curves, err := s.curves(e, ref, n)
	if err != nil {
		return err
	}
	for _, c := range curves {
		printCurve(w, c)
	}
	return nil
}

func printScores(w io.Writer, heads []extract.Head, scores []score) {
	fmt.Fprintln(w, "| head | answers | right | all of an item right |\n|---|---|---|---|")
	for k, c := range scores {
		h := heads[k]
		switch h.Kind {
		case extract.Class:
			fmt.Fprintf(w, "| %s | one of %d | %.2f %% | |\n", c.Head, h.N, 100*c.Right)
		case extract.Flags:
			fmt.Fprintf(w, "| %s | %d times yes or no | %.2f %% | %.2f %% |\n", c.Head, h.N, 100*c.Right, 100*c.All)
		default:
			what := "numbers"
			if h.N == 1 {
				what = "number"
			}
			explained := fmt.Sprintf("R² %.4f", c.All)
			if c.All != c.All {
				explained = "one answer for all of test"
			}
			fmt.Fprintf(w, "| %s | %d %s | %s | |\n", c.Head, h.N, what, explained)
		}
	}
	fmt.Fprintln(w)
}

func printFloors(w io.Writer, fs []floor) {
	fmt.Fprintln(w, "| n | ref half against ref half | test against ref half | ratio |\n|---|---|---|---|")
	for _, f := range fs {
		fmt.Fprintf(w, "| %d | %.4g | %.4g | %.2f |\n", f.N, f.Floor, f.Test, f.Test/f.Floor)
	}
	fmt.Fprintln(w)
}

func printCurve(w io.Writer, c curve) {
	fmt.Fprintf(w, "| %s: %s |", c.name, c.unit)
	for _, l := range c.levels {
		fmt.Fprintf(w, " %g |", l)
	}
	fmt.Fprintf(w, "\n|---|%s\n| FID |", strings.Repeat("---|", len(c.levels)))
	for _, v := range c.values {
		fmt.Fprintf(w, " %.4g |", v)
	}
	fmt.Fprintln(w)
	if !c.rises() {
		fmt.Fprintln(w, "\nNot strictly rising.")
	}
	fmt.Fprintln(w)
}

// rankSeeds are those of the encoders whose orders are compared.
var rankSeeds = []uint64{1, 2, 3}

// printRanks trains an encoder with each seed and prints the distances of the corruptions and
// whether all put them into one order.
func (t *task) printRanks(w, log io.Writer) error {
	s, err := t.open()
	if err != nil {
		return err
	}
	return ranks(t.name, t.recipe, w, log, func(r recipe) ([]string, []float64, error) {
		e, err := t.seeded(s, r)
		if err != nil {
			return nil, nil, err
		}
		return s.corrupted(e, min(2048, s.len(s.test)))
	})
}

// seeded is the encoder of a recipe: the built-in one where that is its own.
func (t *task) seeded(s source, r recipe) (*extract.Encoder, error) {
	if r.Seed == t.recipe.Seed {
		return extract.OpenEncoder(t.name)
	}
	e, _, err := t.trained(s, r, io.Discard)
	return e, err
}

// ranks prints what measure gives for each seed.
func ranks(name string, r recipe, w, log io.Writer, measure func(r recipe) ([]string, []float64, error)) error {
	var orders []string
	for _, seed := range rankSeeds {
		r.Seed = seed
		names, values, err := measure(r)
		if err != nil {
			return err
		}
		fmt.Fprintf(log, "%s: seed %d is measured\n", name, seed)
		fmt.Fprintf(w, "| seed %d |", seed)
		for k, name := range names {
			fmt.Fprintf(w, " %s %.4g |", name, values[k])
		}
		fmt.Fprintln(w)
		orders = append(orders, strings.Join(ordered(names, values), " < "))
	}
	if slices.ContainsFunc(orders, func(o string) bool { return o != orders[0] }) {
		fmt.Fprintf(w, "the orders differ: %q\n", orders)
		return nil
	}
	fmt.Fprintf(w, "one order: %s\n", orders[0])
	return nil
}

// corrupted are the distances of the five fixed corruptions: of every damage the level in the
// middle, the first five.
func (s source) corrupted(e *extract.Encoder, n int) (names []string, values []float64, err error) {
	ref, err := s.refFeatures(e, s.len(s.ref))
	if err != nil {
		return nil, nil, err
	}
	var c corruptions
	for _, d := range s.damages[:5] {
		level := d.levels[len(d.levels)/2]
		v, err := features(e, n, func(i int) *imageio.Image { return d.worse(s.test, i, level) })
		if err := c.add(ref, v, err, d.name, level); err != nil {
			return nil, nil, err
		}
	}
	return c.names, c.values, nil
}

// corruptions are the distances of damaged sets.
type corruptions struct {
	names  []string
	values []float64
}

// add takes in the vectors v of a set, or why there are none, that lie so far from ref.
func (c *corruptions) add(ref, v vectors, err error, name string, level float64) error {
	if err != nil {
		return err
	}
	far, err := distance(ref, v)
	c.names, c.values = append(c.names, fmt.Sprintf("%s %g", name, level)), append(c.values, far)
	return err
}

// ordered are the names from the smallest value to the largest.
func ordered(names []string, values []float64) []string {
	at := make([]int, len(names))
	for i := range at {
		at[i] = i
	}
	slices.SortFunc(at, func(a, b int) int {
		if values[a] < values[b] {
			return -1
		}
		return 1
	})
	var out []string
	for _, i := range at {
		out = append(out, names[i])
	}
	return out
}
