package tensor

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"codeberg.org/sbinet/npyio"

	"github.com/fidlab/fidlab/internal/oracle"
)

// rawNPY builds a file by hand: version, dictionary text, data.
func rawNPY(major byte, dict string, data []byte) []byte {
	b := append([]byte(npyMagic), major, 0)
	if major == 1 {
		b = binary.LittleEndian.AppendUint16(b, uint16(len(dict)))
	} else {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(dict)))
	}
	return append(append(b, dict...), data...)
}

func dictOf(descr string, fortran bool, shape string) string {
	f := map[bool]string{true: "True", false: "False"}[fortran]
	return fmt.Sprintf("{'descr': '%s', 'fortran_order': %s, 'shape': %s, }\n", descr, f, shape)
}

func decodeNPY(b []byte) (*Array, error) {
	r, err := NewNPYReader(bytes.NewReader(b), -1)
	if err != nil {
		return nil, err
	}
	return r.ReadAll()
}

// NumPy wrote the golden archives; ours must be the same bytes, member by member.
func TestNPYBytesAreNumPys(t *testing.T) {
	files := 0
	for _, name := range []string{"generic_d4_1", "generic_d64_2", "d1_1", "illcond_d24_1"} {
		path := oracle.Golden(t, "fid", name+".npz")
		z, err := OpenNPZ(path)
		if err != nil {
			t.Fatal(err)
		}
		defer z.Close()
		zr, err := zip.OpenReader(path)
		if err != nil {
			t.Fatal(err)
		}
		defer zr.Close()
		for _, f := range zr.File {
			rc, err := f.Open()
			if err != nil {
				t.Fatal(err)
			}
			want, err := io.ReadAll(rc)
			if err != nil {
				t.Fatal(err)
			}
			a, err := z.Read(strings.TrimSuffix(f.Name, ".npy"))
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			if err := WriteNPY(&got, a); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Bytes(), want) {
				t.Errorf("%s: %s differs from NumPy's bytes:\n%q\n%q", name, f.Name, got.Bytes()[:128], want[:128])
			}
			files++
		}
	}
	if files != 8 {
		t.Errorf("compared %d members, want 8", files)
	}
}

func TestNPYAgainstNpyio(t *testing.T) {
	f64 := []float64{1, -2.5, math.Pi, 1e300, 0, -1}
	var ours, theirs bytes.Buffer
	if err := WriteNPY(&ours, FromF64(f64, 6)); err != nil {
		t.Fatal(err)
	}
	var back []float64
	if err := npyio.Read(bytes.NewReader(ours.Bytes()), &back); err != nil || !reflect.DeepEqual(back, f64) {
		t.Errorf("npyio reads ours as %v, %v", back, err)
	}
	f32 := []float32{1, -2.5, 3}
	if err := npyio.Write(&theirs, f32); err != nil {
		t.Fatal(err)
	}
	a, err := decodeNPY(theirs.Bytes())
	if err != nil || !reflect.DeepEqual(a.F32(), f32) || a.DType != F32 {
		t.Errorf("ours reads npyio's as %v, %v", a, err)
	}
}

func TestNPYDTypesRoundTrip(t *testing.T) {
	for dt := Bool; dt <= F64; dt++ {
		data := make([]byte, 6*dt.Size())
		for i := range data {
			data[i] = byte(7*i + 1)
		}
		a := &Array{DType: dt, Shape: []int{2, 3}, Data: data}
		var b bytes.Buffer
		if err := WriteNPY(&b, a); err != nil {
			t.Fatal(err)
		}
		got, err := decodeNPY(b.Bytes())
		if err != nil || !reflect.DeepEqual(got, a) {
			t.Errorf("%s: %v, %v", dt, got, err)
		}
		if b.Len()%64 != (6*dt.Size())%64 {
			t.Errorf("%s: data not aligned to 64 bytes", dt)
		}
	}
}

// element (i,j,k) of the array is 100i+10j+k, whatever the order of the file.
func TestNPYOrders(t *testing.T) {
	const d0, d1, d2 = 3, 2, 4
	want := make([]float64, 0, d0*d1*d2)
	for i := range d0 {
		for j := range d1 {
			for k := range d2 {
				want = append(want, float64(100*i+10*j+k))
			}
		}
	}
	for _, tc := range []struct {
		descr   string
		fortran bool
		major   byte
	}{{"<f8", false, 1}, {">f8", false, 2}, {"<i4", true, 3}, {">i2", true, 1}, {">f4", true, 2}, {"=u8", true, 1}} {
		var data []byte
		put := func(v int) {
			bo := binary.AppendByteOrder(binary.LittleEndian)
			if tc.descr[0] == '>' {
				bo = binary.BigEndian
			}
			switch tc.descr[1:] {
			case "f8":
				data = bo.AppendUint64(data, math.Float64bits(float64(v)))
			case "f4":
				data = bo.AppendUint32(data, math.Float32bits(float32(v)))
			case "i4":
				data = bo.AppendUint32(data, uint32(v))
			case "i2":
				data = bo.AppendUint16(data, uint16(v))
			case "u8":
				data = bo.AppendUint64(data, uint64(v))
			}
		}
		if tc.fortran {
			for k := range d2 {
				for j := range d1 {
					for i := range d0 {
						put(100*i + 10*j + k)
					}
				}
			}
		} else {
			for _, v := range want {
				put(int(v))
			}
		}
		file := rawNPY(tc.major, dictOf(tc.descr, tc.fortran, "(3, 2, 4)"), data)
		a, err := decodeNPY(file)
		if err != nil || !reflect.DeepEqual(a.F64(), want) {
			t.Errorf("%+v: %v, %v", tc, a, err)
			continue
		}
		r, err := NewNPYReader(bytes.NewReader(file), int64(len(data)))
		if err != nil {
			t.Fatal(err)
		}
		var rows []byte
		buf := make([]byte, 2*r.RowBytes())
		for {
			n, err := r.ReadRows(2, buf)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			rows = append(rows, buf[:n*r.RowBytes()]...)
		}
		if !bytes.Equal(rows, a.Data) {
			t.Errorf("%+v: ReadRows and ReadAll differ", tc)
		}
	}
}

