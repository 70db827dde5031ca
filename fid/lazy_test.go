package fid

import (
	"reflect"
	"testing"
)

// Few rows keep their covariance for later: it must be that of all rows in
// float64, and one row more than d must give the bits of the whole stream.
func TestCovarianceOfFewRows(t *testing.T) {
	const d = 24
	p := newPair(d, 0.3)
	for _, n := range []int{2, d - 1, d, d + 1, 3 * d} {
		x := gaussians(5, uint64(n), n, p.mean[0], p.sd[0])
		whole := NewMoments(d)
		if err := whole.Add(x); err != nil {
			t.Fatal(err)
		}
		want := whole.Stats()
		g := newGatherer(d, false, 0)
		for i := 0; i < n; i += 5 {
			if err := g.add(nil, x[i*d:min(i+5, n)*d]); err != nil {
				t.Fatal(err)
			}
		}
		for name, got := range map[string]*Stats{"stream": g.stats(), "features": mustStats(t, x, n, d)} {
			if lazy := got.Sigma == nil; lazy != (n <= d) {
				t.Errorf("%s n=%d: covariance left for later: %v", name, n, lazy)
			}
			if !reflect.DeepEqual(got.Mu, want.Mu) || !reflect.DeepEqual(got.Covariance(), want.Sigma) || got.N != n {
				t.Errorf("%s n=%d: mean or covariance differ from those of the whole stream", name, n)
			}
		}
	}
}
