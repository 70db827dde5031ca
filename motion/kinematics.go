package motion

import (
	"fmt"
	"math"
)

// Facing is a rule for the direction that a body faces: up × across, with across
// from the left to the right side.
type Facing int

const (
	// HipsAndShoulders has across = (right hip − left hip) + (right shoulder − left
	// shoulder), as the papers say.
	HipsAndShoulders Facing = iota
	// ShouldersLessHips has across = (right shoulder − left shoulder) − (right hip −
	// left hip), as the published files hold: the program that made them exchanges
	// the hips. Of an untwisted body the direction is the same.
	ShouldersLessHips
)

// Options say how Features finds the facing direction. The zero value takes
// the direction of every frame.
type Options struct {
	Facing Facing
	Smooth float64 // standard deviation in frames of a Gaussian over the directions; 0: none
}

// Published are the options with which the files of HumanML3D and KIT-ML were made.
var Published = Options{Facing: ShouldersLessHips, Smooth: 20}

// Headings are the angles ψ of the facing direction, one a frame, in (−π, π]: 0
// along +z, growing towards +x.
func (s *Skeleton) Headings(joints []float64, o Options) ([]float64, error) {
	n, err := s.Frames(joints, 1)
	if err != nil {
		return nil, err
	}
	if !(o.Smooth >= 0) || o.Smooth > 1e4 {
		return nil, fmt.Errorf("motion: smoothing over %v frames; want 0 (none) to 10000", o.Smooth)
	}
	x, z := make([]float64, n), make([]float64, n) // the direction, not normalised
	for t := range n {
		f := joints[3*t*len(s.Parents):]
		hips := sub(at(f, s.RightHip), at(f, s.LeftHip))
		shoulders := sub(at(f, s.RightShoulder), at(f, s.LeftShoulder))
		sign := 1.0
		if o.Facing == ShouldersLessHips {
			sign = -1
		}
		across := Vec{shoulders[0] + sign*hips[0], shoulders[1] + sign*hips[1], shoulders[2] + sign*hips[2]}
		length := norm(across)
		if length == 0 {
			return nil, fmt.Errorf("motion: frame %d: hips and shoulders fall together, so the body faces nowhere; leave the clip out", t)
		}
		x[t], z[t] = across[2]/length, -across[0]/length // (0,1,0) × across
	}
	if o.Smooth > 0 {
		x, z = gaussian(x, o.Smooth), gaussian(z, o.Smooth)
	}
	out := make([]float64, n)
	for t := range out {
		if x[t] == 0 && z[t] == 0 {
			return nil, fmt.Errorf("motion: frame %d: the body faces straight up or down, or every way at once; leave the clip out", t)
		}
		out[t] = math.Atan2(x[t], z[t])
	}
	return out, nil
}

// gaussian filters x with weights exp(−k²/2σ²), |k| ≤ 4σ, normalised, and repeats
// the ends: scipy.ndimage.gaussian_filter1d with mode "nearest".
func gaussian(x []float64, sigma float64) []float64 {
	radius := int(4*sigma + 0.5)
	w, sum := make([]float64, radius+1), 0.0
	for k := range w {
		w[k] = math.Exp(-float64(k*k) / (2 * sigma * sigma))
		sum += w[k]
		if k > 0 {
			sum += w[k]
		}
	}
	out := make([]float64, len(x))
	last := len(x) - 1
	for i := range out {
		v := w[0] * x[i]
		for k := 1; k <= radius; k++ {
			v += w[k] * (x[max(0, i-k)] + x[min(last, i+k)])
		}
		out[i] = v / sum
	}
	return out
}

// Bones are the lengths of the bones in one frame; bone j ends at joint j.
func (s *Skeleton) Bones(frame []float64) []float64 {
	out := make([]float64, len(s.Parents))
	for j, p := range s.Parents {
		if p >= 0 {
			out[j] = norm(sub(at(frame, j), at(frame, p)))
		}
	}
	return out
}

