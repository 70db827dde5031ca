package main

import (
	"bytes"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPage(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, b, 0o666); err != nil {
			t.Fatal(err)
		}
		return p
	}
	var pic bytes.Buffer
	if err := png.Encode(&pic, image.NewGray(image.Rect(0, 0, 3, 3))); err != nil {
		t.Fatal(err)
	}
	floor := write("floor.json", []byte(`{"metrics":{"fid":{"value":0.5,"ci":[0.4,0.6],"ci_level":0.95}},"n":{"ref":60000,"gen":2000},"extractor":{"name":"mnist","dim":64},"version":"v1"}`))
	plain := write("plain.json", []byte(`{"metrics":{"fid":{"value":7.25,"ci":null,"ci_level":0.95}},"n":{"ref":60000,"gen":1000},"extractor":{"name":"mnist","dim":64}}`))
	scenes := write("scenes.json", []byte(`{"n":160,"counts":[{"name":"caption","hits":100,"of":160,"low":0.547,"high":0.697},{"name":"binding","hits":210,"of":280,"low":0.696,"high":0.797},{"name":"binding, 3 objects","hits":0,"of":0,"low":0,"high":1}]}`))
	sheet := write("sheet.png", pic.Bytes())
	out := filepath.Join(dir, "page.html")
	if err := run(out, []string{"test set=" + floor, "digits <b>=" + plain, "captions=" + scenes, "digits=" + sheet}); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"60,000 training images", "test set", "0.400 to 0.600", "7.25", "digits &lt;b&gt;", "data:image/png;base64,", "fidlab fid path/to/real", "FID[mnist]", "75.0 %", "69.6 to 79.7", "62.5 %"} {
		if !strings.Contains(string(b), want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	for want, args := range map[string][]string{
		"want label=FILE":    {"x"},
		"no such file":       {"x=" + filepath.Join(dir, "none.json")},
		"at least one label": {"x=" + sheet},
		"invalid character":  {"x=" + write("bad.json", []byte("?"))},
		"cannot unmarshal":   {"x=" + write("counts.json", []byte(`{"counts":3}`))},
	} {
		if err := run(out, args); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", args, err, want)
		}
	}
}
