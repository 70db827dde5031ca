package onnx

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/fidlab/fidlab/gpu"
)

// A model that is told one time, or one class, for all is asked once for each that
// there is, however the images lie, and every answer is in its image's place with
// its image's own input; models of a time for each, and images that lie together,
// are asked as they are.
func TestForwardGroups(t *testing.T) {
	mixed := []float64{700, 650, 700, 690, 650, 700}
	kinds := []int{1, 1, 0, 1, 1, 1}
	for _, c := range []struct {
		batch       int
		time, class []int
		times       []float64
		want        []int
	}{
		{-1, nil, []int{-1}, mixed, []int{2, 1, 3}},
		{-1, []int{1}, []int{1}, mixed, []int{2, 1, 1, 2}},
		{2, nil, []int{2}, mixed, []int{2, 2, 2, 2}}, // filled up: 2, 1, 2 and 1 of 3
		{1, nil, []int{1}, mixed, []int{1, 1, 1, 1, 1, 1}},
		{-1, []int{-1}, []int{-1}, mixed, []int{6}},
		{-1, nil, []int{-1}, []float64{700, 700, 700, 690, 690, 650}, []int{3, 2, 1}},
		{-1, nil, []int{-1}, []float64{1, 2, 3, 4, 5, 6}, []int{1, 1, 1, 1, 1, 1}},
	} {
		p := &pretended{
			in: []Port{
				{"sample", "float32", []int{c.batch, 1, 1, 2}},
				{"timestep", "float32", c.time},
				{"class_labels", "int64", c.class},
				{"text", "float32", []int{c.batch, 2}},
			},
			out: []Port{{"out", "float32", []int{c.batch, 1, 1, 2}}},
		}
		p.answer = func(in map[string]*array, row, i int) float64 {
			at := func(name string) int {
				if a := in[name]; len(a.shape) > 0 && a.shape[0] > 1 {
					return row
				}
				return 0
			}
			return in["sample"].at(2*row+i) + 100*in["timestep"].at(at("timestep")) + 1e6*float64(in["class_labels"].i64[at("class_labels")]) + in["text"].at(2*row+i)/2
		}
		m := pretend(t, p, `{"prediction": "eps", "path": "vp", "classes": 2}`)
		x, text := ramp(gpu.Float32, 6, 1, 1, 2), ramp(gpu.Float32, 6, 2)
		out := x.Like()
		if err := m.Forward(context.Background(), out, x, c.times, kinds, map[string]*gpu.Tensor{"text": text}); err != nil {
			t.Fatal(err)
		}
		for i, got := range all(out) {
			if want := float64(i+1)*1.5 + 100*c.times[i/2] + 1e6*float64(kinds[i/2]); got != want {
				t.Errorf("%v %v %v: value %d is %v, want %v", c.batch, c.time, c.class, i, got, want)
			}
		}
		if !slices.Equal(p.rows, c.want) {
			t.Errorf("%s: calls of %v images, want %v", fmt.Sprint(c), p.rows, c.want)
		}
	}
}
