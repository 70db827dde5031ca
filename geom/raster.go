package geom

import (
	"fmt"
	"math"
	"slices"
)

// Fill sets the pixels of mask, w×h row by row, whose centres are inside to
// value, and returns how many they are.
func (p Polygon) Fill(mask []uint8, w, h int, value uint8) int {
	if w < 0 || h < 0 || len(mask) != w*h {
		panic(fmt.Sprintf("geom: Fill: %d pixels for %d×%d", len(mask), w, h))
	}
	n := 0
	p.spans(w, h, 1, func(x0, x1, y int) {
		for x := x0; x < x1; x++ {
			mask[y*w+x] = value
		}
		n += x1 - x0
	})
	return n
}

// Coverage adds to count, w×h row by row, how many of the n×n evenly spread
// samples of each pixel are inside: sample (i, j) of pixel (x, y) lies at
// (x + (i+½)/n, y + (j+½)/n). n is at most 15, so that 255 are enough for all.
func (p Polygon) Coverage(count []uint8, w, h, n int) {
	if w < 0 || h < 0 || len(count) != w*h || n < 1 || n > 15 {
		panic(fmt.Sprintf("geom: Coverage: %d pixels for %d×%d, %d samples a side; want 1 to 15", len(count), w, h, n))
	}
	p.spans(w*n, h*n, n, func(x0, x1, y int) {
		row := count[y/n*w:]
		for x := x0; x < x1; x++ {
			row[x/n]++
		}
	})
}

// spans calls put for the runs x0 ≤ x < x1 of columns inside, of a raster of w×h
// centres (x+½)/n, (y+½)/n. Rows come from above, runs from the left.
func (p Polygon) spans(w, h, n int, put func(x0, x1, y int)) {
	low, high, ok := p.Bounds()
	if !ok {
		return
	}
	scale := float64(n)
	first := max(0, int(math.Floor(clamp(float64(low.Y*scale), h))-1))
	last := min(h-1, int(math.Ceil(clamp(float64(high.Y*scale), h))+1))
	var starts []int // columns from which the inside changes to the outside or back
	for y := first; y <= last; y++ {
		cy := (float64(y) + 0.5) / scale
		starts = starts[:0]
		for _, r := range p {
			for i, a := range r {
				b := r[(i+1)%len(r)]
				if a.Y > b.Y {
					a, b = b, a
				}
				if !(a.Y <= cy && cy < b.Y) {
					continue
				}
				starts = append(starts, firstRight(a, b, cy, w, scale))
			}
		}
		slices.Sort(starts)
		for i := 0; i+1 < len(starts); i += 2 {
			if starts[i] < starts[i+1] {
				put(starts[i], starts[i+1], y)
			}
		}
	}
}

// firstRight is the first column of w whose centre does not have the edge ab,
// a above, on its right. The quotient only guesses it; crosses decides, so that
// the raster is that of Contains to the last bit.
func firstRight(a, b Point, cy float64, w int, scale float64) int {
	x := a.X + float64((b.X-a.X)*((cy-a.Y)/(b.Y-a.Y)))
	k := int(clamp(float64(x*scale), w))
	onRight := func(k int) bool { return crosses(a, b, Point{(float64(k) + 0.5) / scale, cy}) }
	for k > 0 && !onRight(k-1) {
		k--
	}
	for k < w && onRight(k) {
		k++
	}
	return k
}

// clamp keeps a coordinate where it can be made an int; NaN becomes 0.
func clamp(v float64, size int) float64 {
	if !(v > 0) {
		return 0
	}
	return min(v, float64(size))
}
