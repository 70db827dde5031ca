package cli

import (
	"context"
	"errors"
	"io/fs"
	"strings"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/models/dit"
	"github.com/fidlab/fidlab/models/unet"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/sampler/network"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/tensor"
	"github.com/fidlab/fidlab/train"
)

// isCheckpoint tells whether a model's name is that of a checkpoint.
func isCheckpoint(name string) bool {
	return strings.HasSuffix(strings.ToLower(name), ".safetensors")
}

// savedAt opens a checkpoint; the error of one that is not there is absent. The caller closes it.
func savedAt(path, absent string) (*train.Saved, error) {
	s, err := train.OpenSaved(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, inputf("%s", absent)
	case err != nil:
		return nil, &inputError{err}
	}
	return s, nil
}

// averageOf is the decay of the average that is asked for; below 0 stands for the first that there is.
func averageOf(s *train.Saved, decay float64) float64 {
	if decay < 0 {
		return s.Averages()[0]
	}
	return decay
}

// openSaved opens a checkpoint and finds the task that made it; the caller closes it.
func openSaved(name string) (*train.Saved, systems.Task, error) {
	saved, err := savedAt(name, "model "+name+": no such file; fidlab train makes checkpoints")
	if err != nil {
		return nil, systems.Task{}, err
	}
	task, ok := systems.FindTask(saved.Job)
	if !ok {
		saved.Close() // was only read
		return nil, task, inputf("model %s: it is of %s, which this program does not know; fidlab train --list names what it does", name, saved.Job)
	}
	if task.Open == nil {
		saved.Close() // likewise
		if task.Draws != "" {
			return nil, task, inputf("model %s: it is of %s, which is no denoiser; %s draws from it", name, saved.Job, task.Draws)
		}
		return nil, task, inputf("model %s: it is of %s, which draws no pictures", name, saved.Job)
	}
	return saved, task, nil
}

// openTrained opens the network of a checkpoint with the average of a decay; below 0 stands for the first that there is.
func openTrained(name string, decay float64) (*systems.Trained, *train.Saved, error) {
	saved, task, err := openSaved(name)
	if err != nil {
		return nil, nil, err
	}
	defer saved.Close()
	net, err := task.Open(gpu.CPU(), saved, averageOf(saved, decay))
	if err != nil {
		return nil, nil, &inputError{err}
	}
	return net, saved, nil
}

// trainedPath is the path that a checkpoint's network was trained on.
func trainedPath(name string) (diffusion.Path, error) {
	saved, task, err := openSaved(name)
	if err != nil {
		return nil, err
	}
	defer saved.Close()
	path, err := task.Path(saved)
	if err != nil {
		return nil, &inputError{err}
	}
	return path, nil
}

// trainedRule is how the levels of a checkpoint's network are placed where none is asked for, "" where the task does not say.
func trainedRule(name string) string {
	saved, task, err := openSaved(name)
	if err != nil {
		return "" // trainedPath says so
	}
	saved.Close() // was only read
	return task.Grid
}

// openCheckpoint opens a network that was trained here.
func openCheckpoint(_ context.Context, a *app, o opening) (*model, error) {
	return openCheckpointAt(a, o, o.model)
}

// openCheckpointAt is openCheckpoint of a file that the model's name stands for.
func openCheckpointAt(a *app, o opening, path string) (*model, error) {
	net, saved, err := openTrained(path, o.net.average)
	if err != nil {
		return nil, err
	}
	sum, err := tensor.FileSHA256(path)
	if err != nil {
		return nil, &inputError{err}
	}
	a.detail("%s: %s at step %d", path, saved.Job, saved.Step)
	out := &model{
		name: o.model, sha256: sum, den: network.Denoiser(net.Net, net.Path, net.Pred, network.Options{Batch: 32}),
		shape: net.Shape, lo: net.Lo, hi: net.Hi, chw: true, pred: net.Pred.String(), prompt: net.Prompt, kernel: net.Kernel,
	}
	if n := net.Net.Takes().Classes; n > 0 {
		for k := range n {
			out.classes = append(out.classes, k)
		}
		out.classes, out.classNames = append(out.classes, -1), net.Names
	}
	switch net.Net.(type) {
	case *unet.UNet, *dit.Net:
		out.layers = func(int) (sampler.Layered, error) {
			return network.NewLayered(net.Net, net.Path, net.Pred, network.Options{Batch: 32})
		}
	}
	return out, nil
}
