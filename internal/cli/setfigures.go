package cli

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/report"
)

const (
	mostDots      = 1500 // of each set in the plane
	histogramBins = 40
)

// sideNames are what the two sets of a comparison are called.
var sideNames = []string{"reference", "generated"}

// setFigures are the sections of a page that need no pixels: the spectra of both covariances, both sets in a plane and, where the vectors of
// both are there, what single images do. effects and nearest are computed where they are nil, distances on dev.
func setFigures(ctx context.Context, dev *gpu.Device, ref, gen *fid.Stats, effects []float64, nearest []fid.Nearest) ([]report.Section, error) {
	var out []report.Section
	add := func(s report.Section, err error) error {
		var refused *fid.NumericError
		switch {
		case errors.As(err, &refused): // of a degenerate set: the rest of the page stands
			s = report.Section{Title: s.Title, Blocks: []report.Block{report.Note{Text: err.Error()}}}
		case err != nil:
			return err
		}
		if len(s.Blocks) > 0 {
			out = append(out, s)
		}
		return nil
	}
	if err := add(spectraSection(ref, gen)); err != nil {
		return nil, err
	}
	if ref.Dim() > 1 {
		if err := add(planeSection(ref, gen)); err != nil {
			return nil, err
		}
	}
	if len(ref.Features) == 0 || len(gen.Features) == 0 || ref.N < 2 || gen.N < 3 {
		return out, nil
	}
	return out, add(histogramSection(ctx, dev, ref, gen, effects, nearest))
}

func spectraSection(ref, gen *fid.Stats) (report.Section, error) {
	s := report.Section{
		Title: "Spectra of the covariances",
		Text:  "The variance of each set along its principal directions, the largest first. A generated set whose curve falls below the reference's lacks variety there; one above it has noise that real images lack.",
	}
	g := report.Graph{Caption: "Eigenvalues of the covariances", X: "direction", Y: "variance", LogX: true, LogY: true}
	table := report.Table{Caption: "What the spectra say", Columns: report.Columns("set", "images>", "variance in all>", "rank>", "directions of 90 %>", "effective dimensions>")}
	for i, set := range []*fid.Stats{ref, gen} {
		v, err := fid.SpectrumOf(set)
		if err != nil {
			return s, err
		}
		c := report.Curve{Name: sideNames[i], Color: i}
		sum := 0.0
		for k, e := range v.Values {
			sum += e
			if k < v.Rank {
				c.Points = append(c.Points, report.Point{X: float64(k + 1), Y: e})
			}
		}
		if len(c.Points) > 0 {
			g.Curves = append(g.Curves, c)
		}
		table.Rows = append(table.Rows, []string{c.Name, count(set.N), valueText(sum), report.Count(v.Rank), report.Count(v.Ninety), fmt.Sprintf("%.1f", v.Effective)})
	}
	if len(g.Curves) > 0 {
		s.Blocks = append(s.Blocks, g)
	}
	s.Blocks = append(s.Blocks, table)
	return s, nil
}

func planeSection(ref, gen *fid.Stats) (report.Section, error) {
	s := report.Section{Title: "Both sets in a plane"}
	p, err := fid.Project(ref, gen)
	if err != nil {
		return s, err
	}
	s.Text = fmt.Sprintf("The first two principal components of both sets together, each set weighing the same; they hold %.0f %% and %.0f %% of the variance, and FID sees the rest too.", 100*p.Share[0], 100*p.Share[1])
	g := report.Graph{
		Caption: "Features in the plane of their principal components; ellipses at two standard deviations", Equal: true,
		X: fmt.Sprintf("first component, %.0f %%", 100*p.Share[0]), Y: fmt.Sprintf("second component, %.0f %%", 100*p.Share[1]),
	}
	for i, set := range p.Sets {
		name := sideNames[i]
		c := report.Curve{Name: name, Kind: report.DotCurve, Color: i}
		points := set.Points
		if points == nil {
			points = [][2]float64{set.Mean}
			c.Name += " (mean)"
		}
		step := max(1, (len(points)+mostDots-1)/mostDots)
		for k := 0; k < len(points); k += step {
			c.Points = append(c.Points, report.Point{X: points[k][0], Y: points[k][1]})
		}
		if step > 1 {
			c.Name += fmt.Sprintf(" (1 of %d)", step)
		}
		g.Curves = append(g.Curves, c)
		g.Ellipses = append(g.Ellipses, report.EllipseOf(set.Mean, set.Cov, 2, i))
	}
	s.Blocks = []report.Block{g}
	return s, nil
}

func histogramSection(ctx context.Context, dev *gpu.Device, ref, gen *fid.Stats, effects []float64, nearest []fid.Nearest) (report.Section, error) {
	s := report.Section{Title: "Single images"}
	var err error
	if effects == nil {
		if effects, err = fid.Effects(ref, gen); err != nil {
			return s, err
		}
	}
	if nearest == nil {
		if nearest, err = fid.NearestOn(ctx, dev, ref, gen); err != nil {
			return s, err
		}
	}
	e := report.Graph{Caption: "Effect of each generated image: by how much FID would fall without it", X: "effect", Y: "images"}
	e.Curves = []report.Curve{report.Histogram("generated", effects, histogramBins, slices.Min(effects), slices.Max(effects), 1)}
	var distances, reaches []float64
	top := 0.0
	for _, n := range nearest {
		distances = append(distances, n.Distance)
		top = max(top, n.Distance)
		if !math.IsInf(n.Reach, 0) {
			reaches = append(reaches, n.Reach)
			top = max(top, n.Reach)
		}
	}
	d := report.Graph{Caption: "Distance of each generated image to the nearest reference image, and of that one to its own nearest neighbour", X: "distance", Y: "images"}
	d.Curves = []report.Curve{
		report.Histogram("that reference image", reaches, histogramBins, 0, top, 0),
		report.Histogram("generated", distances, histogramBins, 0, top, 1),
	}
	for _, g := range []*report.Graph{&e, &d} {
		g.Data = histogramTable(g)
	}
	s.Blocks = []report.Block{e, d}
	return s, nil
}

// histogramTable is the numbers of a graph's histograms, which have the same bins.
func histogramTable(g *report.Graph) *report.Table {
	t := &report.Table{Caption: g.Caption, Columns: report.Columns("from>", "to>")}
	for _, c := range g.Curves {
		t.Columns = append(t.Columns, report.Column{Title: c.Name, Right: true})
	}
	for i := range histogramBins {
		at := g.Curves[0].Points
		row := []string{fmt.Sprintf("%.4g", at[i].X), fmt.Sprintf("%.4g", at[i+1].X)}
		for _, c := range g.Curves {
			row = append(row, fmt.Sprint(int(c.Points[i].Y)))
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}
