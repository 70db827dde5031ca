package cpu

import (
	"bytes"
	"compress/zlib"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
)

func deflated(t testing.TB, data []byte) []byte {
	t.Helper()
	var z bytes.Buffer
	w := zlib.NewWriter(&z)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return z.Bytes()
}

// filtered is the size and the kind of bytes that a 256×256 photograph has inside a PNG: small differences with noise.
func filtered() []byte {
	r := rand.New(rand.NewPCG(14, 14))
	data := make([]byte, 256*(256*3+1))
	for i := range data {
		data[i] = byte(int8(r.NormFloat64() * 8))
	}
	return data
}

func TestInflate(t *testing.T) {
	before := calls.inflate.Load()
	for _, data := range [][]byte{nil, {7}, bytes.Repeat([]byte("fid"), 30000), filtered()} {
		z := deflated(t, data)
		for _, f := range []struct {
			name string
			do   func(dst, src []byte) (int, error)
		}{{"Inflate", func(dst, src []byte) (int, error) { return Inflate(nil, dst, src) }}, {"pure Go", goInflate}} {
			dst := make([]byte, len(data)+10)
			n, err := f.do(dst, append(bytes.Clone(z), "trailer"...))
			if err != nil || !bytes.Equal(dst[:n], data) {
				t.Errorf("%s: %d bytes of %d: %v", f.name, n, len(data), err)
			}
			if n, err := f.do(dst[:len(data)], z); err != nil || n != len(data) {
				t.Errorf("%s: exact size: %d bytes, %v", f.name, n, err)
			}
			if len(data) > 2 {
				clear(dst)
				if n, err := f.do(dst[:len(data)-1], z); !errors.Is(err, ErrTooLong) || n != len(data)-1 || !bytes.Equal(dst[:n], data[:n]) {
					t.Errorf("%s: one byte short: %d bytes, %v", f.name, n, err)
				}
			}
			for _, cut := range []int{0, 1, 2, len(z) / 2, len(z) - 5, len(z) - 1} {
				if n, err := f.do(dst, z[:cut]); err == nil {
					t.Errorf("%s: cut to %d of %d bytes: %d bytes and no error", f.name, cut, len(z), n)
				}
			}
			bad := bytes.Clone(z)
			bad[len(bad)-1] ^= 1 // the checksum
			if _, err := f.do(dst, bad); err == nil {
				t.Errorf("%s: wrong checksum: no error", f.name)
			}
		}
	}
	ranNatively(t, "Inflate", before, calls.inflate.Load())
}

// Both versions must agree on what is acceptable, with the standard library as the third opinion on content.
func FuzzInflate(f *testing.F) {
	f.Add(deflated(f, []byte("fid fid fid")))
	f.Add(deflated(f, nil))
	f.Fuzz(func(t *testing.T, src []byte) {
		dst, twin := make([]byte, 1<<12), make([]byte, 1<<12)
		n, err := Inflate(nil, dst, src)
		m, twinErr := goInflate(twin, src)
		if (err == nil) != (twinErr == nil) || err == nil && !bytes.Equal(dst[:n], twin[:m]) {
			t.Fatalf("%d bytes, %v; pure Go: %d bytes, %v", n, err, m, twinErr)
		}
		if err != nil {
			return
		}
		z, err := zlib.NewReader(bytes.NewReader(src))
		if err != nil {
			t.Fatal(err)
		}
		if std, err := io.ReadAll(z); err != nil || !bytes.Equal(std, dst[:n]) {
			t.Fatalf("%d bytes; compress/zlib: %d bytes, %v", n, len(std), err)
		}
	})
}

func BenchmarkInflate(b *testing.B) {
	data := filtered()
	z := deflated(b, data)
	dst := make([]byte, len(data))
	for name, f := range map[string]func() error{
		"Inflate":       func() error { _, err := Inflate(nil, dst, z); return err },
		"pure Go":       func() error { _, err := goInflate(dst, z); return err },
		"compress/zlib": func() error { r, _ := zlib.NewReader(bytes.NewReader(z)); _, err := io.ReadFull(r, dst); return err },
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				if err := f(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
