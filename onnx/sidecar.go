package onnx

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/fidlab/fidlab/diffusion"
)

// maxSidecar bounds a sidecar's bytes: the longest thing in one is a table of betas.
const maxSidecar = 1 << 20

// Sidecar says what an ONNX file does not. Only Prediction and Path are required;
// unknown fields are refused, since a misspelt one would change what is drawn.
type Sidecar struct {
	// Prediction is what the network predicts: x0, eps, v, flow, flow-reversed, edm,
	// score or trigflow (diffusion.Pred).
	Prediction string `json:"prediction"`
	// Path is where it was trained: a name, or an object with its parameters.
	Path PathSpec `json:"path"`
	// Input is how the x that it is fed is scaled, x = A·x0 + B·n: "path" (default, as
	// the path's networks are), "ve" (A = 1), "vp" (A² + B² = 1), "flow" (A + B = 1).
	Input string `json:"input,omitempty"`
	// Time is how it is told the noise level. Its dtype and whether it is one number
	// for all images or one for each are the model's own.
	Time TimeSpec `json:"time,omitzero"`

	// The names of the model's inputs and output, by role; "" means the usual name.
	Sample     string `json:"sample,omitempty"`      // the state, "sample"; else the first float input of three or more axes
	TimeInput  string `json:"time_input,omitempty"`  // the time, "timestep"
	ClassInput string `json:"class_input,omitempty"` // integer class, "class_labels" where there is one
	Output     string `json:"output,omitempty"`      // the prediction, the first output
	// Values are inputs that are the same in every call (a guidance scale that is
	// distilled in): filled with that number. Inputs that are neither named above nor
	// here, texts first, are asked of the caller by their names.
	Values map[string]float64 `json:"values,omitempty"`

	Classes int  `json:"classes,omitempty"`  // classes 0 to Classes-1 may be asked for
	NoClass *int `json:"no_class,omitempty"` // the class that stands for none (unconditional)

	Shape  []int  `json:"shape,omitempty"`  // of one sample; where the file leaves it open
	Layout string `json:"layout,omitempty"` // of pictures: "chw" (default) or "hwc"
	// Range are the values of black and white; absent for latents, which are no pictures.
	Range []float64 `json:"range,omitempty"`
	// Mean and Dev are the data's, for the check of the convention. Defaults: the
	// middle of Range and a quarter of its width; 0 and 1 without one.
	Mean *float64 `json:"mean,omitempty"`
	Dev  *float64 `json:"dev,omitempty"`
	// Probe false leaves out that check, for networks that are not trained.
	Probe *bool `json:"probe,omitempty"`
	// Batch is how many images the model gets at a time, the last ones repeated; 0 is
	// the model's own fixed number, or as many as there are.
	Batch int `json:"batch,omitempty"`
}

// TimeSpec makes what a network is told of a noise level: Scale·value + Offset,
// rounded to nearest where the model's input is an integer.
type TimeSpec struct {
	// Kind is the value: "path" (default, the path's own time), "index" (of the VP
	// table), "sigma" (B/A), "ln-sigma/4", "fraction" (of noise, sigma/(1+sigma)).
	Kind   string   `json:"kind,omitempty"`
	Scale  *float64 `json:"scale,omitempty"`  // 1; 1000 for flow networks told 0 to 1000
	Offset float64  `json:"offset,omitempty"` // 0
}

// PathSpec names a path of diffusion.PathByName; the rest, where given, replaces
// its parameters.
type PathSpec struct {
	Name     string    `json:"name"`
	Steps    int       `json:"steps,omitempty"`     // vp, vp-scaled, vp-cosine: length of the table, 1000
	First    float64   `json:"first,omitempty"`     // vp, vp-scaled: first beta
	Last     float64   `json:"last,omitempty"`      // and last
	Betas    []float64 `json:"betas,omitempty"`     // vp: the table itself
	ZeroSNR  bool      `json:"zero_snr,omitempty"`  // vp, vp-scaled, vp-cosine: rescaled to zero terminal SNR
	SigmaMin float64   `json:"sigma_min,omitempty"` // ve, edm, trigflow
	SigmaMax float64   `json:"sigma_max,omitempty"`
	Data     float64   `json:"sigma_data,omitempty"` // edm, trigflow
}

// UnmarshalJSON reads a path: "vp", or an object.
func (p *PathSpec) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		*p = PathSpec{}
		return json.Unmarshal(b, &p.Name)
	}
	type plain PathSpec
	return strict(b, (*plain)(p))
}

// strict decodes one JSON value without unknown fields.
func strict(b []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return fmt.Errorf("something follows the closing brace")
	}
	return nil
}

// SidecarPath is where the sidecar of a model lies: its name with .json for .onnx.
func SidecarPath(model string) string {
	return strings.TrimSuffix(model, filepath.Ext(model)) + ".json"
}

