package shapes

import (
	"testing"

	"github.com/fidlab/fidlab/data"
)

// TestGolden: every split still begins with the same 256 items.
func TestGolden(t *testing.T) {
	n := 0
	for _, e := range []data.Entry{Entry, Entry16, EntryGlyph} {
		s, err := e.Open(data.DefaultSeed, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, split := range s.Splits() {
			got, err := data.Hash(t.Context(), s, split, min(data.GoldenItems, s.Len(split)))
			if err != nil {
				t.Fatal(err)
			}
			if n++; got != e.Golden[split] {
				t.Errorf("%s %s: %s, want %s; a change of the generator is a new version", e.Name, split, got, e.Golden[split])
			}
		}
	}
	if n != 20 {
		t.Errorf("%d hashes were compared, want 20", n)
	}
}
