package imageio_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/tensor"
)

// refuse opens input and wants an ErrInput that says all of want.
func refuse(t *testing.T, input string, o imageio.Options, want ...string) error {
	t.Helper()
	_, err := imageio.Open(input, o)
	if err == nil {
		t.Errorf("%s was accepted; want an error with %q", input, want)
		return nil
	}
	if !errors.Is(err, imageio.ErrInput) {
		t.Errorf("%s: %v is no ErrInput", input, err)
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%s: %q lacks %q", input, err, w)
		}
	}
	return err
}

func TestBadInputs(t *testing.T) {
	dir := t.TempDir()
	p := pngBytes(t, noisy(4, 4, 1))
	write(t, dir, map[string][]byte{
		"texts/a.txt": []byte("a"), "texts/b.csv": []byte("b"), "texts/.c.png": p,
		"plain.dat": []byte("just text, no image"), "empty.zip": nil, "not.zip": []byte("no zip at all"),
		"list.txt": []byte("missing.png\nplain.dat\n"), "blank.txt": []byte("# nothing\n\n"),
		"zero.txt": []byte("a\x00b\n"), "fine.png": p, "long.txt": bytes.Repeat([]byte("x"), 1<<17),
	})
	if err := os.Mkdir(filepath.Join(dir, "void"), 0o777); err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	refuse(t, at("nowhere"), imageio.Options{}, "nowhere", "no such file")
	if err := refuse(t, at("void"), imageio.Options{}, "0 images found in", "void", "it is empty"); !errors.Is(err, imageio.ErrEmpty) {
		t.Errorf("%v is no ErrEmpty", err)
	}
	refuse(t, at("texts"), imageio.Options{}, "0 images found in", "3 files skipped", "1 hidden", "1 .csv", "1 .txt")
	refuse(t, at("plain.dat"), imageio.Options{}, "plain.dat", "not a folder, zip")
	refuse(t, at("empty.zip"), imageio.Options{}, "empty file")
	refuse(t, at("not.zip"), imageio.Options{}, "not.zip", "starts with 6e 6f 20 7a")
	refuse(t, at("list.txt"), imageio.Options{}, "2 of 2 images are bad", "missing.png: no such file", "plain.dat: not an image")
	refuse(t, at("blank.txt"), imageio.Options{}, "0 images")
	refuse(t, at("zero.txt"), imageio.Options{}, "line 1", "zero byte")
	refuse(t, at("long.txt"), imageio.Options{}, "long.txt", "one path a line")
	refuse(t, at("fine.png")+"/x", imageio.Options{}, "fine.png")
	for in, want := range map[string]string{"": "standard input is empty", "hello": "starts with 68 65 6c 6c 6f; want a tar"} {
		s := mustOpen(t, "-", imageio.Options{Stdin: strings.NewReader(in)})
		err := s.Each(context.Background(), func(imageio.Item) error { return nil })
		if !errors.Is(err, imageio.ErrInput) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q on standard input: %v", in, err)
		}
	}
	if runtime.GOOS != "windows" {
		refuse(t, os.DevNull, imageio.Options{}, "want a folder, an archive or a file")
	}
}

// badFolder has a good picture and one of every kind of bad file.
func badFolder(t testing.TB) (dir string, bad []string) {
	dir = t.TempDir()
	p, j := pngBytes(t, noisy(40, 30, 1)), jpegBytes(t, noisy(40, 30, 2))
	files := map[string][]byte{
		"good.png": p, "misnamed.jpg": p, "note.txt": []byte("n"),
		"a-cut.png": p[:len(p)-20], "b-cut.jpg": j[:len(j)-30], "c-empty.png": nil, "d-text.png": []byte("<html>no image</html>"),
		"e-head.jpg": j[:100], "f-chunk.png": append(bytes.Clone(p[:33]), 0x7f, 0xff, 0xff, 0xff, 'I', 'D', 'A', 'T'),
		"g-avif.avif": []byte("\x00\x00\x00\x20ftypavif\x00\x00\x00\x00"), "h-cut.bmp": []byte("BM\x00\x00\x00\x00\x00\x00\x00\x00\x36\x00\x00\x00\x28\x00\x00\x00\x09\x00\x00\x00\x09\x00\x00\x00\x01\x00\x18\x00\x00\x00\x00\x00"),
		"i-cut.ppm": []byte("P6 4 4 255\nxxx"), "j-cut.gif": []byte("GIF89a\x04\x00\x04\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff,\x00\x00\x00\x00\x04\x00\x04\x00\x00\x02\x10ab"),
		"k-cut.webp": []byte("RIFF\xff\x00\x00\x00WEBPVP8 "), "l-cut.tif": []byte("II*\x00\xff\xff\x00\x00"),
	}
	write(t, dir, files)
	return dir, []string{"a-cut.png", "b-cut.jpg", "c-empty.png", "d-text.png", "e-head.jpg", "f-chunk.png", "g-avif.avif", "h-cut.bmp", "i-cut.ppm", "j-cut.gif", "k-cut.webp", "l-cut.tif"}
}

