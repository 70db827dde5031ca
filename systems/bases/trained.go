package bases

import (
	"context"
	"fmt"
	"os"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/train"
)

// TrainHere trains the network of a task of fidlab train from nothing, within a proof, and opens the first average of its weights. Of
// what the task does beside its steps nothing is done, but for the evaluation at the end where evaluate is set. The error of a step
// that was not finite is a *train.FaultError.
func TrainHere(ctx context.Context, name string, s train.Settings, evaluate bool) (*Network, *train.Result, error) {
	task, ok := systems.FindTask(name)
	if !ok || task.Make == nil || task.Open == nil {
		return nil, nil, fmt.Errorf("bases: %s is no network that is trained here and draws pictures", name)
	}
	job, err := task.Make(ctx, gpu.CPU(), s)
	if err != nil {
		return nil, nil, err
	}
	return TrainJob(ctx, task, job, s, evaluate)
}

// TrainJob is TrainHere of a job, whose checkpoints the task opens.
func TrainJob(ctx context.Context, task systems.Task, job *train.Job, s train.Settings, evaluate bool) (*Network, *train.Result, error) {
	job.Sample = nil
	if !evaluate {
		job.Evaluate, job.Scores = nil, nil
	}
	n := &Network{Name: task.Name, Device: gpu.CPU()}
	res, err := TrainThen(ctx, job, s, func(saved *train.Saved) (err error) {
		n.Average = saved.Averages()[0]
		n.Trained, err = task.Open(n.Device, saved, n.Average)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	n.FLOPs = FLOPs(n.Net, n.Shape)
	return n, res, nil
}

// TrainThen trains a job from nothing, within a proof, and hands what it came to, its checkpoint, to use.
func TrainThen(ctx context.Context, job *train.Job, s train.Settings, use func(saved *train.Saved) error) (*train.Result, error) {
	dir, err := os.MkdirTemp("", "fidlab-train-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	res, err := train.Run(ctx, job, train.Config{Settings: s, Dir: dir})
	if err != nil {
		return nil, err
	}
	saved, err := train.OpenSaved(res.Path)
	if err != nil {
		return nil, err
	}
	defer saved.Close()
	return res, use(saved)
}
