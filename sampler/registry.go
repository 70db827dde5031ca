package sampler

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Info describes a solver of the registry.
type Info struct {
	Name        string
	Aliases     []string // names that other tools use
	Order       int      // of convergence on the noiseless equation
	PerStep     string   // evaluations per step
	Stochastic  bool     // draws noise during steps, with its default options
	Options     []string // "eta=0": name and default
	Description string
	Source      string
}

type entry struct {
	Info
	make func(o map[string]float64) Solver
}

var registry = []entry{
	{Info{
		Name: "ddim", Aliases: []string{"ddimscheduler", "dpm++1", "dpmpp1", "dpm-solver-1"}, Order: 1, PerStep: "1",
		Options:     []string{"eta=0", "clip=0"},
		Description: "first-order exponential integrator; eta > 0 adds noise",
		Source:      "Song, Meng and Ermon 2021, arXiv 2010.02502",
	}, func(o map[string]float64) Solver { return DDIM{Eta: o["eta"], Clip: o["clip"]} }},
	{Info{
		Name: "euler", Aliases: []string{"eulerdiscretescheduler", "flow-euler"}, Order: 1, PerStep: "1",
		Description: "Euler on the probability-flow ODE or the flow's velocity",
		Source:      "Karras et al. 2022, arXiv 2206.00364",
	}, func(map[string]float64) Solver { return Euler{} }},
	{Info{
		Name: "euler-a", Aliases: []string{"euler_a", "euler-ancestral", "eulerancestraldiscretescheduler"}, Order: 1, PerStep: "1",
		Stochastic: true, Options: []string{"eta=1"},
		Description: "ancestral Euler: ddim with eta 1",
		Source:      "k-diffusion; Song, Meng and Ermon 2021, arXiv 2010.02502",
	}, func(o map[string]float64) Solver { return DDIM{Eta: o["eta"]} }},
	{Info{
		Name: "heun", Aliases: []string{"heundiscretescheduler", "edm-heun", "flow-heun"}, Order: 2, PerStep: "2, 1 in a step to zero",
		Description: "trapezoid rule with an Euler predictor",
		Source:      "Karras et al. 2022, arXiv 2206.00364",
	}, func(map[string]float64) Solver { return Heun{} }},
	{Info{
		Name: "dpm++2m", Aliases: []string{"dpmpp2m", "dpmpp_2m", "dpm++_2m", "dpm-solver++", "dpmsolvermultistepscheduler"}, Order: 2, PerStep: "1",
		Options:     []string{"lower-final=0"},
		Description: "second-order multistep DPM-Solver++, midpoint form",
		Source:      "Lu et al. 2022, arXiv 2211.01095",
	}, func(o map[string]float64) Solver { return DPMpp2M{LowerFinal: o["lower-final"] != 0} }},
	{Info{
		Name: "dpm++2m-heun", Aliases: []string{"dpmpp2m-heun", "dpmpp_2m_heun"}, Order: 2, PerStep: "1",
		Options:     []string{"lower-final=0"},
		Description: "second-order multistep DPM-Solver++, Heun form",
		Source:      "Lu et al. 2022, arXiv 2211.01095",
	}, func(o map[string]float64) Solver { return DPMpp2M{HeunForm: true, LowerFinal: o["lower-final"] != 0} }},
}

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
	return nil, fmt.Errorf("sampler: no solver %q; there are %s", name, strings.Join(names, ", "))
}

func parseOptions(info Info, text string) (map[string]float64, error) {
	values := map[string]float64{}
	for _, o := range info.Options {
		k, v, _ := strings.Cut(o, "=")
		values[k], _ = strconv.ParseFloat(v, 64)
	}
	if text == "" {
		return values, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		k, v, _ := strings.Cut(part, "=")
		k = strings.TrimSpace(k)
		if _, ok := values[k]; !ok {
			known := strings.Join(info.Options, ", ")
			if known == "" {
				known = "none"
			}
			return nil, fmt.Errorf("sampler: %s has no option %q; its options and defaults: %s", info.Name, k, known)
		}
		f, err := strconv.ParseFloat(strings.TrimSpace(v), 64)
		if err != nil {
			return nil, fmt.Errorf("sampler: %s: %q; wanted %s=number", info.Name, part, k)
		}
		values[k] = f
	}
	return values, nil
}
