package imageio

import (
	"fmt"
	"slices"
)

// Summary counts what decoding a source came across.
type Summary struct {
	Images   int // decoded
	Gray     int
	Alpha    int
	Palette  int
	Deep     int // more than 8 bits a sample
	CMYK     int
	Rotated  int // EXIF asks for a rotation
	Lossy    int
	Formats  map[string]int
	Decoders map[string]int

	MinWidth, MaxWidth, MinHeight, MaxHeight int

	Found Found // by opening the source; empty where it can't tell
	Bad   []Bad // found bad by opening, then by decoding, in the order of the source
}

func (s *Summary) add(m *Image) {
	one := Summary{
		Images: 1, MinWidth: m.Width, MaxWidth: m.Width, MinHeight: m.Height, MaxHeight: m.Height,
		Gray: b2i(m.Facts.Gray), Alpha: b2i(m.Facts.Alpha), Palette: b2i(m.Facts.Palette), Deep: b2i(m.Facts.Deep),
		CMYK: b2i(m.Facts.CMYK), Rotated: b2i(m.Facts.Rotated), Lossy: b2i(m.Facts.Lossy),
	}
	s.merge(&one)
	if s.Formats == nil {
		s.Formats, s.Decoders = map[string]int{}, map[string]int{}
	}
	s.Formats[m.Facts.Format]++
	s.Decoders[m.Facts.Decoder]++
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// merge adds what another part of the same source came to.
func (s *Summary) merge(t *Summary) {
	if t.Images == 0 {
		return
	}
	if s.Images == 0 {
		s.MinWidth, s.MinHeight = t.MinWidth, t.MinHeight
	}
	s.MinWidth, s.MaxWidth = min(s.MinWidth, t.MinWidth), max(s.MaxWidth, t.MaxWidth)
	s.MinHeight, s.MaxHeight = min(s.MinHeight, t.MinHeight), max(s.MaxHeight, t.MaxHeight)
	s.Images += t.Images
	s.Gray += t.Gray
	s.Alpha += t.Alpha
	s.Palette += t.Palette
	s.Deep += t.Deep
	s.CMYK += t.CMYK
	s.Rotated += t.Rotated
	s.Lossy += t.Lossy
	if s.Formats == nil {
		s.Formats, s.Decoders = map[string]int{}, map[string]int{}
	}
	for k, n := range t.Formats {
		s.Formats[k] += n
	}
	for k, n := range t.Decoders {
		s.Decoders[k] += n
	}
}

// Mixed tells whether the pictures have more than one size.
func (s *Summary) Mixed() bool { return s.MinWidth != s.MaxWidth || s.MinHeight != s.MaxHeight }

// Notes says in sentences what a reader of a score should know of the
// pictures: conversions, mixed sizes, what was left out. Plain 8-bit RGB
// pictures of one size give none.
func (s *Summary) Notes() []string {
	var notes []string
	add := func(n int, one, many string) {
		if n > 0 {
			notes = append(notes, plural(n, one, many))
		}
	}
	add(s.Gray, "image is gray: its channel is repeated", "images are gray: their channel is repeated")
	add(s.Alpha, "image has alpha, which is dropped without compositing", "images have alpha, which is dropped without compositing")
	add(s.Palette, "image has a palette, which is expanded", "images have a palette, which is expanded")
	add(s.Deep, "image has more than 8 bits a sample: the high byte is used", "images have more than 8 bits a sample: the high byte is used")
	add(s.CMYK, "image is CMYK, converted as Pillow does", "images are CMYK, converted as Pillow does")
	add(s.Rotated, "image has an EXIF rotation", "images have an EXIF rotation")
	if s.Lossy > 0 && s.Lossy < s.Images {
		notes = append(notes, fmt.Sprintf("%d of %d images are lossy (JPEG, WebP): mixing shifts scores", s.Lossy, s.Images))
	}
	if s.Mixed() {
		notes = append(notes, fmt.Sprintf("sizes differ: %dx%d to %dx%d", s.MinWidth, s.MinHeight, s.MaxWidth, s.MaxHeight))
	}
	add(s.Found.Misnamed, "image's extension names another format; content is believed", "images' extensions name another format; content is believed")
	add(len(s.Bad), "bad image is left out", "bad images are left out")
	f := s.Found
	f.Bad = nil
	if n := f.count(); n > 0 {
		notes = append(notes, plural(n, "file is skipped: ", "files are skipped: ")+f.skipped())
	}
	return notes
}

// DecoderNames lists the decoders that were used, sorted, for provenance.
func (s *Summary) DecoderNames() []string {
	var names []string
	for n := range s.Decoders {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}
