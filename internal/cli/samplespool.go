package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/fidlab/fidlab/imageio"
)

// sampleSpool keeps finished samples beside the target, so that a run that was
// interrupted goes on where it ended: a folder .NAME.part with the record of the
// run and the bytes of pictures and values, whole samples first.
type sampleSpool struct {
	*sampleKind
	dir            string
	pixels, values *os.File
	done           int // samples that are complete
}

// openSpool opens what an earlier run of the same record has left, or begins.
func openSpool(path string, k *sampleKind, run []byte) (*sampleSpool, error) {
	path = filepath.Clean(path)
	s := &sampleSpool{sampleKind: k, dir: filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".part")}
	old, err := os.ReadFile(filepath.Join(s.dir, runFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := os.Mkdir(s.dir, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(s.dir, runFile), run, 0o666); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, err
	case !bytes.Equal(old, run):
		return nil, fmt.Errorf("%s: holds the samples of another run (%s differs); give that run's options, or remove the folder", s.dir, runFile)
	}
	s.done = k.n
	if _, err := os.Stat(filepath.Join(s.dir, completeFile)); err != nil {
		s.done-- // killed before the last sample's counts were kept
	}
	open := func(name string, size int) (*os.File, error) {
		f, err := os.OpenFile(filepath.Join(s.dir, name), os.O_RDWR, 0o666)
		if errors.Is(err, fs.ErrNotExist) {
			s.done = 0
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		st, err := f.Stat()
		if err != nil {
			return nil, err
		}
		s.done = min(s.done, int(st.Size()/int64(size)))
		return f, nil
	}
	if k.pictures {
		if s.pixels, err = open("pixels", k.pixelBytes()); err != nil {
			return nil, err
		}
	}
	if k.keep {
		if s.values, err = open("values", k.valueBytes()); err != nil {
			return nil, err
		}
	}
	return s, s.cut()
}

// cut drops what is not a whole sample in both files.
func (s *sampleSpool) cut() error {
	for f, size := range map[*os.File]int{s.pixels: s.pixelBytes(), s.values: s.valueBytes()} {
		if f == nil {
			continue
		}
		at := int64(s.done) * int64(size)
		if err := f.Truncate(at); err != nil {
			return err
		}
		if _, err := f.Seek(at, io.SeekStart); err != nil {
			return err
		}
	}
	return nil
}

func (s *sampleSpool) put(b sampleBatch) error {
	if err := s.begin(); err != nil {
		return err
	}
	for _, m := range b.pictures {
		if _, err := s.pixels.Write(m.Pix); err != nil {
			return err
		}
	}
	if s.values == nil {
		return nil
	}
	_, err := s.values.Write(b.values)
	return err
}

// begin makes the files with the first samples: where they are, some samples are.
func (s *sampleSpool) begin() (err error) {
	if s.pictures && s.pixels == nil {
		if s.pixels, err = os.Create(filepath.Join(s.dir, "pixels")); err != nil {
			return err
		}
	}
	if s.keep && s.values == nil {
		s.values, err = os.Create(filepath.Join(s.dir, "values"))
	}
	return err
}

// completeFile is the whole record, once all samples are there.
const completeFile = "complete.json"

// complete keeps the counts of the run, which the last part knows.
func (s *sampleSpool) complete(run *sampleRun) error {
	return os.WriteFile(filepath.Join(s.dir, completeFile), run.json(), 0o666)
}

// completed reads them back.
func (s *sampleSpool) completed(run *sampleRun) error {
	b, err := os.ReadFile(filepath.Join(s.dir, completeFile))
	if err != nil {
		return err
	}
	return json.Unmarshal(b, run)
}

// finish is put's only: replay writes the record.
func (s *sampleSpool) finish([]byte) error { return nil }

// replay hands all samples, which begin with number first, to the sink.
func (s *sampleSpool) replay(first int, out sampleSink) error {
	for _, f := range []*os.File{s.pixels, s.values} {
		if f == nil {
			continue
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
	}
	for i := range s.n {
		b := sampleBatch{first: first + i}
		if s.pixels != nil {
			m := &imageio.Image{Width: s.w, Height: s.h, Pix: make([]uint8, s.pixelBytes())}
			if _, err := io.ReadFull(s.pixels, m.Pix); err != nil {
				return fmt.Errorf("%s: %w", s.pixels.Name(), err)
			}
			b.pictures = []*imageio.Image{m}
		}
		if s.values != nil {
			b.values = make([]byte, s.valueBytes())
			if _, err := io.ReadFull(s.values, b.values); err != nil {
				return fmt.Errorf("%s: %w", s.values.Name(), err)
			}
		}
		if err := out.put(b); err != nil {
			return err
		}
	}
	return nil
}

// close leaves the folder as it is.
func (s *sampleSpool) close() {
	for _, f := range []*os.File{s.pixels, s.values} {
		if f != nil {
			f.Close() // every write was checked
		}
	}
}

// remove is for when the samples are under their name.
func (s *sampleSpool) remove() error {
	s.close()
	return os.RemoveAll(s.dir)
}
