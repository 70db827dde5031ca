package fid

import "fmt"

// CheckAlike returns a BadInputError around ErrUnlike when both sets say how
// they were made and it was not in the same way: extractor, weights, width,
// preset or precision differ. A set without provenance passes.
func CheckAlike(a, b *Stats) error {
	if a.Provenance == nil || b.Provenance == nil {
		return nil
	}
	x, y := a.Provenance.Extractor, b.Provenance.Extractor
	for _, f := range []struct{ name, a, b string }{
		{"extractor", x.Name, y.Name},
		{"weights", x.SHA256, y.SHA256},
		{"features per image", fmt.Sprint(x.Dim), fmt.Sprint(y.Dim)},
		{"preset", x.Preset, y.Preset},
		{"precision", x.Precision, y.Precision},
	} {
		if f.a != f.b {
			return badInput("%w: %s %q and %q; extract both with one setting, or force it and the result is marked mixed", ErrUnlike, f.name, f.a, f.b)
		}
	}
	return nil
}
