package geom

import (
	"fmt"
	"math"
)

// Voxels is a grid of equal cubes in space. Voxel (x, y, z) reaches from Min +
// Size·(x, y, z) to Min + Size·(x+1, y+1, z+1), its lower faces included.
type Voxels struct {
	N    [3]int // along x, y, z
	Min  Vec
	Size float64
}

// Check refuses grids without voxels and sizes that are not finite and positive.
func (g *Voxels) Check() error {
	if g.N[0] < 1 || g.N[1] < 1 || g.N[2] < 1 {
		return fmt.Errorf("geom: %v voxels; want at least one along every axis", g.N)
	}
	if !(g.Size > 0) || math.IsInf(g.Size, 1) || math.IsNaN(g.Min.X-g.Min.X+g.Min.Y-g.Min.Y+g.Min.Z-g.Min.Z) {
		return fmt.Errorf("geom: voxels of size %g from %v; want a finite size above 0 and a finite corner", g.Size, g.Min)
	}
	return nil
}

// Index is the voxel that contains p; ok is false outside of the grid and for NaN.
func (g *Voxels) Index(p Vec) (v [3]int, ok bool) {
	for a := range v {
		f := math.Floor((p.At(a) - g.Min.At(a)) / g.Size)
		if !(f >= 0 && f < float64(g.N[a])) {
			return [3]int{}, false
		}
		v[a] = int(f)
	}
	return v, true
}

// plane is the position of face k of the axis.
func (g *Voxels) plane(axis, k int) float64 { return g.Min.At(axis) + float64(float64(k)*g.Size) }

// Walk visits the voxels that a ray crosses, in order:
//
//	for w := g.Walk(origin, d); w.Next(); {
//		// the ray is in w.At from s = w.Enter to s = w.Leave
//	}
//
// Method: Amanatides and Woo 1987. Unlike theirs, crossings are not summed up but
// computed from the number of the face, so that they are exact to one rounding at
// any length. When a ray meets two faces at once it crosses x before y before z.
type Walk struct {
	At    [3]int  // the voxel
	Enter float64 // where the ray enters it: 0 or more
	Leave float64 // where it leaves
	Axis  int     // of the face that it entered through; -1 in the voxel of the origin

	g       *Voxels
	o, d    Vec
	step    [3]int
	next    [3]float64 // where the ray meets the next face of each axis
	started bool
	done    bool
}

// Walk begins at the origin, or where the ray o + s·d, s ≥ 0, first meets the
// grid. A ray that starts on a face belongs to the voxel that it runs into, and
// one that runs within a face to the voxel above. A direction of zero, or NaN
// anywhere, visits nothing.
func (g *Voxels) Walk(o, d Vec) Walk {
	w := Walk{g: g, o: o, d: d, Axis: -1}
	enter, leave := 0.0, math.Inf(1)
	for a := range 3 {
		oa, da := o.At(a), d.At(a)
		low, high := g.plane(a, 0), g.plane(a, g.N[a])
		if da == 0 {
			if !(low <= oa && oa < high) {
				w.done = true
			}
			continue
		}
		s0, s1 := (low-oa)/da, (high-oa)/da
		if da < 0 {
			s0, s1 = s1, s0
		}
		if s0 > enter { // of equal ones the first axis is crossed last, as in Next
			enter, w.Axis = s0, a
		} else if s0 == enter && s0 > 0 && w.Axis >= 0 {
			w.Axis = a
		}
		leave = min(leave, s1)
	}
	if w.done || !(enter < leave) || d == (Vec{}) || math.IsNaN(o.X+o.Y+o.Z+d.X+d.Y+d.Z) {
		w.done = true
		return w
	}
	w.Enter = enter
	for a := range 3 {
		oa, da := o.At(a), d.At(a)
		switch {
		case da > 0:
			w.step[a] = 1
		case da < 0:
			w.step[a] = -1
		}
		w.At[a] = g.first(a, oa, da, enter)
		w.aim(a)
	}
	w.Leave = min(w.next[0], w.next[1], w.next[2])
	return w
}

// first is the index along an axis of the voxel that the ray is in just after
// the parameter s: the one whose far face is the first to be met later than s.
func (g *Voxels) first(axis int, o, d, s float64) int {
	k := int(max(0, min(math.Floor((o+float64(s*d)-g.Min.At(axis))/g.Size), float64(g.N[axis]-1))))
	if d == 0 {
		return k
	}
	met := func(face int) bool { return (g.plane(axis, face)-o)/d <= s }
	if d > 0 {
		for k > 0 && !met(k) {
			k--
		}
		for k < g.N[axis]-1 && met(k+1) {
			k++
		}
		return k
	}
	for k < g.N[axis]-1 && !met(k+1) {
		k++
	}
	for k > 0 && met(k) {
		k--
	}
	return k
}

// aim computes where the ray meets the far face of the voxel along an axis.
func (w *Walk) aim(a int) {
	switch w.step[a] {
	case 0:
		w.next[a] = math.Inf(1)
	case 1:
		w.next[a] = (w.g.plane(a, w.At[a]+1) - w.o.At(a)) / w.d.At(a)
	default:
		w.next[a] = (w.g.plane(a, w.At[a]) - w.o.At(a)) / w.d.At(a)
	}
}

// Next goes to the first voxel, or on to the next; false outside of the grid.
func (w *Walk) Next() bool {
	if w.done {
		return false
	}
	if !w.started {
		w.started = true
		return true
	}
	a := 0
	for b := 1; b < 3; b++ {
		if w.next[b] < w.next[a] {
			a = b
		}
	}
	w.At[a] += w.step[a]
	if w.At[a] < 0 || w.At[a] >= w.g.N[a] {
		w.done = true
		return false
	}
	w.Enter, w.Axis = w.next[a], a
	w.aim(a)
	w.Leave = min(w.next[0], w.next[1], w.next[2])
	return true
}
