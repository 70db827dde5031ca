package tensor

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// raw makes a file from a header and a number of data bytes.
func raw(header string, data int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	b = append(b, header...)
	for i := range data {
		b = append(b, byte(i))
	}
	return b
}

func parse(b []byte) (*Safetensors, error) {
	return NewSafetensors("f", bytes.NewReader(b), int64(len(b)))
}

// TestSafetensorsKnownFile reads bytes written down by hand from the format's
// description.
func TestSafetensorsKnownFile(t *testing.T) {
	b, err := hex.DecodeString("8000000000000000" + hex.EncodeToString([]byte(
		`{"__metadata__":{"made":"by hand"},"b":{"dtype":"I16","shape":[2],"data_offsets":[8,12]},"a":{"dtype":"F32","shape":[1,2],"data_`)))
	if err != nil {
		t.Fatal(err)
	}
	header := `{"__metadata__":{"made":"by hand"},"b":{"dtype":"I16","shape":[2],"data_offsets":[8,12]},"a":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}}`
	if _, err := parse(b); err == nil {
		t.Error("a header cut in its middle is accepted")
	}
	data, err := hex.DecodeString("0000803f000000c0" + "feff0300") // 1, -2; -2, 3
	if err != nil {
		t.Fatal(err)
	}
	s, err := parse(append(raw(header, 0), data...))
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Names(); !reflect.DeepEqual(got, []string{"a", "b"}) || s.Meta["made"] != "by hand" {
		t.Errorf("names %v, meta %v", got, s.Meta)
	}
	a, err := s.Read("a")
	if err != nil || !reflect.DeepEqual(a.F32(), []float32{1, -2}) || !reflect.DeepEqual(a.Shape, []int{1, 2}) {
		t.Errorf("a: %v %v", a, err)
	}
	i, err := s.Read("b")
	if err != nil || !reflect.DeepEqual(i.F64(), []float64{-2, 3}) {
		t.Errorf("b: %v %v", i, err)
	}
	if d, shape, err := s.Shape("b"); d != I16 || len(shape) != 1 || err != nil {
		t.Errorf("Shape(b) = %v %v %v", d, shape, err)
	}
	if _, err := s.Read("c"); err == nil || !strings.Contains(err.Error(), "it has a, b") {
		t.Errorf("Read(c): %v", err)
	}
}

func TestSafetensorsRoundTrip(t *testing.T) {
	in := []SafetensorsEntry{
		{"z", FromF32([]float32{1, 2, 3, 4, 5, 6}, 2, 3)},
		{"empty", FromF32(nil, 0, 4)},
		{`quo"te`, FromF64([]float64{1e-300}, 1)},
		{"number", &Array{DType: BF16, Shape: nil, Data: []byte{0x80, 0x3f}}},
		{"bytes", FromU8([]byte{1, 2, 3}, 3)},
	}
	meta := map[string]string{"recipe": `{"seed":1}`, "a": "<b>"}
	path := filepath.Join(t.TempDir(), "x.safetensors")
	if err := WriteSafetensors(path, in, meta); err != nil {
		t.Fatal(err)
	}
	s, err := OpenSafetensors(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if !reflect.DeepEqual(s.Meta, meta) {
		t.Errorf("meta %v", s.Meta)
	}
	for _, e := range in {
		a, err := s.Read(e.Name)
		if err != nil {
			t.Fatal(err)
		}
		if a.DType != e.Array.DType || !bytes.Equal(a.Data, e.Array.Data) || len(a.Shape) != len(e.Array.Shape) {
			t.Errorf("%s: %v %v", e.Name, a.DType, a.Shape)
		}
	}
	first, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var again bytes.Buffer
	if err := EncodeSafetensors(&again, in, meta); err != nil || !bytes.Equal(first, again.Bytes()) {
		t.Errorf("second writing differs (%v)", err)
	}
	if err := WriteSafetensors(path, in, meta); err == nil {
		t.Error("an existing file is replaced without Overwrite")
	}
	for cut := range first {
		if _, err := parse(first[:cut]); err == nil {
			t.Fatalf("cut after %d of %d bytes: accepted", cut, len(first))
		}
	}
}

func TestSafetensorsRefuses(t *testing.T) {
	entry := func(s string) string { return `{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}` + s + `}` }
	for name, c := range map[string]struct {
		file []byte
		want string
	}{
		"short":        {[]byte("1234567"), "7 bytes"},
		"long header":  {binary.LittleEndian.AppendUint64(nil, 1<<40), "not a .safetensors file, or cut"},
		"not json":     {raw("<html>", 0), "no JSON object"},
		"array":        {raw("[]", 0), "no JSON object"},
		"after end":    {raw("{}{}", 0), "2 bytes after its end"},
		"meta numbers": {raw(`{"__metadata__":{"a":1}}`, 0), "wanted an object of strings"},
		"twice":        {raw(entry(`,"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}`), 4), `two tensors are named "a"`},
		"gap":          {raw(entry(`,"b":{"dtype":"U8","shape":[1],"data_offsets":[5,6]}`), 6), "no gap"},
		"overlap":      {raw(entry(`,"b":{"dtype":"U8","shape":[2],"data_offsets":[3,5]}`), 5), "no overlap"},
		"data short":   {raw(entry(""), 3), "have 4 bytes and the file has 3"},
		"data long":    {raw(entry(""), 5), "have 4 bytes and the file has 5"},
		"dtype":        {raw(`{"a":{"dtype":"F8_E5M2","shape":[4],"data_offsets":[0,4]}}`, 4), `dtype "F8_E5M2" is not supported`},
		"shape":        {raw(`{"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,4]}}`, 4), "impossible"},
		"overflow":     {raw(`{"a":{"dtype":"F64","shape":[2000000000,2000000000,8],"data_offsets":[0,0]}}`, 0), "impossible"},
		"offsets":      {raw(`{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,4]}}`, 4), "which has 16 bytes"},
		"backwards":    {raw(`{"a":{"dtype":"U8","shape":[4],"data_offsets":[4,0]}}`, 4), "offsets [4 0]"},
	} {
		_, err := parse(c.file)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "tensor: f: ") {
			t.Errorf("%s: error %v; want one with %q", name, err, c.want)
		}
	}
	for name, e := range map[string][]SafetensorsEntry{
		"name twice": {{"a", FromU8(nil, 0)}, {"a", FromU8(nil, 0)}},
		"reserved":   {{"__metadata__", FromU8(nil, 0)}},
		"dtype":      {{"a", &Array{}}},
		"length":     {{"a", &Array{DType: F32, Shape: []int{2}, Data: make([]byte, 4)}}},
	} {
		if err := EncodeSafetensors(&bytes.Buffer{}, e, nil); err == nil {
			t.Errorf("writing, %s: no error", name)
		}
	}
	if _, err := OpenSafetensors(t.TempDir()); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("folder: %v", err)
	}
}

func FuzzSafetensors(f *testing.F) {
	f.Add(raw(`{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"__metadata__":{"k":"v"}}  `, 4))
	f.Add(raw(`{}`, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parse(b)
		if err != nil {
			return
		}
		total := 0
		for _, n := range s.Names() {
			a, err := s.Read(n)
			if err != nil {
				t.Fatalf("%s: accepted, then %v", n, err)
			}
			total += len(a.Data)
			_ = a.F64()
		}
		if total > len(b) {
			t.Fatalf("%d bytes of tensors from %d bytes", total, len(b))
		}
	})
}
