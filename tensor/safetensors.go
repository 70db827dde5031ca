package tensor

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"slices"
	"sort"
	"strings"
)

// maxSafetensorsHeader is the format's own limit on the length of its header.
const maxSafetensorsHeader = 100_000_000

var safetensorsNames = map[string]DType{
	"BOOL": Bool, "U8": U8, "I8": I8, "U16": U16, "I16": I16, "U32": U32, "I32": I32, "U64": U64, "I64": I64,
	"F16": F16, "BF16": BF16, "F32": F32, "F64": F64,
}

// Safetensors is an open .safetensors file: an eight-byte length, a JSON
// header with the place of every tensor, and their bytes.
type Safetensors struct {
	// Meta is the file's own remarks, "__metadata__"; nil when it has none.
	Meta map[string]string

	path    string
	r       io.ReaderAt
	data    int64 // where the header ends
	entries map[string]safetensorsEntry
	file    *os.File // nil when the bytes are the caller's
}

type safetensorsEntry struct {
	DType   string    `json:"dtype"`
	Shape   []int64   `json:"shape"`
	Offsets [2]uint64 `json:"data_offsets"`

	dtype DType
	shape []int
}

// OpenSafetensors opens the file at path; Close it.
func OpenSafetensors(path string) (*Safetensors, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("tensor: %w", err)
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("%s: not a regular file; wanted a .safetensors file", path)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("tensor: %w", err)
	}
	s, err := NewSafetensors(path, f, st.Size())
	if err != nil {
		f.Close()
		return nil, err
	}
	s.file = f
	return s, nil
}

// NewSafetensors opens a file of size bytes that r holds; name is for messages.
// It checks that the tensors fill the file exactly, without gap or overlap, so
// that a cut or patched file is refused before anything is read from it.
func NewSafetensors(name string, r io.ReaderAt, size int64) (*Safetensors, error) {
	bad := func(format string, args ...any) (*Safetensors, error) {
		return nil, fmt.Errorf("tensor: %s: "+format, append([]any{name}, args...)...)
	}
	var head [8]byte
	if size < 8 {
		return bad("%d bytes; a .safetensors file has at least 8", size)
	}
	if _, err := r.ReadAt(head[:], 0); err != nil {
		return bad("%w", err)
	}
	n := binary.LittleEndian.Uint64(head[:])
	if n > maxSafetensorsHeader || n > uint64(size-8) {
		return bad("header of %d bytes in a file of %d: not a .safetensors file, or cut; at most %d are allowed", n, size, maxSafetensorsHeader)
	}
	text := make([]byte, n)
	if _, err := r.ReadAt(text, 8); err != nil {
		return bad("%w", err)
	}
	s := &Safetensors{path: name, r: r, data: 8 + int64(n), entries: map[string]safetensorsEntry{}}
	if err := s.parse(text); err != nil {
		return bad("%w", err)
	}
	if err := s.checkPlaces(uint64(size - s.data)); err != nil {
		return bad("%w", err)
	}
	return s, nil
}

// parse reads the header. Names are taken one by one because a JSON object
// with a name twice would otherwise lose one of them silently.
func (s *Safetensors) parse(text []byte) error {
	d := json.NewDecoder(bytes.NewReader(text))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return errors.New("the header is no JSON object: not a .safetensors file")
	}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return fmt.Errorf("header: %w", err)
		}
		name := t.(string) // the decoder accepts nothing else as a key
		if name == "__metadata__" {
			if s.Meta != nil {
				return errors.New("header: __metadata__ stands there twice")
			}
			if err := d.Decode(&s.Meta); err != nil {
				return fmt.Errorf("header: __metadata__: %w; wanted an object of strings", err)
			}
			continue
		}
		var e safetensorsEntry
		if err := d.Decode(&e); err != nil {
			return fmt.Errorf("header: tensor %q: %w", name, err)
		}
		if _, twice := s.entries[name]; twice {
			return fmt.Errorf("header: two tensors are named %q", name)
		}
		if err := e.check(); err != nil {
			return fmt.Errorf("header: tensor %q: %w", name, err)
		}
		s.entries[name] = e
	}
	if _, err := d.Token(); err != nil {
		return fmt.Errorf("header: %w", err)
	}
	if rest := bytes.TrimRight(text[d.InputOffset():], " "); len(rest) > 0 {
		return fmt.Errorf("header: %d bytes after its end", len(rest))
	}
	return nil
}

// check fills dtype and shape and compares their bytes with the offsets.
func (e *safetensorsEntry) check() error {
	var ok bool
	if e.dtype, ok = safetensorsNames[e.DType]; !ok {
		return fmt.Errorf("dtype %q is not supported; supported are %s", e.DType, strings.Join(slices.Sorted(maps.Keys(safetensorsNames)), " "))
	}
	if len(e.Shape) > maxNPYDims {
		return fmt.Errorf("%d dimensions; at most %d are allowed", len(e.Shape), maxNPYDims)
	}
	total := uint64(e.dtype.Size())
	e.shape = make([]int, len(e.Shape))
	for i, d := range e.Shape {
		if d < 0 || d > math.MaxInt32 || d > 0 && total > math.MaxInt64/uint64(d) {
			return fmt.Errorf("shape %v is impossible", e.Shape)
		}
		total *= uint64(d)
		e.shape[i] = int(d)
	}
	if e.Offsets[1] < e.Offsets[0] || e.Offsets[1]-e.Offsets[0] != total {
		return fmt.Errorf("offsets %v for %s %v, which has %d bytes", e.Offsets, e.DType, e.Shape, total)
	}
	return nil
}

