package sampler_test

import (
	"context"
	"math"
	"testing"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/sampler"
)

// walkVE is one value's way in the scaling x0 + sigma·n, for formulas as papers
// and tools write them.
type walkVE struct {
	s, s1 float64 // sigma from and to
	steps int     // of the grid
	x     float64
	past  []struct{ s, d float64 } // what was denoised, latest first
	before,
	beforeS, // x and sigma at the last step's start, and its noise
	lastZ float64
	draw func() float64
	den  gaussian
}

// d is the denoised x at sigma.
func (w *walkVE) d(x, s float64) float64 {
	kx, k0 := w.den.coeffs(1, s)
	return kx*x + k0
}

// look denoises the state and remembers it.
func (w *walkVE) look() float64 {
	d := w.d(w.x, w.s)
	w.past = append([]struct{ s, d float64 }{{w.s, d}}, w.past...)
	return d
}

// updown is k-diffusion's ancestral step for eta.
func updown(s, s1, eta float64) (down, up float64) {
	up = min(s1, eta*math.Sqrt(s1*s1*(s*s-s1*s1)/(s*s)))
	return math.Sqrt(s1*s1 - up*up), up
}

func churnFormula(heun bool) func(w *walkVE) {
	return func(w *walkVE) { // Karras et al. 2022, algorithm 2
		s := w.s
		if s >= 0.05 && s <= 10 {
			s *= 1 + min(2/float64(w.steps), math.Sqrt2-1)
			w.x += math.Sqrt(s*s-w.s*w.s) * 1.003 * w.draw()
		}
		slope := (w.x - w.d(w.x, s)) / s
		next := w.x + (w.s1-s)*slope
		if heun && w.s1 > 0 {
			next = w.x + (w.s1-s)*(slope+(next-w.d(next, w.s1))/w.s1)/2
		}
		w.x = next
	}
}

// multistepSDE is k-diffusion's dpmpp_2m_sde and dpmpp_3m_sde; third is the factor
// of phi_3.
func multistepSDE(order int, eta, third float64, heun bool) func(w *walkVE) {
	return func(w *walkVE) {
		d := w.look()
		if w.s1 == 0 {
			w.x = d
			return
		}
		h := math.Log(w.s / w.s1)
		he := h * (1 + eta)
		x := math.Exp(-he)*w.x - math.Expm1(-he)*d
		p := w.past
		switch {
		case len(p) >= 3 && order == 3:
			r0, r1 := math.Log(p[1].s/p[0].s)/h, math.Log(p[2].s/p[1].s)/h
			a, b := (p[0].d-p[1].d)/r0, (p[1].d-p[2].d)/r1
			d1, d2 := a+(a-b)*r0/(r0+r1), (a-b)/(r0+r1)
			phi2 := math.Expm1(-he)/he + 1
			x += phi2*d1 - third*(phi2/he-0.5)*d2
		case len(p) >= 2 && order >= 2:
			r := math.Log(p[1].s/p[0].s) / h
			if f := (p[0].d - p[1].d) / r; heun || order == 3 {
				x += (math.Expm1(-he)/he + 1) * f
			} else {
				x -= math.Expm1(-he) / 2 * f
			}
		}
		w.x = x + w.s1*math.Sqrt(-math.Expm1(-2*eta*h))*w.draw()
	}
}

// adams is Xue et al.'s step from s to s1 by quadrature: Simpson's rule of 2,000
// intervals on the integral of the interpolated D.
func adams(x, s, s1, tau, z float64, nodes []struct{ s, d float64 }) float64 {
	h, q := math.Log(s/s1), 1+tau*tau
	interpolated := func(l float64) (sum float64) {
		for j, n := range nodes {
			c := n.d
			for k, m := range nodes {
				if k != j {
					c *= (l - math.Log(s/m.s)) / (math.Log(s/n.s) - math.Log(s/m.s))
				}
			}
			sum += c
		}
		return sum
	}
	const n = 2000
	var integral float64
	for i := range n + 1 {
		weight := float64(2 + 2*(i%2))
		if i == 0 || i == n {
			weight = 1
		}
		l := h * float64(i) / n
		integral += weight * h / (3 * n) * q * math.Exp(-q*(h-l)) * interpolated(l)
	}
	return math.Exp(-q*h)*x + integral + s1*math.Sqrt(1-math.Exp(-2*tau*tau*h))*z
}

