package text

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const goldenBPE = "../testdata/golden/extract/"

type bpeCases struct {
	Begin, End int32
	Symbols    int
	Cases      []struct {
		Text           string
		IDs, Published []int32
	}
}

func readBPECases(t *testing.T) (g bpeCases) {
	b, err := os.ReadFile(goldenBPE + "bpe.json")
	if err == nil {
		err = json.Unmarshal(b, &g)
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(g.Cases) != 33 {
		t.Fatalf("%d golden texts, want 33", len(g.Cases))
	}
	return g
}

// The peer is OpenAI's tokenizer with the same small table; see scripts/golden/clipbpe.py.
// FIDLAB_BPE may name the published one, whose ids are golden too.
func TestBPEGolden(t *testing.T) {
	g := readBPECases(t)
	v, err := OpenBPE(goldenBPE + "bpe.txt")
	if err != nil {
		t.Fatal(err)
	}
	if v.Begin != g.Begin || v.End != g.End || v.Len() != g.Symbols {
		t.Errorf("begin %d, end %d of %d symbols; want %d, %d of %d", v.Begin, v.End, v.Len(), g.Begin, g.End, g.Symbols)
	}
	published, err := v, error(nil)
	if p := os.Getenv("FIDLAB_BPE"); p != "" {
		if published, err = OpenBPE(p); err != nil {
			t.Fatal(err)
		}
		if published.Begin != 49406 || published.End != 49407 || published.Len() != 49408 {
			t.Errorf("the published vocabulary: begin %d, end %d of %d symbols", published.Begin, published.End, published.Len())
		}
	}
	for _, c := range g.Cases {
		if got := v.Encode(c.Text); !slices.Equal(got, c.IDs) {
			t.Errorf("%q: %v, want %v", c.Text, got, c.IDs)
		}
		if published != v {
			if got := published.Encode(c.Text); !slices.Equal(got, c.Published) {
				t.Errorf("%q: published %v, want %v", c.Text, got, c.Published)
			}
		}
	}
}

func TestBPEText(t *testing.T) {
	v, err := OpenBPE(goldenBPE + "bpe.txt")
	if err != nil {
		t.Fatal(err)
	}
	ids, cut, err := v.Text("a photo of a cat", 77)
	if err != nil || cut || ids[0] != v.Begin || ids[len(ids)-1] != v.End || !slices.Equal(ids[1:len(ids)-1], v.Encode("a photo of a cat")) {
		t.Errorf("%v, cut %t, %v", ids, cut, err)
	}
	if short, cut, err := v.Text("a photo of a cat", 4); err != nil || !cut || !slices.Equal(short, append(slices.Clone(ids[:3]), v.End)) {
		t.Errorf("cut to 4: %v, %t, %v", short, cut, err)
	}
	if exact, cut, _ := v.Text("a photo of a cat", len(ids)); cut || len(exact) != len(ids) {
		t.Error("a text that fits exactly is cut")
	}
	for _, bad := range []string{"\xff", strings.Repeat("a", bpeText+1)} {
		if _, _, err := v.Text(bad, 77); err == nil {
			t.Errorf("%.10q is taken", bad)
		}
	}
}

// A gzip, and the folder of Hugging Face, whose ids may be others.
func TestBPEFiles(t *testing.T) {
	table, err := os.ReadFile(goldenBPE + "bpe.txt")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o666); err != nil {
			t.Fatal(err)
		}
		return path
	}
	plain, err := OpenBPE(goldenBPE + "bpe.txt")
	if err != nil {
		t.Fatal(err)
	}
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	w.Write(table)
	w.Close()
	packed, err := OpenBPE(write("t.txt.gz", z.Bytes()))
	if err != nil || packed.SHA256 != plain.SHA256 || packed.Len() != plain.Len() {
		t.Fatalf("gzip: %v", err)
	}
	ids := map[string]int32{}
	for s, id := range plain.ids {
		ids[s] = id + 7
	}
	vocab, _ := json.Marshal(ids)
	write("merges.txt", table)
	write("vocab.json", vocab)
	other, err := OpenBPE(dir)
	if err != nil || other.Begin != plain.Begin+7 || other.Encode("circle")[0] != plain.Encode("circle")[0]+7 {
		t.Errorf("a folder: %v", err)
	}
	delete(ids, "!")
	vocab, _ = json.Marshal(ids)
	write("vocab.json", vocab)
	if _, err := OpenBPE(dir); err == nil || !strings.Contains(err.Error(), `has no id of "!"`) {
		t.Errorf("a vocabulary without a symbol: %v", err)
	}
	for name, c := range map[string]struct{ content, want string }{
		"empty":        {"", "it begins with \"\"; want a line with #version"},
		"other text":   {"hello\nworld\n", "it begins with \"hello\""},
		"three":        {"#version\na b c\n", "line 2: \"a b c\"; want two symbols"},
		"unknown":      {"#version\na b\nab cdef\n", "line 3: \"ab cdef\"; want two symbols that are there before"},
		"twice":        {"#version\na b\na b\n", "line 3: \"a b\" is there twice"},
		"not utf-8":    {"#version\n\xff\n", "not UTF-8"},
		"a cut gzip":   {z.String()[:z.Len()/2], "unexpected EOF"},
		"a gzip's end": {"\x1f\x8b", "EOF"},
	} {
		if _, err := OpenBPE(write("bad", []byte(c.content))); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if _, err := OpenBPE(filepath.Join(dir, "none")); err == nil || !strings.Contains(err.Error(), "want bpe_simple_vocab_16e6.txt.gz") {
		t.Errorf("no file: %v", err)
	}
}

func FuzzBPE(f *testing.F) {
	v, err := OpenBPE(goldenBPE + "bpe.txt")
	if err != nil {
		f.Fatal(err)
	}
	f.Add("a photo's 2 \u03a3")
	back := map[int32]string{}
	for s, id := range v.ids {
		back[id] = s
	}
	f.Fuzz(func(t *testing.T, s string) {
		ids, _, err := v.Text(s, 77)
		if err == nil && (len(ids) > 77 || len(ids) < 2) {
			t.Errorf("%q: %d ids", s, len(ids))
		}
		for _, id := range ids {
			if _, ok := back[id]; !ok {
				t.Error(fmt.Sprint("no symbol ", id))
			}
		}
	})
}
