package tensor

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"os"
	"strings"
)

// storage is the memory that torch tensors are views of.
type storage struct {
	dtype DType
	n     int64 // elements
	data  []byte
}

// pendingTensor is a view whose storage may come later in the file.
type pendingTensor struct {
	a             *Array
	s             *storage
	offset        int64
	shape, stride []int64
}

// rebuildTensor is (storage, offset, size, stride, ...): the rest says how
// gradients are kept.
func rebuildTensor(m *machine, args []any) (any, error) {
	if len(args) < 4 {
		return nil, errors.New("unknown arguments")
	}
	s, ok := args[0].(*storage)
	offset, ok2 := args[1].(int64)
	if !ok || !ok2 || offset < 0 {
		return nil, fmt.Errorf("a tensor over a %s", kindName(args[0]))
	}
	shape, err := intTuple(args[2])
	if err != nil {
		return nil, err
	}
	stride, err := intTuple(args[3])
	if err != nil {
		return nil, err
	}
	if len(shape) != len(stride) || len(shape) > maxRank {
		return nil, fmt.Errorf("a tensor of size %v and stride %v", shape, stride)
	}
	p := &pendingTensor{a: &Array{DType: s.dtype}, s: s, offset: offset, shape: shape, stride: stride}
	m.pending = append(m.pending, p)
	return p.a, nil
}

// finish fills the tensors in once all storages are there.
func (m *machine) finish() error {
	for _, p := range m.pending {
		size := int64(p.a.DType.Size())
		if p.s.data == nil && p.s.n > 0 {
			return errors.New("a tensor without its storage")
		}
		a, err := gather(m, p.a.DType, p.shape, p.stride, p.offset*size, p.s.data)
		if err != nil {
			return err
		}
		*p.a = *a
	}
	m.pending = nil
	return nil
}

// gather makes the array whose element at index i is at byte
// offset + Σ i_k·stride_k·size of data, checked to lie inside. Data in C order
// is not copied.
func gather(m *machine, dtype DType, shape, stride []int64, offset int64, data []byte) (*Array, error) {
	size := int64(dtype.Size())
	n, err := product(shape, int(size))
	if err != nil {
		return nil, err
	}
	a := &Array{DType: dtype, Shape: make([]int, len(shape))}
	last, inOrder, want := int64(0), true, int64(1)
	for i := len(shape) - 1; i >= 0; i-- {
		a.Shape[i] = int(shape[i])
		if shape[i] > 1 {
			if stride[i] != want {
				inOrder = false
			}
			if stride[i] > (1<<60)/size/shape[i] {
				return nil, fmt.Errorf("a stride of %d", stride[i])
			}
			last += (shape[i] - 1) * stride[i]
		}
		want *= max(shape[i], 1)
	}
	if n == 0 {
		return a, nil
	}
	if offset < 0 || offset > int64(len(data)) || last > (1<<60)/size || last*size+size > int64(len(data))-offset {
		return nil, fmt.Errorf("an array %v with strides %v from byte %d leaves its storage of %d bytes", shape, stride, offset, len(data))
	}
	if inOrder {
		a.Data = data[offset : offset+n : offset+n]
		return a, nil
	}
	if n > int64(m.budget) {
		return nil, fmt.Errorf("an array %v of %d bytes, more than a file of this size can hold", shape, n)
	}
	m.budget -= int(n)
	a.Data = make([]byte, 0, n)
	index := make([]int64, len(shape))
	for at := offset; int64(len(a.Data)) < n; {
		a.Data = append(a.Data, data[at:at+size]...)
		for i := len(shape) - 1; i >= 0; i-- {
			index[i]++
			at += stride[i] * size
			if index[i] < shape[i] {
				break
			}
			at -= index[i] * stride[i] * size
			index[i] = 0
		}
	}
	return a, nil
}

// ReadTorch reads the tensors of a file that torch.save wrote, in the zip form
// of torch >= 1.6 or the older stream form: a state dict, nested dictionaries
// of tensors (names are joined with dots) or one tensor (with the name ""). Of a
// module that torch.jit.save wrote these are its attributes, which a state dict
// names alike. Views are copied into C order. Nothing is executed; what is not data is
// refused by its name. order lists the names as they come in the file.
func ReadTorch(path string) (arrays map[string]*Array, order []string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("tensor: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, nil, fmt.Errorf("tensor: %w", err)
	}
	b := make([]byte, st.Size())
	if _, err := io.ReadFull(f, b); err != nil {
		return nil, nil, fmt.Errorf("tensor: %s: %w", path, err)
	}
	arrays, order, err = DecodeTorch(b)
	if err != nil {
		return nil, nil, fmt.Errorf("tensor: %s: %w", path, err)
	}
	return arrays, order, nil
}

