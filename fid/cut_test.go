package fid

import (
	"context"
	"slices"
	"testing"

	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/internal/cpu"
)

// columnwise looks at every column of a picture by itself: its feature is the first byte.
type columnwise struct{ Extractor }

func (columnwise) Info() ExtractorInfo { return ExtractorInfo{Name: "columns", Dim: 1} }
func (columnwise) Batch() int          { return 2 }

func (columnwise) Cut(m *imageio.Image) (out []*imageio.Image) {
	for x := range m.Width {
		out = append(out, &imageio.Image{Width: 1, Height: 1, Pix: m.Pix[3*x : 3*x+3]})
	}
	return out
}

func (columnwise) Features(_ *cpu.Worker, imgs []*imageio.Image, out []float32) error {
	for i, m := range imgs {
		out[i] = float32(m.Pix[0])
	}
	return nil
}

// stripSet are pictures of 1, 2, 3, … columns.
type stripSet int

func (stripSet) Describe() string { return "strips" }
func (s stripSet) Len() int       { return int(s) }

func (s stripSet) Each(_ context.Context, yield func(imageio.Item) error) error {
	for i := range int(s) {
		if err := yield(imageio.Item{Load: func() (*imageio.Image, error) {
			m := &imageio.Image{Width: i + 1, Height: 1}
			for x := range i + 1 {
				m.Pix = append(m.Pix, uint8(10*i+x), 0, 0)
			}
			return m, nil
		}}); err != nil {
			return err
		}
	}
	return nil
}

// A picture gives as many vectors as it has pieces, in order, whatever the batches.
func TestCutter(t *testing.T) {
	var want []float32
	for i := range 6 {
		for x := range i + 1 {
			want = append(want, float32(10*i+x))
		}
	}
	for _, batch := range []int{0, 1, 4, 100} {
		var got []float32
		_, err := EachFeatures(t.Context(), stripSet(6), columnwise{}, CollectOptions{Batch: batch}, func(_ *cpu.Worker, rows []float32) error {
			got = append(got, rows...)
			return nil
		})
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("batch %d: %v, %v; want %v", batch, got, err, want)
		}
	}
	s, _, err := StatsOf(t.Context(), stripSet(6), columnwise{}, CollectOptions{})
	if err != nil || s.N != 21 {
		t.Errorf("%d vectors of 6 pictures, %v; want 21", s.N, err)
	}
}
