package dit

import (
	"maps"
	"slices"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/nn"
)

// sorted is a map's names in order: what is registered and added by name is so in this order.
func sorted(m map[string]int) []string { return slices.Sorted(maps.Keys(m)) }

// few is what merging tokens to a grid needs.
type few struct {
	pool   *gpu.Tensor // [grid·grid, N]: the weights of means over squares
	repeat []int32     // [N]: which of the few stands at each place
	angles *gpu.Tensor // of the few, nil without rotation
}

// fewOf is the tables of a grid, made once.
func (n *Net) fewOf(grid int) *few {
	n.tables.Lock()
	defer n.tables.Unlock()
	if f := n.few[grid]; f != nil {
		return f
	}
	h, w := n.c.Height/n.c.Patch, n.c.Width/n.c.Patch
	f := &few{repeat: make([]int32, h*w)}
	pool := make([]float64, grid*grid*h*w)
	for i := range grid * grid {
		// The squares of an adaptive mean: from floor(i·h/grid) to ceil((i+1)·h/grid), which may overlap.
		top, bottom := i/grid*h/grid, ((i/grid+1)*h+grid-1)/grid
		left, right := i%grid*w/grid, ((i%grid+1)*w+grid-1)/grid
		for y := top; y < bottom; y++ {
			for x := left; x < right; x++ {
				pool[(i*h+y)*w+x] = 1 / float64((bottom-top)*(right-left))
			}
		}
	}
	for i := range f.repeat {
		f.repeat[i] = int32(i/w*grid/h*grid + i%w*grid/w)
	}
	f.pool = n.table(pool, grid*grid, h*w)
	if n.c.Rotary { // places of the squares' middles, in patches
		head := n.c.Dim / n.c.Heads
		at := func(i, size int) float64 { return (float64(i)+0.5)*float64(size)/float64(grid) - 0.5 }
		rows := nn.RotaryConfig{Height: 1, Width: 2, Head: head}.Angles(gpu.CPU(), gpu.Float64).F64()[head/2:] // those of row 0, column 1
		v := make([]float64, 0, grid*grid*head/2)
		for i := range grid * grid {
			for _, place := range [...]float64{at(i/grid, h), at(i%grid, w)} {
				for _, w := range rows[head/4:] {
					v = append(v, place*w)
				}
			}
		}
		f.angles = n.table(v, grid*grid, head/2)
	}
	n.few[grid] = f
	return f
}

// table is a constant where the network's parameters are.
func (n *Net) table(v []float64, shape ...int) *gpu.Tensor {
	if n.params.DType() == gpu.Float64 {
		return n.params.Device().From64(v, shape...)
	}
	x := make([]float32, len(v))
	for i, e := range v {
		x[i] = float32(e)
	}
	return n.params.Device().From(x, shape...)
}

// anglesOf is the angles of before tokens without a place, the patches, and after more
// without one; nil without rotation.
func (n *Net) anglesOf(before, after int) *gpu.Tensor {
	if !n.c.Rotary {
		return nil
	}
	n.tables.Lock()
	defer n.tables.Unlock()
	key := [2]int{before, after}
	if a := n.angles[key]; a != nil {
		return a
	}
	half := n.c.Dim / n.c.Heads / 2
	own := nn.RotaryConfig{Height: n.c.Height / n.c.Patch, Width: n.c.Width / n.c.Patch, Head: 2 * half}.Angles(gpu.CPU(), gpu.Float64).F64()
	v := make([]float64, before*half, (before+n.tokens+after)*half)
	v = append(append(v, own...), make([]float64, after*half)...)
	a := n.table(v, len(v)/half, half)
	n.angles[key] = a
	return a
}
