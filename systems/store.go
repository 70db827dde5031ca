package systems

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/fidlab/fidlab/tensor"
)

// Store keeps outcomes by key.
type Store interface {
	// Get is what was put under a key, nil when there is nothing.
	Get(key string) ([]byte, error)
	Put(key string, b []byte) error
}

// DirStore keeps each outcome as a file of a folder.
type DirStore string

// Get implements Store.
func (d DirStore) Get(key string) ([]byte, error) {
	b, err := os.ReadFile(d.path(key))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// Put implements Store; it makes the folder.
func (d DirStore) Put(key string, b []byte) error {
	if err := os.MkdirAll(string(d), 0o777); err != nil {
		return err
	}
	return tensor.WriteAtomic(d.path(key), func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	}, tensor.Overwrite)
}

func (d DirStore) path(key string) string { return filepath.Join(string(d), key+".json") }
