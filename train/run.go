package train

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

// Config is how a job is run.
type Config struct {
	Settings
	// Dir gets checkpoint.safetensors, log.csv, log.jsonl, clock.csv and the previews; it is made. "": nothing is written.
	Dir string
	// Resume goes on from the checkpoint in Dir. Without it a Dir with a checkpoint is refused, unless Overwrite is set,
	// which begins anew.
	Resume, Overwrite bool
	// Budget is how long this call may train; the run then stops at the end of a step and can be resumed. 0 is no limit.
	Budget time.Duration
	// Every so many steps there is a line of the log, a checkpoint, a preview, an evaluation; all but the log's also
	// at the last step, if there are any. 0: a line of the log at the last step alone, no checkpoint on the way,
	// a preview and an evaluation at the last step. Below 0: no preview and no evaluation at all.
	LogEvery, SaveEvery, SampleEvery, EvalEvery int
	// TensorBoard adds event files to Dir, with what log.csv has and the previews. A run that has some goes on writing them.
	TensorBoard bool
	// Version of the program, for the checkpoint.
	Version string

	Progress func(Progress)            // hears of every step; nil
	Note     func(text string)         // hears of what went wrong and did not end the run; nil
	Now      func() time.Time          // nil: time.Now
	save     func(c *checkpoint) error // of tests
}

// Progress is where a run stands after a step.
type Progress struct {
	Step, Steps int
	Loss        float64 // of the step, of its first phase
	Rate        float64 // steps a second of this call
	Left        time.Duration
}

// Stop is why a run ended.
type Stop string

// The ends.
const (
	Done        Stop = "done"
	OutOfTime   Stop = "budget"
	Interrupted Stop = "interrupted"
	Faulty      Stop = "fault"
)

// Result is how a run ended.
type Result struct {
	Step    int // steps made, with those before a resumption
	Skipped int // of them left out because a gradient was not finite
	Stop    Stop
	Seconds float64 // of this call
	Loss    float64 // the last that the log has; NaN before
	Scores  []float64
	Path    string // of the checkpoint; "" without Dir
}

// run is a run on its way.
type run struct {
	job    *Job
	c      Config
	phases []phase
	tape   *nn.Tape
	step   int
	log    *log
	file   *checkpoint // nil without Dir
	start  time.Time
	from   int // step at which this call began
	sums   *sums
	result Result
	faults int  // steps left out
	again  bool // a step is made a second time, to find a fault
	// what follows the latest step, say an evaluation, was not completed; it is in the checkpoint.
	pending bool
}

// phase is a Phase with what its updates need.
type phase struct {
	Phase
	nets   []*Network
	params []*nn.Params
	others []*nn.Params // constant in it
	share  *gpu.Tensor  // the gradient by a batch's loss: 1/Accum
	batch  Batch
	build  func()
	frozen func()
	loss   float64 // of the step so far
	norm   float64
}

// Run trains a job until the steps are made, the budget is used up, ctx ends or a number is not finite. A cancelled ctx
// ends it after the step, with a checkpoint and an error that is the context's; a fault is a *FaultError.
func Run(ctx context.Context, job *Job, c Config) (*Result, error) {
	c.Settings = c.Filled()
	if err := c.Check(); err != nil {
		return nil, err
	}
	if c.Budget < 0 || c.LogEvery < 0 || c.SaveEvery < 0 {
		return nil, fmt.Errorf("train: budget %v, a line of the log every %d steps, a checkpoint every %d; want none below 0", c.Budget, c.LogEvery, c.SaveEvery)
	}
	job.check()
	r := newRun(job, c)
	if err := r.open(); err != nil {
		return nil, err
	}
	err := r.loop(ctx)
	r.result.Step, r.result.Skipped, r.result.Seconds = r.step, r.faults, r.now().Sub(r.start).Seconds()
	return &r.result, errors.Join(err, r.log.close())
}