// ReadSidecar reads and checks the sidecar of the model at that path.
func ReadSidecar(model string) (*Sidecar, error) {
	path := SidecarPath(model)
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf(`onnx: %w: it says what the model predicts, at least {"prediction": "eps", "path": "vp"}`, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSidecar+1))
	if err != nil {
		return nil, fmt.Errorf("onnx: %s: %w", path, err)
	}
	s, err := ParseSidecar(b)
	if err != nil {
		return nil, fmt.Errorf("onnx: %s: %w", path, err)
	}
	return s, nil
}

// ParseSidecar reads and checks a sidecar's JSON.
func ParseSidecar(b []byte) (*Sidecar, error) {
	if len(b) > maxSidecar {
		return nil, fmt.Errorf("more than %d bytes; wanted a few lines of JSON", maxSidecar)
	}
	s := &Sidecar{}
	if err := strict(b, s); err != nil {
		return nil, fmt.Errorf(`%w; wanted {"prediction": ..., "path": ...}`, err)
	}
	if _, err := diffusion.PredByName(s.Prediction); err != nil {
		return nil, fmt.Errorf("prediction: %w", err)
	}
	path, err := s.Path.path()
	if err != nil {
		return nil, fmt.Errorf("path: %w", err)
	}
	if err := s.checkConvention(path); err != nil {
		return nil, err
	}
	return s, s.checkData()
}

// oneOf refuses a word that is not among those allowed.
func oneOf(field, word string, allowed ...string) error {
	for _, a := range allowed {
		if word == a {
			return nil
		}
	}
	return fmt.Errorf("%s: %q; wanted one of %s", field, word, strings.Join(allowed, ", "))
}

func (s *Sidecar) checkConvention(path diffusion.Path) error {
	if s.Input == "" {
		s.Input = "path"
	}
	if s.Time.Kind == "" {
		s.Time.Kind = "path"
	}
	if s.Layout == "" {
		s.Layout = "chw"
	}
	if err := oneOf("input", s.Input, "path", "ve", "vp", "flow"); err != nil {
		return err
	}
	if err := oneOf("time: kind", s.Time.Kind, timeKinds...); err != nil {
		return err
	}
	if _, ok := path.(*diffusion.VP); s.Time.Kind == "index" && !ok {
		return fmt.Errorf("time: kind index: path %s has no table; wanted path, sigma, ln-sigma/4 or fraction", path.Name())
	}
	if k := s.Time.scale(); k == 0 || !finite(k) || !finite(s.Time.Offset) {
		return fmt.Errorf("time: scale %g, offset %g; wanted finite numbers, the scale not 0", k, s.Time.Offset)
	}
	pred, _ := diffusion.PredByName(s.Prediction)
	if own := path.Name() == "edm" || path.Name() == "trigflow"; (pred == diffusion.PredEDM || pred == diffusion.PredTrigFlow) && (!own || s.Input != "path") {
		return fmt.Errorf("prediction %s: it is defined for the input of path edm or trigflow; this is path %s, input %s", pred, path.Name(), s.Input)
	}
	return oneOf("layout", s.Layout, "chw", "hwc")
}

func (s *Sidecar) checkData() error {
	if s.Range != nil && (len(s.Range) != 2 || !(s.Range[0] < s.Range[1]) || !finite(s.Range[1]-s.Range[0])) {
		return fmt.Errorf("range: %v; wanted the values of black and white, [-1, 1] or so", s.Range)
	}
	mean, dev := s.Data()
	if !finite(mean) || !(dev > 0) || !finite(dev) {
		return fmt.Errorf("mean %g, dev %g; wanted finite numbers, the deviation above 0", mean, dev)
	}
	for _, d := range s.Shape {
		if d < 1 || d > 1<<20 {
			return fmt.Errorf("shape: %v; wanted sizes of at least 1", s.Shape)
		}
	}
	for name, v := range s.Values {
		if !finite(v) {
			return fmt.Errorf("values: %s is %g; wanted a finite number", name, v)
		}
	}
	if s.Batch < 0 || s.Classes < 0 {
		return fmt.Errorf("batch %d, classes %d; wanted numbers of at least 0", s.Batch, s.Classes)
	}
	return nil
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// Data is the mean and deviation of the data.
func (s *Sidecar) Data() (mean, dev float64) {
	dev = 1
	if len(s.Range) == 2 {
		mean, dev = (s.Range[0]+s.Range[1])/2, (s.Range[1]-s.Range[0])/4
	}
	if s.Mean != nil {
		mean = *s.Mean
	}
	if s.Dev != nil {
		dev = *s.Dev
	}
	return mean, dev
}

// Probes tells whether the convention is to be checked before sampling.
func (s *Sidecar) Probes() bool { return s.Probe == nil || *s.Probe }
