package cli

import (
	"github.com/spf13/pflag"

	"github.com/fidlab/fidlab/diffusion"
)

// sampleKernel is the noise that samples start from and are disturbed by.
type sampleKernel struct {
	name    string
	disturb float64
}

func (o *sampleKernel) flags(f *pflag.FlagSet) {
	f.StringVar(&o.name, "kernel", "", "start from noise of the `KERNEL`: gaussian, or pfgmpp:D with D added dimensions (PFGM++); default: what the model was trained on")
	f.Float64Var(&o.disturb, "disturb", 0, "add `X` times the noise level in Gaussian noise to the state before each step, without telling the model: how gently errors end")
}

// apply sets the kernel of a run on m.
func (o *sampleKernel) apply(m *model, d *drawing, run *sampleRun) error {
	k := m.kernel
	if o.name != "" {
		given, err := diffusion.NoiseByName(o.name, size(m.shape))
		if err != nil {
			return usagef("--kernel: %w", err)
		}
		if k != nil && given.Name() != k.Name() {
			return usagef("--kernel %s: %s was trained on %s; leave --kernel out", o.name, m.name, k.Name())
		}
		k = given
	}
	if o.disturb < 0 {
		return usagef("--disturb %g: wanted 0 (not at all) or more", o.disturb)
	}
	d.opt.Kernel, d.opt.Disturb, run.Disturb = k, o.disturb, o.disturb
	if !diffusion.IsGaussian(k) {
		run.Kernel = k.Name()
	}
	return nil
}