func newRun(job *Job, c Config) *run {
	first := job.Nets[0].Params.Value()
	r := &run{job: job, c: c, tape: nn.NewTape(first.Device(), first.DType())}
	if c.Precision == bf16Name {
		r.tape.SetPrecision(nn.BF16)
	}
	if c.Now == nil {
		r.c.Now = time.Now
	}
	for _, n := range job.Nets {
		if n.Optimizer == nil {
			n.Optimizer = c.NewOptimizer(n.Params)
		}
		if n.LR == nil {
			n.LR = c.LR()
		}
		n.emas = nil
		if !n.NoEMA {
			for _, d := range c.EMA {
				n.emas = append(n.emas, nn.NewEMA(n.Params, d))
			}
		}
	}
	for i, p := range job.phases() {
		r.phases = append(r.phases, phase{Phase: p})
		q := &r.phases[i]
		for _, n := range job.Nets {
			if slices.Contains(p.Nets, n.Name) {
				q.nets, q.params = append(q.nets, n), append(q.params, n.Params)
			} else {
				q.others = append(q.others, n.Params)
			}
		}
		q.batch = Batch{Tape: r.tape, Size: c.Batch, Seeds: c.Seeds.ofPhase(i), run: r}
	}
	for i := range r.phases { // their addresses are final
		p := &r.phases[i]
		p.share = first.Device().Zeros(first.DType(), 1)
		ops.Fill(p.share, 1/float64(c.Accum))
		p.build = func() {
			loss := p.Loss(&p.batch)
			if loss.Value().Len() != 1 {
				panic(fmt.Sprintf("train: job %s: the loss has shape %v, want one number; take Mean", job.Name, loss.Shape()))
			}
			v := loss.Item()
			p.loss += v / float64(r.c.Accum)
			r.tape.BackwardFrom(loss, r.tape.Arena().View(p.share, loss.Shape()...))
			if p.After != nil && !r.again && !math.IsNaN(v) && !math.IsInf(v, 0) {
				p.After(&p.batch)
			}
		}
		p.frozen = func() { r.tape.Frozen(p.build, p.others...) }
	}
	r.sums = newSums(len(r.phases), len(job.Figures))
	r.result.Loss, r.result.Stop = math.NaN(), Done
	return r
}

func (r *run) now() time.Time { return r.c.Now() }

func (r *run) note(format string, args ...any) {
	if r.c.Note != nil {
		r.c.Note(fmt.Sprintf(format, args...))
	}
}

// loop makes the steps.
func (r *run) loop(ctx context.Context) error {
	r.start, r.from = r.now(), r.step
	if r.pending {
		if err := r.after(ctx); err != nil {
			return err
		}
	}
	for r.step < r.c.Steps {
		if ctx.Err() != nil {
			return r.stop(ctx, Interrupted)
		}
		if r.c.Budget > 0 && r.now().Sub(r.start) >= r.c.Budget {
			return r.stop(ctx, OutOfTime)
		}
		if err := r.advance(); err != nil {
			r.result.Stop = Faulty
			return err
		}
		r.pending = true
		r.tell()
		if err := r.after(ctx); err != nil {
			return err
		}
	}
	return nil
}

// stop ends a run before its last step; what it did is kept.
func (r *run) stop(ctx context.Context, why Stop) error {
	r.result.Stop = why
	return errors.Join(ctx.Err(), r.save())
}

// advance makes a step.
func (r *run) advance() error {
	bad := false
	for i := range r.phases {
		p := &r.phases[i]
		p.loss, p.norm = math.NaN(), math.NaN()
		if r.step%p.Every != 0 {
			continue
		}
		for turn := range p.Times {
			ok := r.gradient(p, turn)
			if !ok {
				if err := r.fault(p, turn); err != nil {
					return err
				}
				bad = true
				continue
			}
			r.sums.phase(i, p.loss, p.norm)
			for _, n := range p.nets {
				n.Optimizer.Step(n.LR(r.step))
				for _, e := range n.emas {
					e.Update()
				}
			}
		}
	}
	if bad {
		r.faults++
	}
	r.sums.keep(!bad)
	r.step++
	return nil
}

// gradient adds up the gradients of an update, and clips them; it is false where something is not finite.
func (r *run) gradient(p *phase, turn int) bool {
	p.loss = 0
	update := uint64(r.step/p.Every*p.Times + turn)
	for k := range r.c.Accum {
		p.batch.Step = r.step
		p.batch.First = (update*uint64(r.c.Accum) + uint64(k)) * uint64(r.c.Batch)
		r.tape.Run(p.frozen)
	}
	var ok bool
	p.norm, ok = nn.ClipNorm(r.c.Clip, p.params...)
	return ok && !math.IsNaN(p.loss) && !math.IsInf(p.loss, 0)
}

