package data

import (
	"fmt"
	"slices"
	"strings"

	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/text"
)

// Split names an independent part of a set. Its name is in the key of every
// item, so no two splits share a stream.
type Split string

// The splits that every set has.
const (
	Train Split = "train"
	Val   Split = "val"  // for tuning: of baselines, of guidance
	Test  Split = "test" // for the numbers that are reported
	Ref   Split = "ref"  // reference statistics of FID; nothing is trained on it
	Enc   Split = "enc"  // for training feature encoders, and only for that
)

// inputError is an error about what was asked for; it is an imageio.ErrInput.
type inputError struct{ err error }

func (e *inputError) Error() string        { return e.err.Error() }
func (e *inputError) Unwrap() error        { return e.err }
func (e *inputError) Is(target error) bool { return target == imageio.ErrInput }

// Errorf is fmt.Errorf for errors about what a user asked for or handed in:
// they are imageio.ErrInput.
func Errorf(format string, args ...any) error { return &inputError{fmt.Errorf(format, args...)} }

// Unknown is the refusal of a name that is not in the list: it names the nearest one.
func Unknown(pkg, what, got string, known []string) error {
	hint := ""
	if best := text.Nearest(got, known); best != "" {
		hint = fmt.Sprintf("did you mean %s? ", best)
	}
	return Errorf("%s: no %s %q; %sthere are %s", pkg, what, got, hint, strings.Join(known, ", "))
}

// CheckSplit refuses a split that the set lacks.
func CheckSplit(set string, split Split, has []Split) error {
	if slices.Contains(has, split) {
		return nil
	}
	names := make([]string, len(has))
	for i, s := range has {
		names[i] = string(s)
	}
	return Unknown(set, "split", string(split), names)
}

// CheckIndex refuses an index outside a split of n items.
func CheckIndex(set string, split Split, i, n int) error {
	if i < 0 || i >= n {
		return Errorf("%s: %s has no item %d; want 0 to %d", set, split, i, n-1)
	}
	return nil
}

// CheckRange refuses a run of items that is empty or goes beyond a split of
// size items.
func CheckRange(set string, split Split, from, n, size int) error {
	switch {
	case n < 1:
		return Errorf("%s: n=%d; want at least 1 item", set, n)
	case size == 0:
		return Errorf("%s: no item of %s is left by the options; take another split or leave an option out", set, split)
	case from < 0 || from >= size:
		return Errorf("%s: from=%d; %s has items 0 to %d", set, from, split, size-1)
	case n > size-from:
		return Errorf("%s: n=%d; %s has %d items from %d on", set, n, split, size-from, from)
	}
	return nil
}

// CheckSize refuses a side that no generator draws.
func CheckSize(set string, size int) error {
	switch size {
	case 16, 32, 64, 128, 256:
		return nil
	}
	return Errorf("%s: size %d; want 16, 32, 64, 128 or 256", set, size)
}

// CheckImage refuses a picture of another size than the reader reads.
func CheckImage(set string, m *imageio.Image, w, h int) error {
	switch {
	case m == nil:
		return Errorf("%s: no picture; want %d×%d pixels", set, w, h)
	case m.Width != w || m.Height != h:
		return Errorf("%s: the picture is %d×%d pixels; the reader reads %d×%d: resize nothing, generate at that size", set, m.Width, m.Height, w, h)
	case len(m.Pix) != 3*w*h:
		return Errorf("%s: the picture has %d bytes for %d×%d pixels; want three channels, %d bytes", set, len(m.Pix), w, h, 3*w*h)
	}
	return nil
}

// Sizes are the splits of a set, in order, with the number of their items.
type Sizes []Sized

// Sized is a split and the number of its items.
type Sized struct {
	Split Split
	N     int
}

// Splits are the splits in order.
func (z Sizes) Splits() []Split {
	out := make([]Split, len(z))
	for i, s := range z {
		out[i] = s.Split
	}
	return out
}

// Len is the number of items of a split, 0 of one that the set does not have.
func (z Sizes) Len(split Split) int {
	for _, s := range z {
		if s.Split == split {
			return s.N
		}
	}
	return 0
}
