package cli

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/pflag"

	"github.com/fidlab/fidlab/tensor"
)

// target is the file that a command writes: its flags -o and --overwrite.
type target struct {
	path      string
	overwrite bool
}

func (t *target) flags(f *pflag.FlagSet, what string) {
	f.StringVarP(&t.path, "output", "o", "", "write to `FILE`: "+what)
	f.BoolVar(&t.overwrite, "overwrite", false, "replace the file if it exists")
}

// check refuses a missing -o, and tells before the long work what would keep
// the file from being written after it.
func (t target) check() error {
	if t.path == "" {
		return usagef("want -o FILE, the file to write")
	}
	err := tensor.CheckTarget(t.path, t.options()...)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s: file exists; choose another name or give --overwrite", t.path)
	}
	return err
}

func (t target) options() []tensor.FileOption {
	if t.overwrite {
		return []tensor.FileOption{tensor.Overwrite}
	}
	return nil
}
