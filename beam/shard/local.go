package shard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/io/filesystem"

	"github.com/fidlab/fidlab/fid"
)

// Local gives a file or folder on this machine that holds what path names, and a
// function that removes it where it is a copy.
func Local(ctx context.Context, name string) (local string, done func(), err error) {
	if !remote(name) {
		return name, func() {}, nil
	}
	store, err := filesystem.New(ctx, name)
	if err != nil {
		return "", nil, inputf("%s: %w", name, err)
	}
	defer store.Close()
	dir, err := os.MkdirTemp("", "fidlab-shard-")
	if err != nil {
		return "", nil, err
	}
	done = func() { os.RemoveAll(dir) }
	local = filepath.Join(dir, path.Base(name)) // readers look at the ending
	if err := copyFrom(ctx, store, name, local); err != nil {
		done()
		return "", nil, err
	}
	return local, done, nil
}

func copyFrom(ctx context.Context, store filesystem.Interface, name, local string) error {
	r, err := store.OpenRead(ctx, name)
	if err != nil {
		return inputf("%s: %w", name, err)
	}
	defer r.Close()
	w, err := os.Create(local)
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, r); err != nil {
		w.Close()
		return fmt.Errorf("%s: copying it to %s: %w", name, local, err)
	}
	return w.Close()
}

// Put writes a file of this machine to name, so that name holds the whole of it
// or what it held before.
func Put(ctx context.Context, local, name string) error {
	store, err := filesystem.New(ctx, name)
	if err != nil {
		return inputf("%s: %w", name, err)
	}
	defer store.Close()
	r, err := os.Open(local)
	if err != nil {
		return err
	}
	defer r.Close()
	to := name
	if !remote(name) { // a store commits when it is closed
		to = fmt.Sprintf("%s.%x.tmp", name, rand.Uint64()) // another try may be under way
	}
	w, err := store.OpenWrite(ctx, to)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	_, err = io.Copy(w, r)
	if err = errors.Join(err, w.Close()); err == nil && to != name {
		err = os.Rename(to, name)
	}
	if err != nil {
		if to != name {
			os.Remove(to)
		}
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// record is what lies beside feature vectors and tells how they were made, as
// fidlab features writes it; nil where there is none.
func record(ctx context.Context, name string) (*fid.Provenance, error) {
	beside := name + ".json"
	var raw []byte
	var err error
	if !remote(name) {
		if raw, err = os.ReadFile(beside); errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
	} else {
		store, ferr := filesystem.New(ctx, beside)
		if ferr != nil {
			return nil, inputf("%s: %w", beside, ferr)
		}
		defer store.Close()
		if found, ferr := store.List(ctx, beside); ferr != nil || len(found) == 0 {
			return nil, ferr
		}
		raw, err = filesystem.Read(ctx, store, beside)
	}
	if err != nil {
		return nil, inputf("%s: %w", beside, err)
	}
	p := new(fid.Provenance)
	if err := json.Unmarshal(raw, p); err != nil {
		return nil, inputf("%s: not the record of how %s was made: %w; remove it to go on without", beside, name, err)
	}
	return p, nil
}
