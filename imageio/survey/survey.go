// Package survey looks at the pictures of a set as files, without any network:
// formats, sizes, colours, JPEG quality, copies, empty pictures, enlarged ones.
// These move the Fréchet distance of two sets although no generator is to blame.
//
// A Survey takes decoded batches as they come, from any number of workers, and
// keeps a few hundred bytes of each picture. Report says what it came to,
// Compare what two sets share, and Advise what of it shifts a score:
//
//	s := survey.New()
//	_, err := imageio.Batches(ctx, src, imageio.BatchOptions{}, func(w *cpu.Worker, b *imageio.Batch) error {
//		s.Look(b)
//		return nil
//	})
//	r, err := s.Report(ctx, "out/")
package survey

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/fidlab/fidlab/imageio"
)

// Survey gathers what is seen of a set. Look may be called from several
// goroutines at once; Report and Compare only after the last Look.
type Survey struct {
	mu     sync.Mutex
	seen   []picture
	sorted bool
	small  *imageio.Resizer
}

// picture is what is kept of one.
type picture struct {
	index  int
	name   string
	facts  imageio.Facts
	width  int
	height int
	sum    [sha256.Size]byte // of size and pixels
	hash   uint64            // perceptual
	thumb  [thumbSide * thumbSide]uint8
	tone   tone
	factor float64 // enlarged by; 0 for not, -1 where it cannot be told
}

// New is an empty survey.
func New() *Survey {
	return &Survey{small: imageio.NewResizer(imageio.PILU8(imageio.Lanczos).Pillow13(), hashSide, hashSide)}
}

