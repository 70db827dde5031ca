package ops_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/ops"
)

// One step on moments that were there, for matrices and vectors around the edges of blocks, with
// and without the clip, against the formula. Trajectories are tested in package nn.
func TestAdafactorOnDevices(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, dt := range realDTypes {
			for _, s := range [][2]int{{1, 1}, {3, 5}, {257, 33}, {40, 300}, {2, 1025}, {0, 7}, {0, 256}, {0, 1000}} {
				for _, clip := range []float64{0.5, math.Inf(1)} {
					rows, cols := s[0], s[1]
					shape := []int{cols}
					if rows > 0 {
						shape = []int{rows, cols}
					}
					cfg := ops.AdafactorConfig{New: 0.3, Floor: 1e-2, Clip: clip}
					g, gv := linearInput(t, dev, dt, 1, shape...)
					col, cv := linearInput(t, dev, dt, 2, cols)
					ops.Mul(col, col, col, false)
					copy(cv, read64(t, col))
					var row *gpu.Tensor
					var rv []float64
					if rows > 0 {
						row, rv = linearInput(t, dev, dt, 3, rows)
						ops.Mul(row, row, row, false)
						copy(rv, read64(t, row))
					}
					ops.Adafactor(g, row, col, cfg)

					move := func(m *float64, v float64) { *m += cfg.New * (v - *m) }
					var mean float64
					for r := range rv {
						var sum float64
						for c := range cols {
							sum += gv[r*cols+c] * gv[r*cols+c]
						}
						move(&rv[r], sum/float64(cols))
						mean += rv[r] / float64(rows)
					}
					for c := range cv {
						if rows == 0 {
							move(&cv[c], gv[c]*gv[c])
							continue
						}
						var sum float64
						for r := range rows {
							sum += gv[r*cols+c] * gv[r*cols+c]
						}
						move(&cv[c], sum/float64(rows))
					}
					var rms float64
					for i := range gv {
						v := cv[i%cols]
						if rows > 0 {
							v *= rv[i/cols] / mean
						}
						gv[i] /= math.Sqrt(math.Max(v, cfg.Floor))
						rms += gv[i] * gv[i] / float64(len(gv))
					}
					by := math.Min(1, clip/math.Sqrt(rms))
					unit, sums := linearUnit(dt), 2*float64(rows+cols+len(gv))*0x1p-53 // sums are made in float64
					what := fmt.Sprintf("%v %v, clip %g", dt, s, clip)
					for i, v := range read64(t, g) {
						isNear(t, fmt.Sprintf("%s: update %d", what, i), v, gv[i]*by, (8*unit+sums)*math.Abs(gv[i]))
					}
					for i, v := range read64(t, col) {
						isNear(t, fmt.Sprintf("%s: column %d", what, i), v, cv[i], (2*unit+sums)*cv[i])
					}
					if rows > 0 {
						for i, v := range read64(t, row) {
							isNear(t, fmt.Sprintf("%s: row %d", what, i), v, rv[i], (2*unit+sums)*rv[i])
						}
					}
				}
			}
		}
	})
}
