package measure

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

// Against sets of places, counted one by one.
func TestConfusion(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	const classes = 4
	c := NewConfusion(classes + 1) // a class that never comes has no say
	var truth, said []uint8
	for range 3 {
		a, b := make([]uint8, 50), make([]uint8, 50)
		for i := range a {
			a[i] = uint8(r.IntN(classes))
			if b[i] = a[i]; r.IntN(3) == 0 {
				b[i] = uint8(r.IntN(classes))
			}
		}
		if err := c.Add(a, b); err != nil {
			t.Fatal(err)
		}
		truth, said = append(truth, a...), append(said, b...)
	}
	var mean, right float64
	for k := range uint8(classes) {
		var and, or float64
		for i := range truth {
			if truth[i] == k && said[i] == k {
				and++
			}
			if truth[i] == k || said[i] == k {
				or++
			}
		}
		got, ok := c.IoU(int(k))
		if !ok || got != and/or {
			t.Errorf("class %d: %g %v, want %g", k, got, ok, and/or)
		}
		mean += and / or / classes
		right += and / float64(len(truth))
	}
	if math.Abs(c.MeanIoU()-mean) > 1e-12 || math.Abs(c.Accuracy()-right) > 1e-12 {
		t.Errorf("mean %g, share %g; want %g and %g", c.MeanIoU(), c.Accuracy(), mean, right)
	}
	if _, ok := c.IoU(classes); ok {
		t.Error("a class that never comes has an intersection over union")
	}
	if e := NewConfusion(2); e.MeanIoU() != 0 || e.Accuracy() != 0 {
		t.Error("an empty table is not 0")
	}
}

func TestConfusionRefused(t *testing.T) {
	c := NewConfusion(3)
	for want, v := range map[string][2][]uint8{"2 places, 1 answers": {{0, 1}, {0}}, "class 0 taken for 3 at place 1; the classes are 0 to 2": {{0, 0}, {0, 3}}, "class 7 taken for 0": {{7}, {0}}} {
		if err := c.Add(v[0], v[1]); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	for _, n := range c.N {
		if n != 0 {
			t.Fatal("what was refused was counted")
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("a table without classes")
		}
	}()
	NewConfusion(0)
}
