package sampler_test

import (
	"math"
	"testing"

	"github.com/fidlab/fidlab/diffusion"
)

// The order that a multistep solver has between far noise, where nothing happens
// in the first steps, and data.
func TestOrderOfMultistep(t *testing.T) {
	for _, c := range []struct {
		name  string
		order float64
		n     int
	}{
		{"dpm-2m", 2, 160},
		{"dpm-2m:form=heun", 2, 160},
		{"dpm++3m", 3, 320},
		{"dpm-3m", 3, 640},
		{"dpm++3m:third=published", 2, 640},
		{"dpm-3m:third=published", 2, 640},
		{"lms:order=1", 1, 160},
		{"lms:order=2", 2, 160},
		{"lms:order=3", 3, 160},
		{"lms", 4, 320}, // its start's error of third order is small here
		{"deis:order=1", 1, 160},
		{"deis:order=2", 2, 160},
		{"deis", 3, 640},
		{"ipndm:order=1", 1, 160},
		{"ipndm:order=2", 2, 160},
		{"ipndm:order=3", 2, 320},
		{"ipndm", 2, 160},
		{"pndm", 2, 160},
		{"plms", 2, 160},
		{"unipc:order=1", 2, 160},
		{"unipc", 3, 320},
		{"unipc:variant=bh1", 3, 320},
		{"unipc:variant=vary", 3, 320},
		{"unipc:predict=eps", 3, 320},
		{"unipc:order=3", 4, 160}, // as of lms
		{"unipc:order=1,corrector=0", 1, 160},
		{"unipc:corrector=0", 2, 160},
		{"unipc:lower-final=always", 2, 640}, // the last step alone is of first order
	} {
		wantOrder(t, c.name, c.order, c.n)
	}
}

// gentle is a grid whose first steps are short, as (i/n)³, so that the error of a
// start of low order is nothing beside a method's own.
func gentle(t *testing.T, n int) *diffusion.Grid {
	s := diffusion.Spec{Rule: "sigmas", End: diffusion.Keep}
	for i := range n + 1 {
		u := float64(i) / float64(n)
		s.List = append(s.List, math.Exp(-3*u*u*u))
	}
	return build(t, "ve", s)
}

// From noise of the data's size the first step counts as much as any, and a start
// of first order shows; on a gentle grid the formulas' own orders do.
func TestOrderOfStarts(t *testing.T) {
	from1 := diffusion.Spec{Rule: "karras", SigmaMax: 1, SigmaMin: 0.05, End: diffusion.Min}
	for _, c := range []struct {
		name       string
		order, own float64
		n          int // of the gentle grid: before the error is as small as rounding
	}{
		{"dpm++3m", 3, 3, 320},
		{"dpm-3m", 3, 3, 320},
		{"dpm++3m:third=published", 2, 2, 640},
		{"lms", 3, 4, 320},
		{"lms:start=plain", 2, 4, 320},
		{"lms:order=3", 3, 3, 320},
		{"deis", 3, 3, 320},
		{"deis:start=plain", 2, 3, 320},
		{"ipndm", 2, 2, 320},
		{"plms", 2, 2, 320},
		{"pndm", 2, 2, 320},
		{"unipc", 3, 3, 320},
		{"unipc:order=3", 3, 4, 320},
		{"unipc:order=4", 3, 5, 160},
		{"unipc:order=5", 3, 6, 160},
		{"unipc:order=3,corrector=0", 2, 3, 320},
		{"unipc:order=5,corrector=0", 2, 5, 320},
		{"unipc:order=4,predict=eps,variant=bh1", 3, 5, 160},
		{"unipc:skip=0", 2, 3, 320},
	} {
		s := solver(t, c.name)
		for _, p := range []problem{gaussianProblem, mixtureProblem(t)} {
			if got, e := orderOf(t, p, s, "ve", from1, 640); math.Abs(got-c.order) > 0.1*c.order {
				t.Errorf("%s, %s from sigma 1: order %.2f (error %.2g), want %g", c.name, p.name, got, e, c.order)
			}
			e1, e2 := errorOf(t, p, s, gentle(t, c.n)), errorOf(t, p, s, gentle(t, 2*c.n))
			if got := math.Log2(e1 / e2); math.Abs(got-c.own) > 0.1*c.own {
				t.Errorf("%s, %s from a gentle start: order %.2f (error %.2g), want %g", c.name, p.name, got, e2, c.own)
			}
		}
	}
}
