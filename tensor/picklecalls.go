package tensor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// global is a name that a pickle refers to: "module.name". Only those in calls
// and storageTypes are accepted.
type global string

// dtypeValue is a numpy.dtype.
type dtypeValue struct {
	code string // "f8"
	big  bool
}

// storageTypes are torch's typed storages.
var storageTypes = map[global]DType{
	"torch.FloatStorage": F32, "torch.DoubleStorage": F64, "torch.HalfStorage": F16, "torch.BFloat16Storage": BF16,
	"torch.LongStorage": I64, "torch.IntStorage": I32, "torch.ShortStorage": I16, "torch.CharStorage": I8,
	"torch.ByteStorage": U8, "torch.BoolStorage": Bool,
}

// calls are the functions and types that a pickle may call, each replaced by
// one that only makes data. numpy.core is numpy._core since NumPy 2.
var calls = map[global]func(m *machine, args []any) (any, error){
	"collections.OrderedDict":            newDict,
	"builtins.dict":                      newDict,
	"builtins.list":                      newList,
	"builtins.set":                       newList,
	"builtins.frozenset":                 newList,
	"builtins.bytearray":                 newBytes,
	"builtins.bytes":                     newBytes,
	"_codecs.encode":                     encode,
	"numpy.dtype":                        newDType,
	"numpy.core.multiarray._reconstruct": reconstruct,
	"numpy.core.multiarray.scalar":       scalar,
	"numpy.core.numeric._frombuffer":     fromBuffer,
	"torch._utils._rebuild_tensor":       rebuildTensor,
	"torch._utils._rebuild_tensor_v2":    rebuildTensor,
	"torch._utils._rebuild_parameter":    firstArg,
}

// script tells whether a global is a module of a TorchScript archive. Its code
// lies elsewhere in the archive; what is read is its attributes.
func (g global) script() bool { return strings.HasPrefix(string(g), "__torch__.") }

// ndarrayType is accepted as an argument of _reconstruct.
const ndarrayType = global("numpy.ndarray")

// lookUp accepts a global or names what it refuses.
func lookUp(module, name string) (any, error) {
	module = strings.Replace(module, "numpy._core.", "numpy.core.", 1)
	module = strings.Replace(module, "__builtin__", "builtins", 1)
	g := global(module + "." + name)
	_, call := calls[g]
	_, storage := storageTypes[g]
	if call || storage || g == ndarrayType || g.script() {
		return g, nil
	}
	return nil, fmt.Errorf("it asks for %.80q, which is neither data nor an array; nothing was executed", string(g))
}

// call handles the opcodes that name or call something.
func (m *machine) call(op byte) error {
	var f, args any
	var err error
	switch op {
	case 'c', 'i': // GLOBAL, INST
		var module, name string
		if module, err = m.line(); err != nil {
			return err
		}
		if name, err = m.line(); err != nil {
			return err
		}
		if f, err = lookUp(module, name); err != nil {
			return err
		}
		if op == 'c' {
			m.push(f)
			return nil
		}
		args, err = m.popMark()
	case 0x93: // STACK_GLOBAL
		var name, module any
		if name, err = m.pop(); err != nil {
			return err
		}
		if module, err = m.pop(); err != nil {
			return err
		}
		ms, ok1 := module.(string)
		ns, ok2 := name.(string)
		if !ok1 || !ok2 {
			return errors.New("a global whose name is not text")
		}
		if f, err = lookUp(ms, ns); err == nil {
			m.push(f)
		}
		return err
	case 'o': // OBJ
		var items []any
		if items, err = m.popMark(); err != nil {
			return err
		}
		if len(items) == 0 {
			return errors.New("a call of nothing")
		}
		f, args = items[0], items[1:]
	case 'P', 'Q':
		return m.persist(op)
	default: // REDUCE, NEWOBJ, NEWOBJ_EX
		if op == 0x92 {
			kw, err := m.pop()
			if err != nil {
				return err
			}
			if d, ok := kw.(*Dict); !ok || len(d.Keys) > 0 {
				return errors.New("a call with named arguments")
			}
		}
		if args, err = m.pop(); err != nil {
			return err
		}
		f, err = m.pop()
	}
	if err != nil {
		return err
	}
	g, ok := f.(global)
	list, ok2 := args.([]any)
	make := calls[g]
	if g.script() {
		make = newScript
	}
	if !ok || !ok2 || make == nil {
		return fmt.Errorf("a call of a %s", kindName(f))
	}
	v, err := make(m, list)
	if err != nil {
		return fmt.Errorf("%s: %w", g, err)
	}
	m.push(v)
	return nil
}

