package cli

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/tensor"
)

// An .npy file has no room for provenance, so feature vectors carry theirs in
// a small JSON file beside them, named like them with .json at the end.
func recordPath(npy string) string { return npy + ".json" }

// writeVectors writes both files or leaves both as they were: the record first,
// since it is small, and it goes again when the array cannot be written.
func writeVectors(npy string, x *tensor.Array, p *fid.Provenance, opt ...tensor.FileOption) error {
	before, gone := os.ReadFile(recordPath(npy))
	if err := writeRecord(npy, p, opt...); err != nil {
		return err
	}
	err := tensor.WriteNPYFile(npy, x, opt...)
	switch {
	case err == nil:
		return nil
	case gone != nil:
		return errors.Join(err, os.Remove(recordPath(npy)))
	}
	return errors.Join(err, os.WriteFile(recordPath(npy), before, 0o666))
}

func writeRecord(npy string, p *fid.Provenance, opt ...tensor.FileOption) error {
	return tensor.WriteAtomic(recordPath(npy), func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return e.Encode(p)
	}, opt...)
}

// readRecord is the provenance of the feature vectors, nil where there is none.
func readRecord(npy string) (*fid.Provenance, error) {
	f, err := os.Open(recordPath(npy))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	p := new(fid.Provenance)
	if err := json.NewDecoder(io.LimitReader(f, 1<<20)).Decode(p); err != nil {
		return nil, inputf("%s: not the record of how %s was made: %w; remove it to go on without", recordPath(npy), npy, err)
	}
	return p, nil
}
