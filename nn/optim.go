package nn

import (
	"fmt"
	"math"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// Optimizer changes the parameters of a network by their gradients.
type Optimizer interface {
	// Step uses the gradients up: it changes the parameters with the learning rate lr and
	// then forgets the gradients.
	Step(lr float64)
	// State is what a checkpoint must keep besides the parameters.
	State() []Named
}

// Group sets some parameters of a network apart. The first that matches a name holds.
type Group struct {
	Match func(name string) bool
	LR    float64 // factor of the learning rate
	Decay float64 // factor of the weight decay
}

// optim is what optimisers share.
type optim struct {
	net   *Params
	steps *gpu.Tensor // float64 [1] on the CPU: the number of steps made
	lr    []float64   // factors of each parameter
	decay []float64
}

func newOptim(net *Params, groups []Group) optim {
	net.Value()
	o := optim{net: net, steps: gpu.CPU().Empty64(1)}
	for _, p := range net.list {
		lr, decay := 1.0, 1.0
		for _, g := range groups {
			if g.Match(p.Name) {
				lr, decay = g.LR, g.Decay
				break
			}
		}
		o.lr, o.decay = append(o.lr, lr), append(o.decay, decay)
	}
	return o
}

// step counts a step and calls f for the runs of parameters that are treated alike.
func (o *optim) step(op string, lr float64, f func(lo, hi int, lr, decay float64)) {
	if !(lr >= 0) || math.IsInf(lr, 0) {
		panic(fmt.Sprintf("nn: %s: the learning rate is %g, want a finite number >= 0", op, lr))
	}
	o.steps.F64()[0]++
	list := o.net.list
	for i := 0; i < len(list); {
		j := i + 1
		for j < len(list) && o.lr[j] == o.lr[i] && o.decay[j] == o.decay[i] && list[j].Frozen == list[i].Frozen {
			j++
		}
		if !list[i].Frozen && !o.net.frozen {
			f(list[i].lo, list[j-1].hi, lr*o.lr[i], o.decay[i])
		}
		i = j
	}
	o.net.ZeroGrad()
}

// Steps is how many steps were made.
func (o *optim) Steps() int { return int(o.steps.F64()[0]) }

// SGD is stochastic gradient descent: with d = gradient + Decay·p and v = Momentum·v + d,
// p = p - lr·v, or p - lr·(d + Momentum·v) with Nesterov.
type SGD struct {
	optim
	o    SGDOptions
	v    *gpu.Tensor // nil without momentum
	part func(lo, hi int, lr, decay float64)
}

// SGDOptions are the variations of SGD.
type SGDOptions struct {
	Momentum float64
	Nesterov bool
	Decay    float64
	Groups   []Group
}

// NewSGD makes an optimiser of net, which is laid out.
func NewSGD(net *Params, o SGDOptions) *SGD {
	if !(o.Momentum >= 0 && o.Momentum < 1 && o.Decay >= 0) || o.Nesterov && o.Momentum == 0 {
		panic(fmt.Sprintf("nn: NewSGD: momentum %g, decay %g, want 0 <= momentum < 1 (> 0 for Nesterov), decay >= 0", o.Momentum, o.Decay))
	}
	s := &SGD{optim: newOptim(net, o.Groups), o: o}
	if o.Momentum > 0 {
		s.v = net.dev.Zeros(net.dt, net.value.Len())
	}
	s.part = s.run
	return s
}

// Step is the Optimizer's.
func (s *SGD) Step(lr float64) { s.step("SGD", lr, s.part) }

func (s *SGD) run(lo, hi int, lr, decay float64) {
	ops.SGD(s.net.value, s.v, s.net.Grad(), lo, hi, ops.SGDConfig{
		Decay: s.o.Decay * decay, Momentum: s.o.Momentum, Nesterov: s.o.Nesterov, LR: lr,
	})
}

// State is the Optimizer's.
func (s *SGD) State() []Named {
	out := []Named{{"steps", s.steps}}
	if s.v != nil {
		out = append(out, Named{"momentum", s.v})
	}
	return out
}

// Adam is Adam (Kingma and Ba 2015, arXiv 1412.6980), with decoupled weight decay
// (AdamW: Loshchilov and Hutter 2019, arXiv 1711.05101) or L2, and its rectified form
// (RAdam: Liu et al. 2020, arXiv 1908.03265).
type Adam struct {
	optim
	o    AdamOptions
	m, v *gpu.Tensor
	part func(lo, hi int, lr, decay float64)
}

// AdamOptions are Adam's; zeros stand for the defaults.
type AdamOptions struct {
	Beta1, Beta2 float64 // 0.9 and 0.999
	Eps          float64 // 1e-8
	Decay        float64 // decoupled: p is multiplied by 1 - lr·Decay
	L2           float64 // added to the gradient, times p
	Rectified    bool
	Groups       []Group
}

// NewAdam makes an optimiser of net, which is laid out.
func NewAdam(net *Params, o AdamOptions) *Adam {
	o.Beta1, o.Beta2, o.Eps = or(o.Beta1, 0.9), or(o.Beta2, 0.999), or(o.Eps, 1e-8)
	if !(o.Beta1 > 0 && o.Beta1 < 1 && o.Beta2 > 0 && o.Beta2 < 1 && o.Eps > 0 && o.Decay >= 0 && o.L2 >= 0) {
		panic(fmt.Sprintf("nn: NewAdam: betas %g and %g, eps %g, decay %g, L2 %g, want betas in (0, 1), eps > 0, decays >= 0", o.Beta1, o.Beta2, o.Eps, o.Decay, o.L2))
	}
	a := &Adam{optim: newOptim(net, o.Groups), o: o, m: net.dev.Zeros(net.dt, net.value.Len()), v: net.dev.Zeros(net.dt, net.value.Len())}
	a.part = a.run
	return a
}

func or(v, standard float64) float64 {
	if v == 0 {
		return standard
	}
	return v
}

// Step is the Optimizer's.
func (a *Adam) Step(lr float64) { a.step("Adam", lr, a.part) }

func (a *Adam) run(lo, hi int, lr, decay float64) {
	t := a.steps.F64()[0]
	b1, b2 := math.Pow(a.o.Beta1, t), math.Pow(a.o.Beta2, t)
	cfg := ops.AdamConfig{
		Scale: 1, L2: a.o.L2 * decay, Beta1: a.o.Beta1, Beta2: a.o.Beta2, Eps: a.o.Eps,
		Step: lr / (1 - b1), Root: 1 / math.Sqrt(1-b2), Keep: 1 - lr*a.o.Decay*decay,
	}
	if a.o.Rectified {
		long := 2/(1-a.o.Beta2) - 1
		if rho := long - 2*t*b2/(1-b2); rho > 5 {
			cfg.Step *= math.Sqrt((rho - 4) * (rho - 2) * long / ((long - 4) * (long - 2) * rho))
		} else { // the variance is not known yet: the first moment alone
			cfg.Root, cfg.Eps = 0, 1
		}
	}
	ops.Adam(a.net.value, a.m, a.v, a.net.Grad(), lo, hi, cfg)
}

// State is the Optimizer's.
func (a *Adam) State() []Named { return []Named{{"steps", a.steps}, {"m", a.m}, {"v", a.v}} }

// Lion is Lion (Chen et al. 2023, arXiv 2302.06675): steps of one size, by the sign of a
// moving mean of gradients. Its learning rate is about a tenth of Adam's, its decay ten
// times as large.
type Lion struct {
	optim
	o    LionOptions
	m    *gpu.Tensor
	part func(lo, hi int, lr, decay float64)
}

// LionOptions are Lion's; zeros stand for the defaults.
type LionOptions struct {
	Beta1, Beta2 float64 // 0.9 and 0.99
	Decay        float64 // decoupled
	Narrow       bool    // keep the momentum in bfloat16, rounded to nearest even; of a float32 network
	Groups       []Group
}

// NewLion makes an optimiser of net, which is laid out.
func NewLion(net *Params, o LionOptions) *Lion {
	o.Beta1, o.Beta2 = or(o.Beta1, 0.9), or(o.Beta2, 0.99)
	if !(o.Beta1 > 0 && o.Beta1 < 1 && o.Beta2 > 0 && o.Beta2 < 1 && o.Decay >= 0) {
		panic(fmt.Sprintf("nn: NewLion: betas %g and %g, decay %g, want betas in (0, 1), decay >= 0", o.Beta1, o.Beta2, o.Decay))
	}
	dt := net.dt
	if o.Narrow {
		if dt != gpu.Float32 {
			panic(fmt.Sprintf("nn: NewLion: a momentum of bfloat16 for parameters of %v, want float32", dt))
		}
		dt = gpu.BFloat16
	}
	l := &Lion{optim: newOptim(net, o.Groups), o: o, m: net.dev.Zeros(dt, net.value.Len())}
	l.part = l.run
	return l
}

// Step is the Optimizer's.
func (l *Lion) Step(lr float64) { l.step("Lion", lr, l.part) }

func (l *Lion) run(lo, hi int, lr, decay float64) {
	if lr*l.o.Decay*decay >= 1 {
		panic(fmt.Sprintf("nn: Lion: learning rate %g times decay %g turns parameters round, want a product below 1", lr, l.o.Decay*decay))
	}
	ops.Lion(l.net.value, l.m, l.net.Grad(), lo, hi, ops.LionConfig{
		Scale: 1, Beta1: l.o.Beta1, Beta2: l.o.Beta2, LR: lr, Keep: 1 - lr*l.o.Decay*decay,
	})
}

// State is the Optimizer's.
func (l *Lion) State() []Named { return []Named{{"steps", l.steps}, {"m", l.m}} }

// ClipNorm is the Euclidean norm of the gradients of all nets together, which are scaled
// down to max where it is greater; max <= 0 only measures. ok is false where a
// gradient is not finite, and nothing is scaled then: skip the step and call ZeroGrad.
func ClipNorm(max float64, nets ...*Params) (norm float64, ok bool) {
	for _, n := range nets {
		norm += ops.SumSquares(n.Grad())
	}
	norm = math.Sqrt(norm)
	if math.IsNaN(norm) || math.IsInf(norm, 0) {
		return norm, false
	}
	if max > 0 && norm > max {
		for _, n := range nets {
			ops.Affine(n.Grad(), max/norm, n.Grad(), 0, nil, 0, false)
		}
	}
	return norm, true
}