func (m *machine) persist(op byte) error {
	var id any
	var err error
	if op == 'P' {
		id, err = m.line()
	} else {
		id, err = m.pop()
	}
	if err != nil {
		return err
	}
	if m.persistent == nil {
		return errors.New("it refers to objects outside of it (a persistent id); only torch files may")
	}
	v, err := m.persistent(id)
	if err == nil {
		m.push(v)
	}
	return err
}

// build gives an object its state.
func (m *machine) build(target, state any) error {
	switch t := target.(type) {
	case *Dict: // attributes: a module's tensors, or a state dict's version table
		s, ok := state.(*Dict)
		if !t.script || !ok {
			return nil
		}
		if len(t.Keys) > 0 {
			return errors.New("a module with two states")
		}
		for i, k := range s.Keys {
			if err := t.set(k, s.Values[i]); err != nil {
				return err
			}
		}
		return nil
	case *dtypeValue:
		s, ok := state.([]any)
		if !ok || len(s) < 2 {
			return errors.New("a NumPy dtype with an unknown state")
		}
		t.big = s[1] == ">"
		if len(s) > 4 && (s[2] != nil || s[3] != nil || s[4] != nil) {
			return errors.New("a structured NumPy dtype")
		}
		return nil
	case *Array:
		s, ok := state.([]any)
		if !ok || len(s) != 5 || !m.unbuilt[t] {
			return errors.New("a NumPy array with an unknown state")
		}
		a, err := m.numpy(s[1], s[2], s[4], s[3] == true)
		if err != nil {
			return err
		}
		*t = *a
		delete(m.unbuilt, t)
		return nil
	}
	return fmt.Errorf("a state for a %s", kindName(target))
}

