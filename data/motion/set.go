package motion

import (
	"github.com/fidlab/fidlab/data"
	kin "github.com/fidlab/fidlab/motion"
)

// version is part of every key: another is another set.
const version = 1

var sizes = map[data.Split]int{data.Train: 8000, data.Val: 500, data.Test: 1000, data.Ref: 2048, data.Enc: 4000}

// Set is the set of clips under a seed.
type Set struct {
	seed   uint64
	layout *kin.Layout
}

// New is the set under a seed; data.DefaultSeed is the published one. Its items'
// tensors have the layout of 263 channels.
func New(seed uint64) *Set { return &Set{seed, kin.HumanML3D} }

// WithLayout is the same set with tensors in another layout of 22 joints:
// motion.HumanML3D or motion.Small.
func (s *Set) WithLayout(l *kin.Layout) (*Set, error) {
	if l == nil || l.Skeleton != kin.HumanML3D.Skeleton {
		name := "none"
		if l != nil {
			name = l.Name
		}
		return nil, data.Errorf("motion: layout %s; the clips have 22 joints: want 263 or 67 channels", name)
	}
	return &Set{s.seed, l}, nil
}

// Name is "motion".
func (s *Set) Name() string { return "motion" }

// Splits are train, val, test, ref and enc.
func (s *Set) Splits() []data.Split {
	return []data.Split{data.Train, data.Val, data.Test, data.Ref, data.Enc}
}

// Len is the number of clips of a split.
func (s *Set) Len(split data.Split) int { return sizes[split] }

// At is clip i of a split.
func (s *Set) At(split data.Split, i int) *Item {
	data.MustHave(s, split, i)
	stream := data.NewStream(s.Name(), split, version, s.seed, uint64(i))
	it := &Item{truth: draw(&stream), layout: s.layout}
	it.Joints = it.truth.place()
	return it
}

// Entry is the set in the list of the command line.
var Entry = data.Entry{
	Name:    "motion",
	About:   "a walking, jumping, turning, waving body of 22 joints, 40 to 64 frames, with captions",
	Options: []string{"layout=263|67: channels of a row"},
	Open: func(seed uint64, options map[string]string) (data.Served, error) {
		set := New(seed)
		for k, v := range options {
			if k != "layout" {
				return nil, data.Unknown("motion", "option", k, []string{"layout", "n", "from", "seed"})
			}
			switch v {
			case "263":
			case "67":
				set.layout = kin.Small
			default:
				return nil, data.Errorf("motion: layout=%s; want 263 or 67", v)
			}
		}
		return data.Serve(data.Set[*Item](set), check), nil
	},
}
