package sampler

import (
	"fmt"
	"slices"
	"strings"

	"github.com/fidlab/fidlab/text"
)

// Info describes a solver of the registry.
type Info struct {
	Name        string
	Aliases     []string // names that other tools use
	Order       int      // of convergence on the noiseless equation
	PerStep     string   // evaluations per step
	Stochastic  bool     // draws noise during steps, with its default options
	Options     []string // "eta=0": name and default; "variant=bh2|bh1": words, the default first
	Description string
	Use         string // when to take it
	Source      string
}

type entry struct {
	Info
	make func(o values) Solver
}

// registry is every solver, in the order of the documentation.
var registry = slices.Concat(firstSolvers, multistepSolvers, singlestepSolvers, stochasticSolvers, rungeKuttaSolvers, statisticsSolvers, consistencySolvers)

// List describes every solver, in the order of the documentation.
func List() []Info {
	var out []Info
	for _, e := range registry {
		out = append(out, e.Info)
	}
	return out
}

// ByName makes a solver from "name" or "name:option=value,option=value". Names
// are compared without regard to case, and aliases are understood; the errors
// list what exists.
func ByName(spec string) (Solver, error) {
	name, opts, _ := strings.Cut(spec, ":")
	key := strings.ToLower(strings.TrimSpace(name))
	for _, e := range registry {
		if e.Name != key && !slices.Contains(e.Aliases, key) {
			continue
		}
		values, err := parseOptions(e.Info, opts)
		if err != nil {
			return nil, err
		}
		s := e.make(values)
		if err := s.Check(nil); err != nil {
			return nil, err
		}
		return s, nil
	}
	var names []string
	for _, e := range registry {
		names = append(names, e.Name)
	}
	meant := ""
	if n := text.Nearest(key, names); n != "" {
		meant = ", did you mean " + n + "?"
	}
	return nil, fmt.Errorf("sampler: no solver %q%s; there are %s", name, meant, strings.Join(names, ", "))
}
