package extract

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/fidlab/fidlab/internal/cpu/plan"
	"github.com/fidlab/fidlab/tensor"
)

// tensorFile is an open weights file of any kind that is read.
type tensorFile struct {
	path   string
	shapes map[string][]int
	dtypes map[string]tensor.DType
	read   func(name string) (*tensor.Array, error)
	close  func()
}

// openTensors opens a safetensors file or one that torch.save or torch.jit.save wrote.
func openTensors(path string) (*tensorFile, error) {
	if st, err := os.Stat(path); err != nil {
		return nil, err
	} else if st.IsDir() {
		return nil, fmt.Errorf("%s is a folder; want a weights file, .pth, .pt or .safetensors", path)
	}
	native, err := isSafetensors(path)
	if err != nil {
		return nil, err
	}
	f := &tensorFile{path: path, shapes: map[string][]int{}, dtypes: map[string]tensor.DType{}, close: func() {}}
	if native {
		s, err := tensor.OpenSafetensors(path)
		if err != nil {
			return nil, err
		}
		for _, name := range s.Names() {
			if f.dtypes[name], f.shapes[name], err = s.Shape(name); err != nil {
				s.Close()
				return nil, err
			}
		}
		f.read, f.close = s.Read, func() { s.Close() }
		return f, nil
	}
	arrays, _, err := tensor.ReadTorch(path)
	if err != nil {
		return nil, err
	}
	for name, a := range arrays {
		f.shapes[name], f.dtypes[name] = a.Shape, a.DType
	}
	f.read = func(name string) (*tensor.Array, error) { return arrays[name], nil }
	return f, nil
}

// isSafetensors tells by the first bytes: a length, then the brace of the header.
func isSafetensors(path string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	first := make([]byte, 9)
	if n, err := io.ReadFull(f, first); err != nil {
		return false, fmt.Errorf("%s: %d bytes are too few for weights: %w", path, n, err)
	}
	return first[8] == '{' && string(first[:4]) != "PK\x03\x04", nil
}

// cutPrefix drops what all names of the file begin with where one of these is
// it: files of wrapped networks have it.
func (f *tensorFile) cutPrefix(prefixes ...string) {
	for _, p := range prefixes {
		n := 0
		for name := range f.shapes {
			if strings.HasPrefix(name, p) {
				n++
			}
		}
		if n == 0 || n < len(f.shapes) {
			continue
		}
		shapes, dtypes, read := map[string][]int{}, map[string]tensor.DType{}, f.read
		for name := range f.shapes {
			short := strings.TrimPrefix(name, p)
			shapes[short], dtypes[short] = f.shapes[name], f.dtypes[name]
		}
		f.shapes, f.dtypes = shapes, dtypes
		f.read = func(name string) (*tensor.Array, error) { return read(p + name) }
		return
	}
}

// origin is where a file has a tensor: in one or more tensors, one after the other
// along the first axis, perhaps with rows and columns exchanged.
type origin struct {
	parts  []string
	turned bool
}

// naming is how a kind of file names the tensors of a network.
type naming struct {
	what string                   // whose files
	of   func(name string) origin // where our tensor is
	drop func(name string) bool   // what such files have besides, and nobody needs
}

// spec is a published network: its tensors by our names, and how files name them.
type spec struct {
	name    string
	params  []param
	others  []param // of the same files: neither needed nor looked at
	namings []naming
}

// fileParams are the tensors that a file of this kind must have.
func (s *spec) fileParams(n *naming) []param {
	var out []param
	for _, p := range s.params {
		o := n.of(p.name)
		shape := slices.Clone(p.shape)
		if o.turned {
			slices.Reverse(shape)
		} else {
			shape[0] /= len(o.parts)
		}
		for _, part := range o.parts {
			out = append(out, param{part, shape})
		}
	}
	return out
}

