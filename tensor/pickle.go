package tensor

import (
	"fmt"
	"math/big"
	"os"
)

// Dict is a dictionary of a pickle, in the order of insertion.
type Dict struct {
	Keys   []any
	Values []any
	index  map[any]int
	script bool // attributes of a module of a TorchScript archive
}

// Get returns the value of a key, nil when there is none.
func (d *Dict) Get(key any) any {
	if i, ok := d.index[key]; ok {
		return d.Values[i]
	}
	return nil
}

// set refuses keys that are neither text nor numbers.
func (d *Dict) set(key, value any) error {
	switch key.(type) {
	case string, int64, float64, bool, nil:
	default:
		return fmt.Errorf("a dictionary key of type %T", key)
	}
	if d.index == nil {
		d.index = map[any]int{}
	}
	if i, ok := d.index[key]; ok {
		d.Values[i] = value
		return nil
	}
	d.index[key] = len(d.Keys)
	d.Keys, d.Values = append(d.Keys, key), append(d.Values, value)
	return nil
}

// List is a list of a pickle. Tuples come as []any.
type List struct{ Items []any }

// maxPickle bounds the bytes of a pickle outside of a torch archive.
const maxPickle = 1 << 32

// ReadPickle reads a pickle of plain data, such as the statistics files of
// EDM2: dictionaries, lists, tuples, text, numbers and NumPy arrays. Nothing is
// executed: a pickle that asks for any other type or function is refused by
// its name. The result is nil, bool, int64, *big.Int, float64, string, []byte,
// *Array, *Dict, *List or []any (a tuple).
func ReadPickle(path string) (any, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("tensor: %w", err)
	}
	if st.Size() > maxPickle {
		return nil, fmt.Errorf("tensor: %s: a pickle of %d bytes; want at most %d", path, st.Size(), int64(maxPickle))
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("tensor: %w", err)
	}
	v, err := DecodePickle(b)
	if err != nil {
		return nil, fmt.Errorf("tensor: %s: %w", path, err)
	}
	return v, nil
}

// DecodePickle is ReadPickle for bytes in memory, which the result may keep.
func DecodePickle(b []byte) (any, error) {
	m := newMachine(b)
	v, err := m.run()
	if err != nil {
		return nil, fmt.Errorf("pickle: byte %d: %w", m.at, err)
	}
	return plainValue(v)
}

// plainValue turns what a pickle may end with into what ReadPickle returns.
func plainValue(v any) (any, error) {
	switch v := v.(type) {
	case nil, bool, int64, float64, string, []byte, *big.Int, *Array, *Dict, *List, []any:
		return v, nil
	}
	return nil, fmt.Errorf("pickle: it holds a bare %s; want data", kindName(v))
}

// Flatten lists the arrays inside of v by their path of dictionary keys joined
// with dots, in order. Numbers become arrays without dimensions. What is
// neither is left out, as are the contents of lists.
func Flatten(v any) (arrays map[string]*Array, order []string) {
	arrays = map[string]*Array{}
	seen := map[*Dict]bool{} // a dictionary may be shared, and contain itself
	var walk func(prefix string, v any, depth int)
	walk = func(prefix string, v any, depth int) {
		var a *Array
		switch v := v.(type) {
		case *Array:
			a = v
		case int64:
			a = &Array{DType: I64, Data: le64(uint64(v))}
		case float64:
			a = FromF64([]float64{v})
		case *Dict:
			if depth >= maxFlattenDepth || seen[v] {
				return
			}
			seen[v] = true
			for i, k := range v.Keys {
				name := fmt.Sprint(k)
				if prefix != "" {
					name = prefix + "." + name
				}
				walk(name, v.Values[i], depth+1)
			}
		}
		if a == nil {
			return
		}
		if _, twice := arrays[prefix]; !twice {
			order = append(order, prefix)
		}
		arrays[prefix] = a
	}
	walk("", v, 0)
	return arrays, order
}

const maxFlattenDepth = 8
