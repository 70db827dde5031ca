package ops_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/ops"
)

// attnCase is an attention problem of the tests; its numbers follow from its fields.
type attnCase struct {
	b, h, hkv, d, lq, lk int
	causal               bool
	window               int
	scale                float32
	keyLens              []int32
	biasB, biasH         int     // 0: no bias
	hide                 bool    // some of the bias is -Inf, all of one row
	lensQ, lensK         []int32 // several lengths
	blocksB, blocksH     int     // 0: no mask of blocks
	block                int
	share                float64 // of its blocks that are left, on average
	amplitude            float32 // of Q; 0 is 1
	dt                   gpu.DType
}

func (c attnCase) String() string {
	s := fmt.Sprintf("%v/B%d,H%d-%d,D%d,L%d-%d", c.dt, c.b, c.h, c.hkv, c.d, c.lq, c.lk)
	if c.causal {
		s += ",causal"
	}
	if c.window > 0 {
		s += fmt.Sprintf(",window=%d", c.window)
	}
	if c.keyLens != nil {
		s += fmt.Sprintf(",lens=%v", c.keyLens)
	}
	if c.biasB > 0 {
		s += fmt.Sprintf(",bias=%dx%d", c.biasB, c.biasH)
	}
	if c.blocksB > 0 {
		s += fmt.Sprintf(",blocks=%dx%dof%d", c.blocksB, c.blocksH, c.block)
	}
	if c.lensQ != nil {
		s += fmt.Sprintf(",%v-%v", c.lensQ, c.lensK)
	}
	if c.amplitude != 0 {
		s += fmt.Sprintf(",amplitude=%g", c.amplitude)
	}
	return s
}

// problem is a case with its operands on a device and in the oracle.
type problem struct {
	attnCase
	dev  *gpu.Device
	in   ops.AttentionInput
	cfg  ops.AttentionConfig
	want *oracle.Attention
	dout *gpu.Tensor
	gout []float64 // dout in float64
}

// put rounds v to the dtype on the device and in v64.
func put(dev *gpu.Device, dt gpu.DType, v []float32, shape ...int) (t *gpu.Tensor, v64 []float64) {
	t = dev.FromAs(dt, v, shape...)
	v64 = make([]float64, len(v))
	for i, x := range v {
		v64[i] = float64(rounded(dt, x))
	}
	return t, v64
}

func rounded(dt gpu.DType, x float32) float32 {
	switch dt {
	case gpu.Float16:
		return gpu.F16ToFloat(gpu.FloatToF16(x))
	case gpu.BFloat16:
		return gpu.BF16ToFloat(gpu.FloatToBF16(x))
	}
	return x
}

func ends(lens []int32) (cu []int32, total, longest int) {
	cu = []int32{0}
	for _, n := range lens {
		total += int(n)
		longest = max(longest, int(n))
		cu = append(cu, int32(total))
	}
	return cu, total, longest
}

