package symmflow

import (
	"slices"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/nn/adapt"
	"github.com/fidlab/fidlab/ops"
)

// Widen begins a network of pictures and labels, dst, with the weights of one of pictures alone, src, such as a published U-Net that was
// loaded: layers of one shape are copied; of those that dst has more inputs or more outputs of, the picture's come first and are
// copied, and what is new is zero. dst then says of pictures what src says, whatever their labels are, and nothing of labels.
// Both are laid out, and must have the same layers; where they do not, dst is left as it was.
func Widen(dst, src *nn.Params) error {
	of := map[string]*nn.Param{}
	for _, p := range src.All() {
		of[p.Name] = p
	}
	if have, want := len(src.All()), len(dst.All()); have != want {
		return data.Errorf("symmflow: a network of %d parameters to begin with, for one of %d; want the same layers", have, want)
	}
	for _, p := range dst.All() {
		if q := of[p.Name]; q == nil || !widens(p.Shape(), q.Shape()) {
			var have []int
			if q != nil {
				have = q.Shape()
			}
			return data.Errorf("symmflow: %s has shape %v, the one to begin with %v; want as many inputs and outputs at least, and one of both the same", p.Name, p.Shape(), have)
		}
	}
	for _, p := range dst.All() {
		q := of[p.Name]
		d, s := p.Shape(), q.Shape()
		if len(d) > 1 && d[1] > s[1] {
			if err := adapt.Widen(p, q); err != nil {
				return err
			}
			continue
		}
		ops.Fill(p.Value, 0)
		p.Value.Rows(0, s[0]).Copy(q.Value) // outputs are the first axis
	}
	return nil
}

// widens tells whether a weight can begin with one of another shape: more inputs, or more outputs, not both.
func widens(d, s []int) bool {
	if len(d) != len(s) || len(d) == 0 {
		return false
	}
	if slices.Equal(d[1:], s[1:]) {
		return d[0] >= s[0]
	}
	return len(d) > 1 && d[0] == s[0] && d[1] > s[1] && slices.Equal(d[2:], s[2:])
}
