package cli

import (
	"archive/tar"
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/tensor"
)

// sampleBatch is finished samples, in order.
type sampleBatch struct {
	first    int // number of the first
	pictures []*imageio.Image
	values   []byte // little-endian, where they are asked for
}

// sampleSink is where samples go.
type sampleSink interface {
	put(b sampleBatch) error
	// finish adds the record of the run and ends the file, which gets its name afterwards.
	finish(run []byte) error
}

// sampleKind is what samples become.
type sampleKind struct {
	n        int
	shape    []int // of one
	h, w, c  int   // of a picture
	pictures bool
	lo, hi   float64
	chw      bool                              // planes of one colour
	field    func(dst []float64, gray []uint8) // the model's
	keep     bool                              // the values too
	double   bool
	classes  []int // of each, nil without
	noGrid   bool
	prompts  []string // asked for in turn, nil without
	first    int      // number of the first sample
}

// kindOf is what n samples of a model become; the rest is the command's to say.
func kindOf(m *model, n int) *sampleKind {
	k := &sampleKind{n: n, shape: m.shape, lo: m.lo, hi: m.hi, field: m.field, chw: m.chw}
	k.h, k.w, k.c, k.pictures = m.pictures()
	return k
}

// pixelBytes is the size of one picture.
func (k *sampleKind) pixelBytes() int { return 3 * k.h * k.w }

// valueBytes is the size of one sample's values.
func (k *sampleKind) valueBytes() int { return size(k.shape) * k.dtype().Size() }

func (k *sampleKind) dtype() tensor.DType {
	if k.double {
		return tensor.F64
	}
	return tensor.F32
}

// batch makes pictures and bytes of the states of a finished batch.
func (k *sampleKind) batch(first int, x *gpu.Tensor) sampleBatch {
	b := sampleBatch{first: first}
	v := values(x)
	n := x.Shape()[0]
	per := len(v) / n
	if k.pictures {
		for i := range n {
			b.pictures = append(b.pictures, k.picture(v[i*per:][:per]))
		}
	}
	if !k.keep {
		return b
	}
	all := tensor.FromF64(v, len(v))
	if !k.double {
		all = tensor.FromF32(all.F32(), len(v))
	}
	b.values = all.Data
	return b
}

// folderSink writes 000000.png and so on, grid.png, samples.npy and run.json.
type folderSink struct {
	*sampleKind
	d     *outDir
	sheet []*imageio.Image
	npy   *bufio.Writer
	file  *os.File
}

func newFolderSink(d *outDir, k *sampleKind) (*folderSink, error) {
	s := &folderSink{sampleKind: k, d: d}
	if !k.keep {
		return s, nil
	}
	f, err := os.Create(d.File("samples.npy"))
	if err != nil {
		return nil, err
	}
	s.file, s.npy = f, bufio.NewWriter(f)
	return s, tensor.WriteNPYHeader(s.npy, k.dtype(), append([]int{k.n}, k.shape...)...)
}

func (s *folderSink) put(b sampleBatch) error {
	for i, m := range b.pictures {
		if err := writePNG(s.d.File(pictureName(b.first+i)), m); err != nil {
			return err
		}
		if len(s.sheet) < onSheet {
			s.sheet = append(s.sheet, m)
		}
	}
	if s.npy == nil {
		return nil
	}
	_, err := s.npy.Write(b.values)
	return err
}

func pictureName(i int) string { return fmt.Sprintf("%06d.png", i) }

func (s *folderSink) finish(run []byte) error {
	if s.npy != nil {
		if err := s.npy.Flush(); err != nil {
			return err
		}
		if err := s.file.Close(); err != nil {
			return err
		}
	}
	if s.pictures && !s.noGrid {
		if err := writePNG(s.d.File("grid.png"), contactSheet(s.sheet)); err != nil {
			return err
		}
	}
	if s.pictures && s.prompts != nil {
		if err := os.WriteFile(s.d.File(promptsFile), promptLines(s.prompts, s.first, s.n), 0o666); err != nil {
			return err
		}
	}
	return os.WriteFile(s.d.File(runFile), run, 0o666)
}

// tarSink writes pictures as members of a tar, and run.json after them.
type tarSink struct {
	*sampleKind
	tw  *tar.Writer
	png bytes.Buffer
}

func newTarSink(w io.Writer, k *sampleKind) *tarSink {
	return &tarSink{sampleKind: k, tw: tar.NewWriter(w)}
}

