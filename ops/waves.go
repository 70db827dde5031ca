package ops

import (
	"math"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/kernels"
)

// WaveConfig is a sinusoidal embedding of numbers in Width elements: with n = Width/2 and
// the frequencies w_j = Period^(-j/(n - Shift)), sin(Scale·t·w_j), then cos(Scale·t·w_j), or
// with CosFirst the cosines first (Vaswani et al. 2017, arXiv 1706.03762; for times Ho et al.
// 2020, arXiv 2006.11239, whose code has Shift 1).
type WaveConfig struct {
	Width    int // even
	CosFirst bool
	Shift    float64
	Scale    float64 // 0 stands for 1
	Period   float64 // 0 stands for 10,000
}

func (c *WaveConfig) check(op string, waves, t *gpu.Tensor) *cuda.Stream {
	s := streamOf(op, waves, t)
	if c.Width < 2 || c.Width%2 != 0 || !(float64(c.Width/2)-c.Shift > 0) {
		fail(op, "width %d with shift %g, want an even width and half of it above the shift", c.Width, c.Shift)
	}
	if !(c.Period >= 0) {
		fail(op, "period %g, want one above 0", c.Period)
	}
	if waves.Len() != t.Len()*c.Width {
		fail(op, "shape %v for numbers of shape %v, want %d elements for each", waves.Shape(), t.Shape(), c.Width)
	}
	if s != nil && waves.Len() > math.MaxInt32 {
		fail(op, "shape %v; a GPU takes 2^31-1 elements; use a smaller batch", waves.Shape())
	}
	return s
}

// Frequencies is Scale·w_j for all j.
func (c *WaveConfig) Frequencies() []float64 {
	w := make([]float64, c.Width/2)
	for j := range w {
		w[j] = c.frequency(j)
	}
	return w
}

func (c *WaveConfig) frequency(j int) float64 {
	scale, period := c.or()
	return scale * math.Exp(-math.Log(period)*float64(j)/(float64(c.Width/2)-c.Shift))
}

// or is Scale and Period, with what zeros stand for.
func (c *WaveConfig) or() (scale, period float64) {
	scale, period = c.Scale, c.Period
	if scale == 0 {
		scale = 1
	}
	if period == 0 {
		period = 10000
	}
	return scale, period
}

// wave is the scale of the frequencies and the logarithm of one over the one before.
func (c *WaveConfig) wave() (scale, rate float64) {
	scale, period := c.or()
	return scale, -math.Log(period) / (float64(c.Width/2) - c.Shift)
}

// at is where in a number's waves the sine and the cosine of frequency j are.
func (c *WaveConfig) at(j int) (sin, cos int) {
	n := c.Width / 2
	if c.CosFirst {
		return n + j, j
	}
	return j, n + j
}

// Waves sets out, [..., Width], to the embedding of the numbers t, [...]. Angles are made in
// float64.
func Waves(out, t *gpu.Tensor, c WaveConfig) {
	if s := c.check("Waves", out, t); s != nil {
		scale, rate := c.wave()
		k := byWidth(out, kernels.WavesF32, kernels.WavesF64)
		k(s, cuda.Grid1(out.Len()/2, vectorBlock, vectorBlock), out.Ptr(), t.Ptr(), scale, rate, int32(c.Width), flag(c.CosFirst), int64(t.Len()))
		return
	}
	if out.Double() {
		waves(&c, out.F64(), t.F64())
	} else {
		waves(&c, out.F32(), t.F32())
	}
}

func waves[T float32 | float64](c *WaveConfig, out, t []T) {
	for j := range c.Width / 2 {
		w := c.frequency(j)
		s, k := c.at(j)
		for i, v := range t {
			sin, cos := math.Sincos(float64(v) * w)
			out[i*c.Width+s], out[i*c.Width+k] = T(sin), T(cos)
		}
	}
}

// WavesBackward adds to dt the gradient by t of a loss whose gradient by Waves' result is dy.
func WavesBackward(dt, dy, t *gpu.Tensor, c WaveConfig) {
	s := c.check("WavesBackward", dy, t)
	streamOf("WavesBackward", dy, dt)
	sameShape("WavesBackward", t, dt)
	if s != nil {
		scale, rate := c.wave()
		k := byWidth(dt, kernels.WavesBackwardF32, kernels.WavesBackwardF64)
		k(s, cuda.Grid1(t.Len(), vectorBlock/32, vectorBlock), dt.Ptr(), dy.Ptr(), t.Ptr(), scale, rate, int32(c.Width), flag(c.CosFirst), int64(t.Len()))
		return
	}
	if dt.Double() {
		wavesBack(&c, dt.F64(), dy.F64(), t.F64())
	} else {
		wavesBack(&c, dt.F32(), dy.F32(), t.F32())
	}
}

func wavesBack[T float32 | float64](c *WaveConfig, dt, dy, t []T) {
	for i, v := range t {
		var sum float64
		row := dy[i*c.Width:][:c.Width]
		for j := range c.Width / 2 {
			w := c.frequency(j)
			s, k := c.at(j)
			sin, cos := math.Sincos(float64(v) * w)
			sum += w * (float64(row[s])*cos - float64(row[k])*sin)
		}
		dt[i] += T(sum)
	}
}