// checkPlaces demands that the tensors follow each other from 0 to size.
func (s *Safetensors) checkPlaces(size uint64) error {
	names := s.Names()
	sort.SliceStable(names, func(i, j int) bool {
		a, b := s.entries[names[i]].Offsets, s.entries[names[j]].Offsets
		return a[0] < b[0] || a[0] == b[0] && a[1] < b[1]
	})
	var at uint64
	for _, n := range names {
		if o := s.entries[n].Offsets; o[0] != at {
			return fmt.Errorf("tensor %q starts at %d, where the one before ends at %d; wanted no gap and no overlap", n, o[0], at)
		}
		at = s.entries[n].Offsets[1]
	}
	if at != size {
		return fmt.Errorf("the tensors have %d bytes and the file has %d for them: cut, or not finished", at, size)
	}
	return nil
}

// Close closes the file that OpenSafetensors opened.
func (s *Safetensors) Close() error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}

// Path is the name the file was opened under.
func (s *Safetensors) Path() string { return s.path }

// Names lists the tensors in alphabetical order.
func (s *Safetensors) Names() []string { return slices.Sorted(maps.Keys(s.entries)) }

// Has tells whether the file has a tensor of that name.
func (s *Safetensors) Has(name string) bool { _, ok := s.entries[name]; return ok }

// Shape returns dtype and shape of a tensor without reading it.
func (s *Safetensors) Shape(name string) (DType, []int, error) {
	e, ok := s.entries[name]
	if !ok {
		return Invalid, nil, s.lacks(name)
	}
	return e.dtype, slices.Clone(e.shape), nil
}

// Read returns one tensor.
func (s *Safetensors) Read(name string) (*Array, error) {
	e, ok := s.entries[name]
	if !ok {
		return nil, s.lacks(name)
	}
	a := &Array{DType: e.dtype, Shape: slices.Clone(e.shape), Data: make([]byte, e.Offsets[1]-e.Offsets[0])}
	if _, err := s.r.ReadAt(a.Data, s.data+int64(e.Offsets[0])); err != nil && (!errors.Is(err, io.EOF) || len(a.Data) > 0) {
		return nil, fmt.Errorf("tensor: %s: %s: %w", s.path, name, err)
	}
	return a, nil
}

func (s *Safetensors) lacks(name string) error {
	has := s.Names()
	if len(has) > 20 {
		has = append(has[:20], "…")
	}
	return fmt.Errorf("tensor: %s: no tensor %q; it has %s", s.path, name, strings.Join(has, ", "))
}

// SafetensorsEntry is one tensor of a file to be written.
type SafetensorsEntry struct {
	Name  string
	Array *Array
}

// WriteSafetensors writes the tensors and remarks to path. The same ones give
// the same bytes: tensors keep their order, remarks are sorted. The file
// appears under its name only when complete; an existing one is refused unless
// Overwrite is given.
func WriteSafetensors(path string, entries []SafetensorsEntry, meta map[string]string, opt ...FileOption) error {
	return WriteAtomic(path, func(w io.Writer) error { return EncodeSafetensors(w, entries, meta) }, opt...)
}

// EncodeSafetensors writes the file to w.
func EncodeSafetensors(w io.Writer, entries []SafetensorsEntry, meta map[string]string) error {
	names := map[DType]string{}
	for n, d := range safetensorsNames {
		names[d] = n
	}
	var b bytes.Buffer
	b.WriteByte('{')
	if len(meta) > 0 {
		text, err := json.Marshal(meta)
		if err != nil {
			return fmt.Errorf("tensor: safetensors: %w", err)
		}
		fmt.Fprintf(&b, `"__metadata__":%s`, text)
	}
	seen := map[string]bool{"__metadata__": true}
	at := 0
	for _, e := range entries {
		dtype := names[e.Array.DType]
		if dtype == "" || e.Name == "" || seen[e.Name] {
			return fmt.Errorf("tensor: safetensors: tensor %q of dtype %v: wanted a name of its own and a supported dtype", e.Name, e.Array.DType)
		}
		if e.Array.Len()*e.Array.DType.Size() != len(e.Array.Data) {
			return fmt.Errorf("tensor: safetensors: tensor %q: %d bytes for %v %v", e.Name, len(e.Array.Data), e.Array.DType, e.Array.Shape)
		}
		seen[e.Name] = true
		name, err := json.Marshal(e.Name)
		if err != nil {
			return fmt.Errorf("tensor: safetensors: %w", err)
		}
		shape, _ := json.Marshal(append([]int{}, e.Array.Shape...)) // [] for a number, never null
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `%s:{"dtype":%q,"shape":%s,"data_offsets":[%d,%d]}`, name, dtype, shape, at, at+len(e.Array.Data))
		at += len(e.Array.Data)
	}
	b.WriteByte('}')
	for b.Len()%8 != 0 {
		b.WriteByte(' ') // the tensors start aligned
	}
	var head [8]byte
	binary.LittleEndian.PutUint64(head[:], uint64(b.Len()))
	for _, part := range [][]byte{head[:], b.Bytes()} {
		if _, err := w.Write(part); err != nil {
			return err
		}
	}
	for _, e := range entries {
		if _, err := w.Write(e.Array.Data); err != nil {
			return err
		}
	}
	return nil
}
