package fid

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/internal/oracle"
)

// TestGoldenKMeans: scikit-learn's clusters from the same starts.
func TestGoldenKMeans(t *testing.T) {
	var set struct {
		Cases []struct {
			N, D, K int
			X       []float32
			Start   []float64
			Labels  []int
			Centres []float64
			Inertia float64
		}
	}
	oracle.GoldenJSON(t, &set, "kmeans", "cases.json")
	for i, c := range set.Cases {
		half := c.N / 2 * c.D // the rows of two sets
		ref, gen := mustStats(t, c.X[:half], c.N/2, c.D), mustStats(t, c.X[half:], c.N-c.N/2, c.D)
		v := pooled(ref, gen)
		start := slices.Clone(c.Start)
		for j := range start {
			start[j] -= ref.Mu[j%c.D]
		}
		got, err := kmeans(context.Background(), v, start)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got.label, c.Labels) {
			t.Errorf("case %d: labels %v, want %v", i, got.label, c.Labels)
		}
		sum := 0.0
		for _, s := range got.square {
			sum += s
		}
		if math.Abs(sum-c.Inertia) > 1e-9*c.Inertia {
			t.Errorf("case %d: inertia %.12g, want %.12g", i, sum, c.Inertia)
		}
		for j, want := range c.Centres {
			if x := got.centres[j] + ref.Mu[j%c.D]; math.Abs(x-want) > 1e-9 {
				t.Errorf("case %d: centre %d: %.12g, want %.12g", i, j, x, want)
			}
		}
	}
	if len(set.Cases) != 4 {
		t.Errorf("%d cases, want 4", len(set.Cases))
	}
}

// A cluster without rows takes one; more clusters than distinct rows do no harm.
func TestKMeansOfEmptyClusters(t *testing.T) {
	x := []float32{0, 0.1, 0.2, 5, 5.1, 9}
	ref, gen := mustStats(t, x[:3], 3, 1), mustStats(t, x[3:], 3, 1)
	got, err := kmeans(context.Background(), pooled(ref, gen), []float64{0, 1000, 2000})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int]int{}
	for _, l := range got.label {
		seen[l]++
	}
	if len(seen) != 3 {
		t.Errorf("labels %v; want three clusters", got.label)
	}
	same := mustStats(t, make([]float32, 20), 10, 2)
	if _, err := Clusters(context.Background(), same, mustStats(t, make([]float32, 20), 10, 2), 3, 1); err != nil {
		t.Error(err)
	}
}

// blobs are vectors around centres, n[i] of them around centre i.
func blobs(seed uint64, d int, n ...int) []float32 {
	var out []float32
	for i, m := range n {
		x := draw(seed+uint64(100*i), m, d, 0)
		for r := range m {
			x[r*d+i%d] += 9
		}
		out = append(out, x...)
	}
	return out
}

// The reference has a mode that is not generated, and the other way round: both are found, and named first.
func TestClustersFindWhatIsMissingAndWhatIsNew(t *testing.T) {
	const d = 8
	ref := mustStats(t, blobs(1, d, 300, 300, 200, 100, 0), 900, d) // of the fourth nothing is generated
	gen := mustStats(t, blobs(2, d, 300, 290, 210, 0, 60), 860, d)  // and the fifth nobody took a picture of
	got, err := Clusters(context.Background(), ref, gen, 5, 7)
	if err != nil {
		t.Fatal(err)
	}
	states := map[string]Cluster{}
	for _, c := range got[:2] {
		states[c.State] = c
	}
	missing, artefact := states[ClusterMissing], states[ClusterGenerated]
	if len(missing.Ref) != 100 || len(missing.Gen) != 0 || slices.Min(missing.Ref) != 800 {
		t.Errorf("missing: %d of the reference, %d generated; want the last 100 and none", len(missing.Ref), len(missing.Gen))
	}
	if len(artefact.Gen) != 60 || len(artefact.Ref) != 0 || slices.Min(artefact.Gen) != 800 {
		t.Errorf("only generated: %d of the reference, %d generated; want none and the last 60", len(artefact.Ref), len(artefact.Gen))
	}
	for _, c := range got[2:] {
		if c.State != ClusterEven || c.Worst() > got[1].Worst()/3 {
			t.Errorf("another cluster: %s, effects %g and %g; want even, and little", c.State, c.Effect, c.EffectOfRefs)
		}
	}
	again, err := Clusters(context.Background(), ref, gen, 5, 7)
	if err != nil || again[0].Effect != got[0].Effect || !slices.Equal(again[4].Gen, got[4].Gen) {
		t.Errorf("a second time: %v", err)
	}
}

// Effects are those of distances between the sets as they would be.
func TestClustersEffects(t *testing.T) {
	for _, c := range [][3]int{{120, 80, 5}, {60, 50, 80}, {90, 80, 40}} {
		d := c[2]
		ref, gen := mustStats(t, draw(1, c[0], d, 0), c[0], d), mustStats(t, draw(2, c[1], d, 0.5), c[1], d)
		whole, err := Frechet(ref, gen)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Clusters(context.Background(), ref, gen, 3, 1)
		if err != nil {
			t.Fatal(err)
		}
		n, m := 0, 0
		for _, k := range got {
			n, m = n+len(k.Ref), m+len(k.Gen)
			for side, s := range []*Stats{ref, gen} {
				out, want := [][]int{k.Ref, k.Gen}[side], []float64{k.EffectOfRefs, k.Effect}[side]
				if s.N-len(out) < 2 {
					if !math.IsNaN(want) {
						t.Errorf("%v: side %d: %g of fewer than two vectors; want NaN", c, side, want)
					}
					continue
				}
				var x []float32
				for i := range s.N {
					if !slices.Contains(out, i) {
						x = append(x, s.Features[i*d:][:d]...)
					}
				}
				sets := [2]*Stats{ref, gen}
				sets[side] = mustStats(t, x, len(x)/d, d)
				part, err := Frechet(sets[0], sets[1])
				if err != nil {
					t.Fatal(err)
				}
				if math.Abs(whole.Value-part.Value-want) > 1e-9*whole.Value {
					t.Errorf("%v: side %d: %.12g, want %.12g", c, side, want, whole.Value-part.Value)
				}
			}
		}
		if n != c[0] || m != c[1] {
			t.Errorf("%v: clusters hold %d and %d vectors", c, n, m)
		}
	}
}

func TestClustersRefuse(t *testing.T) {
	a := mustStats(t, draw(1, 40, 4, 0), 40, 4)
	for want, c := range map[string]struct {
		gen *Stats
		k   int
	}{
		"want 2 or more":           {a, 1},
		"100 clusters of 80":       {a, 100},
		"extract both":             {mustStats(t, draw(1, 40, 5, 0), 40, 5), 3},
		"needs the feature vector": {&Stats{N: 40, Mu: a.Mu, Sigma: a.Covariance()}, 3},
	} {
		if _, err := Clusters(context.Background(), a, c.gen, c.k, 1); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; wanted %q", err, want)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Clusters(ctx, a, a, 3, 1); err == nil {
		t.Error("no error after the end of the context")
	}
}
