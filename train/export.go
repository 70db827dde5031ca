package train

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/fidlab/fidlab/tensor"
)

// Further members of the metadata of a checkpoint that was exported.
const (
	metaExport = "fidlab.export"
	metaLog    = "fidlab.log"
)

// ExportOptions say what of a run's checkpoint others need.
type ExportOptions struct {
	Average float64 // the decay of the average that is kept; 0: the weights themselves
	Half    bool    // store it as float16
	Log     string  // the run's log.csv, or as much of it as is wanted; "" keeps none
	// Part, a prefix of the job's State, has what is written in place of the weights of the network Of; Average is 0 then. "": there is none.
	Part, Of string
}

// Exported is what an exported checkpoint says about how it was made.
type Exported struct {
	Average float64 `json:"average"` // the decay; 0: the weights themselves
	Storage string  `json:"storage"` // of what was trained: float32 or float16
	// The largest rounding error, the value that has it, and the tensor that this value is of.
	Rounding float64 `json:"rounding"`
	Value    float64 `json:"value"`
	Tensor   string  `json:"tensor,omitempty"`
	From     string  `json:"from"` // SHA-256 of the run's checkpoint

	Tensors int `json:"-"` // that were written
	Count   int `json:"-"` // of their values
}

// Averages are the decays of the averages that Load finds, the first of which samples are drawn with; 0 stands for the
// weights themselves where there is no other.
func (s *Saved) Averages() []float64 {
	switch {
	case s.Exported != nil:
		return []float64{s.Exported.Average}
	case len(s.Settings.EMA) == 0:
		return []float64{0}
	}
	return s.Settings.EMA
}

// Log is the log.csv that an exported checkpoint keeps, "" where it keeps none.
func (s *Saved) Log() string { return s.file.Meta[metaLog] }

// Export writes to path what is needed to use the run's networks, and no more: one average in place of the weights (or the
// weights), what has no average as it is, the whole configuration, and the log. OpenSaved reads it as it reads the run's
// own. Networks without averages, and buffers, stay float32: a count or another network's hash would not bear rounding.
// An average that the run did not keep and a value that float16 cannot hold are errors.
func (s *Saved) Export(path string, o ExportOptions, opt ...tensor.FileOption) (*Exported, error) {
	if s.Exported != nil {
		return nil, fmt.Errorf("train: %s: it is exported already, with the average %g as %s; want the run's own checkpoint", s.Path, s.Exported.Average, s.Exported.Storage)
	}
	if o.Average != 0 && !slices.Contains(s.Settings.EMA, o.Average) {
		return nil, s.noAverage(o.Average)
	}
	sum, err := tensor.FileSHA256(s.Path)
	if err != nil {
		return nil, fmt.Errorf("train: %w", err)
	}
	e := &Exported{Average: o.Average, Storage: tensor.F32.String(), From: sum}
	if o.Half {
		e.Storage = tensor.F16.String()
	}
	var entries []tensor.SafetensorsEntry
	for _, name := range s.file.Names() {
		from := name
		if o.Part != "" {
			if strings.HasPrefix(name, o.Part+".") {
				continue // it comes in the network's place
			}
			if rest, ok := strings.CutPrefix(name, o.Of+"."); ok {
				from = o.Part + "." + rest
			}
		}
		keep, trained := s.exports(name, o.Average)
		if !keep {
			continue
		}
		a, err := s.file.Read(from)
		if err != nil {
			return nil, err
		}
		if trained && o.Half && a.DType == tensor.F32 {
			if a, err = e.halve(name, a); err != nil {
				return nil, fmt.Errorf("train: %s: %s: %w", s.Path, name, err)
			}
		}
		e.Tensors, e.Count = e.Tensors+1, e.Count+a.Len()
		entries = append(entries, tensor.SafetensorsEntry{Name: name, Array: a})
	}
	text, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("train: %s: %w", s.Path, err)
	}
	meta := map[string]string{metaExport: string(text)}
	for _, k := range []string{metaConfig, metaProgress, metaVersion} {
		if v := s.file.Meta[k]; v != "" {
			meta[k] = v
		}
	}
	if o.Log != "" {
		meta[metaLog] = o.Log
	}
	if err := tensor.WriteSafetensors(path, entries, meta, opt...); err != nil {
		return nil, fmt.Errorf("train: %w", err)
	}
	return e, nil
}

// exports tells whether a tensor of a run's checkpoint is part of an export, and whether it is something trained, of which
// averages are kept where any are.
func (s *Saved) exports(name string, decay float64) (keep, trained bool) {
	if strings.HasPrefix(name, "opt.") || strings.HasPrefix(name, "log.") {
		return false, false
	}
	for _, d := range s.Settings.EMA {
		if rest, ok := strings.CutPrefix(name, average(d)+"."); ok {
			return d == decay && s.file.Has(rest), true // not the count of an average's steps
		}
	}
	averaged := false
	for _, d := range s.Settings.EMA {
		averaged = averaged || s.file.Has(average(d)+"."+name)
	}
	return decay == 0 || !averaged, averaged || len(s.Settings.EMA) == 0
}

// halve is a as float16; e learns of the largest error.
func (e *Exported) halve(name string, a *tensor.Array) (*tensor.Array, error) {
	v := a.F32()
	h, err := tensor.FromF16(v, a.Shape...)
	if err != nil {
		return nil, err
	}
	for i, r := range h.F32() {
		if d := math.Abs(float64(v[i]) - float64(r)); d > e.Rounding {
			e.Rounding, e.Value, e.Tensor = d, float64(v[i]), name
		}
	}
	return h, nil
}

// noAverage is the error for an average that the checkpoint lacks.
func (s *Saved) noAverage(decay float64) error {
	if x := s.Exported; x != nil {
		kept := "the weights themselves (0)"
		if x.Average != 0 {
			kept = fmt.Sprintf("the average of decay %g", x.Average)
		}
		return fmt.Errorf("train: %s has no average of decay %g; it was exported with %s alone", s.Path, decay, kept)
	}
	return fmt.Errorf("train: %s has no average of decay %g; it has %v, and 0 for the weights themselves", s.Path, decay, s.Settings.EMA)
}
