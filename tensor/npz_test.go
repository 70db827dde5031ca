package tensor

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"codeberg.org/sbinet/npyio/npz"
)

func npzEntries() []NPZEntry {
	sigma := make([]float64, 100*100)
	for i := range sigma {
		sigma[i] = float64(i) / 7
	}
	return []NPZEntry{{"mu", FromF64([]float64{1, 2, 3}, 3)}, {"sigma", FromF64(sigma, 100, 100)}, {"note", FromU8([]byte("hi"), 2)}}
}

func TestNPZRoundTrip(t *testing.T) {
	for _, compress := range []bool{false, true} {
		p := filepath.Join(t.TempDir(), "a.npz")
		if err := WriteNPZ(p, npzEntries(), compress); err != nil {
			t.Fatal(err)
		}
		z, err := OpenNPZ(p)
		if err != nil {
			t.Fatal(err)
		}
		defer z.Close()
		if got := z.Names(); !reflect.DeepEqual(got, []string{"mu", "note", "sigma"}) {
			t.Errorf("names %v", got)
		}
		for _, e := range npzEntries() {
			a, err := z.Read(e.Name)
			if err != nil || !reflect.DeepEqual(a, e.Array) {
				t.Errorf("%s: %v, %v", e.Name, a, err)
			}
		}
		if _, err := z.Read("nope"); err == nil || !strings.Contains(err.Error(), "it has mu, note, sigma") {
			t.Errorf("missing member: %v", err)
		}
		theirs, err := npz.Open(p)
		if err != nil {
			t.Fatal(err)
		}
		defer theirs.Close()
		var mu []float64
		if err := theirs.Read("mu.npy", &mu); err != nil || !reflect.DeepEqual(mu, []float64{1, 2, 3}) {
			t.Errorf("npyio reads mu as %v, %v", mu, err)
		}
		first, _ := os.ReadFile(p)
		if err := WriteNPZ(p, npzEntries(), compress, Overwrite); err != nil {
			t.Fatal(err)
		}
		if second, _ := os.ReadFile(p); !bytes.Equal(first, second) {
			t.Error("the same arrays gave other bytes")
		}
	}
}

// Every shorter copy of an archive is an error that names the file, and so is
// every changed byte of its data.
func TestNPZCutAndDamaged(t *testing.T) {
	for _, compress := range []bool{false, true} {
		var whole bytes.Buffer
		if err := EncodeNPZ(&whole, npzEntries()[:1], compress); err != nil {
			t.Fatal(err)
		}
		for n := range whole.Len() {
			_, err := NewNPZ("cut.npz", bytes.NewReader(whole.Bytes()[:n]), int64(n))
			if err == nil || !strings.Contains(err.Error(), "cut.npz") {
				t.Fatalf("cut to %d of %d bytes: %v", n, whole.Len(), err)
			}
		}
		at := bytes.Index(whole.Bytes(), []byte("mu.npy")) + len("mu.npy") + 9 + 100 // extra field, then into the member
		bad := bytes.Clone(whole.Bytes())
		bad[at] ^= 0x10
		z, err := NewNPZ("bad.npz", bytes.NewReader(bad), int64(len(bad)))
		if err != nil {
			t.Fatal(err)
		}
		if a, err := z.Read("mu"); err == nil {
			t.Errorf("compress %v: a changed byte went unnoticed: %v", compress, a)
		}
	}
}

func TestNPZRefuses(t *testing.T) {
	build := func(members map[string][]byte, twice bool) []byte {
		var b bytes.Buffer
		zw := zip.NewWriter(&b)
		for name, data := range members {
			w, err := zw.Create(name)
			if err != nil {
				t.Fatal(err)
			}
			w.Write(data)
			if twice {
				zw.Create(name)
			}
		}
		zw.Close()
		return b.Bytes()
	}
	big := rawNPY(1, dictOf("<f8", false, "(1000000,)"), make([]byte, 8))
	long := rawNPY(1, dictOf("<f8", false, "(1,)"), make([]byte, 9))
	for name, tc := range map[string]struct {
		file []byte
		want string
	}{
		"claims":   {build(map[string][]byte{"mu.npy": big}, false), "8000000 bytes, but there is room for"},
		"too long": {build(map[string][]byte{"mu.npy": long}, false), "bytes follow"},
		"objects":  {build(map[string][]byte{"mu.npy": rawNPY(1, dictOf("|O", false, "()"), nil)}, false), "Python objects"},
		"twice":    {build(map[string][]byte{"mu.npy": long}, true), "two members"},
	} {
		z, err := NewNPZ(name, bytes.NewReader(tc.file), int64(len(tc.file)))
		if err == nil {
			_, err = z.Read("mu")
		}
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want %q in it", name, err, tc.want)
		}
	}
	if _, err := OpenNPZ(t.TempDir()); err == nil {
		t.Error("a folder opened as an archive")
	}
}

func FuzzNPZ(f *testing.F) {
	for _, c := range []bool{false, true} {
		var b bytes.Buffer
		if err := EncodeNPZ(&b, npzEntries()[:1], c); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		z, err := NewNPZ("fuzz", bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		for _, n := range z.Names() {
			r, err := z.Open(n)
			if err != nil {
				continue
			}
			if r.RowBytes() <= 1<<16 {
				buf := make([]byte, r.RowBytes())
				for range 100 {
					if _, err := r.ReadRows(1, buf); err != nil {
						break
					}
				}
			}
			r.Close()
		}
	})
}

func BenchmarkNPZRead(b *testing.B) {
	p := filepath.Join(b.TempDir(), "a.npz")
	data := make([]byte, 8*2048*2048)
	for i := 0; i < len(data); i += 8 {
		binary.LittleEndian.PutUint64(data[i:], uint64(i)*0x9E3779B97F4A7C15)
	}
	if err := WriteNPZ(p, []NPZEntry{{"sigma", &Array{DType: F64, Shape: []int{2048, 2048}, Data: data}}}, false); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		z, err := OpenNPZ(p)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := z.Read("sigma"); err != nil {
			b.Fatal(err)
		}
		z.Close()
	}
}
