package data

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Check is a reader's answer about one item. Counts named "iou CLASS" are pixels:
// Hits are the class's in both maps, Of in either.
type Check struct {
	OK     bool    `json:"ok"`               // all that was asked holds
	Text   string  `json:"text"`             // what was read, in words
	Counts []Count `json:"counts,omitempty"` // shares, such as objects found of those there
	Errors []Value `json:"errors,omitempty"` // deviations, such as a centre's in pixels
	Read   any     `json:"read,omitempty"`   // all that was read
}

// Count is a share: Hits of Of.
type Count struct {
	Name string `json:"name"`
	Hits int    `json:"hits"`
	Of   int    `json:"of"`
}

// Value is a measured number.
type Value struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
}

// Totals add up answers. The zero value is empty. Add in the order of the items.
type Totals struct {
	Items, OK int
	counts    []Count
	errors    []valueList
}

type valueList struct {
	name string
	v    []float64
}

// Add takes in one answer.
func (t *Totals) Add(c Check) {
	t.Items++
	if c.OK {
		t.OK++
	}
	for _, n := range c.Counts {
		i := slices.IndexFunc(t.counts, func(o Count) bool { return o.Name == n.Name })
		if i < 0 {
			t.counts = append(t.counts, n)
			continue
		}
		t.counts[i].Hits += n.Hits
		t.counts[i].Of += n.Of
	}
	for _, e := range c.Errors {
		i := slices.IndexFunc(t.errors, func(o valueList) bool { return o.name == e.Name })
		if i < 0 {
			i = len(t.errors)
			t.errors = append(t.errors, valueList{name: e.Name})
		}
		t.errors[i].v = append(t.errors[i].v, e.Value)
	}
}

// Counts are the shares over all answers, in the order of their first appearance.
func (t *Totals) Counts() []Count { return slices.Clone(t.counts) }

// Spread describes the values of one name.
type Spread struct {
	Name string  `json:"name"`
	N    int     `json:"n"`
	Mean float64 `json:"mean"`
	P99  float64 `json:"p99"` // the smallest value that 99 % do not exceed
	Max  float64 `json:"max"`
}

// Spreads describe the deviations over all answers.
func (t *Totals) Spreads() []Spread {
	var out []Spread
	for _, e := range t.errors {
		sum := 0.0
		for _, v := range e.v {
			sum += v
		}
		s := slices.Sorted(slices.Values(e.v))
		n := len(s)
		out = append(out, Spread{e.name, n, sum / float64(n), s[int(math.Ceil(0.99*float64(n)))-1], s[n-1]})
	}
	return out
}

// MeanIoU is the mean of the shares of the counts named "iou CLASS", over the
// classes that appear; false when there are none.
func (t *Totals) MeanIoU() (float64, bool) {
	sum, n := 0.0, 0
	for _, c := range t.counts {
		if strings.HasPrefix(c.Name, iou) && c.Of > 0 {
			sum += float64(c.Hits) / float64(c.Of)
			n++
		}
	}
	return sum / float64(max(1, n)), n > 0
}

// Interval is Wilson's interval of a share at 95 %: where the probability lies of which Hits of Of independent trials came out; 0 to 1
// where Of is 0 (Wilson 1927; Brown, Cai and DasGupta 2001).
func (c Count) Interval() (lo, hi float64) {
	if c.Of == 0 {
		return 0, 1
	}
	const z = 1.959963984540054 // the normal distribution's 97.5 % quantile
	n, p := float64(c.Of), float64(c.Hits)/float64(c.Of)
	mid, half := p+z*z/(2*n), z*math.Sqrt(p*(1-p)/n+z*z/(4*n*n))
	lo, hi = (mid-half)/(1+z*z/n), (mid+half)/(1+z*z/n)
	if c.Hits == 0 { // where rounding leaves a little
		lo = 0
	}
	if c.Hits == c.Of {
		hi = 1
	}
	return lo, hi
}

const iou = "iou "

// IsIoU tells whether the count is one of a class's pixels.
func (c Count) IsIoU() bool { return strings.HasPrefix(c.Name, iou) }

func (c Count) String() string {
	if c.Of == 0 {
		return c.Name + ": none"
	}
	return fmt.Sprintf("%s: %d of %d, %.1f %%", c.Name, c.Hits, c.Of, 100*float64(c.Hits)/float64(c.Of))
}
