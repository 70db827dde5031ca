package cuda

import (
	"os"
	"slices"
	"testing"
)

// testdata/four.fatbin is nvcc 13.0's of a kernel of one line: -gencode for
// sm_80, sm_90a, sm_100 and compute_80, --compress-mode=size.
func TestArchitectures(t *testing.T) {
	b, err := os.ReadFile("testdata/four.fatbin")
	if err != nil {
		t.Fatal(err)
	}
	if err := checkFatbin(string(b)); err != nil {
		t.Error(err)
	}
	want := []string{"8.0 and newer (PTX)", "8.0", "9.0a", "10.0"}
	if got := architectures(string(b)); !slices.Equal(got, want) {
		t.Errorf("architectures %q, want %q", got, want)
	}
	if got := architectures(string(append(b, b...))); len(got) < 4 {
		t.Errorf("two fatbins in a row: %q", got)
	}
}

// What is cut off anywhere is refused, and nothing makes the parser read beyond.
func TestCheckFatbinRefuses(t *testing.T) {
	b, err := os.ReadFile("testdata/four.fatbin")
	if err != nil {
		t.Fatal(err)
	}
	for n := range b {
		if checkFatbin(string(b[:n])) == nil {
			t.Fatalf("the first %d of %d bytes are accepted", n, len(b))
		}
	}
	for i := range b { // headers changed anywhere: an error or none, no panic
		for _, bit := range []byte{1, 0x80} {
			c := slices.Clone(b)
			c[i] ^= bit
			_ = checkFatbin(string(c))
			_ = architectures(string(c))
		}
	}
}

func FuzzFatbin(f *testing.F) {
	b, err := os.ReadFile("testdata/four.fatbin")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if checkFatbin(string(b)) == nil && len(architectures(string(b))) > len(b)/48 {
			t.Error("more entries than bytes")
		}
	})
}
