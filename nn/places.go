package nn

import (
	"fmt"
	"math"

	"github.com/fidlab/fidlab/gpu"
)

// SinCos2D is an embedding of the cells of a grid, row by row, [height·width, dim]: of each
// cell dim/4 sines and as many cosines of its column, then those of its row, both times
// scale, 1 or the size of a grid that was trained with over that of this one; frequencies
// are 10,000^(-4j/dim). It is that of DiT and of masked autoencoders (He et al. 2022, arXiv
// 2111.06377).
func SinCos2D(dev *gpu.Device, dt gpu.DType, height, width, dim int, scale float64) *gpu.Tensor {
	if height < 1 || width < 1 || dim < 4 || dim%4 != 0 || !(scale > 0) {
		panic(fmt.Sprintf("nn: SinCos2D: width %d for a grid of %d×%d times %g, want a multiple of 4, sizes >= 1 and a scale > 0", dim, height, width, scale))
	}
	v := make([]float64, 0, height*width*dim)
	for i := range height * width {
		v = AppendSinCos(v, dim/2, scale*float64(i%width))
		v = AppendSinCos(v, dim/2, scale*float64(i/width))
	}
	return table(dev, dt, v, height*width, dim)
}

// AppendSinCos appends n/2 sines and n/2 cosines of a place, which need not be whole, at the
// frequencies 10,000^(-2j/n).
func AppendSinCos(v []float64, n int, place float64) []float64 {
	for j := range n / 2 {
		v = append(v, math.Sin(place*math.Pow(10000, -2*float64(j)/float64(n))))
	}
	for j := range n / 2 {
		v = append(v, math.Cos(place*math.Pow(10000, -2*float64(j)/float64(n))))
	}
	return v
}

// RotaryConfig is a rotary embedding of the cells of a grid (Su et al. 2021, arXiv
// 2104.09864; in two dimensions Fang et al. 2023, arXiv 2303.11331).
type RotaryConfig struct {
	Height, Width int
	Head          int     // the width of a head, a multiple of 4
	Theta         float64 // 0 stands for 10,000
	Scale         float64 // of rows and columns; 0 stands for 1
}

// Angles is the angles of all cells, row by row, [Height·Width, Head/2], as Turn takes them
// for neighbouring pairs: the first half of them the row times Theta^(-4j/Head), the second
// the column.
func (c RotaryConfig) Angles(dev *gpu.Device, dt gpu.DType) *gpu.Tensor {
	if c.Height < 1 || c.Width < 1 || c.Head < 4 || c.Head%4 != 0 || !(c.Theta >= 0) || !(c.Scale >= 0) {
		panic(fmt.Sprintf("nn: RotaryConfig %+v, want sizes >= 1, heads of a multiple of 4, theta and scale >= 0", c))
	}
	if c.Theta == 0 {
		c.Theta = 10000
	}
	if c.Scale == 0 {
		c.Scale = 1
	}
	v := make([]float64, 0, c.Height*c.Width*c.Head/2)
	for i := range c.Height * c.Width {
		for _, place := range [...]int{i / c.Width, i % c.Width} {
			for j := range c.Head / 4 {
				v = append(v, c.Scale*float64(place)*math.Pow(c.Theta, -4*float64(j)/float64(c.Head)))
			}
		}
	}
	return table(dev, dt, v, c.Height*c.Width, c.Head/2)
}

// table is a tensor of that dtype.
func table(dev *gpu.Device, dt gpu.DType, v []float64, shape ...int) *gpu.Tensor {
	if dt == gpu.Float64 {
		return dev.From64(v, shape...)
	}
	x := make([]float32, len(v))
	for i, e := range v {
		x[i] = float32(e)
	}
	return dev.FromAs(dt, x, shape...)
}
