package motion

import "math"

// poses are the controller's output for a truth, one a frame.
func (t *Truth) poses() []pose {
	frames := t.Rows + 1
	c := &controller{poses: make([]pose, 0, frames), frames: frames, leg: float64(2 * legBone * t.Scale)}
	c.rest(t.Lead)
	for i, clause := range t.Clauses {
		switch clause.Action {
		case "walk":
			c.walk(clause, t.Walked, len(t.Clauses) > 1)
		case "jump":
			for range clause.Times {
				c.jump(clause)
			}
		case "turn":
			c.turn(clause)
		case "wave":
			c.wave(clause, i == 0)
		}
	}
	c.rest(frames - len(c.poses))
	for k := range c.poses {
		p := &c.poses[k]
		p.lean += 0.03 + float64(0.02*sine(float64(k)/57+t.Sway))
		for side := range sides {
			p.flex[side] += float64(0.03 * sine(float64(k)/43+t.Sway+float64(0.3*float64(side))))
			p.elbow[side] += 0.25
		}
	}
	return c.poses
}

// controller appends poses. Where the body has come to is in yaw and ahead.
type controller struct {
	poses  []pose
	frames int
	leg    float64 // its length
	yaw    float64
	ahead  float64
}

// add appends the pose at the end of what was done before.
func (c *controller) add(p pose) {
	p.yaw += c.yaw
	p.ahead += c.ahead
	c.poses = append(c.poses, p)
}

func (c *controller) rest(n int) {
	for range n {
		c.add(pose{})
	}
}

// stride is the direction of the left leg at q steps, 1 as far forward as it goes
// and −1 as far back: a triangle wave of period 2 from three harmonics, so that the
// foot that carries goes back at an even pace.
func stride(q float64) float64 {
	u := float64(q * 0.5)
	v := cosine(u) + float64(cosine(float64(3*u))/9) + float64(cosine(float64(5*u))/25)
	return v / (1 + 1.0/9 + 1.0/25)
}

// lift is the bend of the knee of the foot on its way, x from 0 to 1: nothing for
// the first and last 7 % of it, so that both feet are down in the frames around
// their exchange.
func lift(x float64) float64 { return max(0, float64(2*hump(x))-0.1) / 1.9 }

// gait fills in the legs and arms at q steps (the left foot carries from an even
// number on) with a leg's direction at most reach, half of the way of a step.
func (p *pose) gait(q, reach, arms float64) {
	q -= float64(2 * math.Floor(float64(q*0.5)))
	v := stride(q)
	p.dir = [2]float64{float64(reach * v), -float64(reach * v)}
	p.flex = [2]float64{-float64(arms * v), float64(arms * v)}
	x, on := q, right
	if q >= 1 {
		x, on = q-1, left
	}
	p.bend[on] = float64(1.1 * lift(x))
	p.swings[on], p.along[on] = true, x
}

// carrier is the foot that carries at q steps.
func carrier(q float64) int {
	if q -= float64(2 * math.Floor(float64(q*0.5))); q >= 1 {
		return right
	}
	return left
}

