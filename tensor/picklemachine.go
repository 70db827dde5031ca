package tensor

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf8"
)

// machine interprets a pickle. It knows the opcodes of protocols 0 to 5; what
// a pickle may call is the closed list in picklecalls.go.
//
// Bounds: strings and arrays are slices of the input or are counted against a
// budget of a few times its length, every opcode pushes at most one value, and
// containers are shared, never copied. So memory is proportional to the input.
type machine struct {
	b       []byte
	at      int
	stack   []any
	marks   []int
	memo    map[int]any
	unbuilt map[*Array]bool // NumPy arrays whose state is still to come
	budget  int             // bytes that may still be allocated for arrays and text

	// persistent resolves a persistent id; nil refuses them.
	persistent func(id any) (any, error)
	pending    []*pendingTensor
}

var errCut = errors.New("the pickle ends in the middle; the file is cut")

func newMachine(b []byte) *machine {
	return &machine{b: b, memo: map[int]any{}, unbuilt: map[*Array]bool{}, budget: 1<<20 + 4*len(b)}
}

// spend takes n bytes from the budget.
func (m *machine) spend(n int) error {
	if n < 0 || n > m.budget {
		return fmt.Errorf("%d bytes are asked for, more than a file of this size can hold", n)
	}
	m.budget -= n
	return nil
}

func (m *machine) take(n uint64) ([]byte, error) {
	if n > uint64(len(m.b)-m.at) {
		return nil, errCut
	}
	s := m.b[m.at : m.at+int(n) : m.at+int(n)]
	m.at += int(n)
	return s, nil
}

// number reads a little-endian length of 1, 2, 4 or 8 bytes.
func (m *machine) number(size int) (uint64, error) {
	s, err := m.take(uint64(size))
	if err != nil {
		return 0, err
	}
	var eight [8]byte
	copy(eight[:], s)
	return binary.LittleEndian.Uint64(eight[:]), nil
}

// counted reads a length of size bytes and that many bytes.
func (m *machine) counted(size int) ([]byte, error) {
	n, err := m.number(size)
	if err != nil {
		return nil, err
	}
	return m.take(n)
}

func (m *machine) line() (string, error) {
	i := bytes.IndexByte(m.b[m.at:], '\n')
	if i < 0 {
		return "", errCut
	}
	s := m.b[m.at : m.at+i]
	m.at += i + 1
	return string(bytes.TrimSuffix(s, []byte("\r"))), nil
}

func (m *machine) push(v any) { m.stack = append(m.stack, v) }

// pop takes the top value, which must not be a mark.
func (m *machine) pop() (any, error) {
	n := len(m.stack)
	if n == 0 || len(m.marks) > 0 && m.marks[len(m.marks)-1] == n {
		return nil, errors.New("the stack is empty")
	}
	v := m.stack[n-1]
	m.stack = m.stack[:n-1]
	return v, nil
}

func (m *machine) top() (any, error) {
	v, err := m.pop()
	if err == nil {
		m.push(v)
	}
	return v, err
}

// popMark takes the values above the last mark.
func (m *machine) popMark() ([]any, error) {
	if len(m.marks) == 0 {
		return nil, errors.New("there is no mark on the stack")
	}
	k := m.marks[len(m.marks)-1]
	m.marks = m.marks[:len(m.marks)-1]
	items := append([]any(nil), m.stack[k:]...)
	m.stack = m.stack[:k]
	return items, nil
}

// run interprets until STOP and returns the value on top.
func (m *machine) run() (any, error) {
	for {
		if m.at >= len(m.b) {
			return nil, errCut
		}
		op := m.b[m.at]
		m.at++
		if op == '.' {
			if len(m.unbuilt) > 0 {
				return nil, errors.New("a NumPy array without its state")
			}
			return m.pop()
		}
		if err := m.step(op); err != nil {
			return nil, err
		}
	}
}

func (m *machine) step(op byte) error {
	switch op {
	case 0x80: // PROTO
		v, err := m.number(1)
		if err == nil && v > 5 {
			return fmt.Errorf("pickle protocol %d; 0 to 5 are known", v)
		}
		return err
	case 0x95: // FRAME
		_, err := m.number(8)
		return err
	case '(':
		m.marks = append(m.marks, len(m.stack))
		return nil
	case '0': // POP
		if k := len(m.marks); k > 0 && m.marks[k-1] == len(m.stack) {
			m.marks = m.marks[:k-1]
			return nil
		}
		_, err := m.pop()
		return err
	case '1': // POP_MARK
		_, err := m.popMark()
		return err
	case '2': // DUP
		v, err := m.top()
		if err == nil {
			m.push(v)
		}
		return err
	case 'p', 'q', 'r', 0x94:
		return m.put(op)
	case 'g', 'h', 'j':
		return m.get(op)
	case 'a', 'e', 's', 'u', 'b', 0x90:
		return m.fill(op)
	case 'c', 'i', 'o', 'R', 0x81, 0x92, 0x93, 'P', 'Q':
		return m.call(op)
	}
	v, err := m.literal(op)
	if err == nil {
		m.push(v)
	}
	return err
}

