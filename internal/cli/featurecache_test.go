package cli

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fidlab/fidlab/fid/extract"
)

func openedCache(t *testing.T, dir string) (*featureCache, *[]string) {
	t.Helper()
	e, err := extract.Open("pixels", extract.Options{})
	if err != nil {
		t.Fatal(err)
	}
	said := new([]string)
	c := &featureCache{say: func(f string, args ...any) { *said = append(*said, fmt.Sprintf(f, args...)) }, at: map[[sha256.Size]byte]cachedRow{}}
	if err := c.open(func(string) string { return dir }, e); err != nil {
		t.Fatal(err)
	}
	return c, said
}

func pictureKey(i int) [sha256.Size]byte { return sha256.Sum256([]byte(fmt.Sprint(i))) }

// What was written is read back to the bit, by a later process too; a cut record and a damaged one are as if they were not there.
func TestFeatureCache(t *testing.T) {
	dir := t.TempDir()
	c, _ := openedCache(t, dir)
	const n = blockRows + 3
	row := func(i int) []float32 { return []float32{float32(i), 1 / float32(i+1), -3} }
	for i := range n {
		c.Store(pictureKey(i), row(i))
	}
	folder := c.dir
	files, _ := filepath.Glob(filepath.Join(folder, "*"))
	if st, err := os.Stat(files[0]); err != nil || st.Size() != blockRows*(recordHead+3*4+4) {
		t.Fatalf("before the end: %v, %v; want %d records on the disk", st, err, blockRows)
	}
	c.close()
	has := func(c *featureCache, i int) bool {
		got := make([]float32, 3)
		return c.Lookup(pictureKey(i), got) && slices.Equal(got, row(i))
	}
	c, _ = openedCache(t, dir)
	for i := range n {
		if !has(c, i) {
			t.Errorf("row %d is gone", i)
		}
	}
	if has(c, n) || c.Lookup(pictureKey(0), make([]float32, 2)) {
		t.Error("a row that nobody stored, or of another length")
	}
	c.close()

	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	const record = recordHead + 3*4 + 4
	b[5*record+recordHead+2] ^= 1 // one bit of row 5
	if err := os.WriteFile(files[0], b[:len(b)-7], 0o666); err != nil {
		t.Fatal(err)
	}
	c, _ = openedCache(t, dir)
	defer c.close()
	for i := range n {
		if want := i != 5 && i != n-1; has(c, i) != want {
			t.Errorf("after damage: row %d is there: %v", i, !want)
		}
	}
}

// A folder that cannot be written costs the cache alone.
func TestFeatureCacheWithoutDisk(t *testing.T) {
	c, said := openedCache(t, t.TempDir())
	if err := os.RemoveAll(c.dir); err != nil {
		t.Fatal(err)
	}
	for i := range 3 * blockRows {
		c.Store(pictureKey(i), []float32{1})
	}
	c.close()
	if len(*said) != 1 || !strings.Contains((*said)[0], "features are not kept from here on") {
		t.Errorf("said %q", *said)
	}
}

func TestTrim(t *testing.T) {
	dir := t.TempDir()
	for i, name := range []string{"b.rows", "a.rows", "c.rows", "other"} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, make([]byte, 100), 0o666); err != nil {
			t.Fatal(err)
		}
		at := time.Date(2020, 1, 1+i, 0, 0, 0, 0, time.UTC)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	if err := trim(dir, 150); err != nil {
		t.Fatal(err)
	}
	left, _ := filepath.Glob(filepath.Join(dir, "*"))
	if len(left) != 2 || filepath.Base(left[0]) != "c.rows" || filepath.Base(left[1]) != "other" {
		t.Errorf("left: %v; want the newest, and what is not ours", left)
	}
}