// walk goes for n frames, or to the end of the clip, and then, if it stops, takes one
// more step of half the length, in which the feet come together. A step of length S
// = speed/cadence takes a straight leg of length L from +A to −A with sin A = S/2L,
// more by what is lost, in the mean, where feet exchange between two frames.
func (c *controller) walk(w Clause, n int, stops bool) {
	rate, turn := w.Cadence/20, 0.0 // steps and radians a frame
	kept := (1 + float64(4*stride(float64(0.25*rate))) + stride(float64(0.5*rate))) / 6
	reach := arcsine(w.Speed / w.Cadence / float64(float64(2*c.leg)*kept))
	if w.Backward {
		rate = -rate
	}
	if w.Radius > 0 {
		turn = w.Speed / w.Radius / 20
		if w.Path == "right" {
			turn = -turn
		}
	}
	start := w.Phase
	if stops {
		start = w.Phase - float64(rate*float64(n)) // so that a step ends with frame n
	} else {
		n = c.frames
	}
	for k := range n {
		q := start + float64(rate*float64(k))
		p := pose{yaw: float64(turn * float64(k)), stance: carrier(q + float64(0.5*rate))}
		p.gait(q, reach, w.Swing)
		if w.Backward {
			for side := range sides {
				p.along[side] = 1 - p.along[side]
			}
		}
		c.add(p)
	}
	if !stops {
		return
	}
	c.yaw += float64(turn * float64(n))
	d := closing(w.Cadence)
	v := stride(w.Phase)
	front := left
	if v < 0 {
		front = right
	}
	stays := front // walking forward, the front foot carries to the end
	if w.Backward {
		stays = 1 - front
	}
	for k := range d {
		x := float64(k) / float64(d)
		g := float64(v * (1 - ramp(x)))
		p := pose{yaw: float64(turn * float64(d) * (x - float64(0.5*float64(x*x)))), stance: stays}
		p.dir = [2]float64{float64(reach * g), -float64(reach * g)}
		p.flex = [2]float64{-float64(w.Swing * g), float64(w.Swing * g)}
		p.bend[1-stays] = float64(1.1 * lift(x))
		p.swings[1-stays], p.along[1-stays] = true, x
		c.add(p)
	}
	c.yaw += float64(turn * float64(d) * 0.5)
}

// jump crouches, leaves the ground with straight legs, follows
// h(τ) = v·τ − g·τ²/2 with v = sqrt(2·g·height), and lands in a crouch.
func (c *controller) jump(j Clause) {
	f := flight(j.Height)
	v := math.Sqrt(float64(2 * gravity * j.Height))
	crouched := func(x, depth float64) pose {
		b := float64(depth * hump(x))
		return pose{bend: [2]float64{b, b}, flex: [2]float64{-float64(0.4 * b), -float64(0.4 * b)}, lean: float64(0.3 * b)}
	}
	for k := range crouch {
		c.add(crouched(float64(k)/crouch, 1.3))
	}
	down := int(math.Ceil(f))
	for k := range down {
		x := float64(k) / f
		tau := float64(k) / 20
		b, a := float64(0.5*hump(x)), float64(0.8*hump(x))
		c.add(pose{
			flies: k > 0, air: float64(v*tau) - float64(gravity*0.5*float64(tau*tau)), ahead: float64(j.Distance * x),
			bend: [2]float64{b, b}, flex: [2]float64{a, a},
		})
	}
	c.ahead += j.Distance
	for k := range crouch {
		c.add(crouched(min(1, (float64(k+down)-f)/crouch), 1))
	}
}

// turn steps on the spot, one foot after the other, to the end of the clip.
func (c *controller) turn(t Clause) {
	n := c.frames - 1
	steps := float64(n / turnStep)
	angle := float64(float64(t.Degrees) * (math.Pi / 180))
	if t.Side == "right" {
		angle = -angle
	}
	for k := range c.frames {
		x := float64(k) / float64(n)
		q := float64(x * steps)
		p := pose{yaw: float64(angle * (x - float64(sine(x)/(2*math.Pi)))), stance: carrier(q + float64(0.5*steps)/float64(n))}
		on := 1 - carrier(q)
		p.swings[on], p.along[on] = true, q-math.Floor(q)
		p.bend[on] = float64(0.7 * lift(p.along[on]))
		c.add(p)
	}
}

// wave raises the forearm, or both, swings it, and takes it down if there is time.
func (c *controller) wave(w Clause, down bool) {
	arms := []int{left}
	switch w.Side {
	case "right":
		arms = []int{right}
	case "both":
		arms = []int{left, right}
	}
	at := func(up, swing float64) {
		var p pose
		for _, a := range arms {
			p.flex[a] = float64(up * (math.Pi / 2))
			p.elbow[a] = float64(up * (math.Pi/2 - 0.25))
			p.wave[a] = float64(sides[a] * swing)
		}
		c.add(p)
	}
	for k := range raise {
		at(ramp(float64(k)/raise), 0)
	}
	n := w.Period * w.Cycles
	for k := range n {
		at(1, float64(w.Reach*sine(float64(k)/float64(w.Period))))
	}
	if !down {
		for len(c.poses) < c.frames {
			at(1, 0)
		}
		return
	}
	for k := range raise {
		at(1-ramp(float64(k)/raise), 0)
	}
}
