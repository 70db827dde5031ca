package train

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/nn"
)

// Settings are what all jobs can be told about how they are trained. They are kept in a
// checkpoint, and a run goes on under the same ones only.
type Settings struct {
	Steps     int       `json:"steps"`            // updates; the schedule is laid over them
	Batch     int       `json:"batch"`            // examples that are computed at a time
	Accum     int       `json:"accum"`            // such batches in a step; 0 is 1
	Optimizer string    `json:"optimizer"`        // one of Optimizers; "" is adamw
	Rate      float64   `json:"rate"`             // learning rate
	Schedule  string    `json:"schedule"`         // one of Schedules; "" is constant
	Warmup    int       `json:"warmup"`           // steps in which the rate rises to the schedule's
	Decay     float64   `json:"decay"`            // of weights; of adam and sgd it is added to gradients
	Clip      float64   `json:"clip"`             // greatest norm of a step's gradient; 0 clips nothing
	EMA       []float64 `json:"ema,omitempty"`    // decays of averages of the weights; samples are drawn with the first
	Skip      int       `json:"skip"`             // steps that may be left out because a gradient is not finite
	Betas     []float64 `json:"betas,omitempty"`  // of adam, adamw, radam, lion and lion16, where they are not the usual ones
	Precision string    `json:"precision"`        // one of Precisions; "" is float32
	Kernel    string    `json:"kernel,omitempty"` // of the noise of jobs that learn to remove it (diffusion.NoiseByName); "": the job's own
	Span      float64   `json:"span,omitempty"`   // of time, that a refiner learns to look ahead at most; 0: the job's own
	Seq       int       `json:"seq,omitempty"`    // pictures of a sequence, of jobs whose examples are sequences; 0: the job's own
	Seeds     Seeds     `json:"seeds"`
}

// Seeds are those of the independent kinds of randomness, so that one can be changed
// while the others stay.
type Seeds struct {
	Init    uint64 `json:"init"` // of weights; the recipe uses it
	Data    uint64 `json:"data"` // order of examples
	Noise   uint64 `json:"noise"`
	Dropout uint64 `json:"dropout"`
}

// SeedsOf are the seeds that one number stands for: all the same, since every purpose has
// streams of its own.
func SeedsOf(seed uint64) Seeds { return Seeds{seed, seed, seed, seed} }

// Optimizers lists the names that Settings knows.
func Optimizers() []string { return []string{"adamw", "adam", "radam", "lion", "lion16", "sgd"} }

// Schedules lists the names that Settings knows: constant; cosine and linear, which fall to zero
// over the steps; one-cycle, which rises over the first 30 % and falls after.
func Schedules() []string { return []string{"constant", "cosine", "linear", "one-cycle"} }

// Precisions lists the names that Settings knows, of what linear layers and convolutions multiply: float32, or operands rounded to
// bfloat16 (nn.BF16).
func Precisions() []string { return []string{float32Name, bf16Name} }

const (
	float32Name = "float32"
	bf16Name    = "bf16"
)

// Filled is s with the defaults in place of zeros.
func (s Settings) Filled() Settings {
	if s.Accum == 0 {
		s.Accum = 1
	}
	if s.Optimizer == "" {
		s.Optimizer = "adamw"
	}
	if s.Schedule == "" {
		s.Schedule = "constant"
	}
	if s.Precision == "" {
		s.Precision = float32Name
	}
	return s
}

