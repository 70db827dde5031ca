package train

import (
	"math"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

// given is a likelihood whose values are parameters, so that their gradients are known.
func given(p *nn.Param) LogP {
	return func(b *Batch, _ *gpu.Tensor, _ []int32) *nn.Var { return b.Tape.Use(p) }
}

// logits makes a network whose parameters are likelihoods.
func logits(dev *gpu.Device, v ...float64) *nn.Param {
	params := nn.NewParams(dev, gpu.Float64)
	p := params.At("").Param("d", nn.Zeros, len(v))
	params.Init(0)
	one := dev.New(gpu.Float64, len(v))
	ops.Fill(one, 1)
	ops.LinCombRows(p.Value, v, one)
	return p
}

// Loss and gradients are those of the formula, by itself in float64, on every device; the reference gets no gradient.
func TestDiscriminativeIsItsFormula(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		p, ref := logits(dev, 1.5, -30, 700, 0.25, -2), logits(dev, 1, -29, 0, 0.5, 3)
		const alpha, beta, fakes = 3, 0.4, 2
		l, err := NewDiscriminative(given(p), given(ref), alpha, beta)
		if err != nil {
			t.Fatal(err)
		}
		want, grad := 0., make([]float64, 5)
		for i, d := range []float64{0.5, -1, 700, -0.25, -5} {
			sign, share := -beta, 1./3
			if i >= 3 {
				sign, share = beta, alpha/2.
			}
			want += share * math.Log1p(math.Exp(sign*d))
			grad[i] = share * sign / (1 + math.Exp(-sign*d))
		}
		tape := nn.NewTape(dev, gpu.Float64)
		tape.Run(func() {
			y := l.Loss(&Batch{Tape: tape, Size: 5}, nil, nil, fakes)
			if got := y.Item(); math.Abs(got-want) > 1e-12*want {
				t.Errorf("the loss is %.15g, want %.15g", got, want)
			}
			tape.Backward(y)
		})
		got := make([]float64, 5)
		if err := p.Grad().Read64(got); err != nil {
			t.Fatal(err)
		}
		for i := range got {
			if math.Abs(got[i]-grad[i]) > 1e-12 {
				t.Errorf("the gradient %d is %.15g, want %.15g", i, got[i], grad[i])
			}
		}
		if err := ref.Grad().Read64(got); err != nil {
			t.Fatal(err)
		}
		for i, v := range got {
			if v != 0 {
				t.Errorf("the reference has a gradient of %g at %d", v, i)
			}
		}
	})
}

// denoised is a network and what it is asked: the evidence bound under EDM's levels.
func denoised(t *testing.T, batch int) (LogP, *Denoising) {
	t.Helper()
	l, err := Diffusion{Path: "edm", Pred: "edm", Draw: "lognormal:-1.2,1.2", Weight: "edm:0.5", Drop: 0.3}.NewDenoising(newAffine(gpu.Float64, 3), batch)
	if err != nil {
		t.Fatal(err)
	}
	return l.Bound(models.Inputs{}), l
}

// At the reference's weights every example's loss is log 2, and the batch's (1 + α)·log 2: both networks see the same levels, noise and
// untold classes. Asked with other ones, they do not.
func TestNetworkAndReferenceSeeTheSame(t *testing.T) {
	const size, fakes = 6, 3
	p, _ := denoised(t, size)
	ref, _ := denoised(t, size)
	x := pictures64(size)
	classes := []int32{0, 1, 2, 2, 1, 0}
	other := func(b *Batch, x *gpu.Tensor, c []int32) *nn.Var {
		next := *b
		next.First += size
		return ref(&next, x, c)
	}
	tape := nn.NewTape(gpu.CPU(), gpu.Float64)
	for _, c := range []struct {
		ref  LogP
		same bool
	}{{ref, true}, {other, false}} {
		l, err := NewDiscriminative(p, c.ref, 2.5, 0.7)
		if err != nil {
			t.Fatal(err)
		}
		tape.Run(func() {
			batch := &Batch{Tape: tape, First: 600, Size: size, Seeds: SeedsOf(5)}
			each := l.Each(batch, x, classes, fakes).Value().F64()
			for i, v := range each {
				if same := v == math.Ln2; same != c.same {
					t.Errorf("example %d: %.17g; log 2: %t, want that: %t", i, v, same, c.same)
				}
			}
			if got := l.Loss(batch, x, classes, fakes).Item(); (math.Abs(got-3.5*math.Ln2) < 1e-15) != c.same {
				t.Errorf("the loss is %.17g, 3.5 log 2 is %.17g", got, 3.5*math.Ln2)
			}
		})
	}
}

// The bound is the weighted error summed over an example's values: as many times the training's own loss, whatever the picture's size.
func TestBoundIsTheTrainingsOwnLossSummed(t *testing.T) {
	const size = 5
	p, l := denoised(t, size)
	x := pictures64(size)
	tape := nn.NewTape(gpu.CPU(), gpu.Float64)
	tape.Run(func() {
		b := &Batch{Tape: tape, Size: size, Seeds: SeedsOf(9)}
		classes := []int32{0, 1, 2, 0, 1}
		loss := l.Loss(b, x, classes, models.Inputs{}).Item()
		var sum float64
		for _, v := range p(b, x, classes).Value().F64() {
			sum += v
		}
		if got, want := -sum/size, 6*loss; math.Abs(got-want) > 1e-12*want {
			t.Errorf("minus the mean bound is %g, want 6 times the loss, %g", got, want)
		}
	})
}

func TestDiscriminativeRefuses(t *testing.T) {
	p := logits(gpu.CPU(), 1, 2)
	for _, c := range []struct {
		alpha, beta float64
		want        string
	}{
		{-1, 1, "alpha -1"}, {math.NaN(), 1, "alpha NaN"}, {1, 0, "beta 0"}, {1, -2, "beta -2"}, {1, math.Inf(1), "beta +Inf"},
	} {
		if _, err := NewDiscriminative(given(p), given(p), c.alpha, c.beta); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%g, %g: %v, want an error with %q", c.alpha, c.beta, err, c.want)
		}
	}
	l, err := NewDiscriminative(given(p), given(p), 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	tape := nn.NewTape(gpu.CPU(), gpu.Float64)
	for _, fakes := range []int{0, 2, 3} {
		func() {
			defer func() {
				if r := recover(); r == nil {
					t.Errorf("%d fakes of 2 passed", fakes)
				}
			}()
			l.Each(&Batch{Tape: tape, Size: 2}, nil, nil, fakes)
		}()
	}
}
