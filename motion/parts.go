package motion

import (
	"fmt"
	"slices"
	"strings"
)

// Shared is what becomes of the joint where the arms leave the spine: joint 9 of
// HumanML3D, 3 of KIT.
type Shared int

const (
	// SharedByAll gives a copy to the spine and to both arms; Merge averages them.
	// It is the rule of ParCo and, as far as its abstract tells, of BiPO.
	SharedByAll Shared = iota
	// SharedBySpine gives it to the spine alone, so that the parts are a partition.
	SharedBySpine
)

// Part is a set of channels that belong together: of a joint its position, its
// rotation and its velocity, and of a leg its contacts too.
type Part struct {
	Name     string
	Joints   []int
	Channels []int // joint by joint, then contacts
}

// Parts are a layout's parts.
type Parts struct {
	Layout *Layout
	List   []Part
}

// SixParts are the parts of ParCo, BiPO and MMDM: root, right leg, left leg, spine,
// right arm, left arm. Of HumanML3D with SharedByAll they have 7, 50, 50, 60, 60 and
// 60 channels, with SharedBySpine 7, 50, 50, 60, 48 and 48. The root's part is the
// four root channels and the root's velocity.
func SixParts(l *Layout, rule Shared) *Parts {
	chains := l.Skeleton.Chains // right leg, left leg, spine, right arm, left arm, in both skeletons
	arm := func(chain []int) []int {
		if rule == SharedBySpine {
			return chain[1:]
		}
		return chain
	}
	return newParts(l, []string{"root", "right leg", "left leg", "spine", "right arm", "left arm"},
		[][]int{{0}, chains[0][1:], chains[1][1:], chains[2][1:], arm(chains[3]), arm(chains[4])}, [][]int{nil, {2, 3}, {0, 1}, nil, nil, nil})
}

// Halves are the two parts of MMM: upper (of HumanML3D 156 channels, of KIT 120) and
// lower (107, 131), which has the root and all contacts.
func Halves(l *Layout) *Parts {
	c := l.Skeleton.Chains
	lower := append([]int{0}, append(slices.Clone(c[0][1:]), c[1][1:]...)...)
	slices.Sort(lower)
	var upper []int
	for j := range l.joints() {
		if !slices.Contains(lower, j) {
			upper = append(upper, j)
		}
	}
	return newParts(l, []string{"upper", "lower"}, [][]int{upper, lower}, [][]int{nil, {0, 1, 2, 3}})
}

func newParts(l *Layout, names []string, joints, contacts [][]int) *Parts {
	p := &Parts{Layout: l}
	for i, name := range names {
		part := Part{Name: name, Joints: joints[i]}
		run := func(from, n int) {
			for c := range n {
				part.Channels = append(part.Channels, from+c)
			}
		}
		for _, j := range joints[i] {
			if j == 0 {
				run(0, 4)
			} else {
				run(l.Position(j), 3)
			}
			if l.full {
				if j > 0 {
					run(l.Rotation(j), 6)
				}
				run(l.Velocity(j), 3)
			}
		}
		for _, k := range contacts[i] {
			if l.full {
				run(l.Contacts()+k, 1)
			}
		}
		p.List = append(p.List, part)
	}
	return p
}

// Index is the place of a part in the list; case and hyphens for spaces do not matter.
func (p *Parts) Index(name string) (int, error) {
	names := make([]string, len(p.List))
	for i, part := range p.List {
		names[i] = part.Name
		if strings.EqualFold(part.Name, strings.NewReplacer("-", " ", "_", " ").Replace(name)) {
			return i, nil
		}
	}
	return 0, fmt.Errorf("motion: no part %q; there are %s", name, strings.Join(names, ", "))
}

// Split copies the channels of each part: part i is [rows, len(List[i].Channels)].
func Split[T Float](p *Parts, rows []T) ([][]T, error) {
	n, err := Rows(p.Layout, rows)
	if err != nil {
		return nil, err
	}
	out := make([][]T, len(p.List))
	for i, part := range p.List {
		out[i] = make([]T, 0, n*len(part.Channels))
		for t := range n {
			for _, c := range part.Channels {
				out[i] = append(out[i], rows[t*p.Layout.Width+c])
			}
		}
	}
	return out, nil
}

// Merge puts parts together again: a channel of several parts becomes their mean,
// first + Σ(other − first)/k, which is exact where they agree.
func Merge[T Float](p *Parts, parts [][]T) ([]T, error) {
	n, err := p.rows(len(parts), func(i int) int { return len(parts[i]) })
	if err != nil {
		return nil, err
	}
	out, count := make([]T, n*p.Layout.Width), p.owners()
	type owner struct{ part, at int } // of the first part that has a channel; part is 1 more than its index
	first := make([]owner, p.Layout.Width)
	for i, part := range p.List {
		for k, c := range part.Channels {
			if first[c].part == 0 {
				first[c] = owner{i + 1, k}
				for t := range n {
					out[t*p.Layout.Width+c] = parts[i][t*len(part.Channels)+k]
				}
				continue
			}
			f := parts[first[c].part-1]
			stride := len(p.List[first[c].part-1].Channels)
			for t := range n {
				out[t*p.Layout.Width+c] += (parts[i][t*len(part.Channels)+k] - f[t*stride+first[c].at]) / T(count[c])
			}
		}
	}
	return out, nil
}

// Disagreement is the largest difference between two parts' values of a channel
// that they share, and the channel, −1 when none is shared: an edit of one part
// that moves the shared joint shows here.
func Disagreement[T Float](p *Parts, parts [][]T) (largest T, channel int, err error) {
	n, err := p.rows(len(parts), func(i int) int { return len(parts[i]) })
	channel = -1
	if err != nil {
		return 0, channel, err
	}
	for i, part := range p.List {
		for k, c := range part.Channels {
			for j := i + 1; j < len(p.List); j++ {
				other := p.List[j].Channels
				m := slices.Index(other, c)
				if m < 0 {
					continue
				}
				for t := range n {
					d := parts[i][t*len(part.Channels)+k] - parts[j][t*len(other)+m]
					if d = max(d, -d); d > largest || channel < 0 {
						largest, channel = d, c
					}
				}
			}
		}
	}
	return largest, channel, nil
}

// owners counts the parts that have a channel.
func (p *Parts) owners() []int {
	n := make([]int, p.Layout.Width)
	for _, part := range p.List {
		for _, c := range part.Channels {
			n[c]++
		}
	}
	return n
}

func (p *Parts) rows(parts int, length func(i int) int) (int, error) {
	if parts != len(p.List) {
		return 0, fmt.Errorf("motion: %d parts; want %d", parts, len(p.List))
	}
	n := length(0) / len(p.List[0].Channels)
	for i, part := range p.List {
		if n == 0 || length(i) != n*len(part.Channels) {
			return 0, fmt.Errorf("motion: %s has %d numbers; want %d rows, as %s has, of %d", part.Name, length(i), max(1, n), p.List[0].Name, len(part.Channels))
		}
	}
	return n, nil
}
