package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"

	"github.com/fidlab/fidlab/assets"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/train"
)

// trainOn is the trained network that another one stands on.
type trainOn struct {
	path    string
	resumed string // the checkpoint of the run that is resumed, which keeps what it stands on
}

func (o *trainOn) flags(f *pflag.FlagSet) {
	f.StringVar(&o.path, "on", "", "shapes-base…: stand on the text tower of the checkpoint `F`, refiner: on the flow; a file, or the name of one that ships; default: tiny-clip, mnist-dit, of runs/ or as they ship")
}

// check refuses a network to stand on for a task that stands on none.
func (o *trainOn) check(t systems.Task, given func(flag string) bool) error {
	switch {
	case t.MakeOn == nil && given("on"):
		return usagef("--on: %s stands on no other network", t.Name)
	case given("on") && o.path == "":
		return usagef("--on: want a checkpoint, of %s for example", t.On)
	}
	return nil
}

// open opens the checkpoint; the caller closes it.
func (o *trainOn) open(t systems.Task) (*train.Saved, error) {
	path, err := o.choose(t)
	if err != nil {
		return nil, err
	}
	return savedAt(path, fmt.Sprintf("%s stands on a trained %s, and there is no %s; fidlab train %s makes one, --on says where it is", t.Name, t.On, path, t.On))
}

// choose is the checkpoint's path: the one that was given, that of the run that is resumed, that of runs, the one that ships.
// Where none is there, it is that of runs.
func (o *trainOn) choose(t systems.Task) (string, error) {
	switch {
	case o.path != "":
		return fileOrShipped(o.path), nil
	case o.resumed != "":
		return o.resumed, nil
	}
	ran := filepath.Join("runs", t.On, train.CheckpointName)
	if _, err := os.Stat(ran); !errors.Is(err, fs.ErrNotExist) {
		return ran, nil // what is wrong with it, opening tells
	}
	shipped, err := assets.Find(t.On)
	var unknown *assets.UnknownError
	switch {
	case err == nil:
		return shipped, nil
	case errors.As(err, &unknown), errors.Is(err, fs.ErrNotExist):
		return ran, nil
	}
	return "", &inputError{err}
}