// DecodeTorch is ReadTorch for a file in memory. The arrays keep b.
func DecodeTorch(b []byte) (arrays map[string]*Array, order []string, err error) {
	var v any
	switch {
	case bytes.HasPrefix(b, []byte("PK\x03\x04")):
		v, err = torchZip(b)
	case len(b) > 1 && b[0] == 0x80:
		v, err = torchStream(b)
	default:
		err = errors.New("not a torch file: neither a zip archive nor a pickle")
	}
	if err != nil {
		return nil, nil, err
	}
	arrays, order = Flatten(v)
	return arrays, order, nil
}

// storageID reads the persistent id ('storage', type, key, device, elements, ...).
func storageID(id any) (dtype DType, key string, n int64, err error) {
	t, ok := id.([]any)
	if !ok || len(t) < 5 || t[0] != "storage" {
		return 0, "", 0, errors.New("a persistent id that is not a storage")
	}
	g, _ := t[1].(global)
	dtype, ok = storageTypes[g]
	key, ok2 := t[2].(string)
	n, ok3 := t[4].(int64)
	if !ok || !ok2 || !ok3 || n < 0 || n > 1<<48 {
		return 0, "", 0, fmt.Errorf("a storage of %s with the key %v and %v elements", kindName(t[1]), t[2], t[4])
	}
	if len(t) > 5 && t[5] != nil {
		return 0, "", 0, errors.New("a storage that is a view of another; save the file again with torch >= 1.6")
	}
	return dtype, key, n, nil
}

// torchZip reads NAME/data.pkl and the storages NAME/data/KEY, which torch
// stores uncompressed: they are slices of b.
func torchZip(b []byte) (any, error) {
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) { // names are keys here, never paths
		return nil, fmt.Errorf("zip: %w; the file is cut or damaged", err)
	}
	members := map[string]*zip.File{}
	root := ""
	for _, f := range z.File {
		if strings.HasSuffix(f.Name, "/data.pkl") {
			if root != "" {
				return nil, errors.New("zip: more than one data.pkl")
			}
			root = strings.TrimSuffix(f.Name, "data.pkl")
		}
		members[f.Name] = f
	}
	if root == "" {
		return nil, errors.New("zip: no data.pkl; not a file of torch.save")
	}
	content := func(name string) ([]byte, error) {
		f := members[root+name]
		if f == nil {
			return nil, fmt.Errorf("zip: no member %s", root+name)
		}
		if f.Method != zip.Store {
			return nil, fmt.Errorf("zip: member %s is compressed, which torch never does", f.Name)
		}
		at, err := f.DataOffset()
		if err != nil {
			return nil, fmt.Errorf("zip: %s: %w", f.Name, err)
		}
		if n := f.UncompressedSize64; at < 0 || at > int64(len(b)) || n > uint64(int64(len(b))-at) {
			return nil, fmt.Errorf("zip: member %s leaves the file", f.Name)
		}
		return b[at : at+int64(f.UncompressedSize64)], nil
	}
	if members[root+"byteorder"] != nil {
		if order, err := content("byteorder"); err != nil || string(order) != "little" {
			return nil, fmt.Errorf("byte order %.10q; want little", order)
		}
	}
	pickle, err := content("data.pkl")
	if err != nil {
		return nil, err
	}
	m := newMachine(pickle)
	m.budget += 4 * len(b)
	storages := map[string]*storage{}
	m.persistent = func(id any) (any, error) {
		dtype, key, n, err := storageID(id)
		if err != nil {
			return nil, err
		}
		if s := storages[key]; s != nil {
			if s.dtype != dtype || s.n != n {
				return nil, fmt.Errorf("storage %s is used as two types", key)
			}
			return s, nil
		}
		data, err := content("data/" + key)
		if err != nil {
			return nil, err
		}
		if int64(len(data)) != n*int64(dtype.Size()) {
			return nil, fmt.Errorf("storage %s has %d bytes; want %d %v", key, len(data), n, dtype)
		}
		s := &storage{dtype, n, data}
		storages[key] = s
		return s, nil
	}
	return m.document()
}

