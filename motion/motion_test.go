package motion

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

// body is a standing figure with bones of random lengths, root at the origin.
func body(s *Skeleton, r *rand.Rand) []float64 {
	out := make([]float64, 3*len(s.Parents))
	for j, p := range s.Parents {
		if p < 0 {
			continue
		}
		d := Vec{s.Rest[j][0] + 0.2*r.NormFloat64(), s.Rest[j][1] + 0.2*r.NormFloat64(), s.Rest[j][2] + 0.2*r.NormFloat64()}
		for k := range 3 {
			out[3*j+k] = out[3*p+k] + d[k]/norm(d)*(0.1+0.3*r.Float64())
		}
	}
	return out
}

// wander is a clip of rigid steps and turns plus a wobble of every joint; turn is
// in radians a frame.
func wander(s *Skeleton, frames int, turn, wobble float64, r *rand.Rand) []float64 {
	base := body(s, r)
	var out []float64
	for t := range frames {
		sin, cos := math.Sincos(0.4 + turn*float64(t))
		for j := range s.Parents {
			p := at(base, j)
			for k := range 3 {
				p[k] += wobble * r.NormFloat64()
			}
			p = turnY(p, cos, sin)
			out = append(out, p[0]+0.07*float64(t)+1, p[1]+1+0.1*math.Sin(float64(t)), p[2]-0.04*float64(t)*float64(t%3))
		}
	}
	return out
}

// TestRoundTrip: Recover undoes Features, whatever facing rule, turning through
// all directions several times, in float64 to rounding and in float32 to 1e-4.
func TestRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, l := range []*Layout{HumanML3D, KIT, Small} {
		for _, o := range []Options{{}, Published, {Facing: ShouldersLessHips}, {Smooth: 3}} {
			for _, turn := range []float64{0, 0.25, -0.31} {
				joints, err := l.Skeleton.Prepare(wander(l.Skeleton, 65, turn, 0.01, r))
				if err != nil {
					t.Fatal(err)
				}
				rows, err := Features(l, joints, o)
				if err != nil {
					t.Fatal(err)
				}
				if n, err := Rows(l, rows); n != 64 || err != nil {
					t.Fatalf("%d rows, %v", n, err)
				}
				back, err := Recover(l, rows)
				if err != nil {
					t.Fatal(err)
				}
				all := joints[:64*3*l.joints()]
				near(t, l.Name+" float64", back, all, 1e-11)
				if back, err = Recover(l, Narrow(rows)); err != nil {
					t.Fatal(err)
				}
				near(t, l.Name+" float32", back, all, 1e-4)
				if l.full {
					// Bones of a wobbling body have no fixed lengths: frame by frame.
					for _, f := range []int{0, 1, 40} {
						frame := all[f*3*l.joints() : (f+1)*3*l.joints()]
						back, err := RecoverRotated(l, rows, l.Skeleton.Bones(frame))
						if err != nil {
							t.Fatal(err)
						}
						near(t, l.Name+" by rotations", back[f*3*l.joints():(f+1)*3*l.joints()], frame, 1e-11)
					}
				}
			}
		}
	}
}

// TestInvariances: where a clip is and which way it faces does not change its rows,
// but for the summation of rounding.
func TestInvariances(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, l := range []*Layout{HumanML3D, KIT} {
		joints := wander(l.Skeleton, 20, 0.1, 0.02, r)
		rowsOf := func(joints []float64) []float64 {
			p, err := l.Skeleton.Prepare(joints)
			if err != nil {
				t.Fatal(err)
			}
			rows, err := Features(l, p, Options{})
			if err != nil {
				t.Fatal(err)
			}
			return rows
		}
		want := rowsOf(joints)
		for _, angle := range []float64{0.3, 2, math.Pi, -2.5} {
			moved, sin, cos := make([]float64, len(joints)), math.Sin(angle), math.Cos(angle)
			for i := 0; i < len(joints); i += 3 {
				moved[i] = cos*joints[i] + sin*joints[i+2] + 12
				moved[i+1] = joints[i+1] - 3
				moved[i+2] = -sin*joints[i] + cos*joints[i+2] - 7
			}
			near(t, l.Name+" moved and turned", rowsOf(moved), want, 1e-10)
		}
	}
}

