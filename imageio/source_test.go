package imageio_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/imageio"
)

// noisy is a picture with some detail, different for each seed.
func noisy(w, h, seed int) *image.RGBA {
	m := image.NewRGBA(image.Rect(0, 0, w, h))
	v := uint32(seed)*2654435761 + 1
	for i := range m.Pix {
		v = v*1664525 + 1013904223
		m.Pix[i] = uint8(i/5) + uint8(v>>27)
		if i%4 == 3 {
			m.Pix[i] = 255
		}
	}
	return m
}

func pngBytes(t testing.TB, m image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func jpegBytes(t testing.TB, m image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := jpeg.Encode(&b, m, nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// write makes files below dir, with their folders.
func write(t testing.TB, dir string, files map[string][]byte) {
	t.Helper()
	for name, b := range files {
		p := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(p), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, b, 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

// names lists a source's items, relative to dir, and decodes each.
func names(t testing.TB, s imageio.Source, dir string) []string {
	t.Helper()
	var list []string
	err := s.Each(context.Background(), func(it imageio.Item) error {
		m, err := it.Load()
		if err != nil {
			return fmt.Errorf("%s: %w", it.Name, err)
		}
		if m.Width*m.Height*3 != len(m.Pix) {
			return fmt.Errorf("%s: %dx%d with %d bytes", it.Name, m.Width, m.Height, len(m.Pix))
		}
		list = append(list, strings.TrimPrefix(filepath.ToSlash(it.Name), filepath.ToSlash(dir)+"/"))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := s.Len(); n >= 0 && n != len(list) {
		t.Errorf("Len() = %d, Each gave %d", n, len(list))
	}
	return list
}

func mustOpen(t testing.TB, input string, o imageio.Options) imageio.Source {
	t.Helper()
	s, err := imageio.Open(input, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func equal(t testing.TB, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got %q\nwant %q", what, got, want)
	}
}

func TestFolder(t *testing.T) {
	dir := t.TempDir()
	p, j := pngBytes(t, noisy(9, 5, 1)), jpegBytes(t, noisy(8, 8, 2))
	write(t, dir, map[string][]byte{
		"b.PNG": p, "a.jpg": j, "sub/deep/c.png": p, "sub/z.png": j, "no-extension": p,
		"odd name\n é\xff%.png": p, "-rf.png": p, ".hidden.png": p, ".git/x.png": p,
		"notes.txt": []byte("hello"), "data.csv": []byte("1,2"), "README": []byte("x"), "empty.txt": nil,
	})
	s := mustOpen(t, dir, imageio.Options{})
	equal(t, "files", names(t, s, dir), []string{
		"-rf.png", "a.jpg", "b.PNG", "no-extension", "odd name\n é\xff%.png", "sub/deep/c.png", "sub/z.png",
	})
	f := s.(imageio.Finder).Found()
	if f.Images != 7 || f.Hidden != 2 || f.Misnamed != 1 || f.Other[".txt"] != 2 || f.Other[".csv"] != 1 || f.Other["without extension"] != 1 {
		t.Errorf("found %+v", f)
	}
	if want := dir + "/ (folder)"; s.Describe() != want {
		t.Errorf("described as %q, want %q", s.Describe(), want)
	}
}

func TestFolderLinks(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("making links needs a privilege on Windows")
	}
	dir := t.TempDir()
	p := pngBytes(t, noisy(3, 3, 1))
	write(t, dir, map[string][]byte{"in/a.png": p, "in/b/c.png": p, "out/d.png": p, "out/e.png": p})
	for link, target := range map[string]string{
		"in/a-again.png": "a.png", "in/b/up": "..", "in/self": "self", "in/b/other": "../../out",
		"in/e.png": "../out/e.png", "in/gone": "nowhere", "in/twice": "../out",
	} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	s := mustOpen(t, filepath.Join(dir, "in"), imageio.Options{})
	got := names(t, s, filepath.Join(dir, "in"))
	f := s.(imageio.Finder).Found()
	// d and e once each, under whichever name comes first; the loop ends.
	if len(got) != 4 || !slices.Contains(got, "a.png") || !slices.Contains(got, "b/c.png") {
		t.Errorf("files %q", got)
	}
	if f.Loops != 2 || f.Duplicates != 3 || f.Other["broken link"] != 1 {
		t.Errorf("found %+v", f)
	}
	again := names(t, mustOpen(t, filepath.Join(dir, "in"), imageio.Options{}), filepath.Join(dir, "in"))
	equal(t, "second time", again, got)

	if err := os.Symlink("nowhere", filepath.Join(dir, "in", "lost.png")); err != nil {
		t.Fatal(err)
	}
	var bad *imageio.BadFilesError
	if _, err := imageio.Open(filepath.Join(dir, "in"), imageio.Options{}); !errors.As(err, &bad) || len(bad.Bad) != 1 {
		t.Errorf("a broken link named .png: %v", err)
	}
}

func TestFolderLabels(t *testing.T) {
	dir := t.TempDir()
	p := pngBytes(t, noisy(3, 3, 1))
	write(t, dir, map[string][]byte{"cat/1.png": p, "cat/x/2.png": p, "ant/3.png": p, "4.png": p})
	for _, input := range []string{dir, makeZip(t, dir), makeTar(t, dir, false)} {
		s := mustOpen(t, input, imageio.Options{Labels: true})
		var got []string
		s.Each(context.Background(), func(it imageio.Item) error {
			got = append(got, fmt.Sprint(filepath.Base(it.Name), " ", it.Label))
			return nil
		})
		slices.Sort(got)
		equal(t, input, got, []string{"1.png 1", "2.png 1", "3.png 0", "4.png -1"})
		equal(t, input, s.(imageio.Classed).Classes(), []string{"ant", "cat"})
	}
}

// relFiles lists the regular files below dir in walking order.
func relFiles(t testing.TB, dir string) []string {
	var list []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			rel, _ := filepath.Rel(dir, p)
			list = append(list, filepath.ToSlash(rel))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func makeZip(t testing.TB, dir string) string {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	files := relFiles(t, dir)
	slices.Reverse(files) // the order in the archive must not matter
	for i, name := range files {
		method := zip.Deflate
		if i%2 == 0 {
			method = zip.Store
		}
		w, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: method})
		if err != nil {
			t.Fatal(err)
		}
		data, _ := os.ReadFile(filepath.Join(dir, name))
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	p := filepath.Join(t.TempDir(), "set.zip")
	write(t, filepath.Dir(p), map[string][]byte{"set.zip": b.Bytes()})
	return p
}

func tarBytes(t testing.TB, names []string, data func(string) []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range names {
		d := data(name)
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(d)), Format: tar.FormatPAX}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(d); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gzipped(t testing.TB, b []byte) []byte {
	t.Helper()
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return z.Bytes()
}

func makeTar(t testing.TB, dir string, gz bool) string {
	t.Helper()
	b := tarBytes(t, relFiles(t, dir), func(name string) []byte {
		d, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return d
	})
	name := "set.tar"
	if gz {
		b, name = gzipped(t, b), "set.tgz"
	}
	d := t.TempDir()
	write(t, d, map[string][]byte{name: b})
	return filepath.Join(d, name)
}

// A folder and its archives give the same pictures, in the same order.
func TestArchivesEqualFolder(t *testing.T) {
	dir := t.TempDir()
	files := map[string][]byte{".hidden/h.png": pngBytes(t, noisy(2, 2, 0)), "text.txt": []byte("text"), "__MACOSX/._a.png": []byte("fork")}
	for i := range 12 {
		files[fmt.Sprintf("%c/%d.png", 'a'+i%3, i)] = pngBytes(t, noisy(5+i, 9, i))
		files[fmt.Sprintf("%d.jpg", i)] = jpegBytes(t, noisy(7, 6+i, i))
	}
	write(t, dir, files)
	read := func(s imageio.Source) (out []string) {
		err := s.Each(context.Background(), func(it imageio.Item) error {
			m, err := it.Load()
			if err == nil {
				name, _ := filepath.Rel(dir, it.Name)
				if !filepath.IsAbs(it.Name) {
					name = it.Name
				}
				out = append(out, fmt.Sprintf("%s %dx%d %x", filepath.ToSlash(name), m.Width, m.Height, m.Pix))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	want := read(mustOpen(t, dir, imageio.Options{}))
	if len(want) != 24 {
		t.Fatalf("%d pictures in the folder", len(want))
	}
	zipped := makeZip(t, dir)
	equal(t, "zip", read(mustOpen(t, zipped, imageio.Options{})), want)
	slices.Sort(want) // a tar keeps its own order
	for _, p := range []string{makeTar(t, dir, false), makeTar(t, dir, true)} {
		s := mustOpen(t, p, imageio.Options{})
		if s.Len() != 24 {
			t.Errorf("%s: Len() = %d", p, s.Len())
		}
		got := read(s)
		slices.Sort(got)
		equal(t, p, got, want)
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		s = mustOpen(t, "-", imageio.Options{Stdin: bytes.NewReader(b)})
		if s.Len() != -1 {
			t.Errorf("standard input: Len() = %d", s.Len())
		}
		got = read(s)
		slices.Sort(got)
		equal(t, "standard input", got, want)
		if f := s.(imageio.Finder).Found(); f.Hidden != 2 || f.Other[".txt"] != 1 {
			t.Errorf("standard input: found %+v", f)
		}
	}
	list := filepath.Join(dir, "list.txt")
	write(t, dir, map[string][]byte{"list.txt": []byte("# some\n\na/0.png\r\n" + filepath.Join(dir, "1.jpg") + "\n./a/0.png\n")})
	s := mustOpen(t, list, imageio.Options{})
	equal(t, "list", names(t, s, dir), []string{"a/0.png", "1.jpg"})
	if f := s.(imageio.Finder).Found(); f.Duplicates != 1 {
		t.Errorf("list: found %+v", f)
	}
	one := mustOpen(t, filepath.Join(dir, "1.jpg"), imageio.Options{})
	equal(t, "one picture", names(t, one, dir), []string{"1.jpg"})
}

func init() {
	imageio.RegisterScheme("testset", func(arg string) (imageio.Source, error) {
		if arg != "good" {
			return nil, errors.New("testset: no part " + arg)
		}
		return &counted{n: 3, size: 2}, nil
	})
}

func TestScheme(t *testing.T) {
	equal(t, "testset", names(t, mustOpen(t, "testset:good", imageio.Options{}), ""), []string{"item0", "item1", "item2"})
	if _, err := imageio.Open("testset:other", imageio.Options{}); !errors.Is(err, imageio.ErrInput) || !strings.Contains(err.Error(), "no part other") {
		t.Errorf("an unknown part: %v", err)
	}
	if _, err := imageio.Open("nothere:x", imageio.Options{}); !errors.Is(err, imageio.ErrInput) || !strings.Contains(err.Error(), "testset") {
		t.Errorf("an unknown scheme: %v", err)
	}
}
