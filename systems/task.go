package systems

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"github.com/fidlab/fidlab/data/folder"
	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/train"
)

// Task is a network to be trained: fidlab train NAME.
type Task struct {
	Name   string
	Text   string // what it learns, in a line
	Source string // of the network and of how it is trained
	// Settings are the defaults; the steps are those of a few minutes.
	Settings train.Settings
	// Every so many steps, by default: a line of the log, a checkpoint, a preview, an evaluation.
	LogEvery, SaveEvery, SampleEvery, EvalEvery int
	// Make makes the job; it reads the data and starts the weights. A task has it, MakeFrom or MakeOn.
	Make func(ctx context.Context, dev *gpu.Device, s train.Settings) (*train.Job, error)
	// MakeFrom is Make of a task that learns a set which the user brings.
	MakeFrom func(dev *gpu.Device, s train.Settings, set *folder.Set) (*train.Job, error)
	// MakeOn is Make of a task whose network stands on another one, that of the task On where none is named: base is a checkpoint of
	// that one, or of a run of the task itself, which keeps what it stands on or where that is.
	MakeOn func(ctx context.Context, dev *gpu.Device, s train.Settings, base *train.Saved) (*train.Job, error)
	On     string
	// Path is the path that a checkpoint's network was trained on; nil with Open where it draws no pictures.
	Path func(s *train.Saved) (diffusion.Path, error)
	// Draws is the command that draws from a checkpoint, where fidlab sample does not; "".
	Draws string
	// Open makes the network of a checkpoint of the job, with its weights or their average of a decay (see train.Saved.Load).
	Open func(dev *gpu.Device, s *train.Saved, decay float64) (*Trained, error)
	// Grid is the rule by which its samplers place their levels, where none is asked for; "": the path's usual one.
	Grid string
	// Data are the pictures that it learns and those that it is tried on, of a task with data of its own; nil for others.
	Data func() (learn, held *train.Examples, err error)
	// Spans says that it learns changes over a stretch of time (train.Settings.Span).
	Spans bool
	// Sequences says that its examples are sequences of pictures (train.Settings.Seq).
	Sequences bool
	// Kernels says that it learns to remove noise of any kernel (train.Settings.Kernel).
	Kernels bool
}

// Trained is a network that draws pictures.
type Trained struct {
	Net    models.Net
	Path   diffusion.Path
	Pred   diffusion.Pred
	Shape  []int           // of a picture, [C, H, W]
	Lo, Hi float64         // the values of black and white
	Kernel diffusion.Noise // of the noise that it has learnt to remove; nil: Gaussian
	// Diffusion is how it learnt to remove noise; nil of networks that were trained by something else.
	Diffusion *train.Diffusion
	// Names of the classes; nil where they are numbers alone.
	Names []string
	// Prompt is what the network is told of captions, [n, ...] by name; of the empty caption it is what stands for none. It says
	// which word it does not know. nil: the network takes no captions.
	Prompt func(captions []string) (map[string]*gpu.Tensor, error)
}

var tasks = map[string]Task{}

// RegisterTask adds a task. It panics when the name is taken.
func RegisterTask(t Task) {
	made := 0
	for _, has := range []bool{t.Make != nil, t.MakeFrom != nil, t.MakeOn != nil && t.On != ""} {
		if has {
			made++
		}
	}
	if _, ok := tasks[t.Name]; ok || t.Name == "" || made != 1 || (t.Path == nil) != (t.Open == nil) {
		panic("systems: RegisterTask: " + t.Name + " is registered twice, or lacks its name or functions")
	}
	tasks[t.Name] = t
}

// Tasks are the registered ones by name.
func Tasks() []Task {
	return slices.SortedFunc(maps.Values(tasks), func(a, b Task) int { return cmp.Compare(a.Name, b.Name) })
}

// FindTask is the task of that name.
func FindTask(name string) (Task, bool) {
	t, ok := tasks[name]
	return t, ok
}
