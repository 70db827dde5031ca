package nn_test

import (
	"math"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/rng"
)

// A mixture of four Gaussians of standard deviation spread at (±1, ±1), seen through noise
// of standard deviation blur: the best denoiser is the mean of the centre's posterior,
// each moved towards what is seen.
const spread, blur = 0.2, 0.5

func draws(s *rng.Stream, clean, noisy []float32) {
	for i := 0; i < len(clean); i += 2 {
		k := s.Intn(4)
		clean[i] = float32(float64(2*(k&1)-1) + spread*s.Normal())
		clean[i+1] = float32(float64(k&2-1) + spread*s.Normal())
		noisy[i] = clean[i] + float32(blur*s.Normal())
		noisy[i+1] = clean[i+1] + float32(blur*s.Normal())
	}
}

func bestDenoiser(x, y float64) (u, v float64) {
	var total float64
	all := spread*spread + blur*blur
	pull := spread * spread / all
	for k := range 4 {
		mx, my := float64(2*(k&1)-1), float64(k&2-1)
		w := math.Exp(-((x-mx)*(x-mx) + (y-my)*(y-my)) / (2 * all))
		total += w
		u += w * (mx + pull*(x-mx))
		v += w * (my + pull*(y-my))
	}
	return u / total, v / total
}

// The network's distance from the best denoiser, over the data, must be a fiftieth of that
// of the best linear one, which is what a network without its functions could reach.
func TestLearnsTheScoreOfAMixture(t *testing.T) {
	net := nn.NewParams(gpu.CPU(), gpu.Float32)
	mlp := nn.NewMLP(net.At(""), ops.SiLU, 2, 64, 64, 2)
	net.Init(1)
	const steps, batch = 1500, 256
	tape, opt, ema := nn.NewTape(gpu.CPU(), gpu.Float32), nn.NewAdam(net, nn.AdamOptions{}), nn.NewEMA(net, 0.98)
	lr := nn.Warmup(20, nn.Cosine(5e-3, 1e-4, steps))
	s := rng.New(3, 0)
	clean, noisy := make([]float32, 2*batch), make([]float32, 2*batch)
	x, y := gpu.CPU().From(noisy, batch, 2), gpu.CPU().From(clean, batch, 2)
	for step := range steps {
		draws(s, clean, noisy)
		tape.Run(func() { tape.Backward(nn.MSE(mlp.Forward(tape.Input(x)), tape.Input(y), nil)) })
		if _, ok := nn.ClipNorm(10, net); !ok {
			t.Fatal("a gradient is not finite")
		}
		opt.Step(lr(step))
		ema.Update()
	}
	ema.Swap()
	const n = 4000
	clean, noisy = make([]float32, 2*n), make([]float32, 2*n)
	draws(rng.New(4, 0), clean, noisy)
	var excess, linear float64
	shrink := (1 + spread*spread) / (1 + spread*spread + blur*blur) // the axes are independent to second order
	tape.Run(func() {
		tape.NoGrad(func() {
			got := mlp.Forward(tape.Input(gpu.CPU().From(noisy, n, 2))).Value().F32()
			for i := range n {
				a, b := float64(noisy[2*i]), float64(noisy[2*i+1])
				u, v := bestDenoiser(a, b)
				excess += math.Pow(float64(got[2*i])-u, 2) + math.Pow(float64(got[2*i+1])-v, 2)
				linear += math.Pow(shrink*a-u, 2) + math.Pow(shrink*b-v, 2)
			}
		})
	})
	t.Logf("distance from the best denoiser: %.5f, of the best linear one %.5f", excess/n, linear/n)
	if excess > 0.02*linear {
		t.Errorf("distance from the best denoiser %.5f, want at most a fiftieth of the linear one's %.5f", excess/n, linear/n)
	}
}