// document runs the machine to the end of its pickle and fills the tensors in.
func (m *machine) document() (any, error) {
	v, err := m.run()
	if err == nil {
		err = m.finish()
	}
	if err != nil {
		return nil, fmt.Errorf("pickle: byte %d: %w", m.at, err)
	}
	return v, nil
}

// torchMagic begins the stream form, as a pickle of its own.
var torchMagic, _ = new(big.Int).SetString("1950a86a20f9469cfc6c", 16)

// torchStream reads five pickles (magic, protocol, machine, object, storage
// keys) and then each storage: its number of elements and its bytes.
func torchStream(b []byte) (any, error) {
	at := 0
	next := func(what string, m *machine) (any, error) {
		v, err := m.run()
		if err != nil {
			return nil, fmt.Errorf("%s: byte %d: %w", what, at+m.at, err)
		}
		at += m.at
		return v, nil
	}
	magic, err := next("magic", newMachine(b))
	if err != nil {
		return nil, err
	}
	if g, ok := magic.(*big.Int); !ok || g.Cmp(torchMagic) != 0 {
		return nil, errors.New("a pickle, but not one of torch.save")
	}
	version, err := next("version", newMachine(b[at:]))
	if err != nil {
		return nil, err
	}
	if version != int64(1001) {
		return nil, fmt.Errorf("torch stream of version %v; want 1001", version)
	}
	system, err := next("system", newMachine(b[at:]))
	if err != nil {
		return nil, err
	}
	if d, ok := system.(*Dict); !ok || d.Get("little_endian") != true {
		return nil, errors.New("a file of a big-endian machine")
	}
	storages := map[string]*storage{}
	m := newMachine(b[at:])
	m.persistent = func(id any) (any, error) {
		dtype, key, n, err := storageID(id)
		if err != nil {
			return nil, err
		}
		s := storages[key]
		if s == nil {
			s = &storage{dtype: dtype, n: n}
			storages[key] = s
		}
		if s.dtype != dtype || s.n != n {
			return nil, fmt.Errorf("storage %s is used as two types", key)
		}
		return s, nil
	}
	v, err := next("object", m)
	if err != nil {
		return nil, err
	}
	keys, err := next("storage keys", newMachine(b[at:]))
	if err != nil {
		return nil, err
	}
	list, ok := keys.(*List)
	if !ok {
		return nil, errors.New("storage keys that are not a list")
	}
	for _, k := range list.Items {
		key, _ := k.(string)
		s := storages[key]
		if s == nil || s.data != nil {
			return nil, fmt.Errorf("storage %v is not used, or there twice", k)
		}
		size := s.n * int64(s.dtype.Size())
		if len(b)-at < 8 || int64(len(b)-at-8) < size {
			return nil, fmt.Errorf("storage %s: %d bytes left; want %d: the file is cut", key, len(b)-at, size+8)
		}
		if n := binary.LittleEndian.Uint64(b[at:]); n != uint64(s.n) {
			return nil, fmt.Errorf("storage %s has %d elements; want %d", key, n, s.n)
		}
		s.data = b[at+8 : at+8+int(size) : at+8+int(size)]
		at += 8 + int(size)
	}
	if err := m.finish(); err != nil {
		return nil, err
	}
	return v, nil
}

func le64(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }

// maxRank bounds the number of dimensions of a tensor; NumPy's limit.
const maxRank = maxNPYDims

// product is the number of bytes of an array, checked against overflow.
func product(shape []int64, size int) (int64, error) {
	if len(shape) > maxRank {
		return 0, fmt.Errorf("%d dimensions; want at most %d", len(shape), maxRank)
	}
	n, empty := int64(size), false
	for _, d := range shape {
		if d < 0 {
			return 0, fmt.Errorf("shape %v has a negative size", shape)
		}
		if d == 0 {
			empty = true
			continue // the others must not overflow all the same
		}
		if n > math.MaxInt64/2/d {
			return 0, fmt.Errorf("shape %v is too large", shape)
		}
		n *= d
	}
	if empty {
		return 0, nil
	}
	return n, nil
}