// mismatch is what a file is not, compared with a network.
type mismatch struct {
	missing, wrong []string // in the network's order; wrong are of another shape or no floats
	extra          []string // sorted
	first          string   // the first of all in the network's order
	fits           int      // tensors of the right name and shape
	named          int      // tensors of the right name
	wanted         int
}

func (m *mismatch) good() bool { return m.missing == nil && m.wrong == nil && m.extra == nil }

// compare is how f differs from the network under one way of naming.
func (s *spec) compare(f *tensorFile, n *naming) *mismatch {
	m := &mismatch{}
	known := map[string]bool{}
	note := func(list *[]string, what string) {
		*list = append(*list, what)
		if m.first == "" {
			m.first = what
		}
	}
	for _, p := range s.fileParams(n) {
		m.wanted++
		known[p.name] = true
		have, ok := f.shapes[p.name]
		if !ok {
			note(&m.missing, fmt.Sprintf("%s %v is missing", p.name, p.shape))
			continue
		}
		m.named++
		switch dt := f.dtypes[p.name]; {
		case slices.Equal(have, p.shape) && (dt == tensor.F32 || dt == tensor.F64 || dt == tensor.F16 || dt == tensor.BF16):
			m.fits++
		case slices.Equal(have, p.shape):
			note(&m.wrong, fmt.Sprintf("%s is of %v, want floats", p.name, dt))
		case len(have) == 2 && len(p.shape) == 2 && have[0] == p.shape[1] && have[1] == p.shape[0]:
			note(&m.wrong, fmt.Sprintf("%s is %v, want %v: it is transposed", p.name, have, p.shape))
		default:
			note(&m.wrong, fmt.Sprintf("%s is %v, want %v", p.name, have, p.shape))
		}
	}
	for _, p := range s.others {
		for _, part := range n.of(p.name).parts {
			known[part] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(f.shapes)) {
		number := len(f.shapes[name]) == 0 && f.dtypes[name] == tensor.I64 // a count that a module keeps
		if !known[name] && !number && (n.drop == nil || !n.drop(name)) {
			note(&m.extra, fmt.Sprintf("%s %v is in the file, not in the network", name, f.shapes[name]))
		}
	}
	return m
}

// match finds how f names the network's tensors. The error has the first tensor that differs,
// a table of all, and what else the file may be.
func (s *spec) match(f *tensorFile) (*naming, error) {
	var best *mismatch
	var how *naming
	for i := range s.namings {
		m := s.compare(f, &s.namings[i])
		if m.good() {
			return &s.namings[i], nil
		}
		if best == nil || m.named > best.named {
			best, how = m, &s.namings[i]
		}
	}
	text := fmt.Sprintf("not the weights of %s", s.name)
	if best.named > 0 {
		text += fmt.Sprintf(", by the names of %s: first, %s", how.what, best.first)
	}
	if is := lookLike(f, s.name); is != "" {
		text += "; " + is
	}
	text += fmt.Sprintf("\nof the network's %d tensors %d fit, %d are missing, %d are of another shape or type; %d more are in the file",
		best.wanted, best.fits, len(best.missing), len(best.wrong), len(best.extra))
	const shown = 8
	for _, list := range [][]string{best.missing, best.wrong, best.extra} {
		for i, line := range list {
			if i == shown {
				text += fmt.Sprintf("\n  and %d more like that", len(list)-shown)
				break
			}
			text += "\n  " + line
		}
	}
	return nil, errors.New(text)
}

// specs are the networks that a file is compared with to tell what it is.
var specs []*spec

// lookLike tells what network a file is of, "" where none is close.
func lookLike(f *tensorFile, not string) string {
	var near string
	most := 0
	for _, s := range specs {
		if s.name == not {
			continue
		}
		for i := range s.namings {
			m := s.compare(f, &s.namings[i])
			if m.good() {
				return "it looks like " + s.name
			}
			if m.fits > most && 2*m.fits > m.wanted {
				near, most = s.name, m.fits
			}
		}
	}
	if near != "" {
		return "it is closest to " + near
	}
	n := 0
	for name := range f.shapes {
		if strings.HasSuffix(name, "num_batches_tracked") || strings.Contains(name, ".bn") || strings.HasPrefix(name, "layer1.") {
			n++
		}
	}
	if 3*n > len(f.shapes) && n > 0 {
		return "it looks like a convolutional network with batch norms"
	}
	return ""
}

// loaded are a network's tensors by our names.
type loaded struct {
	file *tensorFile
	how  *naming
	sha  string
	half tensor.DType // F16 or BF16 where weights are not float32, else 0
	err  error        // the first
}

// find opens the weights file that the options name, or the one of that name in the usual places.
func (s *spec) find(o Options, file string, prefixes ...string) (*loaded, error) {
	path, err := findFile(o, file)
	if err != nil {
		return nil, err
	}
	return s.open(path, prefixes...)
}

// open opens a weights file and checks that it is of the network.
func (s *spec) open(path string, prefixes ...string) (*loaded, error) {
	f, err := openTensors(path)
	if err != nil {
		return nil, err
	}
	f.cutPrefix(prefixes...)
	l := &loaded{file: f}
	if l.how, err = s.match(f); err == nil {
		l.sha, err = tensor.FileSHA256(path)
	}
	if err != nil {
		f.close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for _, p := range s.fileParams(l.how) {
		if dt := f.dtypes[p.name]; dt == tensor.F16 || dt == tensor.BF16 {
			l.half = dt
		}
	}
	return l, nil
}

// get is a tensor's values as float32, in our layout. The first error is kept in l.err.
func (l *loaded) get(name string) []float32 {
	o := l.how.of(name)
	var out []float32
	for _, part := range o.parts {
		a, err := l.file.read(part)
		if err != nil {
			l.fail(err)
			return nil
		}
		v := a.F32()
		for i, x := range v {
			if x-x != 0 {
				l.fail(fmt.Errorf("%s: %s has %v at place %d; the file is damaged", l.file.path, part, x, i))
				break
			}
		}
		if o.turned {
			v = transposed(v, a.Shape[0], a.Shape[1])
		}
		if out == nil {
			out = v
		} else {
			out = append(out, v...)
		}
	}
	return out
}

func (l *loaded) fail(err error) {
	if l.err == nil {
		l.err = err
	}
}

// transposed is v [m, n] with rows and columns exchanged.
func transposed(v []float32, m, n int) []float32 {
	out := make([]float32, len(v))
	for i := range m {
		for j := range n {
			out[j*m+i] = v[i*n+j]
		}
	}
	return out
}

// findFile returns the path of weights: o.Weights where it is given; else the first
// of the published names that lies in a folder where weights are searched.
func findFile(o Options, names ...string) (string, error) {
	if o.Weights != "" {
		return o.Weights, nil
	}
	dirs := o.folders()
	if home, err := os.UserHomeDir(); err == nil {
		dirs = append(dirs, filepath.Join(home, ".cache", "clip")) // where OpenAI's code keeps its downloads
	}
	for _, dir := range dirs {
		for _, name := range names {
			p := filepath.Join(dir, name)
			if st, err := os.Stat(p); err == nil && st.Mode().IsRegular() {
				return p, nil
			}
		}
	}
	return "", fmt.Errorf("%w: %s is not in %s; get it and put it into one of these folders, or name it, or a file of Hugging Face, with --weights",
		ErrNoWeights, names[0], strings.Join(dirs, ", "))
}

// towerOnly refuses options that these networks have no use for.
func towerOnly(o Options) error {
	switch {
	case o.Parts != nil:
		return fmt.Errorf("%s: this network has no such part; take inception", strings.Join(o.Parts, ", "))
	case o.Precision != plan.F32:
		return fmt.Errorf("precision %v: this network computes in fp32 only", o.Precision)
	}
	return nil
}
