package motion

import (
	"encoding/binary"
	"math"

	"github.com/fidlab/fidlab/data"
	kin "github.com/fidlab/fidlab/motion"
)

// Item is one clip.
type Item struct {
	truth  Truth
	layout *kin.Layout
	// Joints are [T+1, 22, 3] in metres, on a raster of 2^-16 m: the floor is y = 0,
	// the first root is over the origin, the first frame faces +z.
	Joints []float64
}

// place walks through the poses: the root goes where the foot that carries makes it
// go, in the air along the heading, and up so that the lowest foot is on the floor.
func (t *Truth) place() []float64 {
	poses := t.poses()
	out := make([]float64, 0, len(poses)*66)
	var root vec
	var feet, locked [2]float64 // headings of the feet, and those they had when they last stood
	carrier, anchor := -1, vec{}
	for k := range poses {
		p := &poses[k]
		sin, cos := sincos(p.yaw)
		if k > 0 {
			if before := &poses[k-1]; before.flies || p.flies {
				d := p.ahead - before.ahead
				root[0] += float64(d * sin)
				root[2] += float64(d * cos)
				carrier = -1
			} else {
				if before.stance != carrier { // this foot has come down where it was in the last frame
					carrier = before.stance
					at := out[len(out)-66+3*(7+carrier):]
					anchor = vec{at[0], at[1], at[2]}
				}
				a := times(p.ankle(carrier, sin, cos), t.Scale)
				root[0], root[2] = anchor[0]-a[0], anchor[2]-a[2]
			}
		}
		if p.flies {
			root[1] = float64(standing*t.Scale) + p.air
		} else {
			lowest := min(p.ankle(left, sin, cos)[1], p.ankle(right, sin, cos)[1])
			root[1] = float64((ankleHeight - lowest) * t.Scale)
		}
		for side := range sides {
			if p.swings[side] { // it turns to the body's heading in the first half of its way, once it is up
				feet[side] = locked[side] + float64(ramp(float64(2.4*(p.along[side]-0.08)))*(p.yaw-locked[side]))
			} else {
				locked[side] = feet[side]
			}
		}
		for _, v := range p.joints(root, feet, t.Scale) {
			out = append(out, snap(v[0]), snap(v[1]), snap(v[2]))
		}
	}
	return out
}

// Rows are the clip's features in a layout of 22 joints, float32 [T, width], with
// the facing direction of each frame as it is (motion.Options{}).
func (it *Item) Rows(l *kin.Layout) []float32 {
	rows, err := kin.Features(l, it.Joints, kin.Options{})
	if err != nil {
		panic("motion: a clip of the set has no features: " + err.Error())
	}
	return kin.Narrow(rows)
}

// Len is T, the number of rows.
func (it *Item) Len() int { return it.truth.Rows }

// Tensor is [1, 64, width]: the rows, then rows of zeros up to 64; see Mask. Unlike
// pictures the values are metres and radians, not confined to [-1,1]: normalise them
// with motion.Stats of the training split.
func (it *Item) Tensor() (x []float32, c, h, w int) {
	x = make([]float32, maxRows*it.layout.Width)
	copy(x, it.Rows(it.layout))
	return x, 1, maxRows, it.layout.Width
}

// Mask is 1 for the rows that are there and 0 for the padding.
func (it *Item) Mask() (m [maxRows]uint8) {
	for i := range it.truth.Rows {
		m[i] = 1
	}
	return m
}

// Captions are three ways to say what the clip shows.
func (it *Item) Captions() [3]string { return it.truth.Captions }

// Tokens are the captions in numbers of the vocabulary.
func (it *Item) Tokens() (out [3][Slots]uint8) {
	for i, c := range it.truth.Captions {
		tokens, err := Encode(c)
		if err != nil {
			panic("motion: a caption of the set is outside its vocabulary: " + err.Error())
		}
		out[i] = tokens
	}
	return out
}

// Pictures are none.
func (it *Item) Pictures() []data.Picture { return nil }

// Truth is what is known of the clip, a Truth.
func (it *Item) Truth() any { return it.truth }

// Known is the truth with its type.
func (it *Item) Known() Truth { return it.truth }

// Bytes are the joints in units of the raster, 32 bits each, then the number of
// rows, the parameters and the captions with their tokens.
func (it *Item) Bytes() []byte {
	var b []byte
	for _, v := range it.Joints {
		b = binary.LittleEndian.AppendUint32(b, uint32(int32(v*(1<<16))))
	}
	t := it.truth
	number := func(v float64) { b = binary.LittleEndian.AppendUint64(b, math.Float64bits(v)) }
	word := func(s string) { b = append(append(b, s...), 0) }
	for _, n := range []int{t.Rows, t.Lead, t.Walked, len(t.Clauses)} {
		number(float64(n))
	}
	number(t.Scale)
	number(t.Sway)
	for _, c := range t.Clauses {
		for _, s := range []string{c.Action, c.Path, c.Side} {
			word(s)
		}
		flags := 0
		if c.Backward {
			flags |= 1
		}
		if c.Forward {
			flags |= 2
		}
		for _, v := range []float64{
			float64(flags), c.Speed, c.Cadence, c.Radius, c.Swing, c.Phase, c.Distance, c.Height,
			float64(c.Times), float64(c.Degrees), float64(c.Cycles), c.Reach, float64(c.Period),
		} {
			number(v)
		}
	}
	for i, tokens := range it.Tokens() {
		word(t.Captions[i])
		b = append(b, tokens[:]...)
	}
	return b
}
