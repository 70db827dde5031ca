package survey

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/jpeg"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/internal/oracle"
)

// look surveys pictures in one batch.
func look(images ...*imageio.Image) *Survey {
	b := &imageio.Batch{Images: images}
	for i := range images {
		b.Names, b.Index = append(b.Names, fmt.Sprintf("%03d", i)), append(b.Index, i)
	}
	s := New()
	s.Look(b)
	return s
}

func reportOf(t *testing.T, s *Survey) *Report {
	t.Helper()
	r, err := s.Report(context.Background(), "set")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// draws are uniform numbers of a seed.
type draws struct {
	u []float32
	k int
}

func (d *draws) next() float64 { d.k++; return float64(d.u[d.k-1]) }

// leaves is a picture of discs that cover each other, whose radii have the
// distribution 1/r³ at all scales: its spectrum and edges are those of
// photographs (Ruderman 1997; Lee, Mumford and Huang 2001). It is drawn at twice
// the size and averaged, as a lens and a sensor do.
func leaves(seed uint64, w, h int) *imageio.Image {
	const fine = 2
	d := &draws{u: oracle.Uniform(seed, 4000, 0, 1)}
	W, H := fine*w, fine*h
	big := make([][3]float32, W*H)
	for i := range big {
		big[i] = [3]float32{128, 128, 128}
	}
	for range 400 {
		r := float64(min(W, H)) * 0.015 / math.Sqrt(1-d.next()*0.995)
		cx, cy := d.next()*float64(W), d.next()*float64(H)
		c := [3]float32{float32(255 * d.next()), float32(255 * d.next()), float32(255 * d.next())}
		slope := float32(0.3 * (d.next() - 0.5)) // light from a side
		for y := max(0, int(cy-r)); y < min(H, int(cy+r)+1); y++ {
			for x := max(0, int(cx-r)); x < min(W, int(cx+r)+1); x++ {
				if dx, dy := float64(x)-cx, float64(y)-cy; dx*dx+dy*dy < r*r {
					for k := range 3 {
						big[y*W+x][k] = c[k] + slope*float32(dx)
					}
				}
			}
		}
	}
	grain := oracle.Normal(seed+1, 3*w*h)
	m := &imageio.Image{Width: w, Height: h, Pix: make([]uint8, 3*w*h), Facts: imageio.Facts{Format: "png", Decoder: "drawn"}}
	for y := range h {
		for x := range w {
			for k := range 3 {
				sum := float32(0)
				for dy := range fine {
					for dx := range fine {
						sum += big[(fine*y+dy)*W+fine*x+dx][k]
					}
				}
				v := sum/(fine*fine) + 1.5*grain[3*(y*w+x)+k]
				m.Pix[3*(y*w+x)+k] = uint8(min(max(v+0.5, 0), 255))
			}
		}
	}
	return m
}

func resized(m *imageio.Image, f imageio.Filter, w, h int) *imageio.Image {
	return imageio.NewResizer(imageio.PILU8(f), w, h).U8(m)
}

// asJPEG writes the picture with Go's encoder and reads it again.
func asJPEG(t testing.TB, m *imageio.Image, quality int) *imageio.Image {
	t.Helper()
	im := image.NewRGBA(image.Rect(0, 0, m.Width, m.Height))
	for i := range m.Width * m.Height {
		copy(im.Pix[4*i:], m.Pix[3*i:][:3])
		im.Pix[4*i+3] = 255
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, im, &jpeg.Options{Quality: quality}); err != nil {
		t.Fatal(err)
	}
	out, err := imageio.Decode(b.Bytes(), imageio.DecodeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// The rule on pictures with the spectrum of photographs: as they are, reduced by several filters, out of focus, as JPEG; and enlarged.
func TestEnlarged(t *testing.T) {
	const n = 12
	var sharp, large []*imageio.Image
	for i := range n {
		sharp = append(sharp, leaves(uint64(100+10*i), 192, 160))
		large = append(large, leaves(uint64(5000+10*i), 300, 250))
	}
	share := func(name string, factor float64, of func(i int) *imageio.Image) (wrong, right int) {
		for i := range n {
			switch f := enlarged(luma(of(i))); {
			case f == factor && factor > 0:
				right++
			case f > 0:
				wrong++
			}
		}
		t.Logf("%-28s %2d of %d found, %d called otherwise", name, right, n, wrong)
		return wrong, right
	}
	filters := []imageio.Filter{imageio.Nearest, imageio.Bilinear, imageio.Bicubic, imageio.Lanczos}
	wrong, natural := 0, 0
	count := func(name string, of func(i int) *imageio.Image) {
		w, _ := share(name, 0, of)
		wrong, natural = wrong+w, natural+n
	}
	count("as they are", func(i int) *imageio.Image { return sharp[i] })
	for _, f := range filters[1:] {
		count(fmt.Sprint("reduced, ", f), func(i int) *imageio.Image { return resized(large[i], f, 192, 160) })
		count(fmt.Sprint("reduced by 1.3, ", f), func(i int) *imageio.Image { return resized(large[i], f, 230, 192) })
	}
	for _, q := range []int{95, 75, 50} {
		count(fmt.Sprint("JPEG ", q), func(i int) *imageio.Image { return asJPEG(t, sharp[i], q) })
	}
	t.Logf("false alarms: %d of %d", wrong, natural)
	if 100*wrong > 2*natural {
		t.Errorf("%d of %d pictures that nobody enlarged are called so; at most 2 in 100", wrong, natural)
	}
	for _, f := range filters {
		if _, right := share(fmt.Sprint("2×, ", f), 2, func(i int) *imageio.Image { return resized(sharp[i], f, 384, 320) }); right < n-1 {
			t.Errorf("2×, %v: %d of %d found", f, right, n)
		}
		if _, right := share(fmt.Sprint("1.5×, ", f), 1.5, func(i int) *imageio.Image { return resized(sharp[i], f, 288, 240) }); right < n-2 {
			t.Errorf("1.5×, %v: %d of %d found", f, right, n)
		}
		if f != imageio.Nearest {
			if _, right := share(fmt.Sprint("2×, then JPEG 90, ", f), 2, func(i int) *imageio.Image { return asJPEG(t, resized(sharp[i], f, 384, 320), 90) }); right < n-2 && f != imageio.Lanczos { // whose pattern is faint: JPEG hides it
				t.Errorf("2× and JPEG 90, %v: %d of %d found", f, right, n)
			}
		}
	}
	for name, m := range map[string]*imageio.Image{"small": leaves(1, 47, 200), "smooth": {Width: 64, Height: 64, Pix: bytes.Repeat([]byte{90}, 3*64*64)}} {
		if f := enlarged(luma(m)); f != -1 {
			t.Errorf("%s: %g; want -1, it cannot be told", name, f)
		}
	}
}

// A slow change of brightness is no enlargement, nor is noise.
func TestEnlargedLeavesOthersAlone(t *testing.T) {
	noise := oracle.Uniform(3, 3*128*128, 0, 255)
	m := &imageio.Image{Width: 128, Height: 128, Pix: make([]uint8, 3*128*128)}
	for i := range m.Pix {
		m.Pix[i] = uint8(noise[i])
	}
	if f := enlarged(luma(m)); f > 0 {
		t.Errorf("noise: %g", f)
	}
}

// TestGoldenHash: the bits of the Python package imagehash.
func TestGoldenHash(t *testing.T) {
	var set struct {
		Cases []struct{ File, PHash string }
	}
	oracle.GoldenJSON(t, &set, "facts", "cases.json")
	n := 0
	for _, c := range set.Cases {
		b, err := os.ReadFile(oracle.Golden(t, "facts", c.File))
		if err != nil {
			t.Fatal(err)
		}
		m, err := imageio.Decode(b, imageio.DecodeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		hash, _ := New().perceptual(luma(m))
		if got := fmt.Sprintf("%016x", hash); got != c.PHash && !(m.Facts.Lossy && m.Facts.Decoder == "image/jpeg") {
			t.Errorf("%s: %s, imagehash has %s", c.File, got, c.PHash)
		}
		n++
	}
	if n != 9 {
		t.Errorf("%d cases, want 9", n)
	}
}

func TestCopies(t *testing.T) {
	a, b := leaves(1, 96, 80), leaves(20, 96, 80)
	brighter := &imageio.Image{Width: a.Width, Height: a.Height, Pix: bytes.Clone(a.Pix)}
	for i, v := range brighter.Pix {
		brighter.Pix[i] = uint8(min(255, 12+int(v)*9/10))
	}
	same := &imageio.Image{Width: b.Width, Height: b.Height, Pix: bytes.Clone(b.Pix), Facts: imageio.Facts{Format: "bmp"}}
	s := look(a, b, asJPEG(t, a, 60), same, resized(a, imageio.Bilinear, 60, 50), brighter)
	r := reportOf(t, s)
	if fmt.Sprint(r.CopyGroups, r.NearGroups) != "[[001 003]] [[000 002 004 005]]" || r.Copies != 1 || r.Near != 3 {
		t.Errorf("copies %v, near %v", r.CopyGroups, r.NearGroups)
	}
	shared, err := Compare(context.Background(), look(b, leaves(40, 96, 80)), s)
	if err != nil || fmt.Sprint(shared) != "[{001 000 true} {003 000 true}]" {
		t.Errorf("shared: %v, %v", shared, err)
	}
	shared, err = Compare(context.Background(), look(leaves(30, 96, 80), a), look(brighter))
	if err != nil || fmt.Sprint(shared) != "[{000 001 false}]" {
		t.Errorf("shared: %v, %v", shared, err)
	}
}

// Of 150 pictures that differ none looks like another.
func TestDifferentPicturesAreNoCopies(t *testing.T) {
	var all []*imageio.Image
	for i := range 150 {
		all = append(all, leaves(uint64(7000+10*i), 64, 64))
	}
	if r := reportOf(t, look(all...)); r.Near > 0 || r.Copies > 0 {
		t.Errorf("%d copies, %d near: %v", r.Copies, r.Near, r.NearGroups)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := look(all[:3]...).Report(ctx, "x"); err == nil {
		t.Error("no error after the end of the context")
	}
}

func TestEmptyPictures(t *testing.T) {
	filled := func(v uint8, dots int) *imageio.Image {
		m := &imageio.Image{Width: 50, Height: 40, Pix: bytes.Repeat([]byte{v}, 3*50*40)}
		for i := range dots {
			copy(m.Pix[3*(13*i):], []byte{128, 128, 128})
		}
		return m
	}
	r := reportOf(t, look(filled(3, 0), filled(250, 0), filled(90, 0), filled(3, 15), filled(3, 60), leaves(1, 50, 40)))
	if fmt.Sprint(r.Black, r.White, r.Flat) != "[000 003] [001] [002]" {
		t.Errorf("black %v, white %v, flat %v", r.Black, r.White, r.Flat)
	}
	if r.Near != 0 {
		t.Errorf("empty pictures are called near copies: %v", r.NearGroups)
	}
}

// Batches come in any order and from several workers.
func TestReportIsInTheOrderOfTheSet(t *testing.T) {
	s, a := New(), leaves(1, 50, 40)
	for _, i := range []int{2, 0, 1} {
		s.Look(&imageio.Batch{Images: []*imageio.Image{a}, Names: []string{fmt.Sprint("p", i)}, Index: []int{i}})
	}
	if r := reportOf(t, s); fmt.Sprint(r.CopyGroups) != "[[p0 p1 p2]]" || r.Images != 3 || r.Sizes[0] != (Count{"50×40", 3}) {
		t.Errorf("%v, %v", r.CopyGroups, r.Sizes)
	}
}

func TestAdvise(t *testing.T) {
	base := func() *Report {
		return &Report{Images: 100, Judged: 100, Sizes: []Count{{"256×256", 100}}, Sampling: []Count{}, Decoders: []Count{{"fidlab", 100}}}
	}
	jpegs := func(q int, sampling string) *Report {
		r := base()
		r.Lossy, r.MedianQ, r.Sampling = 100, q, []Count{{sampling, 100}}
		return r
	}
	with := func(change func(r *Report)) *Report { r := base(); change(r); return r }
	for name, c := range map[string]struct {
		ref, gen *Report
		want     string // "" for none
		first    bool
	}{
		"alike":            {base(), base(), "", false},
		"JPEG against PNG": {base(), jpegs(75, "4:2:0"), "JPEG quality 75", true},
		"PNG against JPEG": {jpegs(75, "4:2:0"), base(), "JPEG quality 75", true},
		"qualities":        {jpegs(75, "4:2:0"), jpegs(92, "4:2:0"), "75 in the reference, 92 in the generated set", true},
		"near qualities":   {jpegs(90, "4:2:0"), jpegs(92, "4:2:0"), "", false},
		"samplings":        {jpegs(90, "4:2:0"), jpegs(90, "4:4:4"), "4:2:0 in the reference, 4:4:4", false},
		"sizes":            {base(), with(func(r *Report) { r.Sizes = []Count{{"64×64", 100}} }), "256×256 in the reference, 64×64", true},
		"gray":             {base(), with(func(r *Report) { r.Gray = 100 }), "gray files: 0 % of the reference, 100 %", true},
		"alpha":            {base(), with(func(r *Report) { r.Alpha = 30 }), "transparency: 0 % of the reference, 30 %", true},
		"turned":           {with(func(r *Report) { r.Turned = []Count{{"6", 2}} }), base(), "EXIF orientations: 2 %", true},
		"profiles":         {with(func(r *Report) { r.ICC = 90 }), base(), "colour profiles: 90 %", false},
		"copies":           {base(), with(func(r *Report) { r.Copies = 20 }), "generated: 20 % of the images repeat", true},
		"black":            {base(), with(func(r *Report) { r.Black = []string{"a"} }), "generated: 1 images are black", true},
		"enlarged":         {base(), with(func(r *Report) { r.Enlarged = []Count{{"2×", 70}} }), "look enlarged: 0 % of the reference, 70 %", true},
	} {
		got := Advise(c.ref, c.gen, nil)
		switch {
		case c.want == "" && len(got) > 0:
			t.Errorf("%s: %v; want none", name, got)
		case c.want != "" && (len(got) != 1 || !strings.Contains(got[0].What, c.want) || got[0].Weak == c.first || got[0].Do == "" || got[0].Effect == ""):
			t.Errorf("%s: %v; want one with %q", name, got, c.want)
		}
	}
	got := Advise(base(), jpegs(75, "4:2:0"), []Shared{{"a", "b", true}, {"c", "d", false}, {"e", "f", false}})
	if len(got) != 3 || !strings.Contains(got[0].What, "1 generated images have the pixels") || !got[2].Weak {
		t.Errorf("%v", got)
	}
}