// saFormula is algorithm 1 of that paper with orders p and c, and tau between sigma 0.3 and 5.
func saFormula(p, c int) func(w *walkVE) {
	tau := func(s float64) float64 {
		if s >= 0.3 && s <= 5 {
			return 0.8
		}
		return 0
	}
	return func(w *walkVE) {
		d := w.look()
		if len(w.past) > 1 && c > 0 {
			w.x = adams(w.before, w.beforeS, w.s, tau(w.beforeS), w.lastZ, w.past[:min(c, len(w.past))])
		}
		w.before, w.beforeS, w.lastZ = w.x, w.s, w.draw()
		if w.s1 == 0 {
			w.x = d
			return
		}
		w.x = adams(w.x, w.s, w.s1, tau(w.s), w.lastZ, w.past[:min(p, len(w.past))])
	}
}

var stepFormulas = map[string]func(w *walkVE){
	"edm:churn=2,s-max=10":         churnFormula(true),
	"euler-churn:churn=2,s-max=10": churnFormula(false),
	"dpm2-a:eta=0.7": func(w *walkVE) { // k-diffusion's sample_dpm_2_ancestral
		down, up := updown(w.s, w.s1, 0.7)
		slope := (w.x - w.d(w.x, w.s)) / w.s
		if down == 0 {
			w.x += slope * (down - w.s)
			return
		}
		mid := math.Exp((math.Log(w.s) + math.Log(down)) / 2)
		x2 := w.x + slope*(mid-w.s)
		w.x += (x2-w.d(x2, mid))/mid*(down-w.s) + up*w.draw()
	},
	"dpm++2s-a:eta=0.7": func(w *walkVE) { // sample_dpmpp_2s_ancestral
		down, up := updown(w.s, w.s1, 0.7)
		d := w.d(w.x, w.s)
		if down == 0 {
			w.x = d
			return
		}
		h := math.Log(w.s / down)
		mid := w.s * math.Exp(-h/2)
		x2 := mid/w.s*w.x - math.Expm1(-h/2)*d
		w.x = down/w.s*w.x - math.Expm1(-h)*w.d(x2, mid) + up*w.draw()
	},
	"dpm++sde:eta=0.7,s-noise=1.01,r=0.4": func(w *walkVE) { // sample_dpmpp_sde
		d := w.d(w.x, w.s)
		if w.s1 == 0 {
			w.x = d
			return
		}
		mid := w.s * math.Exp(-0.4*math.Log(w.s/w.s1))
		down, up := updown(w.s, mid, 0.7)
		z0 := w.draw()
		x2 := down/w.s*w.x - math.Expm1(math.Log(down/w.s))*d + 1.01*up*z0
		dd := (1-1/0.8)*d + 1/0.8*w.d(x2, mid)
		clock := func(s float64) float64 { return 1 / (s * s) }
		path := math.Sqrt(clock(mid)-clock(w.s))*z0 + math.Sqrt(clock(w.s1)-clock(mid))*w.draw()
		down, up = updown(w.s, w.s1, 0.7)
		w.x = down/w.s*w.x - math.Expm1(math.Log(down/w.s))*dd + 1.01*up*path/math.Sqrt(clock(w.s1)-clock(w.s))
	},
	"sde-dpm++1:eta=0.6":                multistepSDE(1, 0.6, 0, false),
	"sde-dpm++2m:eta=0.6":               multistepSDE(2, 0.6, 0, false),
	"sde-dpm++2m:eta=0.6,form=heun":     multistepSDE(2, 0.6, 0, true),
	"sde-dpm++3m:eta=0.6":               multistepSDE(3, 0.6, 2, false),
	"sde-dpm++3m:eta=1,third=published": multistepSDE(3, 1, 1, false),
	"sde-dpm++3m:eta=1,third=diffusers": func(w *walkVE) { // its dpmsolver++ third-order SDE update
		if len(w.past) < 2 || w.s1 == 0 {
			multistepSDE(3, 1, 1, false)(w)
			return
		}
		d := w.look()
		p, h := w.past, math.Log(w.s/w.s1)
		r0, r1 := math.Log(p[1].s/p[0].s)/h, math.Log(p[2].s/p[1].s)/h
		a, b := (p[0].d-p[1].d)/r0, (p[1].d-p[2].d)/r1
		d1, d2 := a+r0/(r0+r1)*(a-b), (a-b)/(r0+r1)
		w.x = w.s1/w.s*math.Exp(-h)*w.x + (1-math.Exp(-2*h))*d + ((1-math.Exp(-2*h))/(-2*h)+1)*d1 +
			((1-math.Exp(-2*h)-2*h)/(4*h*h)-0.5)*d2 + w.s1*math.Sqrt(1-math.Exp(-2*h))*w.draw()
	},
	"sa-solver:tau=0.8,tau-min=0.3,tau-max=5":                         saFormula(3, 3),
	"sa-solver:predictor=2,corrector=1,tau=0.8,tau-min=0.3,tau-max=5": saFormula(2, 1),
	"sa-solver:predictor=1,corrector=3,tau=0.8,tau-min=0.3,tau-max=5": saFormula(1, 3),
	"sa-solver:corrector=0,tau=0.8,tau-min=0.3,tau-max=5":             saFormula(3, 0),
	"euler-a-flow:eta=0.7,s-noise=1.01": func(w *walkVE) { // sample_euler_ancestral_RF, on x·(1-t)
		t, t1 := w.s/(1+w.s), w.s1/(1+w.s1)
		x, d := w.x*(1-t), w.d(w.x, w.s)
		down := t1 * (1 + (t1/t-1)*0.7)
		x = down/t*x + (1-down/t)*d
		k := (1 - t1) / (1 - down)
		x = k*x + 1.01*math.Sqrt(t1*t1-down*down*k*k)*w.draw()
		w.x = x / (1 - t1)
	},
	"flow-sde:norm=0.8": func(w *walkVE) { // SiT's drift and diffusion, its time being 1-t
		t, t1 := w.s/(1+w.s), w.s1/(1+w.s1)
		x, d := w.x*(1-t), w.d(w.x, w.s)
		n := (x - (1-t)*d) / t
		drift := (d - n) + 0.8*t*(-n/t)
		x += drift * (t - t1)
		if t1 > 0 {
			x += math.Sqrt(2*0.8*t*(t-t1)) * w.draw()
		}
		w.x = x / (1 - t1)
	},
	"consistency:sigma-min=0.04": func(w *walkVE) { // Song et al. 2023, algorithm 1
		w.x = w.d(w.x, w.s)
		if w.s1 > 0 {
			w.x += math.Sqrt(w.s1*w.s1-0.04*0.04) * w.draw()
		}
	},
	"flow-renoise": func(w *walkVE) { // x' = (1-t')·x0 + t'·z
		t1 := w.s1 / (1 + w.s1)
		w.x = ((1-t1)*w.d(w.x, w.s) + t1*w.draw()) / (1 - t1)
	},
}