func TestNPYScalarAndEmpty(t *testing.T) {
	for _, tc := range []struct {
		shape string
		data  int
		want  []int
	}{{"()", 8, []int{}}, {"(0,)", 0, []int{0}}, {"(3L, 0L)", 0, []int{3, 0}}, {"(1,)", 8, []int{1}}} {
		a, err := decodeNPY(rawNPY(1, dictOf("<f8", false, tc.shape), make([]byte, tc.data)))
		if err != nil || !reflect.DeepEqual(a.Shape, tc.want) || len(a.Data) != tc.data {
			t.Errorf("%s: %v, %v", tc.shape, a, err)
		}
	}
}

func TestNPYRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		file []byte
		want string
	}{
		"empty":        {nil, "found 0"},
		"not npy":      {[]byte("PK\x03\x04 and more"), "not an .npy file (starts with 50 4b"},
		"version":      {rawNPY(9, dictOf("<f8", false, "(1,)"), nil), "version 9.0"},
		"objects":      {rawNPY(1, dictOf("|O", false, "(1,)"), nil), "Python objects"},
		"strings":      {rawNPY(1, dictOf("<U7", false, "(1,)"), nil), "strings"},
		"complex":      {rawNPY(1, dictOf("<c16", false, "(1,)"), nil), "complex"},
		"structured":   {rawNPY(1, "{'descr': [('a','<f4')], 'fortran_order': False, 'shape': (1,)}", nil), "structured"},
		"negative":     {rawNPY(1, dictOf("<f8", false, "(-1,)"), nil), "not negative"},
		"overflow":     {rawNPY(1, dictOf("<f8", false, "(4294967296, 4294967296)"), nil), "overflows"},
		"cut data":     {rawNPY(1, dictOf("<f8", false, "(1000000000,)"), make([]byte, 5)), "needs 8000000000 bytes of data, found 5"},
		"cut header":   {rawNPY(2, dictOf("<f8", false, "(1,)"), nil)[:30], "cut"},
		"header size":  {[]byte(npyMagic + "\x02\x00\xff\xff\xff\x7f"), "at most"},
		"missing key":  {rawNPY(1, "{'descr': '<f8', 'shape': (1,)}", nil), "want the keys"},
		"unknown key":  {rawNPY(1, "{'descr': '<f8', 'x': (1,)}", nil), "unknown key"},
		"trailing":     {rawNPY(1, dictOf("<f8", false, "(1,)")+"import os", nil), "after the dictionary"},
		"not a dict":   {rawNPY(1, "print(1)", nil), "not a dictionary"},
		"nested tuple": {rawNPY(1, dictOf("<f8", false, "((1,),)"), nil), "integer"},
	} {
		if _, err := decodeNPY(tc.file); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want %q in it", name, err, tc.want)
		}
	}
	_, err := NewNPYReader(bytes.NewReader(rawNPY(1, dictOf("<f8", false, "(100,)"), nil)), 799)
	if err == nil || !strings.Contains(err.Error(), "800 bytes, but there is room for 799") {
		t.Errorf("limit: %v", err)
	}
}

func TestNPYFileIsAtomic(t *testing.T) {
	dir := t.TempDir()
	p := filepath.Join(dir, "a.npy")
	if err := WriteNPYFile(p, FromF32([]float32{1}, 1)); err != nil {
		t.Fatal(err)
	}
	if err := WriteNPYFile(p, FromF32([]float32{2}, 1)); !errors.Is(err, fs.ErrExist) {
		t.Errorf("existing target: %v", err)
	}
	if err := WriteNPYFile(p, FromF32([]float32{3}, 1), Overwrite); err != nil {
		t.Fatal(err)
	}
	full := errors.New("no space left")
	err := WriteAtomic(p, func(w io.Writer) error {
		io.WriteString(w, "half")
		return full
	}, Overwrite)
	if !errors.Is(err, full) || !strings.Contains(err.Error(), p) {
		t.Errorf("failed write: %v", err)
	}
	a, err := ReadNPY(p)
	if err != nil || a.F32()[0] != 3 {
		t.Errorf("after a failed write the file holds %v, %v; want the old 3", a, err)
	}
	if err := WriteNPYFile(filepath.Join(dir, "no", "a.npy"), a); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing folder: %v", err)
	}
	if err := WriteNPYFile(dir, a, Overwrite); err == nil || !strings.Contains(err.Error(), "is a folder") {
		t.Errorf("folder as target: %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}

func FuzzNPY(f *testing.F) {
	f.Add(rawNPY(1, dictOf("<f8", false, "(2, 3)"), make([]byte, 48)))
	f.Add(rawNPY(2, dictOf(">i2", true, "(2, 3)"), make([]byte, 12)))
	f.Add(rawNPY(1, dictOf("|O", false, "()"), nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := decodeNPY(b)
		if err != nil {
			return
		}
		if len(a.Data) != a.Len()*a.DType.Size() || len(a.Data) > len(b) {
			t.Fatalf("%s%v with %d bytes out of %d", a.DType, a.Shape, len(a.Data), len(b))
		}
	})
}
