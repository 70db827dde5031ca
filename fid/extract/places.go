package extract

import "math"

// placesAt resamples places [grid, grid, width] to [side, side, width] as the reference does, torch's bicubic. Without
// registers it is not antialiased (a = -3/4), and its step is that of a scale of (side + 0.1)/grid instead of side/grid;
// with registers it is antialiased (a = -1/2) and the step is grid/side. Equal sizes are left as they are.
func placesAt(pos []float32, grid, side, width int, antialias bool) []float32 {
	if grid == side {
		return append([]float32(nil), pos...)
	}
	taps := make([][]tapWeight, side)
	for i := range taps {
		if antialias {
			taps[i] = bicubicAntialias(i, grid, side)
		} else {
			taps[i] = bicubicTaps(i, grid, float64(grid)/(float64(side)+0.1))
		}
	}
	rows := make([]float64, side*grid*width) // resampled along y
	for y, ts := range taps {
		for _, t := range ts {
			for k, p := range pos[t.at*grid*width : (t.at+1)*grid*width] {
				rows[y*grid*width+k] += t.weight * float64(p)
			}
		}
	}
	out := make([]float32, side*side*width)
	sum := make([]float64, width)
	for y := range side {
		for x, ts := range taps {
			clear(sum)
			for _, t := range ts {
				for k, p := range rows[(y*grid+t.at)*width:][:width] {
					sum[k] += t.weight * p
				}
			}
			for k, p := range sum {
				out[(y*side+x)*width+k] = float32(p)
			}
		}
	}
	return out
}

type tapWeight struct {
	at     int
	weight float64
}

// bicubicTaps are the four neighbours of the source place (i + 1/2)·step - 1/2, at the border repeated.
func bicubicTaps(i, n int, step float64) []tapWeight {
	at := (float64(i)+0.5)*step - 0.5
	base := math.Floor(at)
	out := make([]tapWeight, 4)
	for k := range out {
		j := int(base) + k - 1
		out[k] = tapWeight{min(max(j, 0), n-1), keys(at-base-float64(k-1), -0.75)}
	}
	return out
}

// bicubicAntialias are the neighbours within a filter that is as wide as the step where that is more than one.
func bicubicAntialias(i, n, side int) []tapWeight {
	step := float64(n) / float64(side)
	wide := max(step, 1)
	center := step * (float64(i) + 0.5)
	lo, hi := max(int(center-2*wide+0.5), 0), min(int(center+2*wide+0.5), n)
	var out []tapWeight
	total := 0.0
	for j := lo; j < hi; j++ {
		t := tapWeight{j, keys((float64(j)-center+0.5)/wide, -0.5)}
		total += t.weight
		out = append(out, t)
	}
	for k := range out {
		out[k].weight /= total
	}
	return out
}

// keys is Keys' cubic convolution kernel with slope a at distance one.
func keys(x, a float64) float64 {
	x = math.Abs(x)
	switch {
	case x <= 1:
		return ((a+2)*x-(a+3))*x*x + 1
	case x < 2:
		return ((a*x-5*a)*x+8*a)*x - 4*a
	}
	return 0
}
