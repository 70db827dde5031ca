package imageio

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/fidlab/fidlab/tensor"
)

// arraySource reads the pictures of a uint8 array [n, h, w, c] row by row; the
// array is never in memory as a whole.
type arraySource struct {
	title    string
	path     string
	member   string // array of an .npz; "" for an .npy
	n, h, w  int
	channels int
	labels   []int
}

// openArray opens an .npy of pictures, or an .npz whose arr_0 (or only array,
// or "images") are pictures and whose arr_1 (or "labels") are class numbers.
func openArray(path string, npy bool, o Options) (Source, error) {
	s := &arraySource{title: path + " (array)", path: path}
	if !npy {
		z, err := tensor.OpenNPZ(path)
		if err != nil {
			return nil, inputf("%w", err)
		}
		defer z.Close()
		if s.member = imagesOf(z.Names()); s.member == "" {
			return nil, inputf("%s: no array of images; it has %s; want arr_0, uint8 [n, height, width, 3]",
				path, strings.Join(z.Names(), ", "))
		}
		for _, name := range []string{"arr_1", "labels"} {
			if o.Labels && z.Has(name) {
				a, err := z.Read(name)
				if err != nil {
					return nil, inputf("%w", err)
				}
				if s.labels, err = classNumbers(a); err != nil {
					return nil, inputf("%s: %s: %w", path, name, err)
				}
				break
			}
		}
	}
	r, closeFile, err := s.reader()
	if err != nil {
		return nil, err
	}
	defer func() { _ = closeFile() }() // it was only read from
	if err := s.shape(r, o.Decode.MaxPixels); err != nil {
		return nil, err
	}
	if s.labels != nil && len(s.labels) != s.n {
		return nil, inputf("%s: %d labels for %d images", path, len(s.labels), s.n)
	}
	return s, nil
}

// imagesOf chooses the array of pictures among an archive's names.
func imagesOf(names []string) string {
	for _, want := range []string{"arr_0", "images", "x"} {
		if slices.Contains(names, want) {
			return want
		}
	}
	if len(names) == 1 {
		return names[0]
	}
	return ""
}

func (s *arraySource) reader() (*tensor.NPYReader, func() error, error) {
	if s.member == "" {
		f, err := os.Open(s.path)
		if err != nil {
			return nil, nil, openError(s.path, err)
		}
		st, err := f.Stat()
		if err != nil {
			f.Close()
			return nil, nil, openError(s.path, err)
		}
		r, err := tensor.NewNPYReader(f, st.Size())
		if err != nil {
			f.Close()
			return nil, nil, inputf("%s: %w", s.path, err)
		}
		// The reader stands behind the header now: the rest must hold the array.
		if pos, err := f.Seek(0, io.SeekCurrent); err == nil && len(r.Shape()) > 0 {
			if need := pos + int64(r.Shape()[0])*int64(r.RowBytes()); need > st.Size() {
				f.Close()
				return nil, nil, inputf("%s: cut short: the header asks for %d bytes, there are %d", s.path, need, st.Size())
			}
		}
		return r, f.Close, nil
	}
	z, err := tensor.OpenNPZ(s.path)
	if err != nil {
		return nil, nil, inputf("%w", err)
	}
	r, err := z.Open(s.member)
	if err != nil {
		z.Close()
		return nil, nil, inputf("%w", err)
	}
	return r, func() error { r.Close(); return z.Close() }, nil
}

// shape takes the array's dimensions, or says what is wrong with them.
func (s *arraySource) shape(r *tensor.NPYReader, maxPixels int) error {
	d := r.Shape()
	if r.DType() != tensor.U8 || len(d) != 3 && len(d) != 4 {
		return inputf("%s: holds %v %v; want images as uint8 [n, height, width, 3]", s.path, r.DType(), d)
	}
	s.n, s.h, s.w, s.channels = d[0], d[1], d[2], 1
	if len(d) == 4 {
		s.channels = d[3]
	}
	if s.channels != 1 && s.channels != 3 && s.channels != 4 {
		hint := ""
		if d[1] == 1 || d[1] == 3 {
			hint = "; it looks like channels first: transpose it"
		}
		return inputf("%s: shape %v has %d channels; want [n, height, width, 1, 3 or 4]%s", s.path, d, s.channels, hint)
	}
	if s.n == 0 {
		return emptyError(s.title, &Found{})
	}
	if err := checkDims(int64(s.w), int64(s.h), maxPixels); err != nil {
		return inputf("%s: %w", s.path, err)
	}
	return nil
}

// classNumbers turns an integer array of one dimension into labels.
func classNumbers(a *tensor.Array) ([]int, error) {
	size := a.DType.Size()
	if len(a.Shape) != 1 || a.DType < tensor.U8 || a.DType > tensor.I64 {
		return nil, fmt.Errorf("is %v %v; want class numbers, integers [n]", a.DType, a.Shape)
	}
	labels := make([]int, a.Len())
	for i := range labels {
		var word [8]byte
		copy(word[:], a.Data[i*size:][:size])
		if signed := a.DType == tensor.I8 || a.DType == tensor.I16 || a.DType == tensor.I32; signed && word[size-1] >= 0x80 {
			return nil, fmt.Errorf("label %d is negative", i)
		}
		v := binary.LittleEndian.Uint64(word[:])
		if v > 1<<31 {
			return nil, fmt.Errorf("label %d is %d; want 0 to 2^31", i, v)
		}
		labels[i] = int(v)
	}
	return labels, nil
}

func (s *arraySource) Describe() string { return s.title }
func (s *arraySource) Len() int         { return s.n }

func (s *arraySource) Each(ctx context.Context, yield func(Item) error) error {
	r, closeFile, err := s.reader()
	if err != nil {
		return err
	}
	defer func() { _ = closeFile() }() // it was only read from
	base := filepath.Base(s.path)
	for i := range s.n {
		if err := ctx.Err(); err != nil {
			return err
		}
		m := newImage(s.w, s.h)
		m.Facts = Facts{Format: "raw", Decoder: "npy", Gray: s.channels == 1, Alpha: s.channels == 4}
		row := m.Pix
		if s.channels != 3 {
			row = make([]byte, s.w*s.h*s.channels)
		}
		if _, err := r.ReadRows(1, row); err != nil {
			return inputf("%s: image %d: %w", s.path, i, err)
		}
		if s.channels != 3 {
			g, b := 1, 2
			if s.channels == 1 {
				g, b = 0, 0
			}
			m.rows(row, s.w*s.channels, s.channels, g, b)
		}
		item := Item{Name: fmt.Sprintf("%s[%d]", base, i), Label: -1, Load: func() (*Image, error) { return m, nil }}
		if s.labels != nil {
			item.Label = s.labels[i]
		}
		if err := yield(item); err != nil {
			return err
		}
	}
	return nil
}