func TestAllBadFilesAreListed(t *testing.T) {
	dir, want := badFolder(t)
	for _, input := range []string{dir, makeZip(t, dir), makeTar(t, dir, false), makeTar(t, dir, true)} {
		_, err := imageio.Open(input, imageio.Options{})
		var bad *imageio.BadFilesError
		if !errors.As(err, &bad) {
			t.Errorf("%s: %v", input, err)
			continue
		}
		var got []string
		for _, b := range bad.Bad {
			got = append(got, filepath.Base(b.Path))
			if b.Reason == "" || len(b.Reason) > 120 {
				t.Errorf("%s: reason %q", b.Path, b.Reason)
			}
		}
		equal(t, input, got, want)
		if bad.Total != len(want)+2 {
			t.Errorf("%s: %d images in all, want %d", input, bad.Total, len(want)+2)
		}
		s := mustOpen(t, input, imageio.Options{SkipBad: true})
		f := s.(imageio.Finder).Found()
		if s.Len() != 2 || len(f.Bad) != len(want) || f.Misnamed != 1 || f.Other[".txt"] != 1 || f.Images != 2 {
			t.Errorf("%s with SkipBad: %d items, found %+v", input, s.Len(), f)
		}
		equal(t, input, names(t, s, dir), []string{"good.png", "misnamed.jpg"})
	}
	// A stream can't be checked up front: the same files show when they are loaded.
	b, err := os.ReadFile(makeTar(t, dir, true))
	if err != nil {
		t.Fatal(err)
	}
	s := mustOpen(t, "-", imageio.Options{Stdin: bytes.NewReader(b)})
	_, err = imageio.Batches(context.Background(), s, imageio.BatchOptions{}, func(*cpu.Worker, *imageio.Batch) error { return nil })
	var bad *imageio.BadFilesError
	if !errors.As(err, &bad) || len(bad.Bad) != len(want) {
		t.Errorf("standard input: %v", err)
	}
}

func TestVanishedAndUnreadableFiles(t *testing.T) {
	dir := t.TempDir()
	p := pngBytes(t, noisy(4, 4, 1))
	write(t, dir, map[string][]byte{"a.png": p, "b.png": p, "c.png": p})
	s := mustOpen(t, dir, imageio.Options{})
	if err := os.Remove(filepath.Join(dir, "b.png")); err != nil {
		t.Fatal(err)
	}
	_, err := imageio.Batches(context.Background(), s, imageio.BatchOptions{}, func(*cpu.Worker, *imageio.Batch) error { return nil })
	var bad *imageio.BadFilesError
	if !errors.As(err, &bad) || len(bad.Bad) != 1 || filepath.Base(bad.Bad[0].Path) != "b.png" {
		t.Errorf("a vanished file: %v", err)
	}
	if os.Geteuid() > 0 {
		if err := os.Chmod(filepath.Join(dir, "c.png"), 0); err != nil {
			t.Fatal(err)
		}
		if err := refuse(t, dir, imageio.Options{}, "c.png: permission denied"); !errors.As(err, &bad) {
			t.Errorf("an unreadable file: %v", err)
		}
	}
}

