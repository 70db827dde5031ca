package cli

import (
	"context"
	"slices"

	"github.com/fidlab/fidlab/assets"
	"github.com/fidlab/fidlab/diffusion"
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
