package folder

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/imageio"
)

// colour is a PNG of one colour that number makes, and no other below 16.
func colour(t testing.TB, number int) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := imageio.EncodePNG(&b, &imageio.Image{Width: 5, Height: 4, Pix: slices.Repeat([]uint8{uint8(16 * number), 3, 200}, 20)}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// write makes a folder of files.
func write(t testing.TB, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, b := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// number is the one that colour was given.
func (s *Set) number(i int) int {
	return int((float64(s.X[i*3*s.Size*s.Size])+1)*127.5/16 + 0.5)
}

func (s *Set) check(t *testing.T, what string, classes, labels, numbers string) {
	t.Helper()
	var l, n []string
	for i := range s.Len() {
		if s.Labels != nil {
			l = append(l, fmt.Sprint(s.Labels[i]))
		}
		n = append(n, fmt.Sprint(s.number(i)))
	}
	if got := strings.Join(s.Classes, " "); got != classes || strings.Join(l, " ") != labels || strings.Join(n, " ") != numbers {
		t.Errorf("%s: classes %q, labels %v, pictures %v of %v; want %q, %s, %s", what, s.Classes, l, n, s.Names, classes, labels, numbers)
	}
	if len(s.X) != s.Len()*3*s.Size*s.Size || !slices.IsSorted(s.Names) {
		t.Errorf("%s: %d values of %d pictures, names %q", what, len(s.X), s.Len(), s.Names)
	}
}

// A folder, a zip and a tar of the same files, the tar in another order, are the same set.
func TestContainers(t *testing.T) {
	files := map[string][]byte{"dog/b.png": colour(t, 3), "cat/z.png": colour(t, 2), "cat/a.png": colour(t, 1), "emu/1.png": colour(t, 4)}
	dir := write(t, files)
	names := []string{"emu/1.png", "cat/z.png", "dog/b.png", "cat/a.png"} // no order
	var zb, tb bytes.Buffer
	z, a := zip.NewWriter(&zb), tar.NewWriter(&tb)
	for _, n := range names {
		w, err := z.Create(n)
		if err != nil {
			t.Fatal(err)
		}
		w.Write(files[n])
		if err := a.WriteHeader(&tar.Header{Name: n, Mode: 0o666, Size: int64(len(files[n]))}); err != nil {
			t.Fatal(err)
		}
		a.Write(files[n])
	}
	if err := errors.Join(z.Close(), a.Close()); err != nil {
		t.Fatal(err)
	}
	other := write(t, map[string][]byte{"s.zip": zb.Bytes(), "s.tar": tb.Bytes()})
	var sum string
	for _, in := range []string{dir, filepath.Join(other, "s.zip"), filepath.Join(other, "s.tar")} {
		s, err := Load(t.Context(), Options{Input: in, Size: 4})
		if err != nil {
			t.Fatal(err)
		}
		s.check(t, in, "cat dog emu", "0 0 1 2", "1 2 3 4")
		if !reflect.DeepEqual(s.Counts(), []int{2, 1, 1}) {
			t.Errorf("counts %v", s.Counts())
		}
		if got := s.SHA256(); sum == "" {
			sum = got
		} else if got != sum {
			t.Errorf("%s: another hash", in)
		}
	}
	// The hash tells sizes, fits, names and labels apart.
	for what, o := range map[string]Options{"size": {Size: 8}, "fit": {Size: 4, Fit: Squash}, "resize": {Size: 4, Resize: "pil-u8-box"}, "labels": {Size: 4, Labels: None}} {
		o.Input = dir
		s, err := Load(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if s.SHA256() == sum {
			t.Errorf("another %s, the same hash", what)
		}
	}
}

// Every way to say classes gives those classes.
func TestLabelWays(t *testing.T) {
	p := func(n int) []byte { return colour(t, n) }
	for what, c := range map[string]struct {
		files                   map[string][]byte
		labels                  string // FILE: in the folder of the set's name
		classes, want, pictures string
	}{
		"folders":         {map[string][]byte{"b/1.png": p(2), "a/deep/1.png": p(1)}, "", "a b", "0 1", "1 2"},
		"no folders":      {map[string][]byte{"2.png": p(2), "1.png": p(1)}, "", "", "", "1 2"},
		"none":            {map[string][]byte{"b/1.png": p(2), "a/1.png": p(1)}, None, "", "", "1 2"},
		"prefix":          {map[string][]byte{"x/dog_1.png": p(3), "cat_2.png": p(2), "cat_1.png": p(1)}, Prefix, "cat dog", "0 0 1", "1 2 3"},
		"dataset.json":    {map[string][]byte{"00/b.png": p(2), "00/a.png": p(1), "dataset.json": []byte(`{"labels":[["00/a.png",2],["00/b.png",0]]}`)}, "", "0 1 2", "2 0", "1 2"},
		"its names":       {map[string][]byte{"b.png": p(2), "a.png": p(1), "dataset.json": []byte(`{"labels":[["a.png",1],["b.png",0]],"classes":["cat","dog"]}`)}, "", "cat dog", "1 0", "1 2"},
		"its null":        {map[string][]byte{"x/b.png": p(2), "y/a.png": p(1), "dataset.json": []byte(`{"labels":null}`)}, "", "", "", "2 1"},
		"an object":       {map[string][]byte{"b.png": p(2), "a.png": p(1), "dataset.json": []byte(`{"labels":{"a.png":"emu","b.png":"cat"}}`)}, "", "cat emu", "1 0", "1 2"},
		"csv":             {map[string][]byte{"b.png": p(2), "a.png": p(1), "l.csv": []byte("a.png,dog\nb.png,\"cat, big\"\n")}, "l.csv", "cat, big dog", "1 0", "1 2"},
		"csv of columns":  {map[string][]byte{"b.png": p(2), "a.png": p(1), "l.csv": []byte("\xef\xbb\xbfid,label,file_name\r\n7,1,a.png\r\n8,0,./b.png\r\n")}, "l.csv", "0 1", "1 0", "1 2"},
		"jsonl":           {map[string][]byte{"b.png": p(2), "a.png": p(1), "l.jsonl": []byte("{\"file_name\":\"a.png\",\"label\":\"dog\"}\n\n{\"image\":\"b.png\",\"class\":\"cat\"}")}, "l.jsonl", "cat dog", "1 0", "1 2"},
		"ten before nine": {map[string][]byte{"b.png": p(2), "a.png": p(1), "l.csv": []byte("a.png,10\nb.png,9\n")}, "l.csv", "0 1 2 3 4 5 6 7 8 9 10", "10 9", "1 2"},
	} {
		dir := write(t, c.files)
		o := Options{Input: dir, Size: 3, Labels: c.labels}
		if filepath.Ext(c.labels) != "" {
			o.Labels = filepath.Join(dir, c.labels)
		}
		s, err := Load(t.Context(), o)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		s.check(t, what, c.classes, c.want, c.pictures)
	}
}

// What cannot be used is named, and left out only as far as allowed.
func TestSkip(t *testing.T) {
	dir := write(t, map[string][]byte{
		"cat/a.png": colour(t, 1), "cat/cut.png": colour(t, 2)[:40], "dog/b.png": colour(t, 3), "stray.png": colour(t, 4), "dog/notes.md": []byte("hi"),
		"l.csv": []byte("cat/a.png,x\ncat/cut.png,x\ndog/gone.png,y\ndog/b.png,y\n"),
	})
	_, err := Load(t.Context(), Options{Input: dir, Size: 4, Skip: 1})
	var skip *SkipError
	if !errors.As(err, &skip) || !errors.Is(err, imageio.ErrInput) || len(skip.Bad) != 2 || skip.Bad[0].Path != "cat/cut.png" || skip.Bad[1].Path != "stray.png" {
		t.Fatalf("%v", err)
	}
	for _, want := range []string{"2 items cannot be used, and 1 may be left out", "--skip-bad 2", `"stray.png": lies in no folder of a class`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q", err, want)
		}
	}
	s, err := Load(t.Context(), Options{Input: dir, Size: 4, Skip: 2})
	if err != nil {
		t.Fatal(err)
	}
	s.check(t, "two left out", "cat dog", "0 1", "1 3")
	if len(s.Skipped) != 2 || s.Aside[".md"] != 1 || s.Aside[".csv"] != 1 {
		t.Errorf("skipped %v, aside %v", s.Skipped, s.Aside)
	}
	_, err = Load(t.Context(), Options{Input: dir, Size: 4, Labels: filepath.Join(dir, "l.csv"), Skip: 2})
	if !errors.As(err, &skip) || len(skip.Bad) != 3 || skip.Bad[1].Path != "dog/gone.png" || skip.Bad[2].Path != "stray.png" {
		t.Fatalf("%v", err)
	}
	for i, want := range []string{"", "is no picture of the set", "has no label in"} {
		if !strings.Contains(skip.Bad[i].Reason, want) {
			t.Errorf("%v; want %q", skip.Bad[i], want)
		}
	}
}

func TestRefusals(t *testing.T) {
	p := colour(t, 1)
	for want, c := range map[string]struct {
		files  map[string][]byte
		labels string
		o      Options
	}{
		"no folder of a class":                         {map[string][]byte{"a.png": p}, Folders, Options{}},
		"0 beginnings of names":                        {map[string][]byte{"a.png": p}, Prefix, Options{}},
		"no such file or directory; want auto":         {map[string][]byte{"a.png": p}, "gone.csv", Options{}},
		"pictures of 4×4 take":                         {map[string][]byte{"a.png": p, "b.png": p}, "", Options{MaxBytes: 383}},
		"0 images found":                               {map[string][]byte{"a.txt": []byte("x")}, "", Options{}},
		"the limit is":                                 {map[string][]byte{"a.png": p}, "", Options{MaxFileBytes: 20}},
		"dataset.json: unexpected end":                 {map[string][]byte{"a.png": p, "dataset.json": []byte(`{"labels":[`)}, "", Options{}},
		`it has no "labels"`:                           {map[string][]byte{"a.png": p, "dataset.json": []byte(`{}`)}, "", Options{}},
		"it labels no picture":                         {map[string][]byte{"a.png": p, "dataset.json": []byte(`{"labels":[]}`)}, "", Options{}},
		`the label of "a.png" is 1.5; want`:            {map[string][]byte{"a.png": p, "dataset.json": []byte(`{"labels":[["a.png",1.5]]}`)}, "", Options{}},
		"label 0 is no pair":                           {map[string][]byte{"a.png": p, "dataset.json": []byte(`{"labels":[["a.png"]]}`)}, "", Options{}},
		`the label of "a.png" is -1; want 0 to 65535`:  {map[string][]byte{"a.png": p, "dataset.json": []byte(`{"labels":[["a.png",-1]]}`)}, "", Options{}},
		"there are 1 names of classes":                 {map[string][]byte{"a.png": p, "dataset.json": []byte(`{"labels":[["a.png",1]],"classes":["x"]}`)}, "", Options{}},
		`names "../a.png"; want a file inside the set`: {map[string][]byte{"a.png": p, "dataset.json": []byte(`{"labels":[["../a.png",1]]}`)}, "", Options{}},
		`line 2 labels "./a.png" a second time`:        {map[string][]byte{"a.png": p, "l.csv": []byte("a.png,x\n./a.png,y\n")}, "l.csv", Options{}},
		"3 columns and no line that names them":        {map[string][]byte{"a.png": p, "l.csv": []byte("a.png,x,y\n")}, "l.csv", Options{}},
		"the label of \"a.png\" is empty":              {map[string][]byte{"a.png": p, "l.csv": []byte("a.png,\n")}, "l.csv", Options{}},
		"line 1 names no picture":                      {map[string][]byte{"a.png": p, "l.jsonl": []byte(`{"label":1}`)}, "l.jsonl", Options{}},
		`line 1: "a.png" has no label`:                 {map[string][]byte{"a.png": p, "l.jsonl": []byte(`{"file":"a.png"}`)}, "l.jsonl", Options{}},
		`want .json, .csv, .jsonl or .parquet`:         {map[string][]byte{"a.png": p, "l.xml": []byte(`x`)}, "l.xml", Options{}},
	} {
		dir := write(t, c.files)
		o := c.o
		o.Input, o.Size, o.Labels = dir, 4, c.labels
		if filepath.Ext(c.labels) != "" {
			o.Labels = filepath.Join(dir, c.labels)
		}
		_, err := Load(t.Context(), o)
		if err == nil || !errors.Is(err, imageio.ErrInput) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want an input error with %q", err, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Load(ctx, Options{Input: write(t, map[string][]byte{"a.png": p}), Size: 4}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// Archives whose names lead outside are refused, whatever labels say.
func TestOutside(t *testing.T) {
	var zb bytes.Buffer
	z := zip.NewWriter(&zb)
	for _, n := range []string{"a.png", "../../b.png"} {
		w, err := z.Create(n)
		if err != nil {
			t.Fatal(err)
		}
		w.Write(colour(t, 1))
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	dir := write(t, map[string][]byte{"s.zip": zb.Bytes()})
	if _, err := Load(t.Context(), Options{Input: filepath.Join(dir, "s.zip"), Size: 4, Skip: 10}); err == nil || !strings.Contains(err.Error(), "leads outside") {
		t.Errorf("%v", err)
	}
}

// Labels inside a tar are not passed over.
func TestTarLabels(t *testing.T) {
	var tb bytes.Buffer
	a := tar.NewWriter(&tb)
	for n, b := range map[string][]byte{"c/a.png": colour(t, 1), "dataset.json": []byte(`{"labels":[["c/a.png",3]]}`)} {
		if err := a.WriteHeader(&tar.Header{Name: n, Mode: 0o666, Size: int64(len(b))}); err != nil {
			t.Fatal(err)
		}
		a.Write(b)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	in := filepath.Join(write(t, map[string][]byte{"s.tar": tb.Bytes()}), "s.tar")
	if _, err := Load(t.Context(), Options{Input: in, Size: 4}); err == nil || !strings.Contains(err.Error(), "labels inside a tar are not read") {
		t.Errorf("%v", err)
	}
	s, err := Load(t.Context(), Options{Input: in, Size: 4, Labels: Folders})
	if err != nil {
		t.Fatal(err)
	}
	s.check(t, "by folders", "c", "0", "1")
}

// FuzzLabels: any bytes are labels of files inside the set, or an error.
func FuzzLabels(f *testing.F) {
	for _, s := range []string{`{"labels":[["a.png",3]],"classes":["x","y","z","w"]}`, `{"labels":{"a":"b"}}`, `{"labels":null}`, "file_name,label\na.png,x\n", `{"file":"a.png","label":2}`, "a,\"\n", `{"labels":[["..",0]]}`, `{"labels": }`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, name := range []string{"x.json", "x.csv", "x.jsonl"} {
			l, err := parseLabels(name, b)
			if err != nil {
				if !errors.Is(err, imageio.ErrInput) {
					t.Fatalf("%v is no input error", err)
				}
				continue
			}
			if l == nil {
				continue
			}
			if len(l.of) == 0 || len(l.classes) > maxClasses {
				t.Fatalf("%d labels of %d classes", len(l.of), len(l.classes))
			}
			for file, class := range l.of {
				if class < 0 || class >= len(l.classes) || !filepath.IsLocal(filepath.FromSlash(file)) {
					t.Fatalf("%q is of class %d of %d", file, class, len(l.classes))
				}
			}
		}
	})
}