// Check says which setting cannot be, by its name in the checkpoint.
func (s Settings) Check() error {
	s = s.Filled()
	bad := func(name string, have any, want string) error {
		return fmt.Errorf("train: %s %v, want %s", name, have, want)
	}
	switch {
	case s.Steps < 1:
		return bad("steps", s.Steps, "at least 1")
	case s.Batch < 1:
		return bad("batch", s.Batch, "at least 1")
	case s.Accum < 1:
		return bad("accum", s.Accum, "at least 1")
	case !slices.Contains(Optimizers(), s.Optimizer):
		return bad("optimizer", s.Optimizer, "one of "+strings.Join(Optimizers(), ", "))
	case !(s.Rate > 0) || math.IsInf(s.Rate, 0):
		return bad("rate", s.Rate, "a finite number above 0")
	case !slices.Contains(Schedules(), s.Schedule):
		return bad("schedule", s.Schedule, "one of "+strings.Join(Schedules(), ", "))
	case !slices.Contains(Precisions(), s.Precision):
		return bad("precision", s.Precision, "one of "+strings.Join(Precisions(), ", "))
	case s.Warmup < 0:
		return bad("warmup", s.Warmup, "0 or more")
	case !(s.Decay >= 0) || math.IsInf(s.Decay, 0) || s.Optimizer != "adam" && s.Optimizer != "sgd" && s.Decay*s.Rate >= 1: // these two add it to the gradient
		return bad("decay", s.Decay, "a finite number, 0 or more, and below 1/rate")
	case !(s.Clip >= 0) || math.IsInf(s.Clip, 0):
		return bad("clip", s.Clip, "a finite number, 0 or more")
	case s.Skip < 0:
		return bad("skip", s.Skip, "0 or more")
	case len(s.Betas) != 0 && len(s.Betas) != 2 || len(s.Betas) == 2 && s.Optimizer == "sgd":
		return bad("betas", s.Betas, "two numbers, for adam, adamw, radam, lion or lion16")
	}
	if s.Seq < 0 {
		return bad("seq", s.Seq, "1 or more; 0 for the job's own")
	}
	if !(s.Span >= 0 && s.Span <= 1) {
		return bad("span", s.Span, "a stretch of time above 0, at most 1; 0 for the job's own")
	}
	if _, err := diffusion.NoiseByName(s.Kernel, 1); err != nil {
		return fmt.Errorf("train: kernel: %w", err)
	}
	for _, b := range s.Betas {
		if !(b > 0 && b < 1) {
			return bad("betas", s.Betas, "numbers above 0 and below 1")
		}
	}
	for i, d := range s.EMA {
		if !(d >= 0 && d < 1) || slices.Contains(s.EMA[:i], d) {
			return bad("ema", s.EMA, "different decays, each at least 0 and below 1")
		}
	}
	return nil
}

// sgdMomentum is that of the optimiser sgd, the usual one of vision.
const sgdMomentum = 0.9

// NewOptimizer makes the optimiser of net, which is laid out.
func (s Settings) NewOptimizer(net *nn.Params, groups ...nn.Group) nn.Optimizer {
	s = s.Filled()
	var b1, b2 float64
	if len(s.Betas) == 2 {
		b1, b2 = s.Betas[0], s.Betas[1]
	}
	switch s.Optimizer {
	case "lion", "lion16":
		return nn.NewLion(net, nn.LionOptions{Beta1: b1, Beta2: b2, Decay: s.Decay, Narrow: s.Optimizer == "lion16", Groups: groups})
	case "sgd":
		return nn.NewSGD(net, nn.SGDOptions{Momentum: sgdMomentum, Decay: s.Decay, Groups: groups})
	case "adam":
		return nn.NewAdam(net, nn.AdamOptions{Beta1: b1, Beta2: b2, L2: s.Decay, Groups: groups})
	case "adamw", "radam":
		return nn.NewAdam(net, nn.AdamOptions{Beta1: b1, Beta2: b2, Decay: s.Decay, Rectified: s.Optimizer == "radam", Groups: groups})
	}
	panic(fmt.Sprintf("train: NewOptimizer: %q; call Check first", s.Optimizer))
}

// LR is the learning rate by step.
func (s Settings) LR() nn.LR {
	s = s.Filled()
	lr := nn.Constant(s.Rate)
	switch s.Schedule {
	case "cosine":
		lr = nn.Cosine(s.Rate, 0, s.Steps)
	case "linear":
		lr = nn.LinearRate(s.Rate, 0, s.Steps)
	case "one-cycle":
		lr = nn.OneCycle(s.Rate, 0.3, s.Steps)
	}
	if s.Warmup > 0 {
		lr = nn.Warmup(s.Warmup, lr)
	}
	return lr
}
