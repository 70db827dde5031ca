package fid

import (
	"context"
	"math"
	"slices"
)

// ClassDistance is what one class comes to.
type ClassDistance struct {
	Label    int
	Ref, Gen int     // vectors of the class
	Value    float64 // the distance between them; NaN where a side has less than two
	// Effect is by how much the distance of the whole sets would fall without the generated vectors of the class; NaN where no two remain.
	Effect float64
}

// ByClass compares the classes of both sets one by one; labels are of the rows, -1 for none, and rows without a class count nowhere
// but in the whole sets. Both sets need their features. Classes come with rising labels, all that either side has.
func ByClass(ctx context.Context, ref, gen *Stats, refLabels, genLabels []int) ([]ClassDistance, error) {
	if err := needFeatures("per class", ref, gen, 2); err != nil {
		return nil, err
	}
	if len(refLabels) != ref.N || len(genLabels) != gen.N {
		return nil, badInput("%d and %d labels for %d and %d vectors", len(refLabels), len(genLabels), ref.N, gen.N)
	}
	whole, err := Frechet(ref, gen)
	if err != nil {
		return nil, err
	}
	f, err := factorOf(nil, ref, sides[0]) // of all the distances from the whole reference
	if err != nil {
		return nil, err
	}
	refOffset, genOffset := ref.offset(), gen.offset()
	labels := slices.Concat(refLabels, genLabels)
	slices.Sort(labels)
	var out []ClassDistance
	for _, l := range slices.Compact(labels) {
		if l < 0 {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		a, err := ref.part(rowsWhere(refLabels, l, true), refOffset)
		if err != nil {
			return nil, err
		}
		b, err := gen.part(rowsWhere(genLabels, l, true), genOffset)
		if err != nil {
			return nil, err
		}
		rest, err := gen.part(rowsWhere(genLabels, l, false), genOffset)
		if err != nil {
			return nil, err
		}
		c := ClassDistance{l, a.N, b.N, math.NaN(), math.NaN()}
		if a.N >= 2 && b.N >= 2 {
			d, err := Frechet(a, b)
			if err != nil {
				return nil, err
			}
			c.Value = d.Value
		}
		if rest.N >= 2 && b.N > 0 {
			d, err := frechet(nil, ref, rest, f)
			if err != nil {
				return nil, err
			}
			c.Effect = whole.Value - d.Value
		}
		out = append(out, c)
	}
	return out, nil
}

// rowsWhere are the rows whose label is l, or is not.
func rowsWhere(labels []int, l int, is bool) []int {
	var rows []int
	for i, k := range labels {
		if (k == l) == is {
			rows = append(rows, i)
		}
	}
	return rows
}
