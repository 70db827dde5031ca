package fid_test

import (
	"fmt"

	"github.com/fidlab/fidlab/fid"
)

// Two normals on a line: (0, 1) and (2, 9) are 2² + (3-1)² apart.
func ExampleFrechet() {
	a := &fid.Stats{N: 100, Mu: []float64{0}, Sigma: []float64{1}}
	b := &fid.Stats{N: 100, Mu: []float64{2}, Sigma: []float64{9}}
	d, err := fid.Frechet(a, b)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%g = %g + %g\n", d.Value, d.MeanTerm, d.CovTerm)
	// Output: 8 = 4 + 4
}
