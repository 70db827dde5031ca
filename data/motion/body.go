package motion

import kin "github.com/fidlab/fidlab/motion"

// The body is 1.70 m tall at scale 1: lengths in metres. Thigh and shank are
// equal, so that a bent leg is never longer downwards than a straight one in the
// same direction, and the foot that carries is always the lowest.
const (
	hipSide, hipDrop             = 0.09, 0.06 // hip joints beside and below the pelvis
	legBone                      = 0.405      // thigh, and shank
	ankleHeight, footAhead       = 0.06, 0.13 // the ankle over the ground, and the foot's joint ahead of it
	spine1, spine2, spine3       = 0.10, 0.13, 0.06
	neck, headUp, headAhead      = 0.20, 0.10, 0.03
	collarSide, collarUp         = 0.06, 0.12
	shoulderSide, shoulderUp     = 0.11, 0.03
	upperArm, forearm            = 0.27, 0.25
	armOut                       = 0.12 // radians that an arm hangs away from the body
	standing                     = ankleHeight + 2*legBone + hipDrop
	gravity                      = 9.81
	left, right              int = 0, 1
)

// pose is what the controller says of one frame.
type pose struct {
	yaw    float64    // heading; positive to the left
	dir    [2]float64 // direction of each leg from hip to ankle, forward of down
	bend   [2]float64 // of each knee; it shortens the leg and keeps its direction
	swings [2]bool    // the foot is on its way to the next place
	along  [2]float64 // how far on the way, 0 to 1
	stance int        // the foot that stays where it is until the next frame
	flies  bool       // both feet are off the ground
	air    float64    // then: the root's height over that of standing
	ahead  float64    // how far jumps have carried the root along its heading
	lean   float64    // of the trunk, forward
	flex   [2]float64 // of each upper arm, forward of down
	elbow  [2]float64 // further flexion of the forearm
	wave   [2]float64 // of the forearm to the left
}

type vec = kin.Vec

// facing turns v from the body's frame to a heading with the given sine and cosine.
func facing(v vec, sin, cos float64) vec {
	return vec{float64(cos*v[0]) + float64(sin*v[2]), v[1], float64(cos*v[2]) - float64(sin*v[0])}
}

func plus(a, b vec) vec { return vec{a[0] + b[0], a[1] + b[1], a[2] + b[2]} }

func times(a vec, s float64) vec { return vec{float64(a[0] * s), float64(a[1] * s), float64(a[2] * s)} }

// bone is the vector of a bone of the given length: angle forward of down.
func bone(angle, length float64) vec {
	sin, cos := sincos(angle)
	return vec{0, -float64(length * cos), float64(length * sin)}
}

var sides = [2]float64{left: 1, right: -1} // the left is +x

// ankle is where an ankle is from the root, at scale 1, heading turned in.
func (p *pose) ankle(side int, sin, cos float64) vec {
	at := vec{float64(sides[side] * hipSide), -hipDrop, 0}
	at = plus(at, bone(p.dir[side]+float64(0.5*p.bend[side]), legBone))
	at = plus(at, bone(p.dir[side]-float64(0.5*p.bend[side]), legBone))
	return facing(at, sin, cos)
}

// joints places the 22 joints of a pose with the root at a place and each foot
// turned by its own heading.
func (p *pose) joints(place vec, feet [2]float64, scale float64) [22]vec {
	var j [22]vec // from the root, in the body's frame, at scale 1
	ls, lc := sincos(p.lean)
	up := func(from vec, side, length, ahead float64) vec {
		return plus(from, vec{side, float64(length*lc) - float64(ahead*ls), float64(length*ls) + float64(ahead*lc)})
	}
	j[3] = up(j[0], 0, spine1, 0)
	j[6] = up(j[3], 0, spine2, 0)
	j[9] = up(j[6], 0, spine3, 0)
	j[12] = up(j[9], 0, neck, 0)
	j[15] = up(j[12], 0, headUp, headAhead)
	for side, s := range sides {
		hip, knee, ankle := 1+side, 4+side, 7+side
		j[hip] = vec{float64(s * hipSide), -hipDrop, 0}
		j[knee] = plus(j[hip], bone(p.dir[side]+float64(0.5*p.bend[side]), legBone))
		j[ankle] = plus(j[knee], bone(p.dir[side]-float64(0.5*p.bend[side]), legBone))
		collar, shoulder, elbow, wrist := 13+side, 16+side, 18+side, 20+side
		j[collar] = up(j[9], float64(s*collarSide), collarUp, 0)
		j[shoulder] = up(j[collar], float64(s*shoulderSide), shoulderUp, 0)
		out, in := sincos(armOut)
		d := bone(p.flex[side]+p.lean, float64(upperArm*in))
		j[elbow] = plus(j[shoulder], vec{float64(float64(s*out) * upperArm), d[1], d[2]})
		ws, wc := sincos(p.wave[side])
		d = bone(p.flex[side]+p.elbow[side]+p.lean, float64(forearm*wc))
		j[wrist] = plus(j[elbow], vec{float64(ws * forearm), d[1], d[2]})
	}
	sin, cos := sincos(p.yaw)
	for i := range j {
		j[i] = plus(place, times(facing(j[i], sin, cos), scale))
	}
	for side := range sides {
		sin, cos := sincos(feet[side])
		j[10+side] = plus(j[7+side], times(facing(vec{0, -ankleHeight, footAhead}, sin, cos), scale))
	}
	return j
}
