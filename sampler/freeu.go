package sampler

import (
	"errors"
	"fmt"
	"math"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
)

// FreeU re-weights what a U-Net's decoder joins (Si et al. 2024, "FreeU: Free
// Lunch in Diffusion U-Net", arXiv 2309.11497), without training: of the backbone
// [N, C, H, W] the first C/2 channels are multiplied by b, and of the skip
// features [N, C', H, W] the low frequencies by s,
//
//	y = F⁻¹(m∘F(x)),   m = s where -r <= k, l < r, else 1,
//
// F being the discrete Fourier transform of a plane, k and l its frequencies and
// r the Threshold. The box has one frequency more below zero than above, as the
// authors' code has it, so that y is the real part of a complex plane.
//
// Only the (2r)² frequencies of the box are computed, by sums over rows and then
// columns: y = x + (s-1)·Re(what they make), 8r operations a value each way
// instead of a whole transform's. Planes of any size will do.
//
// A FreeU keeps scratch memory and serves one goroutine at a time.
type FreeU struct {
	B, S      []float64 // factors b and s of each decoder stage that is touched, the deepest first
	Threshold int       // r; 0 is 1

	plans map[[2]int]*lowPass
}

// DefaultFreeU has the factors that "Hyperparameters are all you need" (arXiv
// 2510.02390) takes with its five to eight steps: b 1.1 and 1.1, s 0.9 and 0.2.
func DefaultFreeU() *FreeU { return &FreeU{B: []float64{1.1, 1.1}, S: []float64{0.9, 0.2}} }

// SkipFeatures is implemented by denoisers whose network joins skip features of
// an encoder in its decoder, where a FreeU can reach them.
type SkipFeatures interface {
	Denoiser
	// SetFreeU makes the decoder's stage i call f.Apply(i, …) before it joins
	// backbone and skip; nil ends that. It refuses more stages than there are.
	SetFreeU(f *FreeU) error
}

// ErrNoSkipFeatures says that a denoiser gives FreeU nothing to work on.
var ErrNoSkipFeatures = errors.New("the model has no skip features that could be re-weighted: FreeU works inside a U-Net's decoder, and this model is given as a whole; leave FreeU out")

// Join makes den's network re-weight what its decoder joins. Denoisers without
// skip features are refused with ErrNoSkipFeatures.
func (f *FreeU) Join(den Denoiser) error {
	if err := f.Check(); err != nil {
		return err
	}
	d, ok := den.(SkipFeatures)
	if !ok {
		return fmt.Errorf("sampler: freeu: %w", ErrNoSkipFeatures)
	}
	return d.SetFreeU(f)
}

// Check refuses factors that are not finite or below 0, and unequal numbers of them.
func (f *FreeU) Check() error {
	if len(f.B) == 0 || len(f.B) != len(f.S) {
		return fmt.Errorf("sampler: freeu: %d factors of the backbone and %d of the skip features; wanted one of each for every stage", len(f.B), len(f.S))
	}
	for _, v := range append(append([]float64{}, f.B...), f.S...) {
		if !(v >= 0) || math.IsInf(v, 1) {
			return fmt.Errorf("sampler: freeu: a factor of %g; wanted finite numbers of at least 0", v)
		}
	}
	if f.Threshold < 0 {
		return fmt.Errorf("sampler: freeu: threshold %d; wanted a number of frequencies, 1 or more", f.Threshold)
	}
	return nil
}

// Apply re-weights a stage's backbone and skip features in place; stages that f
// has no factors for stay as they are. It allocates at the first plane of a size.
func (f *FreeU) Apply(stage int, backbone, skip *gpu.Tensor) error {
	if stage < 0 || stage >= len(f.B) {
		return nil
	}
	for _, t := range []*gpu.Tensor{backbone, skip} {
		if len(t.Shape()) != 4 || t.DType() != gpu.Float32 && t.DType() != gpu.Float64 {
			return fmt.Errorf("sampler: freeu: features of shape %v and type %v; wanted [images, channels, height, width] of float32 or float64", t.Shape(), t.DType())
		}
	}
	if b, s := backbone.Shape(), skip.Shape(); b[0] != s[0] || b[2] != s[2] || b[3] != s[3] {
		return fmt.Errorf("sampler: freeu: backbone %v and skip features %v; wanted equal images, heights and widths", b, s)
	}
	if backbone.Device().CUDA() {
		return f.onHost(stage, backbone, skip)
	}
	h, w := skip.Shape()[2], skip.Shape()[3]
	r := max(f.Threshold, 1)
	if 2*r > min(h, w) {
		return fmt.Errorf("sampler: freeu: threshold %d on planes of %dx%d; wanted at most half of the smaller side", r, h, w)
	}
	scaleHalf(backbone, f.B[stage])
	key := [2]int{h, w}
	if f.plans == nil {
		f.plans = map[[2]int]*lowPass{}
	}
	p := f.plans[key]
	if p == nil || p.r != r {
		p = newLowPass(h, w, r)
		f.plans[key] = p
	}
	p.scale(skip, f.S[stage])
	return nil
}