// Steps are the formulas of papers and tools, in whatever scaling the states are kept.
func TestStochasticStepsByFormula(t *testing.T) {
	const images = 3
	noise := oracle.Normal(21, 64*images)
	for name, formula := range stepFormulas {
		s := solver(t, name)
		ran := 0
		for _, space := range []diffusion.Space{diffusion.VESpace, diffusion.VPSpace, diffusion.FlowSpace} {
			g := build(t, "ve", diffusion.Spec{Rule: "karras", Steps: 7, SigmaMax: 20, SigmaMin: 0.05}).In(space)
			if space == diffusion.FlowSpace && solverBase(name) == "edm" {
				continue // Heun's step is in the flow's time there
			}
			if s.Check(g) != nil {
				continue
			}
			ran++
			from := g.Steps[0].From
			start := make([]float64, images)
			for i := range start {
				start[i] = from.B * float64(noise[i])
			}
			drawn := 0
			states := [][]float64{}
			_, err := sampler.Run(context.Background(), gaussian{0.3, 0.5}, s, g, sampler.Options{
				N: images, Shape: []int{1}, Double: true, State: gpu.CPU().From64(start, images, 1),
				StepNoise: func(_, _ int, z *gpu.Tensor) {
					drawn++
					for i := range images {
						z.F64()[i] = float64(noise[drawn*images+i])
					}
				},
				Trajectory: func(e sampler.Event) error {
					at := make([]float64, images)
					for i, v := range e.X.F64() {
						at[i] = v / e.At.A
					}
					states = append(states, at)
					return nil
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			for i := range images {
				draws := 0
				w := &walkVE{steps: len(g.Steps), x: states[0][i], den: gaussian{0.3, 0.5}, draw: func() float64 {
					draws++
					return float64(noise[draws*images+i])
				}}
				for k, st := range g.Steps {
					w.s, w.s1 = st.From.Sigma(), st.To.Sigma()
					formula(w)
					if got := states[k+1][i]; !(math.Abs(got-w.x) <= 1e-10*max(1, math.Abs(w.x))) {
						t.Fatalf("%s, %v scaling: value %d after step %d is %.15g, by the formula %.15g", name, space, i, k, got, w.x)
					}
				}
			}
		}
		if ran == 0 {
			t.Errorf("%s ran on no grid", name)
		}
	}
}
