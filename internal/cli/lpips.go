package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/fid/extract"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/tensor"
)

// perceptual are the flags of commands that measure with LPIPS.
type perceptual struct {
	o       extract.LPIPSOptions
	each    target
	ciLevel float64
	seed    uint64
}

func (p *perceptual) flags(f *pflag.FlagSet, net, each string) {
	f.StringVar(&p.o.Net, "net", net, "compare the maps of `NET`: "+strings.Join(extract.LPIPSNets, ", "))
	f.StringVar(&p.o.Weights, "weights", "", "take the network's weights from `FILE`, as torchvision publishes it, or one file with everything as lpips saves it (default: torchvision's, searched)")
	f.StringVar(&p.o.Linear, "linear", "", "take the linear layers from `FILE`: lpips/weights/v0.1/NET.pth of the package lpips (default: searched, as LPIPS_v0.1_NET-….pth)")
	f.StringVar(&p.each.path, "each", "", "write "+each+" to `FILE.jsonl`")
	f.BoolVar(&p.each.overwrite, "overwrite", false, "replace that file if it exists")
	f.Float64Var(&p.ciLevel, "ci-level", 0.95, "confidence `LEVEL` of the interval")
}

func (p *perceptual) check() error {
	if !slices.Contains(extract.LPIPSNets, p.o.Net) {
		return unknown("network", p.o.Net, slices.Clone(extract.LPIPSNets))
	}
	if !(p.ciLevel > 0 && p.ciLevel < 1) {
		return usagef("--ci-level %g: want a number between 0 and 1, such as 0.95", p.ciLevel)
	}
	if p.each.path != "" {
		return p.each.check()
	}
	return nil
}

func (p *perceptual) open(a *app) (*extract.LPIPS, error) {
	p.o.Getenv = a.env.Getenv
	l, err := extract.OpenLPIPS(p.o)
	if err != nil {
		return nil, &inputError{err}
	}
	return l, nil
}

func (p *perceptual) interval() fid.IntervalOptions {
	return fid.IntervalOptions{Level: p.ciLevel, Seed: p.seed}
}

// writeLines writes n lines of JSON.
func (p *perceptual) writeLines(n int, line func(i int) any) error {
	if p.each.path == "" {
		return nil
	}
	return tensor.WriteAtomic(p.each.path, func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		for i := range n {
			if err := e.Encode(line(i)); err != nil {
				return err
			}
		}
		return nil
	}, p.each.options()...)
}

type lpipsOptions struct {
	perceptual
	pair string
	rule string
}

func newLPIPS(a *app) *cobra.Command {
	var o lpipsOptions
	var rules []string
	long := `Compare the pictures of two sets one by one: the mean of LPIPS, version 0.1, over
pairs, with the interval of a bootstrap over them. The mean alone goes to standard output.
Pictures of a pair have one size; nothing is resized. Pairs are found by the names of
the files without their endings, below each folder.

Rules:
`
	for _, r := range extract.LPIPSRules {
		rules = append(rules, r.Name)
		long += fmt.Sprintf("  %-14s%s\n", r.Name, r.Source)
	}
	cmd := &cobra.Command{
		Use:   "lpips A B",
		Short: "Compare pairs of images: LPIPS",
		Long: long + `
Weights are files that you get: torchvision's alexnet-owt-7be5be79.pth, vgg16-397923af.pth or
squeezenet1_1-b8a52dc0.pth, and the linear layers that the package lpips brings along.`,
		Example: `  fidlab lpips originals/ reconstructions/ --linear lpips/weights/v0.1/alex.pth
  fidlab lpips a/ b/ --net vgg --weights vgg16-397923af.pth --linear vgg.pth --each pairs.jsonl --json`,
		Args: nargs("two sets of images", 2, 2),
		RunE: func(cmd *cobra.Command, args []string) error { return runLPIPS(cmd.Context(), a, &o, args) },
	}
	f := cmd.Flags()
	o.perceptual.flags(f, extract.LPIPSNets[0], "the distance of every pair, and each map's share,")
	f.StringVar(&o.rule, "rule", rules[0], "divide by `RULE`: "+strings.Join(rules, ", "))
	f.StringVar(&o.pair, "pair", "name", "make pairs by `WHAT`: name, or order (the first of A with the first of B)")
	f.Uint64Var(&o.seed, "seed", 0, "seed `S` of the interval's resamples")
	completes(cmd, "net", extract.LPIPSNets...)
	completes(cmd, "rule", rules...)
	completes(cmd, "pair", "name", "order")
	return cmd
}

// lpipsResult is the JSON of lpips.
type lpipsResult struct {
	LPIPS   fid.MeanValue     `json:"lpips"`
	Layers  []float64         `json:"layers"` // the mean share of each map
	With    extract.LPIPSInfo `json:"with"`
	Device  string            `json:"device"`
	Seconds float64           `json:"seconds"`
	Notes   []string          `json:"notes"`
	Version string            `json:"version"`
	Schema  int               `json:"schema"`
}