// TestRootByHand: a body that goes round a circle, its numbers by geometry.
func TestRootByHand(t *testing.T) {
	const turn, speed = 0.1, 0.05 // to the left
	r := rand.New(rand.NewPCG(5, 6))
	base := body(smpl, r)
	var joints []float64
	x, z := 0.0, 0.0
	for f := range 80 {
		sin, cos := math.Sincos(turn * float64(f))
		for j := range smpl.Parents {
			p := at(base, j)
			joints = append(joints, cos*p[0]+sin*p[2]+x, p[1]+0.9, -sin*p[0]+cos*p[2]+z)
		}
		sin, cos = math.Sincos(turn * float64(f+1)) // the step of a row is in the next frame's facing
		x, z = x+speed*sin, z+speed*cos
	}
	joints, err := smpl.Prepare(joints)
	if err != nil {
		t.Fatal(err)
	}
	offset, err := smpl.Headings(joints[:66], Options{})
	if err != nil || math.Abs(offset[0]) > 1e-12 {
		t.Fatalf("first heading %v, %v", offset, err)
	}
	rows, err := Features(HumanML3D, joints, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for f := range 79 {
		row := rows[263*f:]
		if math.Abs(row[0]+turn/2) > 1e-12 || math.Abs(math.Hypot(row[1], row[2])-speed) > 1e-12 {
			t.Fatalf("row %d begins %v; want a half turn of −%v and a step of %v", f, row[:4], turn/2, speed)
		}
	}
	heading, place, err := Roots(HumanML3D, rows)
	if err != nil {
		t.Fatal(err)
	}
	for f := range place {
		if math.Abs(heading[f]-turn*float64(f)) > 1e-11 || norm(sub(place[f], at(joints, 22*f))) > 1e-11 {
			t.Fatalf("frame %d: heading %v, place %v; want %v, %v", f, heading[f], place[f], turn*float64(f), at(joints, 22*f))
		}
	}
	// A body turning left sees its left, +x, come to the front: left is positive.
	if heading[10] <= 0 || at(joints, smpl.LeftHip)[0] <= at(joints, smpl.RightHip)[0] {
		t.Error("left is not +x, or a turn to it not positive")
	}
}

// TestContacts: the threshold is on the squared step of each foot.
func TestContacts(t *testing.T) {
	for _, l := range []*Layout{HumanML3D, KIT} {
		s := l.Skeleton
		base := body(s, rand.New(rand.NewPCG(7, 8)))
		feet := []int{s.LeftFoot[0], s.LeftFoot[1], s.RightFoot[0], s.RightFoot[1]}
		for k, j := range feet {
			for _, factor := range []float64{0.99, 1.01} {
				joints := append(append([]float64{}, base...), base...)
				joints[len(base)+3*j+1] += math.Sqrt(s.ContactLimit) * factor
				rows, err := Features(l, joints, Options{})
				if err != nil {
					t.Fatal(err)
				}
				for i := range feet {
					want := 1.0
					if i == k && factor > 1 {
						want = 0
					}
					if got := rows[l.Contacts()+i]; got != want {
						t.Errorf("%s: %s moves %.2f of the limit: contact of %s is %v, want %v", l.Name, s.Joints[j], factor, s.Joints[feet[i]], got, want)
					}
				}
			}
		}
	}
}

// TestHalfTurn: the arcsine of a unit quaternion's y part, in (−π/2, π/2].
func TestHalfTurn(t *testing.T) {
	for _, c := range [][3]float64{{0, 1, 0.5}, {3, -3, math.Pi - 3}, {-3, 3, 3 - math.Pi}, {0, math.Pi, math.Pi / 2}, {math.Pi, 0, math.Pi / 2}, {1, 1, 0}} {
		if got := halfTurn(c[0], c[1]); math.Abs(got-c[2]) > 1e-15 {
			t.Errorf("from %v to %v is half of %v, want of %v", c[0], c[1], 2*got, 2*c[2])
		}
	}
}

// quaternion rotations, the independent formula: q = (1 + u·v, u×v) normalised,
// x' = x + 2w(q×x) + 2q×(q×x).
func byQuaternion(u, v, x Vec) Vec {
	w, q := 1+dot(u, v), cross(u, v)
	n := math.Sqrt(w*w + dot(q, q))
	w, q = w/n, scale(q, 1/n)
	a := cross(q, x)
	b := cross(q, a)
	return Vec{x[0] + 2*w*a[0] + 2*b[0], x[1] + 2*w*a[1] + 2*b[1], x[2] + 2*w*a[2] + 2*b[2]}
}

func unit(r *rand.Rand) Vec {
	v := Vec{r.NormFloat64(), r.NormFloat64(), r.NormFloat64()}
	return scale(v, 1/norm(v))
}

func wantRotation(t *testing.T, what string, m Matrix) {
	t.Helper()
	p := Product(m, Transpose(m))
	for i := range 3 {
		for j := range 3 {
			want := 0.0
			if i == j {
				want = 1
			}
			if math.Abs(p[i][j]-want) > 1e-11 {
				t.Fatalf("%s: rows are not orthonormal: %v", what, m)
			}
		}
	}
	if det := dot(m[0], cross(m[1], m[2])); math.Abs(det-1) > 1e-11 {
		t.Fatalf("%s: determinant %v", what, det)
	}
}

func TestRotations(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	for range 500 {
		u, v, x := unit(r), unit(r), unit(r)
		m := Between(u, v)
		wantRotation(t, "Between", m)
		if d := norm(sub(Apply(m, x), byQuaternion(u, v, x))); d > 1e-10 {
			t.Fatalf("Between(%v, %v) is %.2g from the quaternion's rotation", u, v, d)
		}
		back, ok := FromSix(Six(m))
		if !ok {
			t.Fatal("six numbers of a rotation are refused")
		}
		for i := range 3 {
			if d := norm(sub(back[i], m[i])); d > 1e-12 {
				t.Fatalf("six numbers lose %.2g", d)
			}
		}
		// Any six numbers: a rotation, whose first column is the direction of the
		// first three, and scale and what y has along x do not matter (Gram–Schmidt).
		six := [6]float64{x[0], x[1], x[2], v[0], v[1], v[2]}
		m, _ = FromSix(six)
		wantRotation(t, "FromSix", m)
		for k := range 3 {
			six[k], six[3+k] = 3*x[k], 2*v[k]-0.7*x[k]
		}
		same, _ := FromSix(six)
		for i := range 3 {
			if norm(sub(same[i], m[i])) > 1e-9 || math.Abs(m[i][0]-x[i]) > 1e-12 {
				t.Fatalf("FromSix is not Gram–Schmidt: %v and %v", m, same)
			}
		}
	}
	for _, u := range []Vec{{0, -1, 0}, {0, 0, 1}, {1, 0, 0}} {
		m := Between(u, scale(u, -1))
		wantRotation(t, "half turn", m)
		if norm(sub(Apply(m, u), scale(u, -1))) > 1e-12 {
			t.Errorf("Between(%v, its opposite) leads elsewhere", u)
		}
	}
	for _, s := range [][6]float64{{}, {1, 0, 0, 2, 0, 0}, {0, 0, 0, 1, 0, 0}} {
		if _, ok := FromSix(s); ok {
			t.Errorf("FromSix(%v) is taken", s)
		}
	}
}

// TestInverseForward: rotations and bones give the joints back; the rest pose has
// no rotation; the arms' chains start from the root's rotation.
func TestInverseForward(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	for _, s := range []*Skeleton{smpl, mmm} {
		rest := make([]float64, 3*len(s.Parents))
		for j, p := range s.Parents {
			for k := range 3 {
				if p >= 0 {
					rest[3*j+k] = rest[3*p+k] + 0.3*s.Rest[j][k]
				}
			}
		}
		out := make([]Matrix, len(s.Parents))
		identity := aboutY(0)
		if err := s.Inverse(rest, identity, out); err != nil {
			t.Fatal(err)
		}
		for j := 1; j < len(out); j++ {
			if s.Parents[j] == 0 || j == s.Chains[3][1] || j == s.Chains[4][1] {
				for i := range 3 {
					if norm(sub(out[j][i], identity[i])) > 1e-12 {
						t.Errorf("%s: bone %d of the rest pose is rotated: %v", s.Name, j, out[j])
					}
				}
			}
		}
		for range 50 {
			frame, root := body(s, r), aboutY(r.NormFloat64())
			if err := s.Inverse(frame, root, out); err != nil {
				t.Fatal(err)
			}
			for j := 1; j < len(out); j++ {
				wantRotation(t, s.Name, out[j])
			}
			back := make([]float64, len(frame))
			s.Forward(out, root, at(frame, 0), s.Bones(frame), back)
			near(t, s.Name, back, frame, 1e-12)
		}
	}
}

// TestGaussian: against the sum over an explicitly extended signal.
func TestGaussian(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 14))
	for _, n := range []int{1, 5, 200} {
		for _, sigma := range []float64{0.7, 20} {
			x := make([]float64, n)
			for i := range x {
				x[i] = r.NormFloat64()
			}
			radius := int(4*sigma + 0.5)
			want := make([]float64, n)
			for i := range want {
				sum := 0.0
				for k := -radius; k <= radius; k++ {
					w := math.Exp(-0.5 * float64(k) * float64(k) / sigma / sigma)
					sum += w
					want[i] += w * x[min(n-1, max(0, i+k))]
				}
				want[i] /= sum
			}
			near(t, "gaussian", gaussian(x, sigma), want, 1e-12)
		}
	}
}

