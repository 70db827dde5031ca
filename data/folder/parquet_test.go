package folder

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/imageio"
)

func parquetFile(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+parquetExt))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Tables that Arrow wrote (scripts/golden/parquet.py), under every compression and encoding, are the captions and labels that went in.
func TestParquet(t *testing.T) {
	captions := map[string][]string{"b/2.png": {"a dog"}, "a/1.png": {"a red cat", "a cat"}}
	for _, name := range []string{"none", "snappy", "gzip", "brotli", "zstd", "lz4", "plain", "delta", "groups"} {
		b := parquetFile(t, name)
		got, err := captionDocs(parquetExt, b)
		if err != nil || !reflect.DeepEqual(got, captions) {
			t.Errorf("%s: captions %q (%v), want %q", name, got, err, captions)
		}
		if name == "delta" || name == "groups" { // a row without a class
			if _, err := parseLabels(name+parquetExt, b); err == nil || !strings.Contains(err.Error(), `row 2: "a/1.png" has no label`) {
				t.Errorf("%s: labels: %v", name, err)
			}
			continue
		}
		l, err := parseLabels(name+parquetExt, b)
		if err != nil || !reflect.DeepEqual(l.of, map[string]int{"b/2.png": 5, "a/1.png": 3}) || len(l.classes) != 6 {
			t.Errorf("%s: labels %+v (%v)", name, l, err)
		}
	}
	b := parquetFile(t, "many") // of several groups, and pages that end within lists
	got, err := captionDocs(parquetExt, b)
	if err != nil || len(got) != 9000 {
		t.Fatalf("many: %d pictures (%v)", len(got), err)
	}
	l, err := parseLabels("many"+parquetExt, b)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 9000 {
		name, text := fmt.Sprintf("%d.png", i), fmt.Sprintf("number %d", i)
		if list := got[name]; len(list) != i%3+1 || list[len(list)-1] != text || l.of[name] != i%10 {
			t.Fatalf("%s: %q and %d", name, list, l.of[name])
		}
	}
}

// A set's captions and labels are the same from a table as from lines.
func TestParquetSet(t *testing.T) {
	files := map[string][]byte{"b/2.png": colour(t, 2), "a/1.png": colour(t, 1), "c.parquet": parquetFile(t, "snappy"),
		"c.jsonl": []byte("{\"file_name\":\"b/2.png\",\"text\":\"a dog\",\"label\":5}\n{\"file_name\":\"a/1.png\",\"text\":[\"a red cat\",\"a cat\"],\"label\":3}\n")}
	dir, hash := write(t, files), ""
	for _, file := range []string{"c.jsonl", "c.parquet"} {
		path := filepath.Join(dir, file)
		s, err := Load(t.Context(), Options{Input: dir, Size: 4, Captions: path, Labels: path})
		if err != nil {
			t.Fatal(err)
		}
		if hash != "" && s.SHA256() != hash {
			t.Error("the table makes another set than the lines")
		}
		hash = s.SHA256()
	}
}

func TestParquetRefusals(t *testing.T) {
	p := colour(t, 1)
	whole := parquetFile(t, "none")
	for want, b := range map[string][]byte{
		"row 1: column text: a value of the kind DOUBLE": parquetFile(t, "floats"), "its column text.en is not of texts": parquetFile(t, "struct"),
		"row 1: column text: it is no UTF-8": parquetFile(t, "binary"), "row 1 names no picture; want file_name and text": parquetFile(t, "nameless"),
		"it has no caption": parquetFile(t, "nothing"), "magic": []byte("{\"file_name\":\"a.png\",\"text\":\"x\"}\n"), "reading magic header": nil,
		"footer": append([]byte("PAR1"), whole[len(whole)-8:]...),
	} {
		dir := write(t, map[string][]byte{"a.png": p, "c.parquet": b})
		_, err := Load(t.Context(), Options{Input: dir, Size: 4, Captions: filepath.Join(dir, "c.parquet")})
		if err == nil || !errors.Is(err, imageio.ErrInput) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want an input error with %q", err, want)
		}
	}
}

// FuzzParquet: any bytes are captions of files inside the set, or an error.
func FuzzParquet(f *testing.F) {
	for _, name := range []string{"none", "snappy", "plain", "delta", "groups", "floats", "struct"} {
		f.Add(parquetFile(f, name))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		of, err := captionDocs(parquetExt, b)
		if err == nil && len(of) == 0 {
			t.Fatal("no captions, no error")
		}
		for name, list := range of {
			if !filepath.IsLocal(filepath.FromSlash(name)) || len(list) == 0 {
				t.Fatalf("%q has %d captions", name, len(list))
			}
		}
	})
}
