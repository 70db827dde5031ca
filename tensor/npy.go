package tensor

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
)

const (
	npyMagic     = "\x93NUMPY"
	maxNPYHeader = 1 << 20 // NumPy's own headers stay under 10,000 bytes
	maxNPYDims   = 64      // NumPy 2's limit
)

// NPYReader reads one .npy array as a stream, row by row along the first axis.
// Big-endian and Fortran-ordered data arrive as little-endian C order.
type NPYReader struct {
	r       io.Reader
	dtype   DType
	shape   []int
	rows    int // rows left
	total   int // rows in all
	row     int // bytes of one row
	swap    bool
	fortran bool
	strict  bool   // the array must end where r does (a member of an archive)
	whole   []byte // what is left of a converted Fortran array
	close   func() error
}

// NewNPYReader reads the header of an .npy stream (versions 1 to 3). limit is
// the number of data bytes that may follow, by the size of the file or by what
// the caller is ready to take; a header that claims more is refused before
// anything is allocated. A negative limit means unknown. Object, structured,
// string and complex arrays are refused by name.
func NewNPYReader(r io.Reader, limit int64) (*NPYReader, error) {
	descr, fortran, shape, err := readNPYHeader(r)
	if err != nil {
		return nil, err
	}
	dt, swap, err := parseDescr(descr)
	if err != nil {
		return nil, err
	}
	total, err := byteSize(shape, dt)
	if err != nil {
		return nil, err
	}
	if limit >= 0 && int64(total) > limit {
		return nil, fmt.Errorf("tensor: npy: the header claims %s%v, %d bytes, but there is room for %d; the file is cut or the header is wrong",
			dt, shape, total, limit)
	}
	n := &NPYReader{r: r, dtype: dt, shape: shape, swap: swap, total: 1, row: total}
	if len(shape) > 0 {
		n.total, n.row = shape[0], 0
		if shape[0] > 0 {
			n.row = total / shape[0]
		}
	}
	n.rows = n.total
	n.fortran = fortran && len(shape) > 1
	return n, nil
}

// Shape is the array's shape; callers do not change it.
func (n *NPYReader) Shape() []int { return n.shape }

// DType is the array's element type.
func (n *NPYReader) DType() DType { return n.dtype }

// RowBytes is the number of bytes of one row: what ReadRows writes for each.
func (n *NPYReader) RowBytes() int { return n.row }

// ReadRows writes the next rows, at most count of them, to buf (at least
// count*RowBytes() long) and returns how many there were; after the last row
// it returns 0 and io.EOF. A 0-d array has one row. A Fortran-ordered array is
// read whole at the first call, since its rows are spread over all of it.
func (n *NPYReader) ReadRows(count int, buf []byte) (int, error) {
	if n.rows == 0 {
		return 0, io.EOF
	}
	count = min(count, n.rows)
	if count <= 0 {
		return 0, nil
	}
	buf = buf[:count*n.row]
	if n.fortran {
		if n.whole == nil {
			if err := n.loadFortran(); err != nil {
				return 0, err
			}
		}
		n.whole = n.whole[copy(buf, n.whole):]
	} else {
		if got, err := io.ReadFull(n.r, buf); err != nil {
			return 0, n.cut(err, (n.total-n.rows)*n.row+got)
		}
		if n.swap {
			swapBytes(buf, n.dtype.Size())
		}
	}
	n.rows -= count
	if n.rows == 0 {
		if err := n.finish(); err != nil {
			return 0, err
		}
	}
	return count, nil
}

// ReadAll returns the rest of the array (all of it when nothing was read yet).
// Memory grows with the bytes that arrive, not with what the header claims.
func (n *NPYReader) ReadAll() (*Array, error) {
	a := &Array{DType: n.dtype, Shape: append([]int{}, n.shape...)}
	if n.rows != n.total {
		a.Shape[0] = n.rows
	}
	if n.rows == 0 || n.row == 0 {
		n.rows, a.Data = 0, []byte{}
		return a, n.finish()
	}
	if n.fortran {
		if n.whole == nil {
			if err := n.loadFortran(); err != nil {
				return nil, err
			}
		}
		a.Data, n.whole = n.whole, nil
	} else {
		data, err := n.readBytes(n.rows * n.row)
		if err != nil {
			return nil, err
		}
		if n.swap {
			swapBytes(data, n.dtype.Size())
		}
		a.Data = data
	}
	n.rows = 0
	return a, n.finish()
}

// Close closes what NPZ.Open opened; it does nothing for a reader of the caller's.
func (n *NPYReader) Close() error {
	if n.close == nil {
		return nil
	}
	return n.close()
}

func (n *NPYReader) readBytes(want int) ([]byte, error) {
	data := make([]byte, 0, min(want, 1<<20))
	for len(data) < want {
		if len(data) == cap(data) {
			bigger := make([]byte, len(data), min(want, 2*cap(data)))
			copy(bigger, data)
			data = bigger
		}
		got, err := io.ReadFull(n.r, data[len(data):cap(data)])
		data = data[:len(data)+got]
		if err != nil {
			return nil, n.cut(err, (n.total-n.rows)*n.row+len(data))
		}
	}
	return data, nil
}

