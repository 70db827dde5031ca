package onnx

import (
	"fmt"
	"math"

	"github.com/fidlab/fidlab/diffusion"
)

// timeKinds are the values of TimeSpec.Kind.
var timeKinds = []string{"path", "index", "sigma", "ln-sigma/4", "fraction"}

func (t *TimeSpec) scale() float64 {
	if t.Scale == nil {
		return 1
	}
	return *t.Scale
}

// told is what the network is told at time t of path p.
func (t *TimeSpec) told(p diffusion.Path, time float64) float64 {
	v := time
	switch t.Kind {
	case "sigma":
		v = p.Sigma(time)
	case "ln-sigma/4":
		v = math.Log(p.Sigma(time)) / 4
	case "fraction":
		_, v = diffusion.FlowSpace.Scale(p.Sigma(time))
	}
	return t.scale()*v + t.Offset
}

// fed is a path whose networks are fed states in another scaling.
type fed struct {
	diffusion.Path
	space diffusion.Space
}

// Input is the space's scaling.
func (p fed) Input(sigma float64) (a, b float64) { return p.space.Scale(sigma) }

// Unwrap is the path itself, for diffusion.TableOf.
func (p fed) Unwrap() diffusion.Path { return p.Path }

// Convention is the path and the prediction that the sidecar means.
func (s *Sidecar) Convention() (diffusion.Path, diffusion.Pred, error) {
	path, err := s.Path.path()
	if err != nil {
		return nil, 0, err
	}
	pred, err := diffusion.PredByName(s.Prediction)
	if err != nil {
		return nil, 0, err
	}
	switch s.Input {
	case "ve":
		return fed{path, diffusion.VESpace}, pred, nil
	case "vp":
		return fed{path, diffusion.VPSpace}, pred, nil
	case "flow":
		return fed{path, diffusion.FlowSpace}, pred, nil
	}
	return path, pred, nil
}

// path makes the path that p describes.
func (p *PathSpec) path() (diffusion.Path, error) {
	base, err := diffusion.PathByName(p.Name)
	if err != nil {
		return nil, err
	}
	table := p.Steps != 0 || p.First != 0 || p.Last != 0 || p.Betas != nil || p.ZeroSNR
	levels := p.SigmaMin != 0 || p.SigmaMax != 0
	switch b := base.(type) {
	case *diffusion.VP:
		if levels || p.Data != 0 {
			return nil, fmt.Errorf("%s has a table of betas; wanted no sigma_min, sigma_max or sigma_data", p.Name)
		}
		if !table {
			return b, nil
		}
		return p.table()
	case diffusion.VE:
		set(&b.Min, p.SigmaMin)
		set(&b.Max, p.SigmaMax)
		if base = b; table || p.Data != 0 || !ordered(b.Min, b.Max) {
			return nil, fmt.Errorf("ve: %+v; wanted sigma_min and sigma_max with 0 < sigma_min < sigma_max, and no more", *p)
		}
	case diffusion.EDM:
		set(&b.Min, p.SigmaMin)
		set(&b.Max, p.SigmaMax)
		set(&b.Data, p.Data)
		if base = b; table || !ordered(b.Min, b.Max) || !ordered(b.Data, math.Inf(1)) {
			return nil, fmt.Errorf("edm: %+v; wanted sigma_data, and sigma_min and sigma_max with 0 < sigma_min < sigma_max, and no more", *p)
		}
	case diffusion.TrigFlow:
		e := PathSpec{Name: "edm", SigmaMin: p.SigmaMin, SigmaMax: p.SigmaMax, Data: p.Data}
		same, err := e.path()
		if err != nil || table {
			return nil, fmt.Errorf("trigflow: %+v; wanted what path edm takes", *p)
		}
		return diffusion.TrigFlow(same.(diffusion.EDM)), nil
	default:
		if table || levels || p.Data != 0 {
			return nil, fmt.Errorf("%s has no parameters; %+v", p.Name, *p)
		}
	}
	return base, nil
}

func set(field *float64, given float64) {
	if given != 0 {
		*field = given
	}
}

func ordered(lo, hi float64) bool { return lo > 0 && lo < hi }

// table makes a VP path of other betas than the name's usual ones.
func (p *PathSpec) table() (diffusion.Path, error) {
	steps, first, last, make := 1000, 1e-4, 0.02, diffusion.LinearBetas
	if p.Name == "vp-scaled" {
		first, last, make = 0.00085, 0.012, diffusion.ScaledLinearBetas
	}
	set(&first, p.First)
	set(&last, p.Last)
	if p.Steps != 0 {
		steps = p.Steps
	}
	if steps < 2 || steps > 1<<20 {
		return nil, fmt.Errorf("%s: a table of %d steps; wanted at least 2", p.Name, steps)
	}
	betas := p.Betas
	switch {
	case betas != nil && (p.Name != "vp" || p.Steps != 0 || p.First != 0 || p.Last != 0):
		return nil, fmt.Errorf("betas: the table says all; wanted the name vp, and no steps, first or last")
	case betas != nil:
	case p.Name == "vp-cosine":
		if p.First != 0 || p.Last != 0 {
			return nil, fmt.Errorf("vp-cosine has no first and last beta")
		}
		betas = diffusion.CosineBetas(steps)
	default:
		betas = make(steps, first, last)
	}
	if p.ZeroSNR {
		betas = diffusion.ZeroTerminalSNR(betas)
	}
	return diffusion.NewVP(betas)
}