// Inverse writes the rotations of a frame's bones to out, one of each joint
// after the root: along a chain, with P = root at its start and Q_j the smallest
// rotation from the rest direction to the bone's, out_j = P⁻¹Q_j and then P = Q_j.
// It refuses a bone without length, which has no direction.
func (s *Skeleton) Inverse(frame []float64, root Matrix, out []Matrix) error {
	for _, chain := range s.Chains {
		p := root
		for i := 1; i < len(chain); i++ {
			j := chain[i]
			bone := sub(at(frame, j), at(frame, chain[i-1]))
			n := norm(bone)
			if n == 0 {
				return fmt.Errorf("motion: joints %d and %d (%s, %s) fall together, so the bone has no direction; leave the clip out",
					chain[i-1], j, s.Joints[chain[i-1]], s.Joints[j])
			}
			q := Between(s.Rest[j], scale(bone, 1/n))
			out[j] = Product(Transpose(p), q)
			p = q
		}
	}
	return nil
}

// Forward writes the joints that bones of the given lengths with rotations as of
// Inverse have, the root at the given place.
func (s *Skeleton) Forward(rotations []Matrix, root Matrix, place Vec, bones, frame []float64) {
	copy(frame, place[:])
	for _, chain := range s.Chains {
		p := root
		for i := 1; i < len(chain); i++ {
			j := chain[i]
			p = Product(p, rotations[j])
			b := Apply(p, scale(s.Rest[j], bones[j]))
			for k := range 3 {
				frame[3*j+k] = frame[3*chain[i-1]+k] + b[k]
			}
		}
	}
}

// Retarget gives a clip the bone lengths of another body: directions stay, and the
// root moves by the ratio of the legs (of their first frame), so that feet stay
// on the ground.
func (s *Skeleton) Retarget(joints, bones []float64) ([]float64, error) {
	n, err := s.Frames(joints, 1)
	if err != nil {
		return nil, err
	}
	if len(bones) != len(s.Parents) {
		return nil, fmt.Errorf("motion: %d bone lengths; want %d, the root's first", len(bones), len(s.Parents))
	}
	for j, b := range bones {
		if j > 0 && !(b > 0 && finite(b)) {
			return nil, fmt.Errorf("motion: the bone of joint %d (%s) has length %v; want more than 0", j, s.Joints[j], b)
		}
	}
	per := 3 * len(s.Parents)
	own := s.Bones(joints[:per])
	ratio := (bones[s.Leg[0]] + bones[s.Leg[1]]) / (own[s.Leg[0]] + own[s.Leg[1]])
	if !finite(ratio) {
		return nil, fmt.Errorf("motion: the legs have no length in the first frame; leave the clip out")
	}
	out := make([]float64, len(joints))
	for t := range n {
		from, to := joints[t*per:(t+1)*per], out[t*per:(t+1)*per]
		for k := range 3 {
			to[k] = from[k] * ratio
		}
		for _, chain := range s.Chains {
			for i := 1; i < len(chain); i++ {
				j, p := chain[i], chain[i-1]
				d := sub(at(from, j), at(from, p))
				length := norm(d)
				if length == 0 {
					return nil, fmt.Errorf("motion: frame %d: joints %d and %d fall together, so the bone has no direction; leave the clip out", t, p, j)
				}
				for k := range 3 {
					to[3*j+k] = to[3*p+k] + d[k]/length*bones[j]
				}
			}
		}
	}
	return out, nil
}

// Prepare puts a clip where rows begin: the lowest joint of all frames on the floor
// y = 0, the first root over the origin, the first frame facing +z (hips and
// shoulders, whatever rule the rows take later). joints stay as they are.
func (s *Skeleton) Prepare(joints []float64) ([]float64, error) {
	n, err := s.Frames(joints, 1)
	if err != nil {
		return nil, err
	}
	per := 3 * len(s.Parents)
	heading, err := s.Headings(joints[:per], Options{})
	if err != nil {
		return nil, err
	}
	floor := joints[1]
	for i := 1; i < len(joints); i += 3 {
		floor = min(floor, joints[i])
	}
	sin, cos := math.Sincos(-heading[0])
	out := make([]float64, len(joints))
	for i := range n * len(s.Parents) {
		p := turnY(Vec{joints[3*i] - joints[0], joints[3*i+1] - floor, joints[3*i+2] - joints[2]}, cos, sin)
		copy(out[3*i:], p[:])
	}
	return out, nil
}
