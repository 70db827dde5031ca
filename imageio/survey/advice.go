package survey

import (
	"fmt"
	"math"
	"strings"
)

// Advice is one thing about two sets that moves their distance without any generator's doing.
type Advice struct {
	What   string `json:"what"`   // what was found
	Effect string `json:"effect"` // what it does to a distance such as FID
	Do     string `json:"do"`
	Weak   bool   `json:"weak"` // it matters little, or only perhaps
}

// share is n of all as a fraction.
func share(n, all int) float64 {
	if all == 0 {
		return 0
	}
	return float64(n) / float64(all)
}

// differ tells whether two shares differ by more than a twentieth.
func differ(a, b float64) bool { return math.Abs(a-b) > 0.05 }

// Advise says what of two reports shifts their distance, and how; the gravest first.
func Advise(ref, gen *Report, shared []Shared) []Advice {
	var out []Advice
	add := func(weak bool, what, effect, do string) { out = append(out, Advice{what, effect, do, weak}) }
	both := func(text string, n func(r *Report) int) string {
		return fmt.Sprintf("%s: %s of the reference, %s of the generated", text, percent(n(ref), ref.Images), percent(n(gen), gen.Images))
	}
	exact := 0
	for _, s := range shared {
		exact += one(s.Exact)
	}
	if exact > 0 {
		add(false, fmt.Sprintf("%d generated images have the pixels of a reference image", exact), "lowers the distance: copies are as near as can be",
			"compare with images that the generator has not seen, or take the copies out")
	}
	if near := len(shared) - exact; share(near, gen.Images) > 0.01 {
		add(true, fmt.Sprintf("%d generated images look like a reference image without being equal to it", near), "lowers the distance where they are copies",
			"look at them: copies of training images are no new images")
	}
	lossy := func(r *Report) int { return r.Lossy }
	switch {
	case differ(share(ref.Lossy, ref.Images), share(gen.Lossy, gen.Images)):
		q, do := gen.MedianQ, "save the generated images as PNG, or what else loses nothing"
		if share(ref.Lossy, ref.Images) > share(gen.Lossy, gen.Images) {
			q, do = ref.MedianQ, "take the reference without loss; where it cannot be had, store the generated images with its quality and sampling, and say so"
		}
		add(false, both("lossy files", lossy)+qualityText(q), "raises the distance, the more the lower the quality: networks see the blocks and the missing fine detail of JPEG",
			do)
	case ref.MedianQ > 0 && gen.MedianQ > 0 && abs(ref.MedianQ-gen.MedianQ) > 3:
		add(false, fmt.Sprintf("JPEG quality: %d in the reference, %d in the generated set (medians)", ref.MedianQ, gen.MedianQ),
			"raises the distance; a reference of low quality even prefers images of that quality to better ones", "store both with one quality, or the generated images without loss and say so")
	case ref.MedianQ > 0 && gen.MedianQ > 0 && top(ref.Sampling) != top(gen.Sampling):
		add(true, fmt.Sprintf("JPEG colour sampling: %s in the reference, %s in the generated set", top(ref.Sampling), top(gen.Sampling)), "raises the distance a little: colours are blurred in one set",
			"store both alike")
	}
	if differ(share(sum(ref.Enlarged), ref.Judged), share(sum(gen.Enlarged), gen.Judged)) {
		add(false, fmt.Sprintf("images that look enlarged: %s of the reference, %s of the generated, of those of which it can be told", percent(sum(ref.Enlarged), ref.Judged), percent(sum(gen.Enlarged), gen.Judged)),
			"raises the distance: fine detail is missing in one set", "generate at the reference's size, or reduce the reference to the size that the generator makes")
	}
	if a, b := top(ref.Sizes), top(gen.Sizes); a != b && len(ref.Sizes) > 0 && len(gen.Sizes) > 0 {
		add(false, fmt.Sprintf("sizes: mostly %s in the reference, %s in the generated set", a, b), "raises the distance: each side is resized to the network's size from another one, so sharpness and aliasing differ",
			"resize the reference once, with an antialiasing filter, to the size of the generated images; name the filter in the paper")
	} else if len(ref.Sizes) > 1 || len(gen.Sizes) > 1 {
		add(true, "sizes differ within a set", "images are squashed to a square: other proportions are another look", "crop both sets in the same way")
	}
	gray := func(r *Report) int { return r.Gray }
	if differ(share(ref.Gray, ref.Images), share(gen.Gray, gen.Images)) {
		add(false, both("gray files", gray), "raises the distance: colour is a difference like any other", "make both sets gray, or both colour")
	}
	for _, k := range []struct {
		name, effect, do string
		n                func(r *Report) int
	}{
		{"transparency", "raises the distance: what lies below transparent pixels is seen, and is often black or noise", "composite both on one background before", func(r *Report) int { return r.Alpha }},
		{"16-bit files", "shifts the distance little: the low byte is cut off", "store 8 bits, rounded", func(r *Report) int { return r.Deep }},
		{"CMYK or palettes", "raises the distance: colours are converted or were reduced", "store RGB", func(r *Report) int { return modesWith(r, "CMYK") + modesWith(r, "palette") }},
		{"EXIF orientations", "raises the distance: the files are read as they lie, some on their side", "turn the pixels once", func(r *Report) int { return sum(r.Turned) }},
		{"colour profiles", "shifts the distance little: profiles are ignored, so colours of a wide gamut look pale", "convert to sRGB", func(r *Report) int { return r.ICC }},
	} {
		if a, b := k.n(ref), k.n(gen); a+b > 0 && (differ(share(a, ref.Images), share(b, gen.Images)) || k.name == "EXIF orientations") {
			add(strings.HasPrefix(k.effect, "shifts the distance little"), both(k.name, k.n), k.effect, k.do)
		}
	}
	for i, r := range []*Report{ref, gen} {
		side := [2]string{"reference", "generated"}[i]
		if share(r.Copies, r.Images) > 0.01 {
			add(false, fmt.Sprintf("%s: %s of the images repeat the pixels of another", side, percent(r.Copies, r.Images)),
				"moves the distance: the set has fewer images than it seems, and weighs those more; intervals come out too narrow", "take the copies out")
		}
		if empty := len(r.Black) + len(r.White) + len(r.Flat); empty > 0 && share(empty, r.Images) > 0.002 {
			add(false, fmt.Sprintf("%s: %d images are black, white or of one colour", side, empty), "raises the distance: they lie far from all others", "find out why; failed samples belong into the figure, failed downloads do not")
		}
	}
	if a, b := top(ref.Decoders), top(gen.Decoders); ref.Lossy > 0 && gen.Lossy > 0 && a != b {
		add(true, fmt.Sprintf("decoders: %s and %s", a, b), "shifts the distance little: they differ by up to 3 levels", "read both sets on one machine")
	}
	strong := func(a Advice) bool { return !a.Weak }
	return append(filter(out, strong), filter(out, func(a Advice) bool { return a.Weak })...)
}

func filter(all []Advice, keep func(Advice) bool) []Advice {
	var out []Advice
	for _, a := range all {
		if keep(a) {
			out = append(out, a)
		}
	}
	return out
}

func qualityText(q int) string {
	if q == 0 {
		return ""
	}
	return fmt.Sprintf(" (JPEG quality %d)", q)
}

func percent(n, all int) string {
	switch p := 100 * share(n, all); {
	case n > 0 && p < 0.1:
		return "less than 0.1 %"
	case p == math.Trunc(p):
		return fmt.Sprintf("%.0f %%", p)
	default:
		return fmt.Sprintf("%.1f %%", p)
	}
}

func abs(v int) int { return max(v, -v) }

func sum(list []Count) (n int) {
	for _, c := range list {
		n += c.N
	}
	return n
}

func top(list []Count) string {
	if len(list) == 0 {
		return ""
	}
	return list[0].Name
}

func modesWith(r *Report, word string) (n int) {
	for _, c := range r.Modes {
		if strings.HasPrefix(c.Name, word) {
			n += c.N
		}
	}
	return n
}