// Look takes a decoded batch; it keeps none of its memory.
func (s *Survey) Look(b *imageio.Batch) {
	found := make([]picture, len(b.Images))
	for i, m := range b.Images {
		found[i] = s.picture(m)
		found[i].index, found[i].name = b.Index[i], b.Names[i]
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen, s.sorted = append(s.seen, found...), false
}

func (s *Survey) picture(m *imageio.Image) picture {
	p := picture{facts: m.Facts, width: m.Width, height: m.Height, sum: m.Sum()}
	gray := luma(m)
	p.tone = toneOf(gray.pix)
	p.hash, p.thumb = s.perceptual(gray)
	p.factor = enlarged(gray)
	return p
}

// plane is a gray picture.
type plane struct {
	w, h int
	pix  []uint8
}

// luma is Pillow's convert("L"): ITU-R 601 in 16-bit fixed point.
func luma(m *imageio.Image) *plane {
	p := &plane{m.Width, m.Height, make([]uint8, m.Width*m.Height)}
	for i := range p.pix {
		q := m.Pix[3*i:][:3]
		p.pix[i] = uint8((19595*uint32(q[0]) + 38470*uint32(q[1]) + 7471*uint32(q[2]) + 1<<15) >> 16)
	}
	return p
}

// tone says whether there is anything on a picture.
type tone uint8

const (
	plain tone = iota
	black      // 99 of 100 pixels are below 16
	white      // 99 of 100 are above 239
	flat       // 98 of 100 lie within 6 levels
)

func toneOf(pix []uint8) tone {
	var count [256]int
	for _, v := range pix {
		count[v]++
	}
	at := func(share float64) int { // the least level with that share at or below it
		left := share * float64(len(pix))
		for v, n := range count {
			if left -= float64(n); left <= 0 {
				return v
			}
		}
		return 255
	}
	low, high := at(0.01), at(0.99)
	switch {
	case high < 16:
		return black
	case low > 239:
		return white
	case high-low <= 6:
		return flat
	}
	return plain
}

// Count is how many pictures have something in common.
type Count struct {
	Name string `json:"name"`
	N    int    `json:"n"`
}

// Group is pictures that are alike, in the order of the set.
type Group []string

// Report is what a set came to.
type Report struct {
	Name       string  `json:"name"`
	Images     int     `json:"images"`
	Formats    []Count `json:"formats"` // the commonest first, as all lists of Counts
	Modes      []Count `json:"modes"`   // RGB, gray, palette, CMYK; with alpha, with 16 bits
	Sizes      []Count `json:"sizes"`   // width×height
	Decoders   []Count `json:"decoders"`
	Bytes      int     `json:"median_bytes"` // of the encoded files; 0 without any
	Lossy      int     `json:"lossy"`
	Quality    []Count `json:"jpeg_quality"`    // ~ before it where the tables are not libjpeg's
	MedianQ    int     `json:"jpeg_quality_50"` // the median; 0 without JPEGs
	Sampling   []Count `json:"jpeg_sampling"`
	Alpha      int     `json:"alpha"`
	Deep       int     `json:"deep"`
	Gray       int     `json:"gray"`
	Turned     []Count `json:"exif_orientation"` // other than upright
	ICC        int     `json:"icc"`
	Copies     int     `json:"copies"` // pictures with the pixels of one before them
	CopyGroups []Group `json:"copy_groups"`
	Near       int     `json:"near_copies"` // pictures that look like one before them and are not equal to it
	NearGroups []Group `json:"near_groups"`
	Black      []string
	White      []string
	Flat       []string
	Enlarged   []Count  `json:"enlarged"` // by their factor
	EnlargedOf []string `json:"enlarged_images"`
	Judged     int      `json:"enlarged_judged"` // pictures of which it could be told
}

// Report sums up. It compares all pictures with each other for near copies, 64 bits each.
func (s *Survey) Report(ctx context.Context, name string) (*Report, error) {
	s.sort()
	r := &Report{Name: name, Images: len(s.seen)}
	var formats, modes, sizes, decoders, quality, sampling, turned, factors = counter{}, counter{}, counter{}, counter{}, counter{}, counter{}, counter{}, counter{}
	var bytes, qualities []int
	for i := range s.seen {
		p := &s.seen[i]
		f := &p.facts
		formats[f.Format]++
		modes[mode(f)]++
		sizes[fmt.Sprintf("%d×%d", p.width, p.height)]++
		decoders[f.Decoder]++
		if f.Bytes > 0 {
			bytes = append(bytes, f.Bytes)
		}
		r.Lossy += one(f.Lossy)
		r.Alpha += one(f.Alpha)
		r.Deep += one(f.Deep)
		r.Gray += one(f.Gray)
		r.ICC += one(f.ICC)
		if f.Quality > 0 {
			about := ""
			if f.OwnTables {
				about = "~"
			}
			quality[fmt.Sprint(about, f.Quality)]++
			qualities = append(qualities, f.Quality)
		}
		if f.Sampling != "" {
			sampling[f.Sampling]++
		}
		if f.Orientation > 1 {
			turned[fmt.Sprint(f.Orientation)]++
		}
		switch p.tone {
		case black:
			r.Black = append(r.Black, p.name)
		case white:
			r.White = append(r.White, p.name)
		case flat:
			r.Flat = append(r.Flat, p.name)
		}
		if p.factor >= 0 {
			r.Judged++
		}
		if p.factor > 0 {
			factors[fmt.Sprintf("%g×", p.factor)]++
			r.EnlargedOf = append(r.EnlargedOf, p.name)
		}
	}
	r.Formats, r.Modes, r.Sizes, r.Decoders, r.Quality, r.Sampling, r.Turned, r.Enlarged = formats.list(), modes.list(), sizes.list(), decoders.list(), quality.list(), sampling.list(), turned.list(), factors.list()
	r.Bytes, r.MedianQ = median(bytes), median(qualities)
	return r, s.copies(ctx, r)
}

func (s *Survey) sort() {
	if !s.sorted {
		slices.SortFunc(s.seen, func(a, b picture) int { return cmp.Compare(a.index, b.index) })
		s.sorted = true
	}
}

func mode(f *imageio.Facts) string {
	m := "RGB"
	switch {
	case f.CMYK:
		m = "CMYK"
	case f.Palette:
		m = "palette"
	case f.Gray:
		m = "gray"
	}
	if f.Deep {
		m += ", 16 bits"
	}
	if f.Alpha {
		m += ", alpha"
	}
	return m
}

func one(b bool) int {
	if b {
		return 1
	}
	return 0
}

func median(v []int) int {
	if len(v) == 0 {
		return 0
	}
	slices.Sort(v)
	return v[(len(v)-1)/2]
}

// counter counts by name.
type counter map[string]int

// list is the commonest first; names in order among equals.
func (c counter) list() []Count {
	out := []Count{}
	for _, name := range slices.Sorted(maps.Keys(c)) {
		out = append(out, Count{name, c[name]})
	}
	slices.SortStableFunc(out, func(a, b Count) int { return cmp.Compare(b.N, a.N) })
	return out
}
