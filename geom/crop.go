package geom

import (
	"fmt"
	"math"
)

// Rect is a part of a picture: its upper left corner and size, in pixels, which
// need not be whole numbers.
type Rect struct{ Y, X, H, W float64 }

// RandomCrop draws a rectangle of whole pixels inside a picture of h×w: an area
// between scale[0] and scale[1] of the whole, an aspect (width by height) between
// ratio[0] and ratio[1], uniform in its logarithm, then a uniform place. After ten
// draws that do not fit it takes the largest centred rectangle whose aspect is
// allowed. uniform gives numbers in [0, 1).
//
// The rule, and the order of the draws, are those of torchvision's
// RandomResizedCrop: area, aspect, row, column. It panics unless the picture has
// a pixel and 0 < scale[0] ≤ scale[1] ≤ 1, 0 < ratio[0] ≤ ratio[1].
func RandomCrop(h, w int, scale, ratio [2]float64, uniform func() float64) Rect {
	if h < 1 || w < 1 || !(scale[0] > 0 && scale[0] <= scale[1] && scale[1] <= 1) || !(ratio[0] > 0 && ratio[0] <= ratio[1]) {
		panic(fmt.Sprintf("geom: RandomCrop: picture %d×%d, scale %v, aspect %v; want 0 < from ≤ to, scale at most 1", h, w, scale, ratio))
	}
	low, high := math.Log(ratio[0]), math.Log(ratio[1])
	for range 10 {
		area := float64(h*w) * (scale[0] + (scale[1]-scale[0])*uniform())
		aspect := math.Exp(low + (high-low)*uniform())
		cw, ch := int(math.RoundToEven(math.Sqrt(area*aspect))), int(math.RoundToEven(math.Sqrt(area/aspect)))
		if cw < 1 || ch < 1 || cw > w || ch > h {
			continue
		}
		y := int(uniform() * float64(h-ch+1))
		x := int(uniform() * float64(w-cw+1))
		return Rect{float64(y), float64(x), float64(ch), float64(cw)}
	}
	cw, ch := w, h
	switch in := float64(w) / float64(h); {
	case in < ratio[0]:
		ch = max(1, min(h, int(math.RoundToEven(float64(w)/ratio[0]))))
	case in > ratio[1]:
		cw = max(1, min(w, int(math.RoundToEven(float64(h)*ratio[1]))))
	}
	return Rect{float64((h - ch) / 2), float64((w - cw) / 2), float64(ch), float64(cw)}
}

// Expand is r grown by fractions of its own size on each side: {−top·H, −left·W,
// H(1+top+down), W(1+left+right)} from its corner.
func (r Rect) Expand(top, down, left, right float64) Rect {
	return Rect{r.Y - top*r.H, r.X - left*r.W, r.H * (1 + top + down), r.W * (1 + left + right)}
}

// Overlap is the common part of two rectangles; its H and W are 0 without one.
func (r Rect) Overlap(o Rect) Rect {
	y, x := max(r.Y, o.Y), max(r.X, o.X)
	return Rect{y, x, max(0, min(r.Y+r.H, o.Y+o.H)-y), max(0, min(r.X+r.W, o.X+o.W)-x)}
}

// Relative are the coordinates of target's tokens in units of anchor's: token
// (i, j) of a grid of g×g laid over target sits at (StartY + i·StepY, StartX +
// j·StepX), where token (0, 0) of the anchor's own grid is the origin and its
// neighbours are 1 apart.
//
// Source: the positional query of PQDiff (Zhang et al. 2024).
type Relative struct{ StartY, StepY, StartX, StepX float64 }

// RelativeTo computes the coordinates of target against anchor for grids of g
// tokens a side. Moving both by the same amount changes nothing. It panics unless
// both have a positive size and g is at least 1.
func RelativeTo(anchor, target Rect, g int) Relative {
	if !(anchor.H > 0 && anchor.W > 0 && target.H > 0 && target.W > 0) || g < 1 {
		panic(fmt.Sprintf("geom: RelativeTo: target %v, anchor %v, %d tokens; want positive sizes and a token", target, anchor, g))
	}
	ky, kx := anchor.H/float64(g), anchor.W/float64(g)
	return Relative{
		StartY: (target.Y - anchor.Y) / ky, StepY: target.H / float64(g) / ky,
		StartX: (target.X - anchor.X) / kx, StepX: target.W / float64(g) / kx,
	}
}

// At is the place of token (i, j): row first.
func (r Relative) At(i, j int) (y, x float64) {
	return r.StartY + float64(i)*r.StepY, r.StartX + float64(j)*r.StepX
}
