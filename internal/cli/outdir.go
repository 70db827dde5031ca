package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// runFile is the provenance record inside every folder that fidlab writes.
// Only a folder that has one is ever replaced.
const runFile = "run.json"

// outDir is a folder that appears under its name when it is complete.
type outDir struct {
	path    string // the final name
	tmp     string // where files are written until Commit; "" afterwards
	replace bool
}

// checkOutDir tells early what would keep newOutDir from making path.
func checkOutDir(path string, replace bool) error {
	parent := filepath.Dir(filepath.Clean(path))
	if st, err := os.Stat(parent); err != nil {
		return fmt.Errorf("%s: no such folder to write to; make it first: %w", parent, err)
	} else if !st.IsDir() {
		return fmt.Errorf("%s: is not a folder, so %s cannot be made in it", parent, path)
	}
	st, err := os.Lstat(filepath.Clean(path))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !st.IsDir():
		return fmt.Errorf("%s: %w and is not a folder; choose another name", path, fs.ErrExist)
	}
	list, err := os.ReadDir(path)
	switch {
	case err != nil:
		return err
	case len(list) == 0:
		return nil
	case !replace:
		return fmt.Errorf("%s: %w and is not empty; choose another name or give --overwrite", path, fs.ErrExist)
	}
	if _, err := os.Stat(filepath.Join(path, runFile)); err != nil {
		return fmt.Errorf("%s: %w and has no %s, so fidlab did not write it; remove it yourself or choose another name", path, fs.ErrExist, runFile)
	}
	return nil
}

// newOutDir makes the temporary folder beside path. Commit or Abort it.
func newOutDir(path string, replace bool) (*outDir, error) {
	if err := checkOutDir(path, replace); err != nil {
		return nil, err
	}
	d := &outDir{path: filepath.Clean(path), replace: replace}
	d.tmp = d.hidden("tmp")
	if err := os.Mkdir(d.tmp, 0o777); err != nil {
		return nil, fmt.Errorf("%s: cannot make a folder beside it: %w", path, err)
	}
	return d, nil
}

func (d *outDir) hidden(kind string) string {
	return filepath.Join(filepath.Dir(d.path), fmt.Sprintf(".%s.%08x.%s", filepath.Base(d.path), rand.Uint32(), kind))
}

// File is the path to write the named file of the folder to.
func (d *outDir) File(name string) string { return filepath.Join(d.tmp, name) }

// Commit gives the folder its name; an older one of that name goes only when
// the new one is in its place.
func (d *outDir) Commit() error {
	if err := checkOutDir(d.path, d.replace); err != nil { // it may have appeared meanwhile
		return err
	}
	old := ""
	if _, err := os.Lstat(d.path); err == nil {
		old = d.hidden("old")
		if err := os.Rename(d.path, old); err != nil {
			return fmt.Errorf("%s: cannot be replaced: %w", d.path, err)
		}
	}
	if err := os.Rename(d.tmp, d.path); err != nil {
		if old != "" {
			err = errors.Join(err, os.Rename(old, d.path))
		}
		return fmt.Errorf("%s: %w", d.path, err)
	}
	d.tmp = ""
	if old == "" {
		return nil
	}
	if err := os.RemoveAll(old); err != nil {
		return fmt.Errorf("%s: the new folder is in place, but the old one could not be removed: %w", d.path, err)
	}
	return nil
}

// Abort removes what was written, unless Commit succeeded; defer it.
func (d *outDir) Abort() {
	if d.tmp != "" {
		os.RemoveAll(d.tmp) // on the way out of a failure, which is the error to report
	}
}
