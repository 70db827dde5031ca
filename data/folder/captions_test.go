package folder

import (
	"errors"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/imageio"
)

// Captions beside pictures and in lines come to the same set; order, several captions and classes go together.
func TestCaptions(t *testing.T) {
	dir := write(t, map[string][]byte{
		"b/2.png": colour(t, 2), "a/1.png": colour(t, 1), "a/1.txt": []byte("\ufeffa red cat\r\n\n a cat \n"), "b/2.txt": []byte("a dog"),
		"c.jsonl": []byte("{\"image\":\"b/2.png\",\"caption\":\"a dog\"}\n{\"file_name\":\"./a/1.png\",\"text\":[\"a red cat\"]}\n{\"file_name\":\"a/1.png\",\"text\":\" a cat\"}\n"),
	})
	var sum string
	for _, from := range []string{Beside, filepath.Join(dir, "c.jsonl")} {
		s, err := Load(t.Context(), Options{Input: dir, Size: 4, Captions: from})
		if err != nil {
			t.Fatal(err)
		}
		s.check(t, from, "a b", "0 1", "1 2")
		if want := [][]string{{"a red cat", "a cat"}, {"a dog"}}; !reflect.DeepEqual(s.Captions, want) {
			t.Errorf("%s: %q, want %q", from, s.Captions, want)
		}
		if sum != "" && s.SHA256() != sum {
			t.Errorf("%s: another hash", from)
		}
		sum = s.SHA256()
	}
	s, err := Load(t.Context(), Options{Input: dir, Size: 4})
	if err != nil || s.Captions != nil || s.SHA256() == sum {
		t.Errorf("without captions: %q, the same hash: %v (%v)", s.Captions, s.SHA256() == sum, err)
	}
}

func TestCaptionRefusals(t *testing.T) {
	p := colour(t, 1)
	for want, lines := range map[string]string{
		"line 1: ": "{", "line 2 names no picture": "{\"image\":\"a.png\",\"text\":\"x\"}\n{\"text\":\"x\"}", `line 1 names "../a.png"`: `{"image":"../a.png","text":"x"}`,
		`the text of "a.png" is 3; want a text`: `{"image":"a.png","text":3}`, `"a.png" has no caption; want`: `{"image":"a.png","text":" "}`, "it has no caption": "\n",
		`"b.png": has no caption in`: `{"image":"a.png","text":"x"}`,
		`"c.png": is named in`:       "{\"image\":\"a.png\",\"text\":\"x\"}\n{\"image\":\"b.png\",\"text\":\"x\"}\n{\"image\":\"c.png\",\"text\":\"x\"}",
	} {
		dir := write(t, map[string][]byte{"a.png": p, "b.png": p, "c.jsonl": []byte(lines)})
		_, err := Load(t.Context(), Options{Input: dir, Size: 4, Captions: filepath.Join(dir, "c.jsonl")})
		if err == nil || !errors.Is(err, imageio.ErrInput) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want an input error with %q", err, want)
		}
	}
	for want, txt := range map[string]string{"b.txt is empty": " \n", "b.txt is no UTF-8": "\xff\xfe", "b.txt has 1025 lines": strings.Repeat("x\n", 1025), "over 1048576 bytes": strings.Repeat("x", 1<<20+1)} {
		dir := write(t, map[string][]byte{"a.png": p, "a.txt": []byte("x"), "b.png": p, "b.txt": []byte(txt)})
		_, err := Load(t.Context(), Options{Input: dir, Size: 4, Captions: Beside})
		if err == nil || !errors.Is(err, imageio.ErrInput) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want an input error with %q", err, want)
		}
		if s, err := Load(t.Context(), Options{Input: dir, Size: 4, Captions: Beside, Skip: 1}); err != nil || s.Len() != 1 || len(s.Captions) != 1 || len(s.Skipped) != 1 {
			t.Errorf("one left out: %v", err)
		}
	}
}

// FuzzCaptions: any bytes are captions of files inside the set, or an error.
func FuzzCaptions(f *testing.F) {
	for _, s := range []string{`{"image":"a.png","text":"x"}`, `{"file_name":"a","captions":["x","y"]}`, `{"path":"..","text":"x"}`, "{}\n", `{"image":"a","text":null}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		of, err := captionDocs(".jsonl", b)
		if err == nil && len(of) == 0 {
			t.Fatal("no captions, no error")
		}
		for name, list := range of {
			if !filepath.IsLocal(filepath.FromSlash(name)) || len(list) == 0 || len(list) > maxCaptions {
				t.Fatalf("%q has %d captions", name, len(list))
			}
		}
	})
}
