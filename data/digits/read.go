package digits

import (
	"encoding/json"
	"fmt"
	"math"

	"github.com/fidlab/fidlab/data"
)

// Reading is what the reader says of a digit.
type Reading struct {
	Digit    int     // of the nearest training digit
	Distance float64 // to it, Euclidean, values in [0,1]
	Second   int     // the nearest other digit
	Ratio    float64 // of the distance to that over Distance; at most 1e6
}

// Read finds the nearest of the 60,000 training digits by the Euclidean distance
// of the 64 values, which are clipped to [0,1] and rounded to the sums of the
// set, multiples of 1/2295; of equally near ones the first. It refuses another
// length and NaN.
func (s *Set) Read(values []float32) (Reading, error) {
	if len(values) != Side*Side {
		return Reading{}, data.Errorf("digits: %d values; want %d, 8 rows of 8", len(values), Side*Side)
	}
	var q [Side * Side]int32
	for i, v := range values {
		if v != v {
			return Reading{}, data.Errorf("digits: value %d is NaN; want 0 to 1", i)
		}
		q[i] = int32(math.Round(full * float64(min(1, max(0, v)))))
	}
	return s.nearest(&q, -1), nil
}

// nearest reads q, in the unit of the sums, and leaves out training digit skip. The
// squared distance is below 64·2295² < 2^31.
func (s *Set) nearest(q *[Side * Side]int32, skip int) Reading {
	const none = math.MaxInt32
	var best [10]int32
	for k := range best {
		best[k] = none
	}
	for i := range s.train.sums {
		if i == skip {
			continue
		}
		b := &best[s.train.labels[i]]
		x := &s.train.sums[i]
		d := int32(0)
		for j := 0; j < Side*Side; j += 16 {
			for k := j; k < j+16; k++ {
				e := q[k] - int32(x[k])
				d += e * e
			}
			if d >= *b {
				break
			}
		}
		*b = min(*b, d)
	}
	r := Reading{Digit: 0, Second: 1}
	if best[1] < best[0] {
		r.Digit, r.Second = 1, 0
	}
	for k := 2; k < 10; k++ {
		switch {
		case best[k] < best[r.Digit]:
			r.Digit, r.Second = k, r.Digit
		case best[k] < best[r.Second]:
			r.Second = k
		}
	}
	r.Distance = math.Sqrt(float64(best[r.Digit])) / full
	r.Ratio = 1e6
	if d := best[r.Digit]; d > 0 {
		r.Ratio = min(1e6, math.Sqrt(float64(best[r.Second])/float64(d)))
	}
	return r
}

// Check reads a picture of 8×8 gray pixels and, where the truth is known, judges it.
// A digit of train is compared with the others of train.
func (s *Set) Check(g data.Given) (data.Check, error) {
	if len(g.Pictures) != 1 {
		return data.Check{}, data.Errorf("digits: %d pictures; want one", len(g.Pictures))
	}
	m := g.Pictures[0].Image
	if err := data.CheckImage("digits", m, Side, Side); err != nil {
		return data.Check{}, err
	}
	var q [Side * Side]int32
	for i := range q {
		// nine pixels of the mean of the channels, which noise may have made differ
		q[i] = block * int32(int(m.Pix[3*i])+int(m.Pix[3*i+1])+int(m.Pix[3*i+2]))
	}
	t := truth{Digit: -1}
	skip := -1
	if g.Truth != nil {
		if err := json.Unmarshal(g.Truth, &t); err != nil {
			return data.Check{}, data.Errorf("digits: the truth is no JSON object of this set: %w", err)
		}
		if t.Set != "digits" || t.Digit < 0 || t.Digit > 9 {
			return data.Check{}, data.Errorf("digits: the truth is of the set %q, digit %d; want digits and 0 to 9", t.Set, t.Digit)
		}
		if t.Split == data.Train {
			skip = t.Index
		}
	}
	r := s.nearest(&q, skip)
	c := data.Check{OK: true, Text: fmt.Sprintf("%d, next %d, %.2f times as far", r.Digit, r.Second, r.Ratio), Read: struct {
		Digit    int     `json:"digit"`
		Second   int     `json:"second"`
		Distance float64 `json:"distance"`
		Ratio    float64 `json:"ratio"`
	}{r.Digit, r.Second, r.Distance, r.Ratio}}
	if g.Truth != nil {
		c.OK = r.Digit == t.Digit
		hit := 0
		if c.OK {
			hit = 1
		}
		c.Counts = []data.Count{{Name: "digit", Hits: hit, Of: 1}}
	}
	return c, nil
}

// Entry is the set on the command line.
var Entry = data.Entry{
	Name: "digits", About: "MNIST reduced to 8×8 gray pixels; read by the nearest training digit, which is not exact",
	Note: "the reader itself errs on 3.5 % of the test split",
	Golden: map[data.Split]string{
		data.Train: "e1f40eb241f373ea3ca7b303d78f666584dd93d382670624c4b4441c1173601b",
		data.Test:  "44e54d3605d198e30cb6ad7ac56437cd007430a65a1836507ac752e10548e2cb",
	},
	Open: func(seed uint64, options map[string]string) (data.Served, error) {
		for k := range options {
			return nil, data.Unknown("digits", "option", k, []string{"n", "from"})
		}
		if seed != data.DefaultSeed {
			return nil, data.Errorf("digits: seed %d; these digits are given, not generated: leave the seed out", seed)
		}
		s, err := New()
		if err != nil {
			return nil, err
		}
		return data.Serve(data.Set[*Item](s), s.Check), nil
	},
}