func newProblem(dev *gpu.Device, c attnCase, seed uint64) *problem {
	r := rand.New(rand.NewPCG(seed, 77))
	normal := func(n int, amplitude float32) []float32 {
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(r.NormFloat64()) * amplitude
		}
		return v
	}
	if c.amplitude == 0 {
		c.amplitude = 1
	}
	p := &problem{dev: dev, cfg: ops.AttentionConfig{Scale: c.scale, Causal: c.causal, Window: c.window}}
	shapeQ, shapeK := []int{c.b, c.lq, c.h, c.d}, []int{c.b, c.lk, c.hkv, c.d}
	rowsQ, rowsK := c.b*c.lq, c.b*c.lk
	w := &oracle.Attention{KeyLens: c.keyLens, Causal: c.causal, Window: c.window, Scale: float64(c.scale)}
	if c.lensQ != nil {
		c.b = len(c.lensQ)
		w.CuQ, rowsQ, c.lq = ends(c.lensQ)
		w.CuK, rowsK, c.lk = ends(c.lensK)
		shapeQ, shapeK = []int{rowsQ, c.h, c.d}, []int{rowsK, c.hkv, c.d}
		p.in.CuQ, p.in.CuK = dev.FromInt32(w.CuQ, c.b+1), dev.FromInt32(w.CuK, c.b+1)
		p.in.MaxQ, p.in.MaxK = c.lq, c.lk
	}
	w.B, w.H, w.HKV, w.D, w.LQ, w.LK, w.BiasB, w.BiasH = c.b, c.h, c.hkv, c.d, c.lq, c.lk, c.biasB, c.biasH
	if c.scale == 0 {
		w.Scale = 1 / math.Sqrt(float64(c.d))
	}
	p.in.Q, w.Q = put(dev, c.dt, normal(rowsQ*c.h*c.d, c.amplitude), shapeQ...)
	p.in.K, w.K = put(dev, c.dt, normal(rowsK*c.hkv*c.d, 1), shapeK...)
	p.in.V, w.V = put(dev, c.dt, normal(rowsK*c.hkv*c.d, 1), shapeK...)
	p.dout, p.gout = put(dev, c.dt, normal(rowsQ*c.h*c.d, 1), shapeQ...)
	if c.keyLens != nil {
		p.in.KeyLens = dev.FromInt32(c.keyLens, c.b)
	}
	if c.biasB > 0 {
		bias := normal(c.biasB*c.biasH*c.lq*c.lk, 2)
		for i := range bias {
			if c.hide && (i%5 == 2 || i < c.lk) {
				bias[i] = float32(math.Inf(-1))
			}
		}
		p.in.Bias, w.Bias = put(dev, gpu.Float32, bias, c.biasB, c.biasH, c.lq, c.lk)
	}
	if c.blocksB > 0 {
		down, across := (c.lq+c.block-1)/c.block, (c.lk+c.block-1)/c.block
		mask := make([]uint8, c.blocksB*c.blocksH*down*across)
		for i := range mask {
			if r.Float64() < c.share {
				mask[i] = uint8(1 + r.IntN(255)) // anything but 0
			}
		}
		p.in.Blocks, p.in.Block = dev.FromUint8(mask, c.blocksB, c.blocksH, down, across), c.block
		w.Hidden = func(b, h, i, j int) bool {
			return mask[(((b%c.blocksB)*c.blocksH+h%c.blocksH)*down+i/c.block)*across+j/c.block] == 0
		}
	}
	p.attnCase, p.want = c, w
	w.Forward()
	return p
}

// naive is the same problem computed as an unfused framework of that dtype would.
func (p *problem) naive() *oracle.Attention {
	n := *p.want
	n.Round = func(x float64) float64 { return float64(rounded(p.dt, float32(x))) }
	n.Forward()
	return &n
}

func (p *problem) newLSE() *gpu.Tensor {
	if p.lensQ != nil {
		return p.dev.New(gpu.Float32, p.h, p.in.Q.Shape()[0])
	}
	return p.dev.New(gpu.Float32, p.b, p.h, p.lq)
}

// factor bounds the rounding errors of float32, in units of 2^-23 of the sums
// of absolute values: a few for exponential, division and products, and sums
// of n terms in any order, whose errors grow with √n as rounding is unbiased.
func (p *problem) factor() float64 {
	return 8 + math.Sqrt(float64(p.d)) + math.Sqrt(float64(max(p.lq*p.h*p.b, p.lk)))
}

// check compares got with want: in float32 each element within factor 2^-23 of
// its scale; in half precision the largest error may be twice that of the naive
// computation instead.
func (p *problem) check(t *testing.T, what string, got *gpu.Tensor, want, scale, naive []float64) {
	t.Helper()
	v, err := got.Floats()
	if err != nil {
		t.Fatal(err)
	}
	if len(v) != len(want) {
		t.Fatalf("%s has %d elements, want %d", what, len(v), len(want))
	}
	var worst float64
	if p.dt != gpu.Float32 {
		for i := range naive {
			if d := math.Abs(naive[i] - want[i]); d > worst {
				worst = d
			}
		}
	}
	for i, x := range v {
		if math.IsInf(want[i], 0) {
			if float64(x) != want[i] {
				t.Fatalf("%s: element %d is %g, want %g", what, i, x, want[i])
			}
			continue
		}
		tol := p.factor()*0x1p-23*scale[i] + 2*worst + 1e-37
		if d := math.Abs(float64(x) - want[i]); !(d <= tol) {
			t.Fatalf("%s: element %d is %g, want %g; off by %.3g, at most %.3g", what, i, x, want[i], d, tol)
		}
	}
}

func (p *problem) forward(t *testing.T) (out, lse *gpu.Tensor) {
	t.Helper()
	out, lse = p.dev.New(p.dt, p.in.Q.Shape()...), p.newLSE()
	ops.Attention(out, lse, p.in, p.cfg)
	return out, lse
}

var attnTypes = []gpu.DType{gpu.Float32, gpu.Float16, gpu.BFloat16}