func zipOf(t testing.TB, members map[string][]byte) string {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, data := range members {
		w, err := z.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write(t, dir, map[string][]byte{"x.zip": b.Bytes()})
	return filepath.Join(dir, "x.zip")
}

func TestArchiveTraversal(t *testing.T) {
	p := pngBytes(t, noisy(4, 4, 1))
	for _, name := range []string{"../evil.png", "a/../../evil.png", "/etc/evil.png", `..\evil.png`, `C:\evil.png`, "a/..", "nul\x00.png"} {
		refuse(t, zipOf(t, map[string][]byte{"ok.png": p, name: p}), imageio.Options{SkipBad: true}, fmt.Sprintf("%q", name), "refused")
		if strings.ContainsRune(name, 0) {
			continue // tar ends names there
		}
		dir := t.TempDir()
		write(t, dir, map[string][]byte{"x.tar": tarBytes(t, []string{"ok.png", name}, func(string) []byte { return p })})
		refuse(t, filepath.Join(dir, "x.tar"), imageio.Options{SkipBad: true}, fmt.Sprintf("%q", name), "refused")
	}
}

func TestCutArchives(t *testing.T) {
	src := t.TempDir()
	files := map[string][]byte{}
	for i := range 8 {
		files[fmt.Sprintf("%d.png", i)] = pngBytes(t, noisy(30, 30, i))
	}
	write(t, src, files)
	dir := t.TempDir()
	for _, p := range []string{makeZip(t, src), makeTar(t, src, false), makeTar(t, src, true)} {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range []int{5, 30, 50, 77} {
			cut := filepath.Join(dir, fmt.Sprint(part, filepath.Base(p)))
			if err := os.WriteFile(cut, b[:len(b)*part/100], 0o666); err != nil {
				t.Fatal(err)
			}
			refuse(t, cut, imageio.Options{SkipBad: true}, cut, "cut")
		}
		if strings.HasSuffix(p, ".tar") { // between two members: only the end mark is gone
			cut := filepath.Join(dir, "between.tar")
			if err := os.WriteFile(cut, b[:len(b)-1024], 0o666); err != nil {
				t.Fatal(err)
			}
			refuse(t, cut, imageio.Options{SkipBad: true}, cut, "no end mark")
		}
		if !strings.HasSuffix(p, "zip") {
			s := mustOpen(t, "-", imageio.Options{Stdin: bytes.NewReader(b[:len(b)/2])})
			_, err := imageio.Batches(context.Background(), s, imageio.BatchOptions{}, func(*cpu.Worker, *imageio.Batch) error { return nil })
			if !errors.Is(err, imageio.ErrInput) || !strings.Contains(err.Error(), "cut or damaged") {
				t.Errorf("%s on standard input: %v", p, err)
			}
		}
	}
}

// A member that claims or holds more than the limit is bad, and costs no memory.
func TestArchiveLimits(t *testing.T) {
	p := pngBytes(t, noisy(4, 4, 1))
	bomb := append(bytes.Clone(p), make([]byte, 4<<20)...)
	o := imageio.Options{MaxFileBytes: 1 << 20}
	refuse(t, zipOf(t, map[string][]byte{"a.png": p, "bomb.png": bomb}), o, "bomb.png", "the limit is 1048576")
	dir := t.TempDir()
	tarred := tarBytes(t, []string{"a.png", "bomb.png"}, func(n string) []byte {
		return map[string][]byte{"a.png": p, "bomb.png": bomb}[n]
	})
	write(t, dir, map[string][]byte{"x.tgz": gzipped(t, tarred)})
	refuse(t, filepath.Join(dir, "x.tgz"), o, "bomb.png", "the limit is 1048576")

	// A header of 1 TiB over three bytes of data.
	var lie bytes.Buffer
	w := tar.NewWriter(&lie)
	if err := w.WriteHeader(&tar.Header{Name: "a.png", Size: 1 << 29, Mode: 0o644, Format: tar.FormatGNU}); err != nil {
		t.Fatal(err)
	}
	lie.WriteString("abc")
	write(t, dir, map[string][]byte{"lie.tar": lie.Bytes()})
	refuse(t, filepath.Join(dir, "lie.tar"), imageio.Options{}, "cut or damaged inside a.png")
}

func TestArrays(t *testing.T) {
	dir := t.TempDir()
	save := func(name string, entries ...tensor.NPZEntry) string {
		p := filepath.Join(dir, name)
		var err error
		if strings.HasSuffix(name, ".npy") {
			err = tensor.WriteNPYFile(p, entries[0].Array)
		} else {
			err = tensor.WriteNPZ(p, entries, true)
		}
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	arr := func(dt tensor.DType, shape ...int) *tensor.Array {
		a := &tensor.Array{DType: dt, Shape: shape}
		a.Data = make([]byte, a.Len()*dt.Size())
		for i := range a.Data {
			a.Data[i] = byte(i * 7 % 251)
		}
		return a
	}
	rgb := arr(tensor.U8, 5, 4, 3, 3)
	labels := &tensor.Array{DType: tensor.I64, Shape: []int{5}, Data: make([]byte, 40)}
	labels.Data[8*3] = 7
	read := func(s imageio.Source) (pix []byte, classes []int) {
		if err := s.Each(context.Background(), func(it imageio.Item) error {
			m, err := it.Load()
			if err == nil {
				pix = append(pix, m.Pix...)
				classes = append(classes, it.Label)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return pix, classes
	}
	pix, classes := read(mustOpen(t, save("a.npz", tensor.NPZEntry{Name: "arr_0", Array: rgb}, tensor.NPZEntry{Name: "arr_1", Array: labels}), imageio.Options{Labels: true}))
	if !bytes.Equal(pix, rgb.Data) || fmt.Sprint(classes) != "[0 0 0 7 0]" {
		t.Errorf("npz: labels %v, same pixels %v", classes, bytes.Equal(pix, rgb.Data))
	}
	pix, classes = read(mustOpen(t, save("a.npy", tensor.NPZEntry{Array: rgb}), imageio.Options{}))
	if !bytes.Equal(pix, rgb.Data) || classes[0] != -1 {
		t.Errorf("npy: labels %v, same pixels %v", classes, bytes.Equal(pix, rgb.Data))
	}
	gray := arr(tensor.U8, 2, 3, 4)
	pix, _ = read(mustOpen(t, save("gray.npy", tensor.NPZEntry{Array: gray}), imageio.Options{}))
	for i, v := range gray.Data {
		if pix[3*i] != v || pix[3*i+1] != v || pix[3*i+2] != v {
			t.Fatalf("gray: pixel %d is %v, want %d", i, pix[3*i:][:3], v)
		}
	}
	rgba := arr(tensor.U8, 2, 3, 4, 4)
	pix, _ = read(mustOpen(t, save("rgba.npy", tensor.NPZEntry{Array: rgba}), imageio.Options{}))
	for i := range 24 {
		if !bytes.Equal(pix[3*i:][:3], rgba.Data[4*i:][:3]) {
			t.Fatalf("alpha: pixel %d is %v, want %v", i, pix[3*i:][:3], rgba.Data[4*i:][:3])
		}
	}
	refuse(t, save("float.npy", tensor.NPZEntry{Array: arr(tensor.F32, 5, 4)}), imageio.Options{}, "float32 [5 4]", "uint8 [n, height, width, 3]")
	refuse(t, save("first.npy", tensor.NPZEntry{Array: arr(tensor.U8, 5, 3, 32, 32)}), imageio.Options{}, "channels first")
	refuse(t, save("none.npy", tensor.NPZEntry{Array: arr(tensor.U8, 0, 4, 4, 3)}), imageio.Options{}, "0 images")
	refuse(t, save("stats.npz", tensor.NPZEntry{Name: "mu", Array: arr(tensor.F64, 3)}, tensor.NPZEntry{Name: "sigma", Array: arr(tensor.F64, 3, 3)}), imageio.Options{}, "it has mu, sigma")
	refuse(t, save("few.npz", tensor.NPZEntry{Name: "arr_0", Array: rgb}, tensor.NPZEntry{Name: "arr_1", Array: arr(tensor.U8, 4)}), imageio.Options{Labels: true}, "4 labels for 5 images")
	for _, name := range []string{"a.npz", "a.npy"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		write(t, dir, map[string][]byte{"cut-" + name: b[:len(b)-60]})
		refuse(t, filepath.Join(dir, "cut-"+name), imageio.Options{}, "cut")
	}
}

func TestOpenCancelled(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string][]byte{"a.png": pngBytes(t, noisy(4, 4, 1)), "b/c.png": pngBytes(t, noisy(4, 4, 2))})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, input := range []string{dir, makeZip(t, dir), makeTar(t, dir, false), makeTar(t, dir, true)} {
		if _, err := imageio.OpenContext(ctx, input, imageio.Options{}); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", input, err)
		}
	}
}

func TestOddNamesInMessages(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string][]byte{"a\n\x1b[2J.png": nil, "plain é.png": nil})
	_, err := imageio.Open(dir, imageio.Options{})
	if err == nil || strings.Count(err.Error(), "\n") != 2 || !strings.Contains(err.Error(), `a\n\x1b[2J.png": empty file`) || !strings.Contains(err.Error(), "plain é.png: empty") {
		t.Errorf("message %q", err)
	}
}

// A pipe that stays silent, before its first byte or in the middle of a
// picture, does not hold up a cancelled run.
func TestSilentPipe(t *testing.T) {
	p := pngBytes(t, noisy(30, 30, 1))
	whole := tarBytes(t, []string{"a.png", "b.png"}, func(string) []byte { return p })
	for _, sent := range []int{0, 100, len(whole) / 2} {
		r, w := io.Pipe()
		ctx, cancel := context.WithCancel(context.Background())
		go func() {
			if _, err := w.Write(whole[:sent]); err != nil {
				t.Error(err)
			}
			cancel() // the writer stays open and says nothing more
		}()
		s := mustOpen(t, "-", imageio.Options{Stdin: r})
		_, err := imageio.Batches(ctx, s, imageio.BatchOptions{}, func(*cpu.Worker, *imageio.Batch) error { return nil })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("after %d bytes: %v", sent, err)
		}
		w.Close()
		r.Close()
	}
}
