package lion

import (
	"context"
	"fmt"
	"math"
	"sync"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/data/digits"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/rng"
)

// Task is what programs are judged by: how well they train a network of one hidden layer
// to tell digits of 8×8 pixels apart. All programs see the same start and batches. The
// learning rate falls from 1 to 0 along half a cosine; a program scales it by itself.
type Task struct {
	Name  string
	Train Span // of the training split of digits
	Val   Span // of the same split, and apart from Train; of the test split where Test is set
	Test  bool
	Width int // of the hidden layer
	Steps int
	Batch int
	Seed  uint64
}

// Span is items From to To-1 of a split.
type Span struct{ From, To int }

// Score is what training by a program came to.
type Score struct {
	Accuracy float64 `json:"accuracy"` // share of Val that is told right
	Loss     float64 `json:"loss"`     // mean cross-entropy over Val, nats
	Steps    int     `json:"steps"`    // made before the end, or before something was not finite
	Broken   bool    `json:"broken,omitempty"`
}

// Fitness is the accuracy, and less than any where training broke.
func (s Score) Fitness() float64 {
	if s.Broken {
		return -1
	}
	return s.Accuracy
}

// Check says what is wrong with a task; validation data must be there and be apart.
func (k *Task) Check() error {
	held := 60000
	if k.Test {
		held = 10000
	}
	switch {
	case k.Train.From < 0 || k.Train.To > 60000 || k.Train.To-k.Train.From < k.Batch:
		return fmt.Errorf("lion: task %s trains on digits %d to %d in batches of %d; want a batch or more, within 0 to 60000", k.Name, k.Train.From, k.Train.To, k.Batch)
	case k.Val.From < 0 || k.Val.To > held || k.Val.To <= k.Val.From:
		return fmt.Errorf("lion: task %s is judged by digits %d to %d; want one or more, within 0 to %d", k.Name, k.Val.From, k.Val.To, held)
	case !k.Test && k.Val.From < k.Train.To && k.Train.From < k.Val.To:
		return fmt.Errorf("lion: task %s is judged by digits %d to %d and trains on %d to %d; want none in both", k.Name, k.Val.From, k.Val.To, k.Train.From, k.Train.To)
	case k.Width < 1 || k.Steps < 1 || k.Batch < 1:
		return fmt.Errorf("lion: task %s has width %d, %d steps, batches of %d; want at least 1 of each", k.Name, k.Width, k.Steps, k.Batch)
	}
	return nil
}

const (
	classCount = 10
	pixelCount = digits.Side * digits.Side
)

// Trainer trains networks for a task, one after the other. Several make the same of the
// same program, whatever they trained before.
type Trainer struct {
	task   Task
	net    *nn.Params
	mlp    *nn.MLP
	tape   *nn.Tape
	start  *gpu.Tensor
	x, val *gpu.Tensor
	y      *gpu.Tensor
	labels *gpu.Tensor
	train  *pixels
}

// pixels are the values of digits, from 0 to 1; they are only read.
type pixels struct {
	x []float32
	y []int32
}

// whole reads a split once.
var whole = map[data.Split]func() (*pixels, error){
	data.Train: sync.OnceValues(func() (*pixels, error) { return readAll(data.Train) }),
	data.Test:  sync.OnceValues(func() (*pixels, error) { return readAll(data.Test) }),
}

func readAll(split data.Split) (*pixels, error) {
	set, err := digits.New()
	if err != nil {
		return nil, err
	}
	n := set.Len(split)
	p := &pixels{make([]float32, 0, n*pixelCount), make([]int32, 0, n)}
	for i := range n {
		it := set.At(split, i)
		p.x, p.y = append(p.x, it.Values()...), append(p.y, int32(it.Label))
	}
	return p, nil
}

// read is a span of a split.
func read(split data.Split, s Span) (*pixels, error) {
	p, err := whole[split]()
	if err != nil {
		return nil, err
	}
	return &pixels{p.x[s.From*pixelCount : s.To*pixelCount], p.y[s.From:s.To]}, nil
}

