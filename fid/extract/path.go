package extract

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/rng"
)

// Interpolations are the ways from one latent to another: along the line; along the great circle between the unit vectors, the
// result of length 1 (StyleGAN's); along it with the latents' own lengths (torch-fidelity's slerp_any, and torchmetrics'); that
// brought to length 1 (their slerp_unit, meant for latents of length 1: at 0 it is the latent itself, of whatever length).
var Interpolations = []string{"lerp", "slerp", "slerp-any", "slerp-unit"}

// PathOptions of PathLengths. Zeros stand for the rule's choice.
type PathOptions struct {
	Rule        fid.PPLRule
	N           int     // paths
	Epsilon     float64 // the step, default 1e-4
	Space       string  // "w" where there is a mapping (default there), else "z"
	Full        bool    // steps lie anywhere on the path; else at its beginning
	Interpolate string  // of Interpolations; of w it is lerp
	Crop        bool    // rows 3/8 to 7/8, columns 2/8 to 6/8, for faces
	Seed        uint64
	// Ends, in place of drawing: the latents [n, 2, d] of the paths' ends.
	Ends []float32
	// Times, in place of drawing with Full: where the n steps begin.
	Times []float64
	Done  func(paths int) // called after every part
}

// pathsAtOnce is how many paths' pictures are made in one call of the generator.
const pathsAtOnce = 16

// Settle fills in what is left to the rule, and refuses what does not fit the generator. PathLengths does so by itself.
func (o *PathOptions) Settle(g *Generator) error {
	switch {
	case o.N == 0 && o.Ends != nil:
		o.N = len(o.Ends) / (2 * g.Latent())
	case o.N == 0:
		o.N = o.Rule.N
	}
	if o.Epsilon == 0 {
		o.Epsilon = 1e-4
	}
	if o.Space == "" {
		o.Space = map[bool]string{true: "w", false: "z"}[g.Mapped()]
	}
	if o.Space == "w" && !g.Mapped() {
		return errors.New("extract: ppl: the space w needs a mapping from z, and there is none")
	}
	if o.Interpolate == "" {
		o.Interpolate = map[bool]string{true: "lerp", false: o.Rule.Interpolate}[o.Space == "w"]
	}
	switch {
	case o.Space != "z" && o.Space != "w":
		return fmt.Errorf("extract: ppl: no space %q; there are z and w", o.Space)
	case !slices.Contains(Interpolations, o.Interpolate):
		return fmt.Errorf("extract: ppl: no interpolation %q; there are %s", o.Interpolate, strings.Join(Interpolations, ", "))
	case o.N < 1 || !(o.Epsilon > 0 && o.Epsilon <= 1):
		return fmt.Errorf("extract: ppl: %d paths with a step of %g; want one at least, and a step of more than 0 and at most 1", o.N, o.Epsilon)
	case o.Ends != nil && len(o.Ends) != 2*g.Latent()*o.N:
		return fmt.Errorf("extract: ppl: %d values of latents; want %d paths' two ends of %d", len(o.Ends), o.N, g.Latent())
	case o.Times != nil && (len(o.Times) != o.N || !o.Full):
		return fmt.Errorf("extract: ppl: %d times of %d steps; want as many, of full paths", len(o.Times), o.N)
	}
	h, w := g.Size()
	if o.Crop {
		h, w = h*7/8-h*3/8, w*6/8-w*2/8
	}
	if f := h / o.Rule.Size; o.Rule.Box && f > 1 && (h%f != 0 || w%f != 0) {
		return fmt.Errorf("extract: ppl: pictures of %d×%d cannot be reduced by %d, as the rule %s does", w, h, f, o.Rule.Name)
	}
	return nil
}

// PathLengths are the perceptual lengths of n short steps between latents, each over the square of the step: LPIPS of the pictures
// at t and t + ε, over ε². Latents are standard normal, of path i from the stream of image i; the result depends on nothing else.
func PathLengths(ctx context.Context, g *Generator, l *LPIPS, o PathOptions) ([]float64, error) {
	if err := o.Settle(g); err != nil {
		return nil, err
	}
	d := g.Latent()
	out := make([]float64, o.N)
	for from := 0; from < o.N; from += pathsAtOnce {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n := min(pathsAtOnce, o.N-from)
		ends, times := make([]float32, 2*n*d), make([]float64, n)
		for i := range n {
			s := rng.ForImage(o.Seed, uint64(from+i), rng.Init)
			both := ends[2*i*d:][:2*d]
			if o.Ends != nil {
				copy(both, o.Ends[2*(from+i)*d:])
			} else {
				s.FillNormal32(both)
			}
			switch {
			case o.Times != nil:
				times[i] = o.Times[from+i]
			case o.Full:
				times[i] = rng.ForImage(o.Seed, uint64(from+i), rng.Time).Float64()
			}
		}
		if err := part(g, l, &o, ends, times, out[from:][:n]); err != nil {
			return nil, err
		}
		if o.Done != nil {
			o.Done(from + n)
		}
	}
	return out, nil
}

