package data

import (
	"encoding/json"
	"fmt"

	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/tensor"
)

// Set is a data set of items of one kind. It is safe for several goroutines.
type Set[T any] interface {
	Name() string
	// Splits are the set's splits, in the order of its documentation.
	Splits() []Split
	// Len is the number of items of a split, 0 for one that the set lacks.
	Len(split Split) int
	// At is item i of the split. It panics outside 0 to Len−1; use Get for what
	// comes from a user.
	At(split Split, i int) T
}

// Item is what every item of a set can do.
type Item interface {
	// Tensor is the item for a network: values in [-1,1], channels first.
	Tensor() (x []float32, c, h, w int)
	// Pictures are the item's pictures; the first is the one that an INPUT
	// yields. An item without pictures, such as a motion, has none.
	Pictures() []Picture
	// Truth is what is known of the item; it marshals to one JSON object. The
	// reader gets it back to judge pictures.
	Truth() any
	// Bytes are the pixels and all of the truth: what the golden hash covers.
	Bytes() []byte
}

// Labelled is a set whose items have a class; label l is class Classes()[l].
type Labelled interface {
	Classes() []string
	Label(split Split, i int) int
}

// Picture is one of the pictures of an item. The name is part of the file's
// name, "" for the only or main one.
type Picture struct {
	Name  string
	Image *imageio.Image
}

// Get is item i of the split, or the refusal of a split or an index that the set
// has not.
func Get[T any](s Set[T], split Split, i int) (T, error) {
	var none T
	if err := CheckSplit(s.Name(), split, s.Splits()); err != nil {
		return none, err
	}
	if err := CheckIndex(s.Name(), split, i, s.Len(split)); err != nil {
		return none, err
	}
	return s.At(split, i), nil
}

// MustHave panics when a split has no item i: the first line of every At.
func MustHave[T any](s Set[T], split Split, i int) {
	if n := s.Len(split); i < 0 || i >= n {
		panic(fmt.Sprintf("%s: %s has no item %d; want 0 to %d (Get refuses instead)", s.Name(), split, i, n-1))
	}
}

// Given is what a reader gets: the pictures of an item, or the array of one
// without pictures, and the truth where it is known.
type Given struct {
	Pictures []Picture
	Array    *tensor.Array
	Truth    json.RawMessage // as Item.Truth marshals; nil: not known
	Caption  *string         // by which the picture was drawn, where there is no truth; nil: not known. See Entry.Captions
}

// Give is an item as its reader gets it.
func Give(it Item) (Given, error) {
	truth, err := json.Marshal(it.Truth())
	if err != nil {
		return Given{}, err
	}
	g := Given{Pictures: it.Pictures(), Truth: truth}
	if len(g.Pictures) == 0 {
		x, c, h, w := it.Tensor()
		g.Array = tensor.FromF32(x, c, h, w)
	}
	return g, nil
}

// Served is a set as the command line sees it, whatever its items are.
type Served interface {
	Name() string
	Splits() []Split
	Len(split Split) int
	// Item is item i, or the refusal of what the set has not.
	Item(split Split, i int) (Item, error)
	// Check is the exact reader.
	Check(g Given) (Check, error)
}

// Entry is a set in the list of the command line.
type Entry struct {
	Name    string
	About   string   // one line
	Options []string // what Open understands, each "name=values: meaning"
	// Captions says that the reader compares a Given with its Caption.
	Captions bool
	Note     string // how far the reader errs, to be shown beside what it says; "" when it is exact
	// Golden are the hashes of the splits under DefaultSeed without options, as
	// Hash makes them of GoldenItems items.
	Golden map[Split]string
	// Open makes the set under a seed with the options of its input,
	// shapes:test?only=1. It refuses options that it does not know.
	Open func(seed uint64, options map[string]string) (Served, error)
}

// Serve makes a Served of a set and its reader; it is Labelled if the set is.
func Serve[T Item](s Set[T], check func(Given) (Check, error)) Served {
	if l, ok := s.(Labelled); ok {
		return struct {
			served[T]
			Labelled
		}{served[T]{s, check}, l}
	}
	return served[T]{s, check}
}

type served[T Item] struct {
	Set[T]
	check func(Given) (Check, error)
}

func (s served[T]) Item(split Split, i int) (Item, error) { return Get(s.Set, split, i) }
func (s served[T]) Check(g Given) (Check, error)          { return s.check(g) }