func (s *tarSink) member(name string, data []byte) error {
	// The same samples are the same bytes: no clock, no owner.
	h := &tar.Header{Name: name, Mode: 0o644, Size: int64(len(data)), ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR}
	if err := s.tw.WriteHeader(h); err != nil {
		return err
	}
	_, err := s.tw.Write(data)
	return err
}

func (s *tarSink) put(b sampleBatch) error {
	for i, m := range b.pictures {
		s.png.Reset()
		if err := imageio.EncodePNG(&s.png, m); err != nil {
			return err
		}
		if err := s.member(pictureName(b.first+i), s.png.Bytes()); err != nil {
			return err
		}
	}
	return nil
}

func (s *tarSink) finish(run []byte) error {
	if s.prompts != nil {
		if err := s.member(promptsFile, promptLines(s.prompts, s.first, s.n)); err != nil {
			return err
		}
	}
	if err := s.member(runFile, run); err != nil {
		return err
	}
	return s.tw.Close()
}

// npzSink writes arr_0, uint8 [n, height, width, 3], or samples where they are no
// pictures; arr_1 with the classes; and run, the bytes of run.json.
type npzSink struct {
	*sampleKind
	z *tensor.NPZWriter
	w io.Writer
}

func newNPZSink(w io.Writer, k *sampleKind) (*npzSink, error) {
	s := &npzSink{sampleKind: k, z: tensor.NewNPZWriter(w, false)}
	var err error
	if k.pictures {
		s.w, err = s.z.Create("arr_0", tensor.U8, k.n, k.h, k.w, 3)
	} else {
		s.w, err = s.z.Create("samples", k.dtype(), append([]int{k.n}, k.shape...)...)
	}
	return s, err
}

func (s *npzSink) put(b sampleBatch) error {
	if !s.pictures {
		_, err := s.w.Write(b.values)
		return err
	}
	for _, m := range b.pictures {
		if _, err := s.w.Write(m.Pix); err != nil {
			return err
		}
	}
	return nil
}

func (s *npzSink) finish(run []byte) error {
	if s.classes != nil {
		w, err := s.z.Create("arr_1", tensor.I64, s.n)
		if err != nil {
			return err
		}
		for _, c := range s.classes {
			if err := binary.Write(w, binary.LittleEndian, int64(c)); err != nil {
				return err
			}
		}
	}
	w, err := s.z.Create("run", tensor.U8, len(run))
	if err != nil {
		return err
	}
	if _, err := w.Write(run); err != nil {
		return err
	}
	return s.z.Close()
}

// sampleTarget is -o of fidlab sample.
type sampleTarget struct {
	path      string
	overwrite bool
}

// form is folder, tar, npz or stdout.
func (t *sampleTarget) form() string {
	switch ext := strings.ToLower(filepath.Ext(t.path)); {
	case t.path == "-":
		return "stdout"
	case ext == ".tar" || ext == ".npz":
		return ext[1:]
	}
	return "folder"
}

// check tells early what would keep the samples from being written.
func (t *sampleTarget) check() error {
	switch t.form() {
	case "stdout":
		return nil
	case "folder":
		return checkOutDir(t.path, t.overwrite)
	}
	f := target{path: t.path, overwrite: t.overwrite}
	return f.check()
}

// write lets draw fill a sink of the target's form, and gives the result its
// name when draw has succeeded.
func (t *sampleTarget) write(a *app, k *sampleKind, draw func(sampleSink) error) error {
	f := target{path: t.path, overwrite: t.overwrite}
	switch t.form() {
	case "stdout":
		return draw(newTarSink(a.stdout, k))
	case "tar":
		return tensor.WriteAtomic(t.path, func(w io.Writer) error { return draw(newTarSink(w, k)) }, f.options()...)
	case "npz":
		return tensor.WriteAtomic(t.path, func(w io.Writer) error {
			s, err := newNPZSink(w, k)
			if err != nil {
				return err
			}
			return draw(s)
		}, f.options()...)
	}
	return writeFolder(t.path, t.overwrite, k, draw)
}

// writeFolder draws into a folder, which gets its name when all is there.
func writeFolder(path string, overwrite bool, k *sampleKind, draw func(sampleSink) error) error {
	d, err := newOutDir(path, overwrite)
	if err != nil {
		return err
	}
	defer d.Abort()
	s, err := newFolderSink(d, k)
	if err != nil {
		return err
	}
	if err := draw(s); err != nil {
		if s.file != nil {
			s.file.Close() // the folder goes, and Windows keeps open files
		}
		return err
	}
	return d.Commit()
}