func newDict(_ *machine, args []any) (any, error) {
	d := &Dict{}
	if len(args) == 0 {
		return d, nil
	}
	list, ok := args[0].(*List) // protocol 0 and 1: a list of pairs
	if !ok || len(args) > 1 {
		return nil, errors.New("unknown arguments")
	}
	for _, p := range list.Items {
		var pair []any
		switch p := p.(type) {
		case []any:
			pair = p
		case *List:
			pair = p.Items
		}
		if len(pair) != 2 {
			return nil, errors.New("a list of something else than pairs")
		}
		if err := d.set(pair[0], pair[1]); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// newScript is a module of a TorchScript archive: a dictionary of its attributes.
func newScript(_ *machine, args []any) (any, error) {
	if len(args) > 0 {
		return nil, errors.New("unknown arguments")
	}
	return &Dict{script: true}, nil
}

func newList(_ *machine, args []any) (any, error) {
	if len(args) == 0 {
		return &List{}, nil
	}
	if l, ok := args[0].(*List); ok && len(args) == 1 {
		return l, nil
	}
	return nil, errors.New("unknown arguments")
}

func newBytes(_ *machine, args []any) (any, error) {
	if len(args) == 0 {
		return []byte{}, nil
	}
	if b, ok := args[0].([]byte); ok && len(args) == 1 {
		return b, nil
	}
	return nil, errors.New("unknown arguments")
}

// encode is how Python 3 writes bytes in protocols 0 to 2: text whose code
// points are the bytes.
func encode(m *machine, args []any) (any, error) {
	if len(args) != 2 || args[1] != "latin1" && args[1] != "latin-1" {
		return nil, errors.New("unknown arguments")
	}
	s, ok := args[0].(string)
	if !ok {
		return nil, errors.New("unknown arguments")
	}
	return latin1(m, s)
}

func latin1(m *machine, s string) ([]byte, error) {
	if err := m.spend(len(s)); err != nil {
		return nil, err
	}
	out := make([]byte, 0, len(s))
	for _, r := range s {
		if r > 0xff {
			return nil, errors.New("text that is not bytes")
		}
		out = append(out, byte(r))
	}
	return out, nil
}

func firstArg(_ *machine, args []any) (any, error) {
	if len(args) == 0 {
		return nil, errors.New("no arguments")
	}
	return args[0], nil
}

var numpyTypes = map[string]DType{
	"b1": Bool, "?": Bool, "u1": U8, "i1": I8, "u2": U16, "i2": I16, "u4": U32, "i4": I32, "u8": U64, "i8": I64,
	"f2": F16, "f4": F32, "f8": F64,
}

func newDType(_ *machine, args []any) (any, error) {
	if len(args) == 0 {
		return nil, errors.New("no arguments")
	}
	code, ok := args[0].(string)
	d := &dtypeValue{}
	if ok && code != "" && strings.ContainsRune("<>|=", rune(code[0])) {
		d.big = code[0] == '>'
		code = code[1:]
	}
	d.code = code
	if _, known := numpyTypes[code]; !ok || !known {
		return nil, fmt.Errorf("%v is not a type of numbers", args[0])
	}
	return d, nil
}

func reconstruct(m *machine, args []any) (any, error) {
	if len(args) != 3 || args[0] != ndarrayType {
		return nil, errors.New("unknown arguments")
	}
	a := &Array{DType: U8, Shape: []int{0}}
	m.unbuilt[a] = true
	return a, nil
}

// fromBuffer is protocol 5's way: (bytes, dtype, shape, order).
func fromBuffer(m *machine, args []any) (any, error) {
	if len(args) != 4 {
		return nil, errors.New("unknown arguments")
	}
	a, err := m.numpy(args[2], args[1], args[0], args[3] == "F")
	return a, err
}

// scalar is a NumPy number: (dtype, bytes). It becomes a Go number.
func scalar(m *machine, args []any) (any, error) {
	if len(args) != 2 {
		return nil, errors.New("unknown arguments")
	}
	a, err := m.numpy([]any{}, args[0], args[1], false)
	if err != nil {
		return nil, err
	}
	switch v := a.F64()[0]; {
	case a.DType == Bool:
		return v != 0, nil
	case a.DType >= F16:
		return v, nil
	case a.DType == U64 || a.DType == I64:
		return int64(binary.LittleEndian.Uint64(a.Data)), nil
	default:
		return int64(v), nil
	}
}

// numpy makes an array of a shape tuple, a dtype and bytes; fortran says that
// the first index runs fastest.
func (m *machine) numpy(shape, dtype, data any, fortran bool) (*Array, error) {
	d, ok := dtype.(*dtypeValue)
	if !ok {
		return nil, errors.New("an array without a dtype")
	}
	dims, err := intTuple(shape)
	if err != nil {
		return nil, err
	}
	var raw []byte
	switch v := data.(type) {
	case []byte:
		raw = v
	case string: // Python 2's str, or an empty one
		b, err := latin1(m, v)
		if err != nil {
			return nil, err
		}
		raw = b
	default:
		return nil, fmt.Errorf("an array whose data is a %s", kindName(data))
	}
	a := &Array{DType: numpyTypes[d.code], Shape: make([]int, len(dims)), Data: raw}
	n, err := product(dims, a.DType.Size())
	if err != nil {
		return nil, err
	}
	if n != int64(len(raw)) {
		return nil, fmt.Errorf("an array %v of %v with %d bytes; want %d", dims, a.DType, len(raw), n)
	}
	for i, v := range dims {
		a.Shape[i] = int(v)
	}
	size := a.DType.Size()
	if d.big && size > 1 {
		if err := m.spend(len(raw)); err != nil {
			return nil, err
		}
		a.Data = slices.Clone(raw)
		for i := 0; i < len(raw); i += size {
			slices.Reverse(a.Data[i : i+size])
		}
	}
	if fortran && len(dims) > 1 {
		stride, step := make([]int64, len(dims)), int64(1)
		for i, v := range dims {
			stride[i] = step
			step *= max(v, 1)
		}
		return gather(m, a.DType, dims, stride, 0, a.Data)
	}
	return a, nil
}

// intTuple reads a tuple of non-negative integers.
func intTuple(v any) ([]int64, error) {
	t, ok := v.([]any)
	if !ok {
		return nil, fmt.Errorf("a %s where a tuple of sizes belongs", kindName(v))
	}
	out := make([]int64, len(t))
	for i, x := range t {
		n, ok := x.(int64)
		if !ok || n < 0 || n > math.MaxInt32*1024 {
			return nil, fmt.Errorf("%v where a size belongs", x)
		}
		out[i] = n
	}
	return out, nil
}