// part sets out to the lengths of some paths.
func part(g *Generator, l *LPIPS, o *PathOptions, ends []float32, times, out []float64) error {
	var err error
	if o.Space == "w" {
		if ends, err = g.Map(ends); err != nil {
			return err
		}
	}
	n := len(out)
	d := len(ends) / (2 * n)
	steps := make([]float32, len(ends))
	for i := range n {
		a, b := ends[2*i*d:][:d], ends[(2*i+1)*d:][:d]
		for k, t := range []float64{times[i], times[i] + o.Epsilon} {
			between(o.Interpolate, steps[(2*i+k)*d:][:d], a, b, t)
		}
	}
	if o.Space == "z" {
		if steps, err = g.Map(steps); err != nil {
			return err
		}
	}
	pictures, err := g.Pictures(steps)
	if err != nil {
		return err
	}
	h, w := g.Size()
	errs := make([]error, n)
	cpu.Each(n, func(worker *cpu.Worker, i int) {
		x, ph, pw := o.prepare(pictures[6*i*h*w:][:6*h*w], h, w, g.levels)
		v, err := l.Planes(worker, x, ph, pw, nil)
		out[i], errs[i] = v/(o.Epsilon*o.Epsilon), err
	})
	for i, err := range errs {
		if err != nil {
			return fmt.Errorf("%w; the pictures of a path's step, at latents %.3g…", err, ends[2*i*d:][:min(d, 3)])
		}
	}
	return nil
}

// between sets dst to the latent at t from a to b. The line is in float32 as the tools have it, whose rounding moves the step.
func between(how string, dst, a, b []float32, t float64) {
	if how == "lerp" {
		f := float32(t)
		for i := range dst {
			step := (b[i] - a[i]) * f
			dst[i] = a[i] + step
		}
		return
	}
	if how == "slerp-unit" && t == 0 {
		copy(dst, a)
		return
	}
	var aa, bb, ab float64
	for i := range a {
		x, y := float64(a[i]), float64(b[i])
		aa, bb, ab = aa+x*x, bb+y*y, ab+x*y
	}
	la, lb := math.Sqrt(aa), math.Sqrt(bb)
	const tiny = 1e-7
	cos := ab / (max(la, tiny) * max(lb, tiny))
	if la < tiny || lb < tiny || cos > 1-tiny || cos < -1+tiny { // no angle
		between("lerp", dst, a, b, t)
	} else {
		omega := math.Acos(cos)
		ca, cb := math.Sin((1-t)*omega)/math.Sin(omega), math.Sin(t*omega)/math.Sin(omega)
		if how == "slerp" { // of unit vectors
			ca, cb = ca/la, cb/lb
		}
		for i := range dst {
			dst[i] = float32(ca*float64(a[i]) + cb*float64(b[i]))
		}
	}
	if how == "slerp-any" {
		return
	}
	length := 0.0
	for _, v := range dst {
		length += float64(v) * float64(v)
	}
	length = max(math.Sqrt(length), tiny)
	for i, v := range dst {
		dst[i] = float32(float64(v) / length)
	}
}

// prepare makes two pictures [2, 3, h, w] what LPIPS gets. It may work in place.
func (o *PathOptions) prepare(x []float32, h, w int, levels bool) (out []float32, ph, pw int) {
	if o.Rule.Levels && !levels {
		for i, v := range x {
			x[i] = float32(math.Floor(max(0, min(255, float64((v+1)*127.5)))))/127.5 - 1
		}
	}
	if o.Crop {
		top, bottom, left, right := h*3/8, h*7/8, w*2/8, w*6/8
		cut := make([]float32, 0, 6*(bottom-top)*(right-left))
		for c := range 6 {
			for y := top; y < bottom; y++ {
				cut = append(cut, x[(c*h+y)*w+left:(c*h+y)*w+right]...)
			}
		}
		x, h, w = cut, bottom-top, right-left
	}
	size := o.Rule.Size
	switch f := h / size; {
	case o.Rule.Box && f > 1:
		return areas(x, h, w, h/f, w/f), h / f, w / f
	case o.Rule.Box || h == size && w == size:
		return x, h, w
	case h > size && w > size:
		return areas(x, h, w, size, size), size, size
	}
	return bilinear(x, h, w, size), size, size
}

// areas is the mean over what of x lies under each pixel of the result, at whole pixels, as torch's area mode has it.
func areas(x []float32, h, w, toH, toW int) []float32 {
	out := make([]float32, 0, 6*toH*toW)
	for c := range 6 {
		plane := x[c*h*w:][:h*w]
		for y := range toH {
			y0, y1 := y*h/toH, ((y+1)*h+toH-1)/toH
			for k := range toW {
				x0, x1 := k*w/toW, ((k+1)*w+toW-1)/toW
				sum := 0.0
				for r := y0; r < y1; r++ {
					for _, v := range plane[r*w+x0 : r*w+x1] {
						sum += float64(v)
					}
				}
				out = append(out, float32(sum/float64((y1-y0)*(x1-x0))))
			}
		}
	}
	return out
}

// bilinear is torch's, with half-pixel centres and no antialiasing.
func bilinear(x []float32, h, w, size int) []float32 {
	out := make([]float32, 0, 6*size*size)
	at := func(i, n int) (int, int, float64) {
		p := max(0, (float64(i)+0.5)*float64(n)/float64(size)-0.5)
		lo := int(p)
		return lo, min(lo+1, n-1), p - float64(lo)
	}
	for c := range 6 {
		plane := x[c*h*w:][:h*w]
		for y := range size {
			y0, y1, fy := at(y, h)
			for k := range size {
				x0, x1, fx := at(k, w)
				top := float64(plane[y0*w+x0])*(1-fx) + float64(plane[y0*w+x1])*fx
				low := float64(plane[y1*w+x0])*(1-fx) + float64(plane[y1*w+x1])*fx
				out = append(out, float32(top*(1-fy)+low*fy))
			}
		}
	}
	return out
}
