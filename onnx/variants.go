package onnx

import (
	"fmt"

	"github.com/fidlab/fidlab/diffusion"
)

// Variant is the same file under another convention.
type Variant struct {
	Name string // how it differs
	*Model
}

// Variants are the ways in which the sidecar may be wrong about the time, the
// input's scaling and the direction of a flow, each apart; a check of the
// convention tries them. They share the model's session: they end with it, and
// none is used while another is.
func (m *Model) Variants() []Variant {
	var out []Variant
	add := func(name string, change func(s *Sidecar)) {
		side := *m.Sidecar
		change(&side)
		if path, err := side.Path.path(); err != nil || side.checkConvention(path) != nil {
			return
		}
		if v, err := newModel(m.run, &side); err == nil {
			out = append(out, Variant{name, v})
		}
	}
	told := func(kind string, scale float64) {
		if kind == m.Sidecar.Time.Kind && scale == m.Sidecar.Time.scale() && m.Sidecar.Time.Offset == 0 {
			return
		}
		name := "time kind " + kind
		if scale != 1 {
			name += fmt.Sprintf(" with scale %g", scale)
		}
		add(name, func(s *Sidecar) { s.Time = TimeSpec{Kind: kind, Scale: &scale} })
	}
	for _, kind := range timeKinds {
		told(kind, 1)
	}
	told("path", 1000)
	told("path", 0.001)
	told("fraction", 1000)
	for _, input := range []string{"path", "ve", "vp", "flow"} {
		if input != m.Sidecar.Input {
			add("input "+input, func(s *Sidecar) { s.Input = input })
		}
	}
	if flow, ok := m.base().(diffusion.Flow); ok {
		other := diffusion.Flow{DataAtOne: !flow.DataAtOne}
		add("data at the other end", func(s *Sidecar) { s.Path = PathSpec{Name: other.Name()} })
	}
	return out
}

// base is the path without another scaling of its input.
func (m *Model) base() diffusion.Path {
	if f, ok := m.path.(fed); ok {
		return f.Path
	}
	return m.path
}
