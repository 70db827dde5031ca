package fid

import (
	"context"
	"fmt"
)

// FDRValue is the outcome of "fdr".
type FDRValue struct {
	Value float64 `json:"value"`
	FD    float64 `json:"fd"`    // of the generated set
	Floor float64 `json:"floor"` // of the test set
}

// Number is the ratio.
func (v FDRValue) Number() float64 { return v.Value }

// computeFDR is the Fréchet distance of the generated set from the reference over that of a test set from the reference
// (Yang et al. 2026, arXiv 2604.28190). Both fall with the number of vectors, so sets of one size compare best.
func computeFDR(_ context.Context, c *comparison) (Value, []string, error) {
	if c.opt.Test == nil {
		return nil, nil, badInput("fdr: there is no test set: pictures like the reference's that the generator was not trained on")
	}
	gen, err := c.opt.frechet(c.ref, c.gen)
	if err != nil {
		return nil, nil, err
	}
	test, err := c.opt.frechet(c.ref, c.opt.Test)
	if err != nil {
		return nil, nil, fmt.Errorf("the test set, as generated: %w", err)
	}
	if test.Value == 0 {
		return nil, nil, numeric("fdr: the test set is at distance 0 from the reference; want other pictures than those")
	}
	var notes []string
	if n, m := c.opt.Test.N, c.gen.N; n != m && n > 0 && m > 0 {
		notes = append(notes, fmt.Sprintf("fdr: %d test vectors and %d generated; distances fall with the number, so the ratio favours the larger set", n, m))
	}
	return FDRValue{gen.Value / test.Value, gen.Value, test.Value}, notes, nil
}
