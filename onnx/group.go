package onnx

import (
	"cmp"
	"context"
	"slices"

	"github.com/fidlab/fidlab/gpu"
)

// together is an order of the images in which those that one call can be about lie
// side by side; nil where they do, or where it makes no difference. A model that is
// told one time for all would else be asked about image after image by a sampler
// with levels of single images.
func (m *Model) together(t []float64, classes []int) []int {
	var byTime, byClass bool
	for _, f := range m.feeds {
		byTime = byTime || f.role == time && !f.each
		byClass = byClass || f.role == class && !f.each
	}
	if m.rows == 1 || !byTime && !byClass {
		return nil
	}
	compare := func(a, b int) int {
		c := 0
		if byTime {
			c = cmp.Compare(t[a], t[b])
		}
		if byClass && c == 0 {
			c = cmp.Compare(classes[a], classes[b])
		}
		return c
	}
	order := make([]int, len(t))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, compare)
	// Only what is together afterwards and not before is worth the copies.
	runs := func(at func(i int) int) int {
		n := 1
		for i := 1; i < len(t); i++ {
			if compare(at(i-1), at(i)) != 0 {
				n++
			}
		}
		return n
	}
	if runs(func(i int) int { return i }) <= runs(func(i int) int { return order[i] }) {
		return nil
	}
	return order
}

// inOrder asks about the images in another order and puts the answers in their places.
func (m *Model) inOrder(ctx context.Context, order []int, out, x *gpu.Tensor, t []float64, classes []int, inputs map[string]*gpu.Tensor) error {
	sorted := func(v *gpu.Tensor) *gpu.Tensor {
		w := v.Like()
		for i, from := range order {
			w.Rows(i, i+1).Copy(v.Rows(from, from+1))
		}
		return w
	}
	times, kinds, given := make([]float64, len(t)), make([]int, len(t)), map[string]*gpu.Tensor{}
	for i, from := range order {
		times[i], kinds[i] = t[from], classes[from]
	}
	for name, v := range inputs {
		given[name] = sorted(v)
	}
	said := out.Like()
	if err := m.pieces(ctx, said, sorted(x), times, kinds, given); err != nil {
		return err
	}
	for i, to := range order {
		out.Rows(to, to+1).Copy(said.Rows(i, i+1))
	}
	return nil
}
