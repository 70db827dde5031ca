package lion

import (
	"context"
	"fmt"
	"math"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/rng"
)

// job is a network and what it is trained for, made afresh for every training.
type job struct {
	net   *nn.Params
	model models.Net // of denoising; nil otherwise
	// draw fills the next batch; loss is that of the batch.
	draw func(r *rng.Stream)
	loss func(t *nn.Tape) *nn.Var
	// judge is the validation loss, on data and noise that are the same always; right is
	// a share that is told right, NaN where there is none.
	judge func(t *nn.Tape) (loss, right float64)
	// points are those of the curve of the validation loss; 0 draws none.
	points int
}

// setting is how a job is trained: by whom, how fast, from what seed.
type setting struct {
	optimizer string
	lr, decay float64
	steps     int
	batch     int
	seed      uint64
}

// result is what a training came to.
type result struct {
	loss, right float64
	curve       []float64 // the validation loss after equal shares of the steps, the last at the end; may be nil
	average     *job      // the network with the average of its parameters; nil where it diverged
	skipped     int       // steps whose gradient was not finite
}

const (
	// worstLoss stands for that of a training that diverged: far above any other.
	worstLoss = 10
	mostSkips = 20
	// clip is the norm that gradients are scaled down to.
	clip = 1
)

// train makes a job and trains it: a rate that rises over a twentieth of the steps and then
// falls to zero along half a cosine, gradients clipped to norm 1, no decay of biases and
// scales. What is no number ends it after some skipped steps.
func train(ctx context.Context, of func(batch int, seed uint64) (*job, error), s setting, ema float64) (*result, error) {
	j, err := of(s.batch, s.seed)
	if err != nil {
		return nil, err
	}
	opt, err := s.make(j.net)
	if err != nil {
		return nil, err
	}
	average := nn.NewEMA(j.net, ema)
	tape, order := nn.NewTape(gpu.CPU(), gpu.Float32), rng.ForImage(s.seed, 0, rng.Order)
	lr := nn.Warmup(max(1, s.steps/20), nn.Cosine(s.lr, 0, s.steps))
	res := &result{loss: worstLoss}
	body := func() { tape.Backward(j.loss(tape)) }
	at := 0
	for step := range s.steps {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		j.draw(order)
		tape.Run(body)
		if _, ok := nn.ClipNorm(clip, j.net); !ok {
			j.net.ZeroGrad()
			if res.skipped++; res.skipped > mostSkips {
				return res.diverged(j.points), nil
			}
			continue
		}
		opt.Step(lr(step))
		average.Update()
		if (step+1)*j.points >= (at+1)*s.steps {
			loss, _ := j.look(tape)
			for ; (step+1)*j.points >= (at+1)*s.steps && at < j.points; at++ {
				res.curve = append(res.curve, loss)
			}
		}
	}
	if res.loss, res.right = j.look(tape); res.loss == worstLoss {
		return res.diverged(j.points), nil
	}
	average.Swap()
	res.average = j
	return res, nil
}

// look is judge, with what is no number made large.
func (j *job) look(t *nn.Tape) (loss, right float64) {
	t.Run(func() { t.NoGrad(func() { loss, right = j.judge(t) }) })
	if !(loss < worstLoss) {
		return worstLoss, 0
	}
	return loss, right
}

func (r *result) diverged(points int) *result {
	r.loss, r.right = worstLoss, 0
	for len(r.curve) < points {
		r.curve = append(r.curve, worstLoss)
	}
	return r
}

// make is the optimiser. Biases and scales are vectors, and keep out of decay.
func (s setting) make(net *nn.Params) (nn.Optimizer, error) {
	if !(s.lr > 0) || !(s.decay >= 0) || s.lr*s.decay >= 1 {
		return nil, fmt.Errorf("lion: learning rate %g, decay %g; want a rate above 0, a decay of 0 or more, and a product below 1", s.lr, s.decay)
	}
	groups := []nn.Group{{Match: func(name string) bool { return len(net.Get(name).Shape()) < 2 }, LR: 1}}
	switch s.optimizer {
	case "lion":
		return nn.NewLion(net, nn.LionOptions{Decay: s.decay, Groups: groups}), nil
	case "adamw":
		return nn.NewAdam(net, nn.AdamOptions{Decay: s.decay, Groups: groups}), nil
	case "adafactor":
		return nn.NewAdafactor(net, nn.AdafactorOptions{Decay: s.decay, Groups: groups}), nil
	}
	return nil, fmt.Errorf("lion: optimiser %q; want lion, adamw or adafactor", s.optimizer)
}

// reach is the share of the steps after which a curve is down to a loss, between its points
// along straight lines, 2 where it never is.
func reach(curve []float64, loss float64) float64 {
	n := float64(len(curve))
	for i, v := range curve {
		if v > loss {
			continue
		}
		if i == 0 || curve[i-1] == v || math.IsInf(curve[i-1], 0) {
			return float64(i+1) / n
		}
		return (float64(i) + (curve[i-1]-loss)/(curve[i-1]-v)) / n
	}
	return 2
}
