//go:build native && cgo

package cli

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/internal/oracle"
)

// The published tools' own numbers of one pair of picture sets, with seeded weights (scripts/peers/agree.py): the recipes of --preset
// give them. What needs the whole network, a minute of it, is compared with FIDLAB_PEERS=full.
func TestPeersAgree(t *testing.T) {
	var golden struct {
		N        int
		Ref, Gen string
		Cases    []struct {
			Tool, Figure string
			Value        float64
		}
	}
	oracle.GoldenJSON(t, &golden, "peers", "agree.json")
	if golden.N != 100 {
		t.Fatalf("%d pictures, want 100", golden.N)
	}
	results := map[string]map[string]map[string]float64{}
	of := func(tool, metrics, features string) map[string]map[string]float64 {
		key := tool + " " + metrics
		if r, ok := results[key]; ok {
			return r
		}
		var out, errs bytes.Buffer
		env := System()
		env.Stdout, env.Stderr = &out, &errs
		args := []string{"fid", golden.Ref + "&n=100", golden.Gen + "&n=100", "--features", features, "--preset", tool, "--metrics", metrics, "--no-ci", "--json"}
		if code := Main(args, env); code != 0 {
			t.Fatalf("fidlab %s: exit code %d: %s", strings.Join(args, " "), code, &errs)
		}
		var r struct{ Metrics map[string]map[string]any }
		if err := json.Unmarshal(out.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		results[key] = map[string]map[string]float64{}
		for m, figures := range r.Metrics {
			results[key][m] = map[string]float64{}
			for name, v := range figures {
				if f, ok := v.(float64); ok {
					results[key][m][name] = f
				}
			}
		}
		return results[key]
	}
	full, ran := os.Getenv("FIDLAB_PEERS") == "full", 0
	for _, c := range golden.Cases {
		var got float64
		switch {
		case c.Tool == "piq":
			continue // it stops before its root is there: docs/migration.md
		case c.Tool == "piq, its root to the end":
			got = of("pytorch-fid", "fid", "random:64")["fid"]["value"]
		case c.Figure == "fid":
			got = of(c.Tool, "fid", "random:64")["fid"]["value"]
		case !full:
			continue
		case c.Figure == "sfid":
			got = of(c.Tool, "sfid", "random:64")["sfid"]["value"]
		case c.Tool == "prdc":
			m := of("dgm-eval", "pr,dc", "random")
			got = map[string]float64{"precision": m["pr"]["precision"], "recall": m["pr"]["recall"], "density": m["dc"]["density"], "coverage": m["dc"]["coverage"]}[c.Figure]
		case c.Figure == "is":
			got = of(c.Tool, "is,pr", "random")["is"]["value"]
		default:
			got = of(c.Tool, "is,pr", "random")["pr"][c.Figure]
		}
		ran++
		if math.Abs(got-c.Value) > 1e-5*math.Abs(c.Value) {
			t.Errorf("%s: %s is %.9g, its own %.9g", c.Tool, c.Figure, got, c.Value)
		}
	}
	if want := map[bool]int{false: 5, true: 13}[full]; ran != want {
		t.Errorf("%d figures were compared, want %d", ran, want)
	}
}
