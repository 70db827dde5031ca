package ddo

import (
	"context"
	"fmt"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/systems/bases"
	"github.com/fidlab/fidlab/tensor"
	"github.com/fidlab/fidlab/train"
)

// Opened is a checkpoint of fidlab train as Finetune takes it.
type Opened struct {
	Base        *Base
	Learn, Held *train.Examples // the task's data
	Settings    train.Settings  // of its training
	Shape       []int           // of a picture
	SHA256      string          // of the checkpoint
}

// Open makes a Base of a checkpoint whose network removes noise, with its weights or their average of a decay, drawn from by so many
// steps. It refuses other networks, and those that learnt a set of the user's.
func Open(dev *gpu.Device, s *train.Saved, average float64, steps int) (*Opened, error) {
	task, ok := systems.FindTask(s.Job)
	if !ok || task.Open == nil {
		return nil, data.Errorf("ddo: %s is of %s, whose networks have no likelihood here; want one that removes noise, such as mnist-unet", s.Path, s.Job)
	}
	if steps < 1 {
		return nil, data.Errorf("ddo: %d steps of the sampler; want 1 or more", steps)
	}
	open := func() (*bases.Network, error) {
		t, err := task.Open(dev, s, average)
		if err != nil {
			return nil, err
		}
		return &bases.Network{Trained: t, Name: task.Name, Average: average, Device: dev}, nil
	}
	n, err := open()
	if err != nil {
		return nil, err
	}
	switch k := n.Net.Takes(); {
	case len(k.Tokens) > 0 || len(k.Vectors) > 0 || k.Extra > 0:
		return nil, data.Errorf("ddo: %s is told more than classes, captions for example; want a network by class, or of none, such as mnist-unet", task.Name)
	case n.Diffusion == nil:
		return nil, data.Errorf("ddo: %s was not trained to remove noise from data, so that its errors bound no likelihood; want a network that was, such as mnist-unet", task.Name)
	case task.Data == nil:
		return nil, data.Errorf("ddo: %s learnt pictures that are not here; want a network of a task with data of its own, such as mnist-unet", s.Path)
	}
	sum, err := tensor.FileSHA256(s.Path)
	if err != nil {
		return nil, err
	}
	how := *n.Diffusion
	out := &Opened{Settings: s.Settings, Shape: n.Shape, SHA256: sum, Base: &Base{Job: s.Job, Config: s.Config, Sampler: fmt.Sprintf("%s, of %.12s", SamplerOf(steps), sum)}}
	out.Base.New = func() (*Net, error) {
		n, err := open()
		if err != nil {
			return nil, err
		}
		return Denoiser(n, how, steps), nil
	}
	out.Learn, out.Held, err = task.Data()
	return out, err
}

// Encoders that judge pictures of digits by their side.
var encoders = map[int]string{8: "digits-enc", 28: "mnist"}

// Score is the FID of drawn pictures to those of the task that it did not learn, by the built-in encoder of their size.
func (o *Opened) Score(ctx context.Context, env *systems.Env) (Score, error) {
	name := encoders[o.Shape[1]]
	if name == "" || o.Shape[0] != 1 {
		return nil, data.Errorf("ddo: pictures of %v have no built-in encoder here; want gray digits of 8×8 or 28×28", o.Shape)
	}
	j, err := bases.OpenJudgeOf(ctx, env, o.Held.Len(), name, o.Base.Job, o.Learn, o.Held)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, e *train.Examples) (float64, error) { return j.FID(ctx, pictures(e)) }, nil
}
