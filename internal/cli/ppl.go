package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/fid/extract"
	"github.com/fidlab/fidlab/tensor"
)

type pplOptions struct {
	perceptual
	rule, mapping, sampling, latents string
	pictures                         string // their range
	path                             extract.PathOptions
}

func newPPL(a *app) *cobra.Command {
	var o pplOptions
	var rules []string
	long := `Measure how evenly a generator's pictures change with its latent: the perceptual path
length. Between two latents, a short step's pictures are compared by LPIPS, over the square of
the step; the mean over paths without the extreme hundredths is the value, with the interval
of a bootstrap over the paths. It alone goes to standard output.

The generator is a network in an ONNX file, from latents [n, d] (or of more axes) to pictures
[n, 3 or 1, height, width]; --mapping names a second file that makes its latents w of others, z.
Latents are standard normal.

Rules, whose figures are not comparable:
`
	for _, r := range fid.PPLRules {
		rules = append(rules, r.Name)
		long += fmt.Sprintf("  %-15s%s;\n  %-15s%s in z, %d paths\n", r.Name, r.Source, "", r.Interpolate, r.N)
	}
	cmd := &cobra.Command{
		Use:   "ppl GENERATOR.onnx",
		Short: "Measure a generator's perceptual path length",
		Long:  strings.TrimSuffix(long, "\n"),
		Example: `  fidlab ppl synthesis.onnx --mapping mapping.onnx --weights vgg16-397923af.pth --linear lpips/weights/v0.1/vgg.pth
  fidlab ppl generator.onnx --rule torch-fidelity -n 10000 --range unit --json`,
		Args: nargs("one generator", 1, 1),
		RunE: func(cmd *cobra.Command, args []string) error { return runPPL(cmd.Context(), a, &o, args[0]) },
	}
	f := cmd.Flags()
	o.perceptual.flags(f, "vgg", "the length of every path")
	f.StringVar(&o.rule, "rule", rules[0], "the figure's `RULE`: "+strings.Join(rules, ", "))
	f.StringVar(&o.mapping, "mapping", "", "the network from z to w: `FILE.onnx`")
	f.StringVar(&o.path.Space, "space", "", "step in the space `S`: w, z; default: w with --mapping")
	f.StringVar(&o.sampling, "sampling", "end", "steps begin at the `PLACE`: end (at the first latent), full (anywhere on the path)")
	f.StringVar(&o.path.Interpolate, "interpolate", "", "go from latent to latent by `WAY`: "+strings.Join(extract.Interpolations, ", ")+"; default: lerp in w, the rule's in z")
	f.Float64Var(&o.path.Epsilon, "epsilon", 1e-4, "the step's length `E`, as a share of the path")
	f.BoolVar(&o.path.Crop, "crop", false, "compare rows 3/8 to 7/8 and columns 2/8 to 6/8 of the pictures, as StyleGAN's metric does for faces")
	f.IntVarP(&o.path.N, "n", "n", 0, "measure `N` paths; 0 takes the rule's number")
	f.StringVar(&o.pictures, "range", "", "the generator's pictures run over `R`: signed (-1 to 1, the default), unit (0 to 1), levels (0 to 255; what is stored in 8 bits needs no word)")
	f.StringVar(&o.latents, "latents", "", "take the paths' ends from `FILE.npy`, [n, 2, d], in place of drawing them")
	f.Uint64Var(&o.seed, "seed", 0, "seed `S` of the latents and of the interval's resamples")
	completes(cmd, "net", extract.LPIPSNets...)
	completes(cmd, "rule", rules...)
	completes(cmd, "space", "w", "z")
	completes(cmd, "sampling", "end", "full")
	completes(cmd, "interpolate", extract.Interpolations...)
	completes(cmd, "range", extract.Ranges...)
	return cmd
}

// check refuses values that nothing has, and fills in the rule.
func (o *pplOptions) check() error {
	var rules []string
	for _, r := range fid.PPLRules {
		rules = append(rules, r.Name)
	}
	for _, c := range []struct {
		what, got string
		known     []string
	}{
		{"rule", o.rule, rules}, {"--space", o.path.Space, []string{"w", "z"}}, {"--sampling", o.sampling, []string{"end", "full"}},
		{"interpolation", o.path.Interpolate, extract.Interpolations}, {"--range", o.pictures, extract.Ranges},
	} {
		if c.got != "" && !slices.Contains(c.known, c.got) {
			return unknown(c.what, c.got, slices.Clone(c.known))
		}
	}
	var err error
	if o.path.Rule, err = fid.FindPPLRule(o.rule); err != nil {
		return err
	}
	switch {
	case o.path.N < 0:
		return usagef("-n %d: want 0 or more", o.path.N)
	case !(o.path.Epsilon > 0 && o.path.Epsilon <= 1):
		return usagef("--epsilon %g: want a share of the path, such as 1e-4", o.path.Epsilon)
	case o.path.Space == "w" && o.mapping == "":
		return usagef("--space w: want --mapping FILE.onnx, the network from z to w")
	}
	o.path.Full, o.path.Seed, o.o.Rule = o.sampling == "full", o.seed, o.path.Rule.LPIPS
	return o.perceptual.check()
}

