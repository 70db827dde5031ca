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

// golden are the hashes of the first 256 items of each split under seed 1. They were
// made by this package; what says that the items are right are the tests of the
// drawing rules, of the bodies and their physics, and of the reader.
var golden = map[data.Split]string{
	data.Train: "e6b6d6d7c00dedebfceed988ed500134090da50e4abb0b65e876d1dcc6830261",
	data.Val:   "4fdac6b9d3e40a903ff64380e947e545bcf96467a89a582c3c830dc448a74ffb",
	data.Test:  "ea8ede7f046226d569a46779578aeaf318393887e7d7c2df7244f172cbc1aa27",
	data.Ref:   "c3c949c9e8ded2217b3f327369bf57d1fb0d5daeadb07ebb13c71bd638d7f5ae",
	data.Enc:   "226a4b2dafe2be57c3f0b4f651b19a4e62bf81692a7a63c93e42f4d96570a91d",
}

// Entry is the set in the list of the command line.
var Entry = data.Entry{
	Name:    "motion",
	About:   "a walking, jumping, turning, waving body of 22 joints, 40 to 64 frames, with captions",
	Options: []string{"layout=263|67: channels of a row"},
	Golden:  golden,
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
