package assets

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Figure is something measured. What does not apply is empty.
type Figure struct {
	Name     string      `json:"name"` // "fid", "accuracy"
	Value    float64     `json:"value"`
	Interval *[2]float64 `json:"interval,omitempty"`
	Level    float64     `json:"level,omitempty"` // of the interval
	Floor    *float64    `json:"floor,omitempty"` // the same of as many real pictures
	N        int         `json:"n,omitempty"`     // pictures, or items
	Against  string      `json:"against,omitempty"`
	// The encoder that a distance is measured with.
	Encoder       string `json:"encoder,omitempty"`
	EncoderSHA256 string `json:"encoder_sha256,omitempty"`
	// How pictures were drawn.
	Sampler  string `json:"sampler,omitempty"`
	Steps    int    `json:"steps,omitempty"`
	Guidance string `json:"guidance,omitempty"`
	Seed     uint64 `json:"seed,omitempty"`
	Note     string `json:"note,omitempty"`
}

// Check tells why it can be no figure.
func (f *Figure) Check() error {
	if f.Name == "" || math.IsNaN(f.Value) || math.IsInf(f.Value, 0) {
		return fmt.Errorf("figure %q is %v, want a name and a finite value", f.Name, f.Value)
	}
	if v := f.Interval; v != nil && !(v[0] <= v[1] && f.Level > 0 && f.Level < 1) {
		return fmt.Errorf("figure %s: interval %v of level %g, want its ends in order and a level between 0 and 1", f.Name, *v, f.Level)
	}
	return nil
}

// Measured adds a figure, or replaces the one that was measured in the same way.
func (e *Entry) Measured(f Figure) {
	way := func(f Figure) string {
		return fmt.Sprintf("%q %q %q %q %d %q", f.Name, f.Against, f.Encoder, f.Sampler, f.Steps, f.Guidance)
	}
	e.Figures = slices.DeleteFunc(slices.Clone(e.Figures), func(o Figure) bool { return way(o) == way(f) })
	e.Figures = append(e.Figures, f)
}

// How is what the result depends on: "10000 against mnist:test by mnist; dpm++2m, 50 steps".
func (f Figure) How() string {
	var first, second []string
	if f.N > 0 {
		first = append(first, fmt.Sprintf("%d", f.N))
	}
	if f.Against != "" {
		first = append(first, "against "+f.Against)
	}
	if f.Encoder != "" {
		first = append(first, "by "+f.Encoder)
	}
	if f.Sampler != "" {
		second = append(second, fmt.Sprintf("%s, %d steps", f.Sampler, f.Steps))
	}
	if f.Guidance != "" {
		second = append(second, "guidance "+f.Guidance)
	}
	parts := []string{strings.Join(first, " "), strings.Join(second, ", "), f.Note}
	return strings.Join(slices.DeleteFunc(parts, func(p string) bool { return p == "" }), "; ")
}
