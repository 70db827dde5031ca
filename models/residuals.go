package models

import "fmt"

// Add adds the residuals of another branch to r, which is empty or has as many.
func (r *Residuals) Add(o *Residuals) {
	if len(r.Skips) == 0 && r.Middle == nil {
		r.Skips, r.Middle = append(r.Skips, o.Skips...), o.Middle
		return
	}
	if len(r.Skips) != len(o.Skips) {
		panic(fmt.Sprintf("models: Residuals.Add: %d skips, want %d", len(o.Skips), len(r.Skips)))
	}
	for i, s := range o.Skips {
		r.Skips[i] = r.Skips[i].Add(s)
	}
	switch {
	case r.Middle == nil:
		r.Middle = o.Middle
	case o.Middle != nil:
		r.Middle = r.Middle.Add(o.Middle)
	}
}

// Scale multiplies the residuals by a factor each: of the skip at each depth, 0 to of-2, and
// of the middle, the depth of-1.
func (r *Residuals) Scale(factor func(depth, of int) float64) {
	of := len(r.Skips) + 1
	for i, s := range r.Skips {
		r.Skips[i] = s.Scale(factor(i, of))
	}
	if r.Middle != nil {
		r.Middle = r.Middle.Scale(factor(of-1, of))
	}
}