// NewTrainer reads a task's data. It fails where the task is no good or MNIST is not found.
func NewTrainer(k Task) (*Trainer, error) {
	if err := k.Check(); err != nil {
		return nil, err
	}
	t := &Trainer{task: k, net: nn.NewParams(gpu.CPU(), gpu.Float32), tape: nn.NewTape(gpu.CPU(), gpu.Float32)}
	var err error
	if t.train, err = read(data.Train, k.Train); err != nil {
		return nil, err
	}
	split := data.Train
	if k.Test {
		split = data.Test
	}
	val, err := read(split, k.Val)
	if err != nil {
		return nil, err
	}
	t.val, t.labels = gpu.CPU().From(val.x, len(val.y), pixelCount), gpu.CPU().FromInt32(val.y, len(val.y))
	t.x, t.y = gpu.CPU().From(make([]float32, k.Batch*pixelCount), k.Batch, pixelCount), gpu.CPU().FromInt32(make([]int32, k.Batch), k.Batch)
	t.mlp = nn.NewMLP(t.net.At(""), ops.ReLU, pixelCount, k.Width, classCount)
	t.net.Init(k.Seed)
	t.start = gpu.CPU().Empty(t.net.Value().Len())
	t.start.Copy(t.net.Value())
	return t, nil
}

// Run trains from the start by a program and judges the end. A loss or an update that is
// not finite ends it early.
func (t *Trainer) Run(ctx context.Context, g *Graph) (Score, error) {
	return t.RunBy(ctx, func(net *nn.Params) nn.Optimizer { return NewOptimizer(net, g) })
}

// RunBy is Run by any optimiser.
func (t *Trainer) RunBy(ctx context.Context, of func(*nn.Params) nn.Optimizer) (Score, error) {
	t.net.Value().Copy(t.start)
	t.net.ZeroGrad()
	opt, r := of(t.net), rng.ForImage(t.task.Seed, 0, rng.Order)
	lr := nn.Cosine(1, 0, t.task.Steps)
	for step := range t.task.Steps {
		if err := ctx.Err(); err != nil {
			return Score{}, err
		}
		t.batch(r)
		var loss float64
		t.tape.Run(func() {
			l := nn.CrossEntropy(t.mlp.Forward(t.tape.Input(t.x)), t.y, 0).Mean()
			t.tape.Backward(l)
			loss = l.Item()
		})
		if math.IsNaN(loss) || math.IsInf(loss, 0) {
			return Score{Broken: true, Steps: step}, nil
		}
		opt.Step(lr(step))
	}
	return t.judge(), nil
}

// batch draws digits, each time anew.
func (t *Trainer) batch(r *rng.Stream) {
	x, y := t.x.F32(), t.y.I32()
	d := len(x) / len(y)
	for i := range y {
		k := r.Intn(len(t.train.y))
		y[i] = t.train.y[k]
		copy(x[i*d:(i+1)*d], t.train.x[k*d:])
	}
}

func (t *Trainer) judge() Score {
	s := Score{Steps: t.task.Steps}
	right := 0
	t.tape.Run(func() {
		t.tape.NoGrad(func() {
			logits := t.mlp.Forward(t.tape.Input(t.val))
			s.Loss = nn.CrossEntropy(logits, t.labels, 0).Mean().Item()
			v := logits.Value().F32()
			for i, want := range t.labels.I32() {
				best := 0
				for k := range classCount {
					if v[i*classCount+k] > v[i*classCount+best] {
						best = k
					}
				}
				if best == int(want) {
					right++
				}
			}
		})
	})
	s.Accuracy = float64(right) / float64(t.labels.Len())
	if math.IsNaN(s.Loss) || math.IsInf(s.Loss, 0) {
		return Score{Broken: true, Steps: s.Steps}
	}
	return s
}

// Judge trains by programs for a task; several may do so at once.
type Judge struct {
	Task Task
	mu   sync.Mutex
	idle []*Trainer
}

// NewJudge reads the task's data.
func NewJudge(k Task) (*Judge, error) {
	t, err := NewTrainer(k)
	if err != nil {
		return nil, err
	}
	return &Judge{Task: k, idle: []*Trainer{t}}, nil
}

// Score is what training by g comes to.
func (j *Judge) Score(ctx context.Context, g *Graph) (Score, error) {
	j.mu.Lock()
	var t *Trainer
	if n := len(j.idle); n > 0 {
		t, j.idle = j.idle[n-1], j.idle[:n-1]
	}
	j.mu.Unlock()
	if t == nil {
		var err error
		if t, err = NewTrainer(j.Task); err != nil {
			return Score{}, err
		}
	}
	s, err := t.Run(ctx, g)
	j.mu.Lock()
	j.idle = append(j.idle, t)
	j.mu.Unlock()
	return s, err
}
