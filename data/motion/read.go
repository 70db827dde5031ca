package motion

import (
	"math"

	"github.com/fidlab/fidlab/data"
	kin "github.com/fidlab/fidlab/motion"
)

// Reading is what a clip shows, measured on its joints.
type Reading struct {
	Frames  int     `json:"frames"`
	Claim   Claim   `json:"claim"`   // in the terms of captions
	Scale   float64 `json:"scale"`   // of the legs, 1 for the body of 1.70 m
	Forward float64 `json:"forward"` // net way of the root along the first heading, m
	Left    float64 `json:"left"`    // and to the left of it
	Speed   float64 `json:"speed"`   // along the heading where it walks steadily, m/s; negative backwards
	Turned  float64 `json:"turned"`  // net turn, degrees; positive to the left
	Rise    float64 `json:"rise"`    // highest root over that of standing, m
	Flights int     `json:"flights"` // times that both feet are more than 5 cm up
	Leap    float64 `json:"leap"`    // way along the heading in the longest of them, m
	Waves   [2]int  `json:"waves"`   // cycles of the left and the right wrist over its shoulder
	Skate   float64 `json:"skate"`   // mean horizontal speed of feet in contact with the floor, m/s
	Sunk    float64 `json:"sunk"`    // depth of the lowest joint of all frames under the floor, m
}

// What the reader goes by.
const (
	leastFrames = 10
	airborne    = 0.05 // height of both feet in a flight, m
	leastFlight = 3    // frames of a flight
	leapFrom    = 0.15 // m; a jump goes forward
	walkFrom    = 0.3  // m/s over half a second; standing and turning stay below
	leastStride = 0.4  // m; less is no walk
	curveFrom   = 5    // degrees of turn that make a walk curve
	turnFrom    = 45   // degrees of turn on the spot
	waveWidth   = 0.08 // m between two turning points of a wrist, at scale 1
	onFloor     = 0.02 // height of a foot in contact, m
)

type reader struct {
	n       int
	joints  []float64
	heading []float64 // without jumps of 2π
	scale   float64
	up      [][2]int // flights: first and last frame
}

func (r *reader) at(t, j int) vec { return vec(r.joints[66*t+3*j : 66*t+3*j+3]) }

// along is the way of the root from frame a to frame b, along the heading in
// between, step by step; left is across it.
func (r *reader) along(a, b int) (ahead float64) {
	for t := a; t < b; t++ {
		p, q := r.at(t, 0), r.at(t+1, 0)
		sin, cos := math.Sincos((r.heading[t] + r.heading[t+1]) / 2)
		ahead += (q[0]-p[0])*sin + (q[2]-p[2])*cos
	}
	return ahead
}

// Read measures a clip of joints, [frames, 22, 3] in metres with the floor at 0 and
// 10 frames or more. It says what is there, whoever made it, and judges nothing.
func Read(joints []float64) (Reading, error) {
	s := kin.HumanML3D.Skeleton
	n, err := s.Frames(joints, leastFrames)
	if err != nil {
		return Reading{}, data.Errorf("%w", err)
	}
	heading, err := s.Headings(joints, kin.Options{})
	if err != nil {
		return Reading{}, data.Errorf("%w", err)
	}
	for t := 1; t < n; t++ {
		heading[t] = heading[t-1] + math.Remainder(heading[t]-heading[t-1], 2*math.Pi)
	}
	r := &reader{n: n, joints: joints, heading: heading}
	for t := range n {
		b := s.Bones(joints[66*t : 66*t+66])
		r.scale += (b[4] + b[5] + b[7] + b[8]) / (4 * legBone * float64(n))
	}
	out := Reading{Frames: n, Scale: r.scale}
	if !(r.scale > 0.2 && r.scale < 5) {
		return out, data.Errorf("motion: the legs are %.2f m long; want a body in metres", 2*legBone*r.scale)
	}
	first, last := r.at(0, 0), r.at(n-1, 0)
	sin, cos := math.Sincos(heading[0])
	dx, dz := last[0]-first[0], last[2]-first[2]
	out.Forward, out.Left = dx*sin+dz*cos, dx*cos-dz*sin
	out.Turned = (heading[n-1] - heading[0]) * 180 / math.Pi
	out.Rise = math.Inf(-1)
	for t := range n {
		out.Rise = max(out.Rise, r.at(t, 0)[1]-standing*r.scale)
	}
	for i := 1; i < len(joints); i += 3 {
		out.Sunk = max(out.Sunk, -joints[i])
	}
	out.Skate = r.skate()
	r.jump(&out)
	r.walk(&out)
	r.wave(&out)
	if out.Claim.Walk == nil && math.Abs(out.Turned) > turnFrom {
		c := &TurnClaim{"left", 90}
		if out.Turned < 0 {
			c.Side = "right"
		}
		switch a := math.Abs(out.Turned); {
		case a > 270:
			c.Degrees = 360
		case a > 135:
			c.Degrees = 180
		}
		out.Claim.Turn = c
	}
	out.Claim.Stand = out.Claim == Claim{}
	return out, nil
}

