package cli

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/imageio"
)

// Pictures become planes from -1 to 1; a coloured picture is refused by a network of one channel, which names it.
func TestSymmFlowPlanes(t *testing.T) {
	list := []named{{"a.png", -1, &imageio.Image{Width: 2, Height: 1, Pix: []uint8{0, 0, 0, 255, 255, 255}}}, {"b.png", -1, &imageio.Image{Width: 2, Height: 1, Pix: []uint8{51, 51, 51, 255, 0, 102}}}}
	x, err := planes(list, 3)
	if err != nil {
		t.Fatal(err)
	}
	want := []float32{-1, 1, -1, 1, -1, 1, -0.6, 1, -0.6, -1, -0.6, -0.2}
	for i, v := range x.F32() {
		if d := v - want[i]; d > 1e-6 || d < -1e-6 {
			t.Fatalf("%v, want %v", x.F32(), want)
		}
	}
	if s := x.Shape(); !slices.Equal(s, []int{2, 3, 1, 2}) {
		t.Errorf("shape %v", s)
	}
	var input *inputError
	if _, err := planes(list, 1); !errors.As(err, &input) || !strings.Contains(err.Error(), "b.png: has colours, and the network takes one channel; convert it first") {
		t.Error(err)
	}
	if x, err := planes(list[:1], 1); err != nil || !slices.Equal(x.F32(), []float32{-1, 1}) {
		t.Errorf("%v %v", x, err)
	}
}