func wantError(t *testing.T, what string, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "motion: ") {
		t.Errorf("%s: error %v, want one of motion with %q", what, err, want)
	}
}

func TestBadInput(t *testing.T) {
	nan := math.NaN()
	r := rand.New(rand.NewPCG(15, 16))
	clip := wander(smpl, 3, 0, 0, r)
	with := func(i int, v float64) []float64 { c := append([]float64{}, clip...); c[i] = v; return c }
	fallen := append([]float64{}, clip...)
	copy(fallen[3*15:3*16], fallen[3*12:3*13]) // the head on the neck
	flat := make([]float64, 66)
	up := append([]float64{}, clip[:66]...)
	for j := range 22 { // hips and shoulders above each other: across is up
		up[3*j], up[3*j+2] = 0, 0
	}
	up[3*smpl.RightHip+1], up[3*smpl.LeftHip+1] = 1, 0
	features := func(joints []float64, o Options) error { _, err := Features(HumanML3D, joints, o); return err }
	rows, _ := Features(HumanML3D, clip, Options{})
	recover := func(rows []float64) error { _, err := Recover(HumanML3D, rows); return err }
	bad := append([]float64{}, rows...)
	bad[HumanML3D.Rotation(3)+2] = math.Inf(1)
	zero := append([]float64{}, rows...)
	copy(zero[HumanML3D.Rotation(3):], make([]float64, 6))
	retarget := func(bones []float64) error { _, err := smpl.Retarget(clip, bones); return err }
	_, width := LayoutOf(262)
	_, small := RecoverRotated(Small, make([]float64, 67), make([]float64, 22))
	_, bones := RecoverRotated(HumanML3D, rows, make([]float64, 21))
	_, six := RecoverRotated(HumanML3D, zero, make([]float64, 22))
	_, part := SixParts(HumanML3D, SharedByAll).Index("tail")
	for what, c := range map[string]struct {
		err  error
		want string
	}{
		"width": {width, "262"}, "one frame": {features(clip[:66], Options{}), "at least 2"}, "ragged": {features(clip[:67], Options{}), "67 numbers"}, "empty": {features(nil, Options{}), "0 numbers"},
		"NaN": {features(with(70, nan), Options{}), "frame 1, joint 1 (left hip)"}, "smoothing": {features(clip, Options{Smooth: nan}), "NaN frames"}, "negative": {features(clip, Options{Smooth: -1}), "-1 frames"},
		"fallen": {features(fallen, Options{}), "joints 12 and 15"}, "flat": {features(append(flat, flat...), Options{}), "faces nowhere"}, "up": {features(append(up, up...), Options{}), "straight up"},
		"rows": {recover(rows[:262]), "262 numbers"}, "no row": {recover(nil), "0 numbers"}, "infinite": {recover(bad), "channel"}, "six": {six, "joint 3 (spine 1)"}, "small": {small, "no rotations"},
		"bone list": {bones, "21 bone lengths"}, "bones": {retarget(make([]float64, 22)), "length 0"}, "few bones": {retarget(nil), "0 bone lengths"}, "part": {part, `no part "tail"; there are root, right leg`},
	} {
		wantError(t, what, c.err, c.want)
	}
}
