package motion

import "math"

// Vec is a point or direction x, y, z.
type Vec = [3]float64

// Matrix is a rotation, row by row: Matrix[i][j] is row i, column j.
type Matrix = [3][3]float64

func at(joints []float64, i int) Vec { return Vec(joints[3*i : 3*i+3]) }

func sub(a, b Vec) Vec { return Vec{a[0] - b[0], a[1] - b[1], a[2] - b[2]} }

func dot(a, b Vec) float64 { return a[0]*b[0] + a[1]*b[1] + a[2]*b[2] }

func cross(a, b Vec) Vec {
	return Vec{a[1]*b[2] - a[2]*b[1], a[2]*b[0] - a[0]*b[2], a[0]*b[1] - a[1]*b[0]}
}

func norm(a Vec) float64 { return math.Sqrt(dot(a, a)) }

func scale(a Vec, s float64) Vec { return Vec{s * a[0], s * a[1], s * a[2]} }

// turnY rotates v about y by the angle whose cosine and sine are given: +z goes
// towards +x.
func turnY(v Vec, c, s float64) Vec { return Vec{c*v[0] + s*v[2], v[1], c*v[2] - s*v[0]} }

// aboutY is the matrix of turnY.
func aboutY(angle float64) Matrix {
	s, c := math.Sincos(angle)
	return Matrix{{c, 0, s}, {0, 1, 0}, {-s, 0, c}}
}

// Between is the smallest rotation that takes the direction of u to that of v,
// both of length 1 (Rodrigues with axis u×v): R = c·I + [u×v]ₓ + (u×v)(u×v)ᵀ/(1+c),
// c = u·v. Of opposite directions, where the smallest rotation is not unique, it
// takes the half turn about the axis across u that is nearest to z.
func Between(u, v Vec) Matrix {
	w, c := cross(u, v), dot(u, v)
	if 1+c < 1e-12 {
		axis := sub(Vec{0, 0, 1}, scale(u, u[2]))
		if norm(axis) < 1e-6 {
			axis = sub(Vec{0, 1, 0}, scale(u, u[1]))
		}
		axis = scale(axis, 1/norm(axis))
		var r Matrix
		for i := range 3 {
			for j := range 3 {
				r[i][j] = 2 * axis[i] * axis[j]
			}
			r[i][i]--
		}
		return r
	}
	k := 1 / (1 + c)
	return Matrix{
		{c + k*w[0]*w[0], k*w[0]*w[1] - w[2], k*w[0]*w[2] + w[1]},
		{k*w[1]*w[0] + w[2], c + k*w[1]*w[1], k*w[1]*w[2] - w[0]},
		{k*w[2]*w[0] - w[1], k*w[2]*w[1] + w[0], c + k*w[2]*w[2]},
	}
}

// Product is a·b.
func Product(a, b Matrix) (m Matrix) {
	for i := range 3 {
		for j := range 3 {
			m[i][j] = a[i][0]*b[0][j] + a[i][1]*b[1][j] + a[i][2]*b[2][j]
		}
	}
	return m
}

// Transpose is the inverse of a rotation.
func Transpose(a Matrix) Matrix {
	return Matrix{{a[0][0], a[1][0], a[2][0]}, {a[0][1], a[1][1], a[2][1]}, {a[0][2], a[1][2], a[2][2]}}
}

// Apply is a·v.
func Apply(a Matrix, v Vec) Vec { return Vec{dot(a[0], v), dot(a[1], v), dot(a[2], v)} }

// Six is the continuous form of a rotation (Zhou et al., "On the Continuity of
// Rotation Representations in Neural Networks", CVPR 2019): its first column,
// then its second.
func Six(a Matrix) [6]float64 {
	return [6]float64{a[0][0], a[1][0], a[2][0], a[0][1], a[1][1], a[2][1]}
}

// FromSix is the rotation nearest to six numbers in the sense of Gram and
// Schmidt: the first column is x normalised, the third x×y normalised, the second
// their product. ok is false where x and y are parallel or zero.
func FromSix(s [6]float64) (a Matrix, ok bool) {
	x, y := Vec(s[:3]), Vec(s[3:])
	n := norm(x)
	if n == 0 {
		return a, false
	}
	x = scale(x, 1/n)
	z := cross(x, y)
	if n = norm(z); n == 0 {
		return a, false
	}
	z = scale(z, 1/n)
	y = cross(z, x)
	return Matrix{{x[0], y[0], z[0]}, {x[1], y[1], z[1]}, {x[2], y[2], z[2]}}, true
}