func (f *FreeU) onHost(stage int, backbone, skip *gpu.Tensor) error {
	dev := backbone.Device()
	hb, hs := backbone.To(gpu.CPU()), skip.To(gpu.CPU())
	if err := dev.Err(); err != nil {
		return err
	}
	if err := f.Apply(stage, hb, hs); err != nil {
		return err
	}
	backbone.Copy(hb)
	skip.Copy(hs)
	return dev.Err()
}

// scaleHalf multiplies the first half of the channels, ⌊C/2⌋ of them, by b.
func scaleHalf(x *gpu.Tensor, b float64) {
	s := x.Shape()
	plane := s[2] * s[3]
	for n := range s[0] {
		lo := n * s[1] * plane
		hi := lo + s[1]/2*plane
		if x.Double() {
			for i := range x.F64()[lo:hi] {
				x.F64()[lo+i] *= b
			}
			continue
		}
		for i, v := range x.F32()[lo:hi] {
			x.F32()[lo+i] = float32(float64(v) * b)
		}
	}
}

// lowPass scales the frequencies -r to r-1 of planes of one size.
type lowPass struct {
	h, w, r   int
	rows      []complex128 // [h, 2r]: e^(-2πi·k·u/h)
	cols      []complex128 // [w, 2r]
	scratch   []lowPassScratch
	x         *gpu.Tensor
	by        float64
	planeFunc func(w *cpu.Worker, i int)
}

type lowPassScratch struct{ row, box []complex128 } // [h, 2r] and [2r, 2r]

func newLowPass(h, w, r int) *lowPass {
	p := &lowPass{h: h, w: w, r: r, rows: waves(h, r), cols: waves(w, r), scratch: make([]lowPassScratch, cpu.Workers())}
	for i := range p.scratch {
		p.scratch[i] = lowPassScratch{make([]complex128, h*2*r), make([]complex128, 4*r*r)}
	}
	p.planeFunc = p.plane
	return p
}

// waves is e^(-2πi·k·u/n) for u < n and -r <= k < r, u by u. The angle is reduced
// by whole turns first, in integers.
func waves(n, r int) []complex128 {
	out := make([]complex128, 0, n*2*r)
	for u := range n {
		for k := -r; k < r; k++ {
			sin, cos := math.Sincos(-2 * math.Pi * float64(k*u%n) / float64(n))
			out = append(out, complex(cos, sin))
		}
	}
	return out
}

func (p *lowPass) scale(x *gpu.Tensor, s float64) {
	if s == 1 {
		return
	}
	p.x, p.by = x, (s-1)/float64(p.h*p.w)
	cpu.Each(x.Shape()[0]*x.Shape()[1], p.planeFunc)
	p.x = nil
}

// plane adds by·Re(Σ_k Σ_l X_kl·e^(2πi(ku/h + lv/w))) to plane i, the sum over the box.
func (p *lowPass) plane(w *cpu.Worker, i int) {
	s, m, from := p.scratch[w.ID], 2*p.r, i*p.h*p.w
	clear(s.row)
	clear(s.box)
	for u := range p.h {
		row := s.row[u*m : u*m+m]
		for v := range p.w {
			x := p.at(from + u*p.w + v)
			for l, e := range p.cols[v*m : v*m+m] {
				row[l] += complex(x*real(e), x*imag(e))
			}
		}
		for k, e := range p.rows[u*m : u*m+m] {
			for l, c := range row {
				s.box[k*m+l] += e * c
			}
		}
	}
	for u := range p.h {
		row := s.row[u*m : u*m+m]
		clear(row)
		for k, e := range p.rows[u*m : u*m+m] {
			back := complex(real(e), -imag(e))
			for l := range row {
				row[l] += back * s.box[k*m+l]
			}
		}
		for v := range p.w {
			sum := 0.0
			for l, e := range p.cols[v*m : v*m+m] {
				sum += real(row[l])*real(e) + imag(row[l])*imag(e) // of row·conj(e)
			}
			p.add(from+u*p.w+v, p.by*sum)
		}
	}
}

func (p *lowPass) at(i int) float64 {
	if p.x.Double() {
		return p.x.F64()[i]
	}
	return float64(p.x.F32()[i])
}

func (p *lowPass) add(i int, v float64) {
	if p.x.Double() {
		p.x.F64()[i] += v
		return
	}
	p.x.F32()[i] = float32(float64(p.x.F32()[i]) + v)
}
