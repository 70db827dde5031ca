package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/fidlab/fidlab/assets"
	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/fid/extract"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/train"
)

// useAssets tells package assets where to look. A folder of --assets must be one, whether it is needed or not.
func (a *app) useAssets() error {
	f := assets.Finder{Dir: a.assets, Getenv: a.env.Getenv}
	assets.SetDefault(f)
	f.Getenv = func(string) string { return "" }
	if _, err := f.Places(); err != nil {
		return &inputError{err}
	}
	return nil
}

// allModels are the kinds of models and, by name, the generators that ship.
func allModels() []modelEntry {
	out := slices.Clone(modelEntries)
	for _, e := range assets.List() {
		if e.Kind == assets.Generator {
			out = append(out, shippedModel(e))
		}
	}
	return out
}

// shippedModel is a checkpoint that ships. Its path is asked for anew each time: --assets is settled late.
func shippedModel(e assets.Entry) modelEntry {
	return modelEntry{
		name: e.Name, summary: e.Text, needs: "assets/" + e.File, source: e.Commands[0],
		match: func(name string) bool { return name == e.Name },
		path: func(string) (diffusion.Path, error) {
			at, err := findAsset(e.Name)
			if err != nil {
				return nil, err
			}
			return trainedPath(at)
		},
		rule: func(string) string {
			at, err := findAsset(e.Name)
			if err != nil {
				return "" // path says so
			}
			return trainedRule(at)
		},
		open: func(_ context.Context, a *app, o opening) (*model, error) {
			at, err := findAsset(e.Name)
			if err != nil {
				return nil, err
			}
			return openCheckpointAt(a, o, at)
		},
	}
}

// findAsset is where a file that ships lies.
func findAsset(name string) (string, error) {
	path, err := assets.Find(name)
	if err != nil {
		return "", &inputError{err}
	}
	return path, nil
}

// fileOrShipped is a file's path as given, or where there is no such file and one ships by that name, that one's.
func fileOrShipped(name string) string {
	if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) {
		if shipped, err := assets.Find(name); err == nil {
			return shipped
		}
	}
	return name
}

// openAnySaved opens a checkpoint of any task, also of one that draws nothing; the caller closes it.
func openAnySaved(path string) (*train.Saved, systems.Task, error) {
	saved, err := train.OpenSaved(path)
	if err != nil {
		return nil, systems.Task{}, err
	}
	task, ok := systems.FindTask(saved.Job)
	if !ok {
		saved.Close() // was only read
		return nil, task, fmt.Errorf("%s: it is of %s, which this program does not know; fidlab train --list names what it does", path, saved.Job)
	}
	return saved, task, nil
}

// opens tells why the network of a checkpoint cannot be made; one that draws nothing is not made.
func opens(task systems.Task, s *train.Saved) error {
	if task.Open == nil {
		return nil
	}
	_, err := task.Open(gpu.CPU(), s, s.Averages()[0])
	return err
}

// checkBuiltIn compares the hash of an encoder that is part of the program.
func checkBuiltIn(e assets.Entry) error {
	got, err := builtInHash(e.Name)
	if err != nil {
		return err
	}
	if got != e.SHA256 {
		return fmt.Errorf("assets: %s: SHA-256 %s is built in, the index has %s; run the program of one commit", e.Name, got, e.SHA256)
	}
	return nil
}

// builtInHash is the hash of the weights of an encoder that is part of the program, which is loaded; "" where it has none.
func builtInHash(name string) (string, error) {
	if name == extract.MotionName {
		x, err := extract.OpenMotion(extract.Options{})
		if err != nil {
			return "", err
		}
		return x.Info().SHA256, nil
	}
	x, err := extract.Open(name, extract.Options{Width: 28, Height: 28})
	if err != nil {
		return "", err
	}
	return x.Info().SHA256, nil
}