// jump finds the flights, and how high and far they go.
func (r *reader) jump(out *Reading) {
	floor := ankleHeight * r.scale
	for t := 0; t < r.n; t++ {
		from := t
		for t < r.n && min(r.at(t, 7)[1], r.at(t, 8)[1])-floor > airborne {
			t++
		}
		if t-from >= leastFlight {
			r.up = append(r.up, [2]int{from, t - 1})
			if a := r.along(max(0, from-2), min(r.n-1, t+1)); math.Abs(a) > math.Abs(out.Leap) {
				out.Leap = a
			}
		}
	}
	out.Flights = len(r.up)
	if out.Flights > 0 {
		out.Claim.Jump = &JumpClaim{out.Leap > leapFrom, out.Rise >= highFrom, out.Flights}
	}
}

// walk finds the longest stretch, away from flights, in which the root keeps moving.
func (r *reader) walk(out *Reading) {
	barred := make([]bool, r.n)
	for _, u := range r.up {
		for t := max(0, u[0]-9); t <= min(r.n-1, u[1]+9); t++ {
			barred[t] = true
		}
	}
	speed := make([]float64, r.n) // over ten frames, or what is left of them
	for t := range r.n {
		a, b := t, t
		for a > 0 && t-a < 5 && !barred[a-1] {
			a--
		}
		for b < r.n-1 && b-t < 5 && !barred[b+1] {
			b++
		}
		if !barred[t] && b > a {
			p, q := r.at(a, 0), r.at(b, 0)
			speed[t] = math.Hypot(q[0]-p[0], q[2]-p[2]) * 20 / float64(b-a)
		}
	}
	from, to := 0, -1
	for t := 0; t < r.n; t++ {
		a := t
		for t < r.n && speed[t] > walkFrom {
			t++
		}
		if t-1-a > to-from {
			from, to = a, t-1
		}
	}
	if to-from < leastFrames || math.Abs(r.along(from, to)) < leastStride {
		return
	}
	// Steady is what keeps nearly the full speed: a step that comes to a stop does not.
	full := 0.0
	for t := min(from+5, to); t <= max(from, to-5); t++ {
		full = max(full, speed[t])
	}
	a, b := from, to
	for a < b && speed[a] < 0.8*full {
		a++
	}
	for b > a && speed[b] < 0.8*full {
		b--
	}
	way := make([]float64, b-a+1)
	for t := a; t < b; t++ {
		way[t-a+1] = way[t-a] + r.along(t, t+1)
	}
	out.Speed = slope(way) * 20
	c := &WalkClaim{out.Speed < 0, pace(math.Abs(out.Speed)), "straight"}
	switch turned := slope(r.heading[from:to+1]) * float64(to-from) * 180 / math.Pi; {
	case turned > curveFrom:
		c.Path = "left"
	case turned < -curveFrom:
		c.Path = "right"
	}
	out.Claim.Walk = c
}

// slope is that of the least-squares line through v, a frame: it hardly matters where
// in a step a stretch ends, nor what noise its ends have.
func slope(v []float64) float64 {
	n, mid, num := float64(len(v)), float64(len(v)-1)/2, 0.0
	for i, x := range v {
		num += (float64(i) - mid) * x
	}
	return num / (n * (n*n - 1) / 12)
}

// wave counts the turning points of each wrist's way across the body while it is
// over the shoulder: two a cycle. A turning point counts when the wrist has come
// back from it by waveWidth.
func (r *reader) wave(out *Reading) {
	for side := range sides {
		points, way, extreme := 0, 0, 0.0 // way: the direction of the last turning point's approach
		lifted := false
		low, high := 0.0, 0.0
		for t := range r.n {
			w, s := r.at(t, 20+side), r.at(t, 16+side)
			if w[1] < s[1] {
				lifted = false
				continue
			}
			sin, cos := math.Sincos(r.heading[t])
			x := (w[0]-s[0])*cos - (w[2]-s[2])*sin
			width := waveWidth * r.scale
			switch {
			case !lifted:
				lifted, way, low, high = true, 0, x, x
			case way == 0:
				low, high = min(low, x), max(high, x)
				if x-low > width {
					way, extreme = 1, x
				} else if high-x > width {
					way, extreme = -1, x
				}
			case float64(way)*(x-extreme) > 0:
				extreme = x
			case float64(way)*(extreme-x) > width:
				points++
				way, extreme = -way, x
			}
		}
		out.Waves[side] = (points + 1) / 2
	}
	c := &WaveClaim{"both", max(out.Waves[left], out.Waves[right])}
	switch {
	case c.Cycles == 0:
		return
	case out.Waves[right] == 0:
		c.Side = "left"
	case out.Waves[left] == 0:
		c.Side = "right"
	}
	out.Claim.Wave = c
}

// skate is the mean speed of ankles and feet over the floor in steps that the layout
// counts as contacts and that begin and end on the floor.
func (r *reader) skate() float64 {
	sum, n := 0.0, 0
	for side := range sides {
		for k, height := range [2]float64{ankleHeight * r.scale, 0} {
			for t := range r.n - 1 {
				j := 7 + 3*k + side
				a, b := r.at(t, j), r.at(t+1, j)
				dx, dy, dz := b[0]-a[0], b[1]-a[1], b[2]-a[2]
				if max(a[1], b[1])-height < onFloor && dx*dx+dy*dy+dz*dz < kin.HumanML3D.Skeleton.ContactLimit {
					sum += math.Hypot(dx, dz) * 20
					n++
				}
			}
		}
	}
	if n == 0 {
		return 0
	}
	return sum / float64(n)
}