// pplResult is the JSON of ppl.
type pplResult struct {
	PPL         fid.PPLValue      `json:"ppl"`
	Space       string            `json:"space"`
	Sampling    string            `json:"sampling"`
	Interpolate string            `json:"interpolate"`
	Epsilon     float64           `json:"epsilon"`
	Crop        bool              `json:"crop"`
	Seed        uint64            `json:"seed"`
	Generator   string            `json:"generator_sha256"`
	Mapping     string            `json:"mapping_sha256"` // "" for none
	With        extract.LPIPSInfo `json:"with"`
	Device      string            `json:"device"`
	Seconds     float64           `json:"seconds"`
	Notes       []string          `json:"notes"`
	Version     string            `json:"version"`
	Schema      int               `json:"schema"`
}

func runPPL(ctx context.Context, a *app, o *pplOptions, model string) error {
	if err := o.check(); err != nil {
		return err
	}
	l, err := o.open(a)
	if err != nil {
		return err
	}
	defer l.Close()
	g, err := extract.OpenGenerator(model, extract.GeneratorOptions{Mapping: o.mapping, Range: o.pictures, Getenv: a.env.Getenv})
	if err != nil {
		return &inputError{err}
	}
	defer g.Close()
	if o.latents != "" {
		if err := o.readLatents(g.Latent()); err != nil {
			return err
		}
	}
	if err := o.path.Settle(g); err != nil {
		return &inputError{err}
	}
	begin := time.Now()
	p := a.progress("measuring", "paths", o.path.N)
	o.path.Done = p.Set
	lengths, err := extract.PathLengths(ctx, g, l, o.path)
	p.End()
	if err != nil {
		return err
	}
	r := pplResult{
		Space: o.path.Space, Sampling: o.sampling, Interpolate: o.path.Interpolate, Epsilon: o.path.Epsilon, Crop: o.path.Crop, Seed: o.seed,
		With: l.Info(), Device: "cpu", Notes: []string{}, Version: version, Schema: fid.Schema,
	}
	if r.PPL, err = fid.PPL(lengths, o.path.Rule, o.interval()); err != nil {
		return err
	}
	r.Seconds = time.Since(begin).Seconds()
	if r.Generator, err = tensor.FileSHA256(model); err != nil {
		return err
	}
	if o.mapping != "" {
		if r.Mapping, err = tensor.FileSHA256(o.mapping); err != nil {
			return err
		}
	}
	if r.With.Note != "" {
		r.Notes = append(r.Notes, r.With.Note)
	}
	err = o.writeLines(len(lengths), func(i int) any {
		return struct {
			Path   int     `json:"path"`
			Length float64 `json:"length"`
		}{i, lengths[i]}
	})
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(r)
	}
	a.say("ppl %s, %g %% interval %s to %s, rule %s: %d paths, %d kept; %s in %s, %s, step %g", valueText(r.PPL.Value), 100*r.PPL.Level, valueText(r.PPL.CI[0]), valueText(r.PPL.CI[1]),
		r.PPL.Rule, r.PPL.N, r.PPL.Kept, r.Interpolate, r.Space, r.Sampling, r.Epsilon)
	a.sayPerceptual(r.With)
	a.printf("%s%s\n", valueText(r.PPL.Value), inBrackets(r.With.Note))
	return nil
}

// readLatents reads the paths' ends; -n takes the first of them.
func (o *pplOptions) readLatents(d int) error {
	v, err := tensor.ReadNPY(o.latents)
	if err != nil {
		return &inputError{err}
	}
	floats := v.DType == tensor.F32 || v.DType == tensor.F64
	if len(v.Shape) != 3 || v.Shape[0] < 1 || v.Shape[1] != 2 || v.Shape[2] != d || !floats || v.Shape[0] < o.path.N {
		return inputf("%s: %v of %v; want floats [n, 2, %d], %d paths at least", o.latents, v.Shape, v.DType, d, max(1, o.path.N))
	}
	if o.path.N == 0 {
		o.path.N = v.Shape[0]
	}
	o.path.Ends = v.F32()[:2*d*o.path.N]
	return nil
}
