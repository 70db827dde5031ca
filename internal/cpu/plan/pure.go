package plan

import (
	"math"

	"github.com/fidlab/fidlab/internal/cpu"
)

// purePlan runs a graph in Go, image by image, on NCHW float32 maps. A
// convolution is a matrix product of packed weights with columns that are
// gathered block by block, so that nothing of the size of im2col is stored.
type purePlan struct {
	g      *Graph
	packed [][]float32 // per node: Conv weights in panels of mr output channels
	cols   int         // the longest Conv column
	padded int         // the largest padded Conv input
}

const (
	mr    = 4   // output channels of one register tile
	nr    = 2   // pixels of one register tile
	block = 64  // pixels whose columns are packed at once
	chunk = 256 // products that are summed before they are added to the rest: keeps rounding small
)

func compilePure(g *Graph) *purePlan {
	p := &purePlan{g: g, packed: make([][]float32, len(g.Nodes))}
	for i, n := range g.Nodes {
		if n.Kind != Conv {
			continue
		}
		x := g.Shape[g.In[i][0]]
		k := x.C * n.KH * n.KW
		p.cols = max(p.cols, k)
		p.padded = max(p.padded, x.C*(x.H+2*n.PadH)*(x.W+2*n.PadW))
		w := make([]float32, (n.Out+mr-1)/mr*mr*k)
		for o := range n.Out {
			for j := range k {
				w[(o/mr*k+j)*mr+o%mr] = n.Weight[o*k+j]
			}
		}
		p.packed[i] = w
	}
	return p
}

func (p *purePlan) describe() (string, []Step) {
	var steps []Step
	for i, n := range p.g.Nodes {
		steps = append(steps, Step{Node: n.Name, Impl: "go", MACs: p.g.macs(i)})
	}
	return "go", steps
}

func (p *purePlan) close() {}

// macs is the number of multiply-adds of node i per image.
func (g *Graph) macs(i int) int64 {
	n, x, y := &g.Nodes[i], g.Shape[g.In[i][0]], g.Shape[i+1]
	switch n.Kind {
	case Conv:
		return int64(y.Len()) * int64(x.C*n.KH*n.KW)
	case Linear:
		return int64(y.C) * int64(x.Len())
	}
	return 0
}

type pureScratch struct {
	p      *purePlan
	tensor [][]float32
	pad    []float32 // the padded input of a convolution
	base   []int     // offset in pad of each output pixel
	koff   []int     // offset of each element of a column
	col    []float32 // block columns in panels of nr pixels
}

func (p *purePlan) newScratch() (scratch, error) {
	s := &pureScratch{p: p, pad: make([]float32, p.padded), koff: make([]int, p.cols), col: make([]float32, p.cols*block), base: make([]int, block)}
	s.tensor = make([][]float32, len(p.g.Shape))
	for t, d := range p.g.Shape {
		if t > 0 {
			s.tensor[t] = make([]float32, d.Len())
		}
	}
	return s, nil
}

func (s *pureScratch) close() {}

func (s *pureScratch) run(w *cpu.Worker, n int, in []float32, outs [][]float32) error {
	g := s.p.g
	for b := range n {
		s.tensor[0] = in[b*g.Shape[0].Len():][:g.Shape[0].Len()]
		for i := range g.Nodes {
			s.node(i)
		}
		for o, t := range g.Outputs {
			copy(outs[o][b*g.Shape[t].Len():], s.tensor[t])
		}
	}
	return nil
}

func (s *pureScratch) node(i int) {
	g := s.p.g
	n, in, y := &g.Nodes[i], g.In[i], s.tensor[i+1]
	x, xd, yd := s.tensor[in[0]], g.Shape[in[0]], g.Shape[i+1]
	switch n.Kind {
	case Conv:
		s.conv(n, s.p.packed[i], x, xd, y, yd)
	case MaxPool, AvgPool:
		pool(n, x, xd, y, yd)
	case GlobalAvg:
		hw := xd.H * xd.W
		for c := range y {
			sum := 0.0
			for _, v := range x[c*hw:][:hw] {
				sum += float64(v)
			}
			y[c] = float32(sum / float64(hw))
		}
	case Linear:
		for o := range y {
			sum := float32(0)
			for row := n.Weight[o*len(x):][:len(x)]; len(row) > 0; { // in chunks, as in conv
				k := min(chunk, len(row))
				part := float32(0)
				for j, v := range x[len(x)-len(row):][:k] {
					part += v * row[j]
				}
				sum += part
				row = row[k:]
			}
			y[o] = finish(n, o, sum)
		}
	case Concat:
		at := 0
		for _, t := range in {
			at += copy(y[at:], s.tensor[t])
		}
	}
}

// finish adds the bias of channel o and clips.
func finish(n *Node, o int, v float32) float32 {
	if n.Bias != nil {
		v += n.Bias[o]
	}
	if n.ReLU && v < 0 {
		v = 0
	}
	return v
}

