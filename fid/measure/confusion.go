package measure

import "fmt"

// Confusion counts what was taken for what: N[i·Classes + j] places of class i that were said to be j.
type Confusion struct {
	Classes int
	N       []int64
}

// NewConfusion is an empty table. It panics without classes.
func NewConfusion(classes int) *Confusion {
	if classes < 1 {
		panic(fmt.Sprintf("measure: NewConfusion: %d classes; want at least 1", classes))
	}
	return &Confusion{classes, make([]int64, classes*classes)}
}

// Add counts the places of one picture, or of several. It refuses lists of different lengths
// and classes that the table has not.
func (c *Confusion) Add(truth, said []uint8) error {
	if len(truth) != len(said) {
		return fmt.Errorf("measure: %d places, %d answers; want one each", len(truth), len(said))
	}
	for i := range truth {
		if int(truth[i]) >= c.Classes || int(said[i]) >= c.Classes {
			return fmt.Errorf("measure: class %d taken for %d at place %d; the classes are 0 to %d", truth[i], said[i], i, c.Classes-1)
		}
	}
	for i, t := range truth {
		c.N[int(t)*c.Classes+int(said[i])]++
	}
	return nil
}

// IoU is the intersection over union of a class, hits/(hits + missed + wrong); ok is false
// where it is neither true nor said of any place.
func (c *Confusion) IoU(class int) (v float64, ok bool) {
	var union int64
	for k := range c.Classes {
		union += c.N[class*c.Classes+k] + c.N[k*c.Classes+class]
	}
	hits := c.N[class*c.Classes+class]
	if union -= hits; union == 0 {
		return 0, false
	}
	return float64(hits) / float64(union), true
}

// MeanIoU is the mean over the classes that are true or said of any place, over all places
// together (not a mean over pictures); 0 of an empty table.
func (c *Confusion) MeanIoU() float64 {
	var sum float64
	n := 0
	for k := range c.Classes {
		if v, ok := c.IoU(k); ok {
			sum += v
			n++
		}
	}
	return sum / float64(max(n, 1))
}

// Accuracy is the share of places that are right; 0 of an empty table.
func (c *Confusion) Accuracy() float64 {
	var hits, all int64
	for i, n := range c.N {
		all += n
		if i/c.Classes == i%c.Classes {
			hits += n
		}
	}
	return float64(hits) / float64(max(all, 1))
}
