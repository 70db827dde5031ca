package cli

import (
	"math"

	"github.com/fidlab/fidlab/data/mnist"
)

// digitField writes to dst a field of which the picture is the part between 0
// and 1: the gray values, continued below 0 outside the strokes and above 1
// inside, by fieldSlope a pixel of distance up to fieldReach. Gaussians fit it
// much better than the gray values themselves, most of which sit at the ends.
func digitField(dst []float64, pix []uint8) {
	var ink, paper [mnist.Height * mnist.Width]uint8
	for i, p := range pix {
		ink[i], paper[i] = fieldReach, fieldReach
		if p > 0 {
			ink[i] = 0
		}
		if p < fieldFull {
			paper[i] = 0
		}
	}
	toInk, toPaper := distances(&ink), distances(&paper)
	for i, p := range pix {
		dst[i] = float64(p) / 255
		switch {
		case p == 0:
			dst[i] = -fieldSlope * (toInk[i] - 0.5)
		case p >= fieldFull:
			dst[i] += fieldSlope * (toPaper[i] - 0.5)
		}
	}
}

const (
	fieldSlope = 0.35 // a pixel
	fieldReach = 4
	fieldFull  = 250 // gray from which a pixel counts as inside
)

// distances is the Euclidean distance of every pixel to the nearest one marked
// 0, at most fieldReach: first along rows, into row, then over nearby rows.
func distances(row *[mnist.Height * mnist.Width]uint8) (out [mnist.Height * mnist.Width]float64) {
	const W, H = mnist.Width, mnist.Height
	for y := range H {
		r := row[y*W : (y+1)*W]
		for x := 1; x < W; x++ {
			r[x] = min(r[x], r[x-1]+1)
		}
		for x := W - 2; x >= 0; x-- {
			r[x] = min(r[x], r[x+1]+1)
		}
	}
	for y := range H {
		for x := range W {
			best := fieldReach * fieldReach
			for v := max(0, y-fieldReach+1); v <= min(H-1, y+fieldReach-1); v++ {
				h := int(row[v*W+x])
				best = min(best, h*h+(v-y)*(v-y))
			}
			out[y*W+x] = math.Sqrt(float64(best))
		}
	}
	return out
}
