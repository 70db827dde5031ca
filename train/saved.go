package train

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/tensor"
)

// Saved is a checkpoint as those see it who use its networks.
type Saved struct {
	Path     string
	Job      string          // the recipe's name
	Config   json.RawMessage // the recipe's own
	Settings Settings
	Step     int
	Version  string    // of the program that wrote it
	Exported *Exported // of one that Export wrote, else nil

	file *tensor.Safetensors
}

// OpenSaved opens a checkpoint; Close it.
func OpenSaved(path string) (*Saved, error) {
	f, err := tensor.OpenSafetensors(path)
	if err != nil {
		return nil, err
	}
	s, err := readSaved(f)
	if err != nil {
		f.Close()
		return nil, err
	}
	return s, nil
}

func readSaved(f *tensor.Safetensors) (*Saved, error) {
	var c checkpointConfig
	var p checkpointProgress
	for name, to := range map[string]any{metaConfig: &c, metaProgress: &p} {
		if f.Meta[name] == "" {
			return nil, fmt.Errorf("train: %s: no %s in its metadata: it is not a checkpoint of a training run", f.Path(), name)
		}
		if err := json.Unmarshal([]byte(f.Meta[name]), to); err != nil {
			return nil, fmt.Errorf("train: %s: %s: %w", f.Path(), name, err)
		}
	}
	s := &Saved{Path: f.Path(), Job: c.Job, Config: c.Config, Settings: c.Settings, Step: p.Step, Version: f.Meta[metaVersion], file: f}
	if text := f.Meta[metaExport]; text != "" {
		s.Exported = new(Exported)
		if err := json.Unmarshal([]byte(text), s.Exported); err != nil {
			return nil, fmt.Errorf("train: %s: %s: %w", f.Path(), metaExport, err)
		}
	}
	return s, nil
}

// Close ends the use of the file.
func (s *Saved) Close() error { return s.file.Close() }

// Load sets the parameters of one of the job's networks to its weights, or to their average of a decay that the run kept; decay 0 is the
// weights themselves. What is stored as float16 is widened exactly.
func (s *Saved) Load(net *nn.Params, name string, decay float64) error {
	own, prefix := name+".", name+"."
	if decay != 0 {
		if !slices.Contains(s.Averages(), decay) {
			return s.noAverage(decay)
		}
		prefix = average(decay) + "." + own
	} else if x := s.Exported; x != nil && x.Average != 0 && s.hasAverage(own) {
		return s.noAverage(0)
	}
	o := nn.LoadOptions{Rename: func(n string) string {
		if rest, ok := strings.CutPrefix(n, prefix); ok && (decay == 0 || rest != "steps") {
			return rest
		}
		if rest, ok := strings.CutPrefix(n, own); ok && !s.file.Has(prefix+rest) {
			return rest // a buffer, which is not trained and has no average
		}
		return ""
	}}
	_, err := nn.LoadFrom(s.file, o, nn.Part{Of: net})
	return err
}

// hasAverage tells whether the file keeps a network's average in place of its weights.
func (s *Saved) hasAverage(own string) bool {
	prefix := average(s.Exported.Average) + "." + own
	return slices.ContainsFunc(s.file.Names(), func(n string) bool { return strings.HasPrefix(n, prefix) })
}
