package tensor

import (
	"archive/zip"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"sort"
	"strings"
	"time"
)

// NPZ is an open .npz archive: a zip of .npy members.
type NPZ struct {
	path    string
	members map[string]*zip.File
	file    *os.File // nil when the bytes are the caller's
}

// OpenNPZ opens the archive at path; Close it. A cut archive has lost its
// directory, which is at the end, and is refused here.
func OpenNPZ(path string) (*NPZ, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("tensor: %w", err)
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("tensor: %w", err)
	}
	if !st.Mode().IsRegular() {
		f.Close()
		return nil, fmt.Errorf("tensor: %s: not a regular file; an .npz archive must be one, its directory is at the end", path)
	}
	z, err := NewNPZ(path, f, st.Size())
	if err != nil {
		f.Close()
		return nil, err
	}
	z.file = f
	return z, nil
}

// NewNPZ opens an archive of size bytes that r holds; name is for messages.
func NewNPZ(name string, r io.ReaderAt, size int64) (*NPZ, error) {
	zr, err := zip.NewReader(r, size)
	if errors.Is(err, zip.ErrInsecurePath) {
		err = nil // names are keys here and never become paths
	}
	if err != nil {
		return nil, fmt.Errorf("tensor: %s: not a zip archive, or cut (%d bytes): %w; copy or write it again", name, size, err)
	}
	z := &NPZ{path: name, members: map[string]*zip.File{}}
	for _, f := range zr.File {
		if !strings.HasSuffix(f.Name, ".npy") {
			continue
		}
		key := strings.TrimSuffix(f.Name, ".npy")
		if z.members[key] != nil {
			return nil, fmt.Errorf("tensor: %s: two members are named %q", name, key)
		}
		z.members[key] = f
	}
	return z, nil
}

// Close closes the file that OpenNPZ opened.
func (z *NPZ) Close() error {
	if z.file == nil {
		return nil
	}
	return z.file.Close()
}

// Path is the name the archive was opened under.
func (z *NPZ) Path() string { return z.path }

// Names lists the arrays in alphabetical order, without ".npy".
func (z *NPZ) Names() []string {
	names := make([]string, 0, len(z.members))
	for n := range z.members {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}

// Has tells whether the archive has an array of that name.
func (z *NPZ) Has(name string) bool { return z.members[name] != nil }

// Open streams one array; close the reader. Its checksum is compared after the
// last row.
func (z *NPZ) Open(name string) (*NPYReader, error) {
	f := z.members[name]
	if f == nil {
		return nil, fmt.Errorf("tensor: %s: no array %q; it has %s", z.path, name, strings.Join(z.Names(), ", "))
	}
	rc, err := f.Open()
	if err != nil {
		return nil, fmt.Errorf("tensor: %s: %s: %w", z.path, name, err)
	}
	limit := int64(math.MaxInt64)
	if f.UncompressedSize64 < math.MaxInt64 {
		limit = int64(f.UncompressedSize64)
	}
	n, err := NewNPYReader(rc, limit)
	if err != nil {
		rc.Close()
		return nil, fmt.Errorf("%s: %s: %w", z.path, name, err)
	}
	n.strict, n.close = true, rc.Close
	return n, nil
}

// Read returns one array.
func (z *NPZ) Read(name string) (*Array, error) {
	n, err := z.Open(name)
	if err != nil {
		return nil, err
	}
	defer n.Close()
	a, err := n.ReadAll()
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", z.path, name, err)
	}
	return a, nil
}

// NPZEntry is one array of an archive to be written.
type NPZEntry struct {
	Name  string // without ".npy"
	Array *Array
}

// WriteNPZ writes the arrays to path, compressed or stored. The same arrays
// give the same bytes: members keep their order and carry no time. The file
// appears under its name only when complete; an existing one is refused unless
// Overwrite is given.
func WriteNPZ(path string, entries []NPZEntry, compress bool, opt ...FileOption) error {
	return WriteAtomic(path, func(w io.Writer) error { return EncodeNPZ(w, entries, compress) }, opt...)
}

// EncodeNPZ writes the archive to w.
func EncodeNPZ(w io.Writer, entries []NPZEntry, compress bool) error {
	zw := NewNPZWriter(w, compress)
	for _, e := range entries {
		m, err := zw.create(e.Name)
		if err != nil {
			return err
		}
		if err := WriteNPY(m, e.Array); err != nil {
			return err
		}
	}
	return zw.Close()
}

// NPZWriter writes an archive whose arrays come piece by piece.
type NPZWriter struct {
	zw     *zip.Writer
	method uint16
	seen   map[string]bool
}

// NewNPZWriter begins an archive.
func NewNPZWriter(w io.Writer, compress bool) *NPZWriter {
	z := &NPZWriter{zip.NewWriter(w), zip.Store, map[string]bool{}}
	z.zw.RegisterCompressor(zip.Deflate, func(out io.Writer) (io.WriteCloser, error) {
		return flate.NewWriter(out, flate.BestSpeed) // float noise does not shrink further
	})
	if compress {
		z.method = zip.Deflate
	}
	return z
}

func (z *NPZWriter) create(name string) (io.Writer, error) {
	if name == "" || z.seen[name] {
		panic(fmt.Sprintf("tensor: NPZ: member name %q is empty or used twice", name))
	}
	z.seen[name] = true
	return z.zw.CreateHeader(&zip.FileHeader{Name: name + ".npy", Method: z.method, Modified: time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)})
}

// Create begins an array, whose bytes, row by row in little-endian order, are to
// be written before the next Create or Close.
func (z *NPZWriter) Create(name string, dt DType, shape ...int) (io.Writer, error) {
	m, err := z.create(name)
	if err != nil {
		return nil, err
	}
	return m, WriteNPYHeader(m, dt, shape...)
}

// Close ends the archive.
func (z *NPZWriter) Close() error { return z.zw.Close() }