func pool(n *Node, x []float32, xd Dims, y []float32, yd Dims) {
	for c := range yd.C {
		src, dst := x[c*xd.H*xd.W:][:xd.H*xd.W], y[c*yd.H*yd.W:][:yd.H*yd.W]
		for oy := range yd.H {
			y0, y1 := window(oy, n.StrideH, n.PadH, n.KH, xd.H)
			for ox := range yd.W {
				x0, x1 := window(ox, n.StrideW, n.PadW, n.KW, xd.W)
				best, sum := float32(math.Inf(-1)), float32(0)
				for iy := y0; iy < y1; iy++ {
					for _, v := range src[iy*xd.W+x0 : iy*xd.W+x1] {
						best = max(best, v)
						sum += v
					}
				}
				if n.Kind == AvgPool {
					best = sum / float32((y1-y0)*(x1-x0))
				}
				dst[oy*yd.W+ox] = best
			}
		}
	}
}

// window is the part of a pooling window that lies inside the map.
func window(o, stride, pad, k, size int) (from, to int) {
	from = o*stride - pad
	return max(from, 0), min(from+k, size)
}

func (s *pureScratch) conv(n *Node, packed, x []float32, xd Dims, y []float32, yd Dims) {
	ph, pw := xd.H+2*n.PadH, xd.W+2*n.PadW
	src := x
	if n.PadH > 0 || n.PadW > 0 {
		src = s.pad[:xd.C*ph*pw]
		clear(src)
		for c := range xd.C {
			for iy := range xd.H {
				copy(src[(c*ph+iy+n.PadH)*pw+n.PadW:][:xd.W], x[(c*xd.H+iy)*xd.W:])
			}
		}
	}
	k := 0
	koff := s.koff[:xd.C*n.KH*n.KW]
	for c := range xd.C {
		for ky := range n.KH {
			for kx := range n.KW {
				koff[k] = (c*ph+ky)*pw + kx
				k++
			}
		}
	}
	pixels := yd.H * yd.W
	for p0 := 0; p0 < pixels; p0 += block {
		np := min(block, pixels-p0)
		for j := range np {
			s.base[j] = (p0+j)/yd.W*n.StrideH*pw + (p0+j)%yd.W*n.StrideW
		}
		panels := (np + nr - 1) / nr
		for q := range panels {
			b0, b1 := s.base[nr*q], s.base[min(nr*q+1, np-1)]
			col := s.col[q*nr*k:][:nr*k]
			for j, o := range koff {
				col[nr*j], col[nr*j+1] = src[o+b0], src[o+b1]
			}
		}
		for o := 0; o < n.Out; o += mr {
			wp := packed[o*k:][:mr*k]
			for q := range panels {
				tile := [mr * nr]float32{}
				cp := s.col[q*nr*k:][:nr*k]
				for j := 0; j < k; j += chunk {
					e := min(j+chunk, k)
					multiply(&tile, wp[mr*j:mr*e], cp[nr*j:nr*e])
				}
				for r := range min(mr, n.Out-o) {
					for c := range min(nr, np-nr*q) {
						y[(o+r)*pixels+p0+nr*q+c] = finish(n, o+r, tile[r*nr+c])
					}
				}
			}
		}
	}
}

// multiply adds to tile[r*nr+c] the sum over j of a[j*mr+r] * b[j*nr+c]. Two
// steps at once are a quarter faster than one.
func multiply(tile *[mr * nr]float32, a, b []float32) {
	var c00, c01, c10, c11, c20, c21, c30, c31 float32
	for len(a) >= 2*mr && len(b) >= 2*nr {
		b0, b1 := b[0], b[1]
		a0, a1, a2, a3 := a[0], a[1], a[2], a[3]
		c00 += a0 * b0
		c01 += a0 * b1
		c10 += a1 * b0
		c11 += a1 * b1
		c20 += a2 * b0
		c21 += a2 * b1
		c30 += a3 * b0
		c31 += a3 * b1
		b0, b1 = b[2], b[3]
		a0, a1, a2, a3 = a[4], a[5], a[6], a[7]
		c00 += a0 * b0
		c01 += a0 * b1
		c10 += a1 * b0
		c11 += a1 * b1
		c20 += a2 * b0
		c21 += a2 * b1
		c30 += a3 * b0
		c31 += a3 * b1
		a, b = a[2*mr:], b[2*nr:]
	}
	if len(a) >= mr && len(b) >= nr {
		b0, b1 := b[0], b[1]
		c00 += a[0] * b0
		c01 += a[0] * b1
		c10 += a[1] * b0
		c11 += a[1] * b1
		c20 += a[2] * b0
		c21 += a[2] * b1
		c30 += a[3] * b0
		c31 += a[3] * b1
	}
	for i, v := range [...]float32{c00, c01, c10, c11, c20, c21, c30, c31} {
		tile[i] += v
	}
}