// index reads a memo index in the way of the opcode.
func (m *machine) index(op byte) (int, error) {
	switch op {
	case 'p', 'g':
		s, err := m.line()
		if err != nil {
			return 0, err
		}
		return strconv.Atoi(s)
	case 'q', 'h':
		n, err := m.number(1)
		return int(n), err
	case 'r', 'j':
		n, err := m.number(4)
		return int(n), err
	}
	return len(m.memo), nil // MEMOIZE
}

func (m *machine) put(op byte) error {
	i, err := m.index(op)
	if err != nil {
		return err
	}
	v, err := m.top()
	if err == nil {
		m.memo[i] = v
	}
	return err
}

func (m *machine) get(op byte) error {
	i, err := m.index(op)
	if err != nil {
		return err
	}
	v, ok := m.memo[i]
	if !ok {
		return fmt.Errorf("there is no memo %d", i)
	}
	m.push(v)
	return nil
}

// literal makes the value of an opcode that only pushes one.
func (m *machine) literal(op byte) (any, error) {
	switch op {
	case 'N':
		return nil, nil
	case 0x88, 0x89: // NEWTRUE, NEWFALSE
		return op == 0x88, nil
	case 'I', 'L', 'F':
		return m.textNumber(op)
	case 'J':
		n, err := m.number(4)
		return int64(int32(n)), err
	case 'K':
		n, err := m.number(1)
		return int64(n), err
	case 'M':
		n, err := m.number(2)
		return int64(n), err
	case 0x8a, 0x8b: // LONG1, LONG4
		s, err := m.counted(map[byte]int{0x8a: 1, 0x8b: 4}[op])
		if err != nil {
			return nil, err
		}
		return longValue(s)
	case 'G':
		s, err := m.take(8)
		if err != nil {
			return nil, err
		}
		return math.Float64frombits(binary.BigEndian.Uint64(s)), nil
	case 'S', 'V':
		return m.textString(op)
	case 'T', 'U': // BINSTRING, SHORT_BINSTRING: Python 2's str, which is text or bytes
		s, err := m.counted(map[byte]int{'T': 4, 'U': 1}[op])
		if err != nil {
			return nil, err
		}
		if utf8.Valid(s) {
			return string(s), m.spend(len(s))
		}
		return s, nil
	case 'X', 0x8c, 0x8d: // BINUNICODE and its shorter and longer kinds
		s, err := m.counted(map[byte]int{'X': 4, 0x8c: 1, 0x8d: 8}[op])
		if err != nil {
			return nil, err
		}
		return string(s), m.spend(len(s))
	case 'B', 'C', 0x8e, 0x96: // BINBYTES and its kinds, BYTEARRAY8
		s, err := m.counted(map[byte]int{'B': 4, 'C': 1, 0x8e: 8, 0x96: 8}[op])
		return s, err
	case ')':
		return []any{}, nil
	case ']', 0x8f: // EMPTY_LIST, EMPTY_SET
		return &List{}, nil
	case '}':
		return &Dict{}, nil
	case 't', 'l', 'd', 0x91: // TUPLE, LIST, DICT, FROZENSET
		items, err := m.popMark()
		switch {
		case err != nil:
			return nil, err
		case op == 't':
			return items, nil
		case op == 'd':
			d := &Dict{}
			return d, d.fill(items)
		}
		return &List{items}, nil
	case 0x85, 0x86, 0x87: // TUPLE1, 2, 3
		t := make([]any, op-0x84)
		for i := len(t) - 1; i >= 0; i-- {
			v, err := m.pop()
			if err != nil {
				return nil, err
			}
			t[i] = v
		}
		return t, nil
	}
	return nil, fmt.Errorf("opcode 0x%02x is not known or not accepted", op)
}

// maxLong bounds the bytes of an integer.
const maxLong = 256

