package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/fidlab/fidlab/fid"
)

// fidSpaces is the JSON of a comparison in several spaces of features.
type fidSpaces struct {
	Spaces []*fid.Result      `json:"spaces"`
	Mean   map[string]float64 `json:"mean,omitempty"` // of fdr, which has the same unit in every space
}

// spaces are the extractors that --features names.
func (x *extraction) spaces() []string { return strings.Split(x.features, ",") }

// runSpaces compares two sets in one space of features after another, and takes the mean of what is comparable between them.
func runSpaces(ctx context.Context, a *app, o *fidOptions) error {
	names := o.x.spaces()
	seen := map[string]bool{}
	for _, name := range names {
		one := *o
		one.x.features = name
		switch err := one.check(); {
		case err != nil:
			return err
		case name == "":
			return usagef("--features %s: an empty name", o.x.features)
		case seen[name]:
			return usagef("--features %s: %s is there twice", o.x.features, name)
		}
		seen[name] = true
	}
	switch {
	case o.x.weights != "" || o.x.preset != "":
		return usagef("--weights and --preset are of one extractor, and --features names %d; files are found by their published names, see fidlab weights list", len(names))
	case o.report.path != "":
		return usagef("--report is of one extractor, and --features names %d", len(names))
	case o.ref == "-" || o.gen == "-" || o.test == "-":
		return usagef("- is read once, and every extractor reads the sets; write it to a file first")
	}
	out := fidSpaces{Mean: map[string]float64{}}
	for _, name := range names {
		one := *o
		one.x.features = name
		res, _, note, err := a.compareTwo(ctx, &one)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		out.Spaces = append(out.Spaces, res)
		if v, ok := res.Metrics["fdr"]; ok {
			out.Mean["fdr"] += v.Number() / float64(len(names))
		}
		if a.json {
			continue
		}
		a.sayResult(&one, res)
		for _, m := range one.metrics {
			for _, f := range figuresOf(m, res.Metrics[m]) {
				a.printf("%s %s %s%s\n", name, f.Name, valueText(f.Value), note)
			}
		}
	}
	if a.json {
		return a.printJSON(out)
	}
	if v, ok := out.Mean["fdr"]; ok {
		a.printf("mean fdr %s\n", valueText(v))
	}
	return nil
}
