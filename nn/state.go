package nn

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/tensor"
)

// Stater is what a checkpoint can hold: a network, an optimiser, an average.
type Stater interface {
	State() []Named
}

// Part is a Stater of a checkpoint and what its names begin with, say "opt.".
type Part struct {
	Prefix string
	Of     Stater
}

// Save writes a checkpoint, one .safetensors file, with remarks. It appears under its
// name only when complete; an existing one is refused unless tensor.Overwrite is given.
func Save(path string, meta map[string]string, parts []Part, opt ...tensor.FileOption) error {
	entries, err := entriesOf(parts)
	if err != nil {
		return err
	}
	return tensor.WriteSafetensors(path, entries, meta, opt...)
}

// Encode writes a checkpoint to w.
func Encode(w io.Writer, meta map[string]string, parts []Part) error {
	entries, err := entriesOf(parts)
	if err != nil {
		return err
	}
	return tensor.EncodeSafetensors(w, entries, meta)
}

func entriesOf(parts []Part) ([]tensor.SafetensorsEntry, error) {
	var out []tensor.SafetensorsEntry
	for _, p := range parts {
		for _, n := range p.Of.State() {
			a, err := array(n.Tensor)
			if err != nil {
				return nil, fmt.Errorf("nn: %s%s: %w", p.Prefix, n.Name, err)
			}
			out = append(out, tensor.SafetensorsEntry{Name: p.Prefix + n.Name, Array: a})
		}
	}
	return out, nil
}

func array(t *gpu.Tensor) (*tensor.Array, error) {
	shape := slices.Clone(t.Shape())
	switch t.DType() {
	case gpu.Float32, gpu.BFloat16: // whose values float32 holds
		v, err := t.Floats()
		return tensor.FromF32(v, shape...), err
	case gpu.Float64:
		v := make([]float64, t.Len())
		err := t.Read64(v)
		return tensor.FromF64(v, shape...), err
	}
	return nil, fmt.Errorf("dtype %v, want float32, float64 or bfloat16", t.DType())
}

// LoadOptions say how the names of a file are those of a checkpoint.
type LoadOptions struct {
	Rename  func(name string) string // the name here of a name in the file; "" leaves a tensor out
	Missing bool                     // what the file lacks keeps its value
	Extra   bool                     // what the file has besides is left out
}

// LoadReport lists what did not fit.
type LoadReport struct {
	Loaded     int
	Missing    []string   // wanted, and not in the file
	Unexpected []string   // in the file, and not wanted
	Mismatched []Mismatch // in both, of different shapes
}

// Mismatch is a tensor whose shape in the file is not the one wanted.
type Mismatch struct {
	Name       string
	Have, Want []int
}

// String is a table of what did not fit, one line each, "" where all did.
func (r *LoadReport) String() string {
	var b strings.Builder
	for _, n := range r.Missing {
		fmt.Fprintf(&b, "missing     %s\n", n)
	}
	for _, n := range r.Unexpected {
		fmt.Fprintf(&b, "unexpected  %s\n", n)
	}
	for _, m := range r.Mismatched {
		fmt.Fprintf(&b, "mismatched  %s: the file has %v, want %v\n", m.Name, m.Have, m.Want)
	}
	return b.String()
}

// LoadError is Load's error for a file that does not fit; nothing was loaded then.
type LoadError struct {
	Path   string
	Report LoadReport
}

func (e *LoadError) Error() string {
	return fmt.Sprintf("nn: %s does not fit: %d tensors missing, %d unexpected, %d of another shape; give LoadOptions or load the file of this network\n%s",
		e.Path, len(e.Report.Missing), len(e.Report.Unexpected), len(e.Report.Mismatched), strings.TrimRight(e.Report.String(), "\n"))
}

// Load reads a checkpoint into parts, whatever float dtype it is stored in. Everything
// must fit unless the options say otherwise; else the error is a *LoadError with a
// table, and nothing has changed. Shapes must always agree.
func Load(path string, o LoadOptions, parts ...Part) (*LoadReport, error) {
	f, err := tensor.OpenSafetensors(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return LoadFrom(f, o, parts...)
}

// LoadFrom is Load from an open file.
func LoadFrom(f *tensor.Safetensors, o LoadOptions, parts ...Part) (*LoadReport, error) {
	source := map[string]string{} // name here to name in the file
	for _, n := range f.Names() {
		to := n
		if o.Rename != nil {
			to = o.Rename(n)
		}
		if to == "" {
			continue
		}
		if was, twice := source[to]; twice {
			return nil, fmt.Errorf("nn: %s: %s and %s both become %s; want one name for each", f.Path(), was, n, to)
		}
		source[to] = n
	}
	var r LoadReport
	var wanted []Named
	for _, p := range parts {
		for _, n := range p.Of.State() {
			name := p.Prefix + n.Name
			from, ok := source[name]
			if !ok {
				r.Missing = append(r.Missing, name)
				continue
			}
			delete(source, name)
			dt, shape, err := f.Shape(from)
			if err != nil {
				return nil, err
			}
			switch dt {
			case tensor.F32, tensor.F64, tensor.F16, tensor.BF16:
			default:
				return nil, fmt.Errorf("nn: %s: tensor %s is %v, want a float dtype", f.Path(), from, dt)
			}
			if !slices.Equal(shape, n.Tensor.Shape()) {
				r.Mismatched = append(r.Mismatched, Mismatch{name, shape, slices.Clone(n.Tensor.Shape())})
				continue
			}
			wanted = append(wanted, Named{from, n.Tensor})
		}
	}
	for n := range source {
		r.Unexpected = append(r.Unexpected, n)
	}
	slices.Sort(r.Unexpected)
	if len(r.Missing) > 0 && !o.Missing || len(r.Unexpected) > 0 && !o.Extra || len(r.Mismatched) > 0 {
		return &r, &LoadError{f.Path(), r}
	}
	values := make([]*tensor.Array, len(wanted))
	for i, n := range wanted { // all are read before any is changed
		a, err := f.Read(n.Name)
		if err != nil {
			return &r, err
		}
		values[i] = a
	}
	for i, n := range wanted {
		if n.Tensor.DType() == gpu.Float64 {
			n.Tensor.Copy(gpu.CPU().From64(values[i].F64(), n.Tensor.Shape()...))
		} else {
			n.Tensor.Set(values[i].F32())
		}
	}
	r.Loaded = len(wanted)
	return &r, nil
}

// Hash is the SHA-256 of tensors, in hexadecimal: of their names, shapes and values as float32.
func Hash(list []Named) (string, error) {
	h := sha256.New()
	var buf []byte
	for _, n := range list {
		v := make([]float32, n.Tensor.Len())
		if err := n.Tensor.Read(v); err != nil {
			return "", fmt.Errorf("nn: %s: %w", n.Name, err)
		}
		buf = fmt.Appendf(buf[:0], "%s %v\n", n.Name, n.Tensor.Shape())
		for _, e := range v {
			buf = binary.LittleEndian.AppendUint32(buf, math.Float32bits(e))
		}
		h.Write(buf)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
