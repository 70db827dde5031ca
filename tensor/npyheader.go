package tensor

import (
	"encoding/binary"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// readNPYHeader reads magic, version and the Python dictionary pyLiteral.
func readNPYHeader(r io.Reader) (descr string, fortran bool, shape []int, err error) {
	fail := func(format string, args ...any) (string, bool, []int, error) {
		return "", false, nil, fmt.Errorf("tensor: npy: "+format, args...)
	}
	var b [12]byte
	if n, err := io.ReadFull(r, b[:8]); err != nil {
		return fail("the header needs at least 10 bytes, found %d; not an .npy file, or cut: %w", n, err)
	}
	if string(b[:6]) != npyMagic {
		return fail("not an .npy file (starts with % x, want % x)", b[:6], npyMagic)
	}
	var length int
	switch major := b[6]; major {
	case 1:
		if _, err := io.ReadFull(r, b[:2]); err != nil {
			return fail("the header is cut: %w", err)
		}
		length = int(binary.LittleEndian.Uint16(b[:2]))
	case 2, 3:
		if _, err := io.ReadFull(r, b[:4]); err != nil {
			return fail("the header is cut: %w", err)
		}
		n := binary.LittleEndian.Uint32(b[:4])
		if n > maxNPYHeader {
			return fail("a header of %d bytes; at most %d are accepted", n, maxNPYHeader)
		}
		length = int(n)
	default:
		return fail("format version %d.%d; 1, 2 and 3 are known", major, b[7])
	}
	text := make([]byte, length)
	if n, err := io.ReadFull(r, text); err != nil {
		return fail("the header is cut: %d of %d bytes: %w", n, length, err)
	}
	descr, fortran, shape, err = parseNPYDict(string(text))
	if err != nil {
		return fail("header %.80q: %w", text, err)
	}
	return descr, fortran, shape, nil
}

// pyLiteral is a cursor over the few Python literals that a header may hold.
type pyLiteral struct{ s string }

func (l *pyLiteral) space() { l.s = strings.TrimLeft(l.s, " \t\n\r") }

func (l *pyLiteral) take(tok string) bool {
	l.space()
	if !strings.HasPrefix(l.s, tok) {
		return false
	}
	l.s = l.s[len(tok):]
	return true
}

func (l *pyLiteral) quoted() (string, error) {
	l.space()
	if l.s == "" || (l.s[0] != '\'' && l.s[0] != '"') {
		return "", fmt.Errorf("want a quoted string before %.20q", l.s)
	}
	end := strings.IndexByte(l.s[1:], l.s[0])
	if end < 0 {
		return "", fmt.Errorf("a string without its end")
	}
	s := l.s[1 : 1+end]
	l.s = l.s[end+2:]
	return s, nil
}

func (l *pyLiteral) tuple() ([]int, error) {
	if !l.take("(") {
		return nil, fmt.Errorf("want a tuple before %.20q", l.s)
	}
	shape := []int{}
	for {
		if l.take(")") {
			return shape, nil
		}
		l.space()
		n := 0
		for n < len(l.s) && (l.s[n] == '-' || l.s[n] >= '0' && l.s[n] <= '9') {
			n++
		}
		d, err := strconv.Atoi(l.s[:n])
		if err != nil || d < 0 {
			return nil, fmt.Errorf("size %.24q in the shape; want an integer that is not negative", l.s)
		}
		if shape = append(shape, d); len(shape) > maxNPYDims {
			return nil, fmt.Errorf("more than %d dimensions", maxNPYDims)
		}
		l.s = strings.TrimPrefix(l.s[n:], "L") // Python 2 wrote 3L
		if l.take(",") {
			continue
		}
		if !l.take(")") {
			return nil, fmt.Errorf("want a comma or a closing parenthesis before %.20q", l.s)
		}
		return shape, nil
	}
}

func parseNPYDict(text string) (descr string, fortran bool, shape []int, err error) {
	l := &pyLiteral{text}
	if !l.take("{") {
		return "", false, nil, fmt.Errorf("not a dictionary")
	}
	seen := map[string]bool{}
	for !l.take("}") {
		key, err := l.quoted()
		if err != nil {
			return "", false, nil, err
		}
		if seen[key] {
			return "", false, nil, fmt.Errorf("key %q twice", key)
		}
		seen[key] = true
		if !l.take(":") {
			return "", false, nil, fmt.Errorf("no colon after key %q", key)
		}
		switch key {
		case "descr":
			l.space()
			if strings.HasPrefix(l.s, "[") {
				return "", false, nil, fmt.Errorf("a structured array (%.40s); only plain numbers are read", l.s)
			}
			descr, err = l.quoted()
		case "fortran_order":
			fortran = l.take("True")
			if !fortran && !l.take("False") {
				err = fmt.Errorf("fortran_order is neither True nor False")
			}
		case "shape":
			shape, err = l.tuple()
		default:
			err = fmt.Errorf("unknown key %q", key)
		}
		if err != nil {
			return "", false, nil, err
		}
		if !l.take(",") {
			if l.take("}") {
				break
			}
			return "", false, nil, fmt.Errorf("want a comma before %.20q", l.s)
		}
	}
	if l.space(); l.s != "" {
		return "", false, nil, fmt.Errorf("text after the dictionary: %.20q", l.s)
	}
	if len(seen) != 3 {
		return "", false, nil, fmt.Errorf("want the keys descr, fortran_order and shape")
	}
	return descr, fortran, shape, nil
}

var descrs = map[string]DType{
	"b1": Bool, "u1": U8, "i1": I8, "u2": U16, "i2": I16, "u4": U32, "i4": I32, "u8": U64, "i8": I64,
	"f2": F16, "f4": F32, "f8": F64, "V2": BF16,
}

// parseDescr turns a NumPy type string into a dtype and whether bytes are swapped.
func parseDescr(s string) (DType, bool, error) {
	order, kind := byte('='), s
	if s != "" && strings.IndexByte("<>|=", s[0]) >= 0 {
		order, kind = s[0], s[1:]
	}
	if dt, ok := descrs[kind]; ok {
		return dt, order == '>' && dt.Size() > 1, nil
	}
	what := "of an unsupported type"
	switch {
	case strings.HasPrefix(kind, "O"):
		what = "of Python objects, which only unpickling could read and is never done"
	case strings.HasPrefix(kind, "S"), strings.HasPrefix(kind, "U"), strings.HasPrefix(kind, "a"):
		what = "of strings"
	case strings.HasPrefix(kind, "c"):
		what = "of complex numbers"
	case strings.HasPrefix(kind, "M"), strings.HasPrefix(kind, "m"):
		what = "of dates"
	}
	return Invalid, false, fmt.Errorf("tensor: npy: an array %s (dtype %q); save it as plain numbers", what, s)
}

func descrOf(dt DType) string {
	for s, d := range descrs {
		if d == dt {
			if dt.Size() == 1 {
				return "|" + s
			}
			return "<" + s
		}
	}
	panic("tensor: no .npy type for " + dt.String())
}
