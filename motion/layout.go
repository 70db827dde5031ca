package motion

import (
	"fmt"
	"math"
)

// Float is what rows are made of.
type Float interface{ ~float32 | ~float64 }

// Group is a run of channels, From to To−1.
type Group struct {
	Name     string
	From, To int
}

// Layout is the meaning of the channels of a row.
type Layout struct {
	Name     string
	Width    int
	Skeleton *Skeleton
	full     bool // rotations, velocities and contacts follow the positions
}

// The layouts.
var (
	HumanML3D = newLayout("HumanML3D", smpl, true) // 263 channels, 22 joints
	KIT       = newLayout("KIT", mmm, true)        // 251 channels, 21 joints
	Small     = newLayout("motion67", smpl, false) // 67 channels: root and positions of HumanML3D
)

func newLayout(name string, s *Skeleton, full bool) *Layout {
	l := &Layout{Name: name, Skeleton: s, full: full}
	g := l.Groups()
	l.Width = g[len(g)-1].To
	return l
}

// LayoutOf is the layout with rows of so many numbers.
func LayoutOf(width int) (*Layout, error) {
	for _, l := range []*Layout{HumanML3D, KIT, Small} {
		if l.Width == width {
			return l, nil
		}
	}
	return nil, fmt.Errorf("motion: rows of %d numbers; want 263 (HumanML3D), 251 (KIT) or 67 (root and positions)", width)
}

// Groups are the runs of channels of one meaning, over which Stats share a
// deviation: turn, step, height, positions, rotations, velocities, contacts; of
// the small layout the first four.
func (l *Layout) Groups() []Group {
	j := len(l.Skeleton.Parents)
	out, at := []Group(nil), 0
	add := func(name string, n int) { out, at = append(out, Group{name, at, at + n}), at+n }
	add("turn", 1)
	add("step", 2)
	add("height", 1)
	add("positions", 3*(j-1))
	if l.full {
		add("rotations", 6*(j-1))
		add("velocities", 3*j)
		add("contacts", 4)
	}
	return out
}

// Full reports whether rows hold rotations, velocities and contacts.
func (l *Layout) Full() bool { return l.full }

// Position is the first of the three channels of joint j's position, j ≥ 1.
func (l *Layout) Position(j int) int { return 4 + 3*(j-1) }

// Rotation is the first of the six channels of joint j's rotation, j ≥ 1, in a full layout.
func (l *Layout) Rotation(j int) int { return 4 + 3*(l.joints()-1) + 6*(j-1) }

// Velocity is the first of the three channels of joint j's step in a full layout.
func (l *Layout) Velocity(j int) int { return 4 + 9*(l.joints()-1) + 3*j }

// Contacts is the first of the four channels of the contacts in a full layout.
func (l *Layout) Contacts() int { return 4 + 9*(l.joints()-1) + 3*l.joints() }

func (l *Layout) joints() int { return len(l.Skeleton.Parents) }

// Rows is the number of rows that values hold. It refuses a length that is no
// multiple of the width, no row at all, and values that are not finite.
func Rows[T Float](l *Layout, values []T) (int, error) {
	if len(values) == 0 || len(values)%l.Width != 0 {
		return 0, fmt.Errorf("motion: %d numbers; want one row or more of %d (%s)", len(values), l.Width, l.Name)
	}
	for i, v := range values {
		if !finite(float64(v)) {
			return 0, fmt.Errorf("motion: row %d, channel %d is %v; want finite numbers: leave the clip out", i/l.Width, i%l.Width, v)
		}
	}
	return len(values) / l.Width, nil
}

// Frames is the number of frames of a clip of joints. It refuses a length that
// is no multiple of 3·J, fewer than least frames, and values that are not finite.
func (s *Skeleton) Frames(joints []float64, least int) (int, error) {
	per := 3 * len(s.Parents)
	if len(joints) == 0 || len(joints)%per != 0 {
		return 0, fmt.Errorf("motion: %d numbers; want frames of %d joints with 3 coordinates each (%s)", len(joints), len(s.Parents), s.Name)
	}
	for i, v := range joints {
		if !finite(v) {
			return 0, fmt.Errorf("motion: frame %d, joint %d (%s) has a coordinate %v; want finite numbers: leave the clip out", i/per, i%per/3, s.Joints[i%per/3], v)
		}
	}
	n := len(joints) / per
	if n < least {
		return 0, fmt.Errorf("motion: a clip of %d frames; want at least %d", n, least)
	}
	return n, nil
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// Narrow rounds rows or joints to float32.
func Narrow(x []float64) []float32 {
	out := make([]float32, len(x))
	for i, v := range x {
		out[i] = float32(v)
	}
	return out
}

// Widen is the float64 form of rows.
func Widen(x []float32) []float64 {
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = float64(v)
	}
	return out
}
