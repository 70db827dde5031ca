package tensor

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// FileOption changes how a file is written.
type FileOption int

// Overwrite allows an existing file to be replaced; without it that is an error.
const Overwrite FileOption = 1

// CheckTarget tells early, before hours of work, what would keep WriteAtomic
// from creating path: a missing folder, or something that is there already.
func CheckTarget(path string, opt ...FileOption) error {
	if st, err := os.Stat(filepath.Dir(path)); err != nil {
		return fmt.Errorf("%s: no such folder to write to; make it first: %w", path, err)
	} else if !st.IsDir() {
		return fmt.Errorf("%s: %s is not a folder", path, filepath.Dir(path))
	}
	st, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case st.IsDir():
		return fmt.Errorf("%s: is a folder; name a file", path)
	case special(path, st):
		return fmt.Errorf("%s: is a device or a pipe, which a finished file cannot be renamed to; name a file", path)
	case !overwrite(opt):
		return fmt.Errorf("%s: %w; choose another name or allow overwriting", path, fs.ErrExist)
	}
	return nil
}

// WriteAtomic gives write a temporary file beside path and renames it to path
// when write and the flush to disk succeeded. On an error nothing is left
// behind and an older file under that name is untouched.
func WriteAtomic(path string, write func(io.Writer) error, opt ...FileOption) (err error) {
	if err := CheckTarget(path, opt...); err != nil {
		return err
	}
	tmp := filepath.Join(filepath.Dir(path), fmt.Sprintf(".%s.%08x.tmp", filepath.Base(path), rand.Uint32()))
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return fmt.Errorf("%s: cannot create a file in its folder: %w", path, err)
	}
	defer func() {
		if err != nil {
			f.Close() // a second close only returns an error
			os.Remove(tmp)
		}
	}()
	buf := bufio.NewWriterSize(f, 1<<20)
	if err := write(buf); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := buf.Flush(); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if !overwrite(opt) {
		// A link, unlike a rename, fails when the name was taken meanwhile.
		if lerr := os.Link(tmp, path); lerr == nil {
			os.Remove(tmp)
			return nil
		} else if errors.Is(lerr, fs.ErrExist) {
			return fmt.Errorf("%s: %w; choose another name or allow overwriting", path, fs.ErrExist)
		}
	}
	if err := os.Rename(tmp, path); err != nil { // also where the file system has no links
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// special tells whether path is there but neither a regular file nor a link to
// one or to nothing. Replacing a device would break the machine for others.
func special(path string, st fs.FileInfo) bool {
	if st.Mode()&fs.ModeSymlink != 0 {
		to, err := os.Stat(path)
		if err != nil {
			return false
		}
		st = to
	}
	return !st.Mode().IsRegular()
}

func overwrite(opt []FileOption) bool {
	for _, o := range opt {
		if o == Overwrite {
			return true
		}
	}
	return false
}

// FileSHA256 is the hash of a file's bytes in hexadecimal.
func FileSHA256(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}