func (n *NPYReader) loadFortran() error {
	data, err := n.readBytes(n.rows * n.row)
	if err != nil {
		return err
	}
	if n.swap {
		swapBytes(data, n.dtype.Size())
	}
	n.whole = toCOrder(data, n.shape, n.dtype.Size())
	return nil
}

func (n *NPYReader) cut(err error, got int) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("tensor: npy: %s%v needs %d bytes of data, found %d; the file is cut", n.dtype, n.shape, n.total*n.row, got)
	}
	return fmt.Errorf("tensor: npy: after %d of %d bytes of data: %w", got, n.total*n.row, err)
}

// finish reads to the end of an archive member, where its checksum is compared.
func (n *NPYReader) finish() error {
	if !n.strict {
		return nil
	}
	extra, err := io.Copy(io.Discard, io.LimitReader(n.r, 1))
	if err != nil {
		return fmt.Errorf("tensor: npy: at the end of the data: %w", err)
	}
	if extra != 0 {
		return fmt.Errorf("tensor: npy: bytes follow the %d that %s%v needs; the header is wrong", n.total*n.row, n.dtype, n.shape)
	}
	return nil
}

// ReadNPY reads the .npy file at path.
func ReadNPY(path string) (*Array, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("tensor: %w", err)
	}
	defer f.Close()
	limit := int64(-1)
	if st, err := f.Stat(); err == nil && st.Mode().IsRegular() {
		limit = st.Size()
	}
	r, err := NewNPYReader(f, limit)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	a, err := r.ReadAll()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return a, nil
}

// WriteNPY writes a in .npy version 1.0 with the header bytes that NumPy
// writes. NumPy has no bfloat16; BF16 becomes "<V2", as ml_dtypes stores it.
func WriteNPY(w io.Writer, a *Array) error {
	if len(a.Data) != a.Len()*a.DType.Size() {
		panic(fmt.Sprintf("tensor: WriteNPY: %s%v with %d bytes", a.DType, a.Shape, len(a.Data)))
	}
	if _, err := w.Write(npyHeader(a.DType, a.Shape)); err != nil {
		return err
	}
	_, err := w.Write(a.Data)
	return err
}

// WriteNPYFile writes a to path in one step: a temporary file is renamed when
// it is complete. An existing path is refused unless Overwrite is given.
func WriteNPYFile(path string, a *Array, opt ...FileOption) error {
	return WriteAtomic(path, func(w io.Writer) error { return WriteNPY(w, a) }, opt...)
}

// WriteNPYHeader begins an array whose bytes follow, row by row in little-endian order.
func WriteNPYHeader(w io.Writer, dt DType, shape ...int) error {
	_, err := w.Write(npyHeader(dt, shape))
	return err
}

func npyHeader(dt DType, shape []int) []byte {
	var s strings.Builder
	for i, d := range shape {
		if i > 0 {
			s.WriteString(", ")
		}
		fmt.Fprint(&s, d)
	}
	if len(shape) == 1 {
		s.WriteString(",")
	}
	dict := fmt.Sprintf("{'descr': '%s', 'fortran_order': False, 'shape': (%s), }", descrOf(dt), s.String())
	if len(shape) > 0 { // NumPy leaves room for the first axis to grow to 21 digits
		dict += strings.Repeat(" ", max(0, 21-len(fmt.Sprint(shape[0]))))
	}
	const fixed = len(npyMagic) + 2 + 2
	pad := (64 - (fixed+len(dict)+1)%64) % 64
	h := append([]byte(npyMagic), 1, 0)
	h = binary.LittleEndian.AppendUint16(h, uint16(len(dict)+pad+1))
	h = append(h, dict...)
	h = append(h, bytes.Repeat([]byte{' '}, pad)...)
	return append(h, '\n')
}

func byteSize(shape []int, dt DType) (int, error) {
	n, zero := dt.Size(), false
	for _, d := range shape {
		if d == 0 {
			zero = true
			continue
		}
		if n > math.MaxInt/d {
			return 0, fmt.Errorf("tensor: npy: shape %v overflows; the header is wrong", shape)
		}
		n *= d
	}
	if zero {
		return 0, nil
	}
	return n, nil
}

func swapBytes(b []byte, size int) {
	for ; len(b) >= size; b = b[size:] {
		for i, j := 0, size-1; i < j; i, j = i+1, j-1 {
			b[i], b[j] = b[j], b[i]
		}
	}
}

// toCOrder reorders Fortran-ordered elements (first index fastest).
func toCOrder(src []byte, shape []int, size int) []byte {
	dst := make([]byte, len(src))
	strides := make([]int, len(shape)) // of src, in bytes
	step := size
	for i, d := range shape {
		strides[i] = step
		step *= d
	}
	idx := make([]int, len(shape))
	at := 0
	for o := 0; o < len(dst); o += size {
		copy(dst[o:o+size], src[at:at+size])
		for k := len(shape) - 1; k >= 0; k-- {
			idx[k]++
			at += strides[k]
			if idx[k] < shape[k] {
				break
			}
			at -= idx[k] * strides[k]
			idx[k] = 0
		}
	}
	return dst
}
