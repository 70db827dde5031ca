package tokens

import (
	"math"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/rng"
)

// The peer is the processors of logits of transformers; see scripts/golden/tokendraw.py.
func TestGoldenChoices(t *testing.T) {
	var golden struct {
		Cases []struct {
			Logits, Probs []float64
			Temp          float64
			TopK          int     `json:"top_k"`
			TopP          float64 `json:"top_p"`
		}
	}
	oracle.GoldenJSON(t, &golden, "tokens", "choice.json")
	for i, c := range golden.Cases {
		p := picker{Choice: Choice{Temp: c.Temp, TopK: c.TopK, TopP: c.TopP}}
		if err := p.law(float32s(c.Logits)); err != nil {
			t.Fatal(err)
		}
		for j, want := range c.Probs {
			if math.Abs(p.prob[j]-want) > 1e-12 {
				t.Errorf("case %d: token %d has probability %v, the peer gives %v", i, j, p.prob[j], want)
			}
		}
	}
	if len(golden.Cases) != 11 {
		t.Errorf("%d cases", len(golden.Cases))
	}
}

func float32s(v []float64) []float32 {
	x := make([]float32, len(v))
	for i, e := range v {
		x[i] = float32(e)
	}
	return x
}

// A number u chooses the token whose span of the sums it lies in; ends belong to the next.
func TestPickIsTheInverseOfTheSums(t *testing.T) {
	inf := float32(math.Inf(-1))
	p := picker{}
	logits := []float32{0, inf, float32(math.Log(2)), 0} // a quarter, none, a half, a quarter
	for _, c := range []struct {
		u    float64
		want int
	}{{0, 0}, {0.2499, 0}, {0.2501, 2}, {0.7499, 2}, {0.7501, 3}, {1 - 1e-17, 3}, {math.Nextafter(1, 0), 3}} {
		id, prob, err := p.pick(logits, c.u)
		if err != nil || id != c.want || math.Abs(prob-[]float64{0.25, 0, 0.5, 0.25}[id]) > 1e-7 {
			t.Errorf("u = %v chooses %d with probability %v (%v), want %d", c.u, id, prob, err, c.want)
		}
	}
	greedy := picker{Choice: Choice{Greedy: true}}
	if id, _, _ := greedy.pick([]float32{1, 3, 2, 3}, 0.99); id != 1 {
		t.Errorf("the most likely token is %d, want 1, the first of equals", id)
	}
	top := picker{Choice: Choice{TopK: 1}}
	if id, prob, _ := top.pick([]float32{1, 3, 2, 3}, 0.99); id != 1 || prob != 1 {
		t.Errorf("of the first one alone %d is drawn with probability %v", id, prob)
	}
}

// Draws follow the law: of 40,000 every count is within five of its deviations.
func TestDrawsFollowTheLaw(t *testing.T) {
	p := picker{Choice: Choice{Temp: 1.7, TopK: 6, TopP: 0.95}}
	logits := oracle.Normal(3, 9)
	if err := p.law(logits); err != nil {
		t.Fatal(err)
	}
	want := append([]float64(nil), p.prob...)
	s, counts := rng.ForImage(1, 0, rng.Step), make([]float64, len(logits))
	const n = 40000
	for range n {
		id, _, err := p.pick(logits, s.Float64())
		if err != nil {
			t.Fatal(err)
		}
		counts[id]++
	}
	for i, c := range counts {
		if sd := math.Sqrt(n * want[i] * (1 - want[i])); math.Abs(c-n*want[i]) > 5*sd {
			t.Errorf("token %d was drawn %v times, want %v ± %v", i, c, n*want[i], sd)
		}
	}
}

func TestBadChoices(t *testing.T) {
	for want, c := range map[string]Choice{
		"Temp is -1":   {Temp: -1},
		"Temp is +Inf": {Temp: math.Inf(1)},
		"TopK is -2":   {TopK: -2},
		"TopP is 1.5":  {TopP: 1.5},
		"TopP is NaN":  {TopP: math.NaN()},
	} {
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v, want %q in it", err, want)
		}
	}
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for want, logits := range map[string][]float32{
		"logit 1 of 2 is NaN":     {0, nan},
		"logit 0 of 2 is +Inf":    {inf, 0},
		"all 2 logits are -Inf":   {-inf, -inf},
		"all 0 logits are -Inf; ": {},
	} {
		p := picker{}
		if _, _, err := p.pick(logits, 0.5); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v, want %q in it", err, want)
		}
	}
}
