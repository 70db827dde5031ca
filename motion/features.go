package motion

import (
	"fmt"
	"math"
)

// Features are the rows of a clip, float64 [frames−1, width], for a clip that
// Prepare, or the owner of the data, has put at the origin facing +z: the first
// heading counts as 0 whatever it is. Joints are [frames, J, 3], 2 frames or more.
func Features(l *Layout, joints []float64, o Options) ([]float64, error) {
	s := l.Skeleton
	n, err := s.Frames(joints, 2)
	if err != nil {
		return nil, err
	}
	heading, err := s.Headings(joints, o)
	if err != nil {
		return nil, err
	}
	heading[0] = 0
	per, out := 3*l.joints(), make([]float64, (n-1)*l.Width)
	rotations := make([]Matrix, l.joints())
	for t := range n - 1 {
		now, next := joints[t*per:(t+1)*per], joints[(t+1)*per:(t+2)*per]
		row := out[t*l.Width : (t+1)*l.Width]
		sin, cos := math.Sincos(-heading[t])
		nextSin, nextCos := math.Sincos(-heading[t+1])
		step := turnY(sub(at(next, 0), at(now, 0)), nextCos, nextSin)
		row[0] = -halfTurn(heading[t], heading[t+1])
		row[1], row[2], row[3] = step[0], step[2], now[1]
		for j := 1; j < l.joints(); j++ {
			p := at(now, j)
			p = turnY(Vec{p[0] - now[0], p[1], p[2] - now[2]}, cos, sin)
			copy(row[l.Position(j):], p[:])
		}
		if !l.full {
			continue
		}
		if err := s.Inverse(now, aboutY(-heading[t]), rotations); err != nil {
			return nil, fmt.Errorf("frame %d: %w", t, err)
		}
		for j := 1; j < l.joints(); j++ {
			six := Six(rotations[j])
			copy(row[l.Rotation(j):], six[:])
		}
		for j := range l.joints() {
			v := turnY(sub(at(next, j), at(now, j)), cos, sin)
			copy(row[l.Velocity(j):], v[:])
		}
		for k, j := range []int{s.LeftFoot[0], s.LeftFoot[1], s.RightFoot[0], s.RightFoot[1]} {
			if d := sub(at(next, j), at(now, j)); dot(d, d) < s.ContactLimit {
				row[l.Contacts()+k] = 1
			}
		}
	}
	return out, nil
}

// halfTurn is half of the turn from heading a to b by the shorter way, in
// (−π/2, π/2]: what the arcsine of the y part of a unit quaternion holds.
func halfTurn(a, b float64) float64 {
	d := math.Remainder(b-a, 2*math.Pi)
	if d == -math.Pi {
		d = math.Pi
	}
	return d / 2
}

// Roots are the root's heading and place in every frame of rows: the heading
// is −2·(sum of the turns of earlier rows), x and z are the sums of earlier steps
// turned back by the heading of the frame that they lead to, and y is the height.
func Roots[T Float](l *Layout, rows []T) (heading []float64, place []Vec, err error) {
	n, err := Rows(l, rows)
	if err != nil {
		return nil, nil, err
	}
	heading, place = make([]float64, n), make([]Vec, n)
	half, x, z := 0.0, 0.0, 0.0
	for t := range n {
		if t > 0 {
			before := rows[(t-1)*l.Width:]
			half -= float64(before[0])
			sin, cos := math.Sincos(2 * half)
			v := turnY(Vec{float64(before[1]), 0, float64(before[2])}, cos, sin)
			x, z = x+v[0], z+v[2]
		}
		heading[t] = 2 * half
		place[t] = Vec{x, float64(rows[t*l.Width+3]), z}
	}
	return heading, place, nil
}

// Recover is the clip of joints, float64 [rows, J, 3], that rows describe by
// their root and position channels. It starts over the origin, facing +z. Of the
// rows of Features it gives back all frames but the last.
func Recover[T Float](l *Layout, rows []T) ([]float64, error) {
	heading, place, err := Roots(l, rows)
	if err != nil {
		return nil, err
	}
	out := make([]float64, len(heading)*3*l.joints())
	for t, h := range heading {
		frame, row := out[t*3*l.joints():], rows[t*l.Width:]
		copy(frame, place[t][:])
		sin, cos := math.Sincos(h)
		for j := 1; j < l.joints(); j++ {
			c := l.Position(j)
			p := turnY(Vec{float64(row[c]), float64(row[c+1]), float64(row[c+2])}, cos, sin)
			frame[3*j], frame[3*j+1], frame[3*j+2] = p[0]+place[t][0], p[1], p[2]+place[t][2]
		}
	}
	return out, nil
}

// RecoverRotated is Recover from the root and rotation channels, for a body with
// the given bone lengths.
func RecoverRotated[T Float](l *Layout, rows []T, bones []float64) ([]float64, error) {
	heading, place, err := Roots(l, rows)
	switch {
	case err != nil:
		return nil, err
	case !l.full:
		return nil, fmt.Errorf("motion: rows of %s hold no rotations; take Recover", l.Name)
	case len(bones) != l.joints():
		return nil, fmt.Errorf("motion: %d bone lengths; want %d, the root's first", len(bones), l.joints())
	}
	out := make([]float64, len(heading)*3*l.joints())
	rotations := make([]Matrix, l.joints())
	for t, h := range heading {
		for j := 1; j < l.joints(); j++ {
			var six [6]float64
			for k := range six {
				six[k] = float64(rows[t*l.Width+l.Rotation(j)+k])
			}
			var ok bool
			if rotations[j], ok = FromSix(six); !ok {
				return nil, fmt.Errorf("motion: row %d: the rotation of joint %d (%s) is %v; want two directions that are not parallel", t, j, l.Skeleton.Joints[j], six)
			}
		}
		l.Skeleton.Forward(rotations, aboutY(-h), place[t], bones, out[t*3*l.joints():])
	}
	return out, nil
}
