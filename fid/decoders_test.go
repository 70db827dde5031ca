package fid

import (
	"context"
	"strings"
	"testing"
)

// Only a lossy format can make two decoders a reason to doubt a score.
func TestNoteOnDecoders(t *testing.T) {
	p := newPair(3, 0.2)
	for _, c := range []struct {
		ref, gen []string
		note     bool
	}{
		{[]string{"idx"}, []string{"fidlab"}, false},
		{[]string{"fidlab"}, []string{"libjpeg-turbo"}, true},
		{[]string{"image/jpeg"}, []string{"libjpeg-turbo"}, true},
		{[]string{"fidlab", "libjpeg-turbo"}, []string{"libjpeg-turbo"}, false},
	} {
		a, b := p.draw(t, 1, 40)
		info := ExtractorInfo{Name: "pixels", Dim: 3, Preset: "native", Precision: "fp32"}
		a.Provenance = &Provenance{Extractor: info, Device: "cpu", Decoders: c.ref}
		b.Provenance = &Provenance{Extractor: info, Device: "cpu", Decoders: c.gen}
		r, err := Compare(context.Background(), a, b, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(strings.Join(r.Notes, "\n"), "decoded by"); got != c.note {
			t.Errorf("%v against %v: note %v, want %v", c.ref, c.gen, got, c.note)
		}
	}
}