func runLPIPS(ctx context.Context, a *app, o *lpipsOptions, args []string) error {
	if err := o.check(); err != nil {
		return err
	}
	if o.pair != "name" && o.pair != "order" {
		return unknown("--pair", o.pair, []string{"name", "order"})
	}
	if _, err := extract.FindLPIPSRule(o.rule); err != nil {
		var names []string
		for _, r := range extract.LPIPSRules {
			names = append(names, r.Name)
		}
		return unknown("rule", o.rule, names)
	}
	o.o.Rule = o.rule
	var sets [2][]imageio.Item
	for k, arg := range args {
		src, err := imageio.OpenContext(ctx, arg, imageio.Options{Stdin: a.env.Stdin})
		if err != nil {
			return err
		}
		err = src.Each(ctx, func(it imageio.Item) error {
			sets[k] = append(sets[k], it)
			return nil
		})
		if err != nil {
			return err
		}
	}
	pairs, err := pairUp(args, sets, o.pair == "name")
	if err != nil {
		return err
	}
	l, err := o.open(a)
	if err != nil {
		return err
	}
	defer l.Close()
	begin := time.Now()
	n, layers := len(pairs), l.Layers()
	values, shares, errs := make([]float64, n), make([]float64, n*layers), make([]error, n)
	p := a.progress("comparing", "pairs", n)
	cpu.Each(n, func(w *cpu.Worker, i int) {
		if errs[i] = ctx.Err(); errs[i] != nil {
			return
		}
		var img [2]*imageio.Image
		for k, it := range pairs[i] {
			if img[k], errs[i] = it.On(w); errs[i] != nil {
				return
			}
		}
		values[i], errs[i] = l.Pictures(w, img[0], img[1], shares[i*layers:][:layers])
		p.Add(1)
	})
	p.End()
	for i, err := range errs {
		switch {
		case err != nil && ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return &inputError{fmt.Errorf("%s and %s: %w", pairs[i][0].Name, pairs[i][1].Name, err)}
		}
	}
	r := lpipsResult{Layers: make([]float64, layers), With: l.Info(), Device: "cpu", Notes: []string{}, Version: version, Schema: fid.Schema}
	if r.LPIPS, err = fid.MeanOf("lpips", values, o.interval()); err != nil {
		return err
	}
	for i, v := range shares {
		r.Layers[i%layers] += v / float64(n)
	}
	r.Seconds = time.Since(begin).Seconds()
	if r.With.Note != "" {
		r.Notes = append(r.Notes, r.With.Note)
	}
	err = o.writeLines(n, func(i int) any {
		return struct {
			A      string    `json:"a"`
			B      string    `json:"b"`
			LPIPS  float64   `json:"lpips"`
			Layers []float64 `json:"layers"`
		}{pairs[i][0].Name, pairs[i][1].Name, values[i], shares[i*layers:][:layers]}
	})
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(r)
	}
	a.say("lpips %s, %g %% interval %s to %s, %s: %d pairs", valueText(r.LPIPS.Value), 100*r.LPIPS.Level, valueText(r.LPIPS.CI[0]), valueText(r.LPIPS.CI[1]), r.With.Rule, n)
	a.sayPerceptual(r.With)
	a.printf("%s%s\n", valueText(r.LPIPS.Value), inBrackets(r.With.Note))
	return nil
}

func (a *app) sayPerceptual(w extract.LPIPSInfo) {
	a.say("network: lpips %s %.12s, linear layers %.12s", w.Net, w.SHA256, w.Linear)
	if w.Note != "" {
		a.say("note: %s", w.Note)
	}
}

// pairUp makes the pairs, in the order of the first set.
func pairUp(args []string, sets [2][]imageio.Item, byName bool) ([][2]imageio.Item, error) {
	var pairs [][2]imageio.Item
	if !byName {
		if len(sets[0]) != len(sets[1]) {
			return nil, inputf("%s has %d pictures and %s %d; want as many of both", args[0], len(sets[0]), args[1], len(sets[1]))
		}
		for i, it := range sets[0] {
			pairs = append(pairs, [2]imageio.Item{it, sets[1][i]})
		}
		return pairs, nil
	}
	var named [2]map[string]imageio.Item
	for k, set := range sets {
		named[k] = map[string]imageio.Item{}
		for _, it := range set {
			name := pairName(args[k], it.Name)
			if other, taken := named[k][name]; taken {
				return nil, inputf("%s: %s and %s have one name, %s; take --pair order", args[k], other.Name, it.Name, name)
			}
			named[k][name] = it
		}
	}
	var alone []string
	for k := range sets {
		for _, it := range sets[k] {
			name := pairName(args[k], it.Name)
			other, ok := named[1-k][name]
			if !ok {
				alone = append(alone, fmt.Sprintf("%s (only in %s)", name, args[k]))
			} else if k == 0 {
				pairs = append(pairs, [2]imageio.Item{it, other})
			}
		}
	}
	if len(alone) > 0 {
		return nil, inputf("pictures without a partner of their name: %s; give both sets the same names, or take --pair order", shortList(alone, 5))
	}
	return pairs, nil
}

// pairName is a picture's name below its set, without the ending.
func pairName(set, name string) string {
	name = strings.TrimPrefix(strings.TrimPrefix(name, strings.TrimSuffix(set, "/")), "/")
	if i := strings.LastIndexByte(name, '.'); i > strings.LastIndexByte(name, '/')+1 {
		name = name[:i]
	}
	return name
}
