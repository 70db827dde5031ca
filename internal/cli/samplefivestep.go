package cli

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/sampler"
)

// fiveStepOptions are the flags of the two-level grid and of FreeU.
type fiveStepOptions struct {
	base    string
	respace float64
	freeU   string
}

func (o *fiveStepOptions) flags(f *pflag.FlagSet) {
	f.StringVar(&o.base, "base", "", "grid two-level: cut a curve of `N,RHO,CUT` levels, rho and last level; default 12,10 and the steps")
	f.Float64Var(&o.respace, "respace-rho", 0, "grid two-level: spread the times by rho `X`; 0 is 1.2")
	f.StringVar(&o.freeU, "freeu", "", "re-weight a U-Net's decoder by `B1,B2,S1,S2`, such as 1.1,1.1,0.9,0.2")
}

// apply puts the flags into a grid's specification.
func (o *fiveStepOptions) apply(s *diffusion.Spec) error {
	s.RespaceRho = o.respace
	if o.base == "" {
		return nil
	}
	parts := strings.Split(o.base, ",")
	if len(parts) != 3 {
		return usagef("--base %q: want N,RHO,CUT, such as 12,7,9", o.base)
	}
	n, err1 := strconv.Atoi(strings.TrimSpace(parts[0]))
	rho, err2 := strconv.ParseFloat(strings.TrimSpace(parts[1]), 64)
	cut, err3 := strconv.Atoi(strings.TrimSpace(parts[2]))
	if err1 != nil || err2 != nil || err3 != nil || n == 0 || rho == 0 || cut == 0 {
		return usagef("--base %q: want N,RHO,CUT, two whole numbers around a number, none of them 0, such as 12,7,9", o.base)
	}
	s.BaseSteps, s.BaseRho, s.Cut = n, rho, cut
	return nil
}

// preset gives the flags that were not given the values that go with a grid of
// the name f5, f6 or f8: its steps, its end, and the sampler it was made for.
func (o *sampleOptions) preset(given func(flag string) bool) {
	spec, err := diffusion.TwoLevelPreset(strings.ToLower(o.grid))
	if err != nil {
		return
	}
	if !given("steps") {
		o.steps = spec.Steps
	}
	if !given("end") {
		o.end = spec.End.String()
	}
	if given("sampler") {
		return
	}
	if o.sampler = "dpm++2m"; spec.Steps < 7 {
		o.sampler = "ddim"
	}
}

// join puts FreeU into a model's network.
func (o *fiveStepOptions) join(m *model) error {
	if o.freeU == "" {
		return nil
	}
	var v []float64
	for part := range strings.SplitSeq(o.freeU, ",") {
		x, err := strconv.ParseFloat(strings.TrimSpace(part), 64)
		if err != nil {
			return usagef("--freeu %q: want B1,B2,S1,S2, such as 1.1,1.1,0.9,0.2", o.freeU)
		}
		v = append(v, x)
	}
	if len(v) == 0 || len(v)%2 != 0 {
		return usagef("--freeu %q: %d numbers; want as many factors of the backbone as of the skip features", o.freeU, len(v))
	}
	f := &sampler.FreeU{B: v[:len(v)/2], S: v[len(v)/2:]}
	if err := f.Join(m.den); err != nil {
		return usagef("--freeu with model %s: %w", m.name, err)
	}
	return nil
}

// leftOver says that samples keep noise which nothing takes out; "" when they do not.
func leftOver(m *model, g *diffusion.Grid) string {
	if g.Rising() || m.latent {
		return ""
	}
	last := g.Steps[len(g.Steps)-1].To.Sigma()
	_, least := g.Path.Range()
	if !(last > g.Path.Sigma(least)*(1+1e-9)) {
		return ""
	}
	return fmt.Sprintf("the samples keep noise of sigma %.3g, which is for a decoder to take out; model %s has none, so give --end zero unless you have one", last, m.name)
}