// figure takes a value of the batch in.
func (r *run) figure(i int, v float64) { r.sums.figure(i, v) }

// tell tells where the run stands.
func (r *run) tell() {
	if r.c.Progress == nil {
		return
	}
	spent := r.now().Sub(r.start)
	p := Progress{Step: r.step, Steps: r.c.Steps, Loss: r.phases[0].loss}
	if s := spent.Seconds(); s > 0 {
		p.Rate = float64(r.step-r.from) / s
		p.Left = time.Duration(float64(r.c.Steps-r.step) / p.Rate * float64(time.Second))
	}
	if r.c.Budget > 0 {
		p.Left = min(p.Left, max(0, r.c.Budget-spent))
	}
	r.c.Progress(p)
}

// due tells whether something that happens every so many steps does now.
func (r *run) due(every int) bool {
	return every > 0 && r.step%every == 0 || every >= 0 && r.step == r.c.Steps
}

// after does what follows a step: preview, evaluation, the end of the job, log, checkpoint, in this order, so that a checkpoint has all that
// was logged before it.
func (r *run) after(ctx context.Context) error {
	var scores []float64
	if r.job.Sample != nil && r.file != nil && r.due(r.c.SampleEvery) {
		if err := r.preview(ctx); err != nil {
			return r.quit(ctx, err)
		}
	}
	if r.job.Evaluate != nil && r.due(r.c.EvalEvery) {
		var err error
		if scores, err = r.evaluate(ctx); err != nil {
			return r.quit(ctx, err)
		}
		r.result.Scores = scores
	}
	if r.job.Finish != nil && r.step == r.c.Steps {
		if err := r.swapped(func() error { return r.job.Finish(ctx) }); err != nil {
			return r.quit(ctx, err)
		}
	}
	if scores != nil || r.due(r.c.LogEvery) {
		r.row(scores)
	}
	r.pending = false
	if r.due(r.c.SaveEvery) {
		if err := r.save(); err != nil {
			if r.step == r.c.Steps {
				return err
			}
			r.note("step %d: %v; the checkpoint before it is whole; the run goes on and tries again", r.step, err)
		}
	}
	return nil
}

// quit ends a run whose preview or evaluation failed or was cancelled. The checkpoint says that they are to be made yet.
func (r *run) quit(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		r.result.Stop = Interrupted
	} else {
		err = fmt.Errorf("train: %s: step %d: %w", r.job.Name, r.step, err)
	}
	return errors.Join(err, r.save())
}

// row writes a line of the log.
func (r *run) row(scores []float64) {
	first := &r.phases[0]
	updates := ((r.step-1)/first.Every + 1) * first.Times
	row := row{step: r.step, examples: uint64(updates) * uint64(r.c.Accum) * uint64(r.c.Batch), skipped: r.faults, scores: scores}
	for _, n := range r.job.Nets {
		row.rates = append(row.rates, n.LR(r.step-1))
	}
	row.phases, row.figures = r.sums.means()
	if v := row.phases[0].loss; !math.IsNaN(v) {
		r.result.Loss = v
	}
	r.log.add(row, r.now().Sub(r.start).Seconds())
	if err := r.log.flush(); err != nil {
		r.note("step %d: %v; the line is kept until there is room", r.step, err)
	}
	r.sums.clear()
}

// swapped runs f with the first averages in place of the weights.
func (r *run) swapped(f func() error) error {
	for _, n := range r.job.Nets {
		if len(n.emas) > 0 {
			n.emas[0].Swap()
			defer n.emas[0].Swap()
		}
	}
	return f()
}

func (r *run) evaluate(ctx context.Context) (scores []float64, err error) {
	err = r.swapped(func() error {
		scores, err = r.job.Evaluate(ctx, r.step)
		return err
	})
	if err == nil && len(scores) != len(r.job.Scores) {
		panic(fmt.Sprintf("train: job %s: Evaluate gives %d scores, its names are %q", r.job.Name, len(scores), r.job.Scores))
	}
	return scores, err
}