// longValue reads a little-endian two's complement integer.
func longValue(s []byte) (any, error) {
	if len(s) > maxLong {
		return nil, fmt.Errorf("an integer of %d bytes; want at most %d", len(s), maxLong)
	}
	n := new(big.Int)
	for i := len(s) - 1; i >= 0; i-- {
		n.Or(n.Lsh(n, 8), big.NewInt(int64(s[i])))
	}
	if k := len(s); k > 0 && s[k-1]&0x80 != 0 {
		n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(8*k)))
	}
	if n.IsInt64() {
		return n.Int64(), nil
	}
	return n, nil
}

// textNumber reads a number of protocol 0.
func (m *machine) textNumber(op byte) (any, error) {
	s, err := m.line()
	if err != nil {
		return nil, err
	}
	switch {
	case op == 'I' && s == "01":
		return true, nil
	case op == 'I' && s == "00":
		return false, nil
	case op == 'F':
		return strconv.ParseFloat(s, 64)
	}
	s = strings.TrimSuffix(s, "L")
	if len(s) > maxLong {
		return nil, fmt.Errorf("an integer of %d digits; want at most %d", len(s), maxLong)
	}
	n, ok := new(big.Int).SetString(s, 10)
	if !ok {
		return nil, fmt.Errorf("%q is not an integer", s)
	}
	if n.IsInt64() {
		return n.Int64(), nil
	}
	return n, nil
}

// textString reads a string of protocol 0: a Python literal (S), or text with
// \u escapes (V).
func (m *machine) textString(op byte) (any, error) {
	s, err := m.line()
	if err != nil {
		return nil, err
	}
	if err := m.spend(4 * len(s)); err != nil {
		return nil, err
	}
	if op == 'S' {
		if len(s) < 2 || s[0] != s[len(s)-1] || s[0] != '\'' && s[0] != '"' {
			return nil, fmt.Errorf("%.40q is not a quoted string", s)
		}
		s = s[1 : len(s)-1]
	}
	var out strings.Builder
	for len(s) > 0 {
		// every escape of Python's that repr makes is one of Go's, but for \' and \"
		if s[0] != '\\' || op == 'V' && (len(s) < 2 || s[1] != 'u' && s[1] != 'U') {
			if op == 'V' { // what is not escaped is Latin-1
				out.WriteRune(rune(s[0]))
			} else {
				out.WriteByte(s[0])
			}
			s = s[1:]
			continue
		}
		if len(s) > 1 && (s[1] == '\'' || s[1] == '"') {
			out.WriteByte(s[1])
			s = s[2:]
			continue
		}
		r, multibyte, rest, err := strconv.UnquoteChar(s, 0)
		if err != nil {
			return nil, fmt.Errorf("a string with an escape that is not known: %.10q", s)
		}
		if multibyte || op == 'V' {
			out.WriteRune(r)
		} else {
			out.WriteByte(byte(r))
		}
		s = rest
	}
	text := out.String()
	if op == 'S' && !utf8.ValidString(text) {
		return []byte(text), nil
	}
	return text, nil
}

// fill changes the container on the stack.
func (m *machine) fill(op byte) error {
	var items []any
	var err error
	switch op {
	case 'a', 'b', 's': // APPEND, BUILD, SETITEM
		n := 1
		if op == 's' {
			n = 2
		}
		items = make([]any, n)
		for i := n - 1; i >= 0 && err == nil; i-- {
			items[i], err = m.pop()
		}
	default: // APPENDS, SETITEMS, ADDITEMS
		items, err = m.popMark()
	}
	if err != nil {
		return err
	}
	target, err := m.top()
	if err != nil {
		return err
	}
	if op == 'b' {
		return m.build(target, items[0])
	}
	switch t := target.(type) {
	case *List:
		if op != 's' && op != 'u' {
			t.Items = append(t.Items, items...)
			return nil
		}
	case *Dict:
		if op == 's' || op == 'u' {
			return t.fill(items)
		}
	}
	return fmt.Errorf("opcode %q on a %s", op, kindName(target))
}

func (d *Dict) fill(items []any) error {
	if len(items)%2 != 0 {
		return errors.New("a dictionary key without a value")
	}
	for i := 0; i < len(items); i += 2 {
		if err := d.set(items[i], items[i+1]); err != nil {
			return err
		}
	}
	return nil
}

// kindName describes a value for messages.
func kindName(v any) string {
	switch v := v.(type) {
	case nil:
		return "None"
	case *Dict:
		return "dictionary"
	case *List:
		return "list"
	case []any:
		return "tuple"
	case []byte:
		return "bytes"
	case global:
		return string(v)
	case *Array:
		return "array"
	case *dtypeValue:
		return "NumPy dtype"
	case *storage:
		return "torch storage"
	}
	return fmt.Sprintf("%T", v)
}
