package survey

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/dsp/fourier"
)

// What a picture must be for its spectrum to tell whether it was enlarged.
const (
	leastSide = 48  // pixels, both ways
	mostLines = 64  // rows, and columns, whose spectra are averaged
	leastBand = 20. // power of the lower band over that of rounding to 8 bits
)

// The bounds of the rule, from measurements on photographs, their reductions and enlargements by Pillow's filters; see docs/scoring.md
// for what it hits and misses. fall is the power above the cut over that below, of differences; beat the strength of the pattern.
const (
	fallTwo, beatTwo     = 0.16, 2.0
	fallThree, beatThree = 0.33, 1.7 // of 3:2
	steepTwo, steepThree = 0.045, 0.055
	beatBlocks           = 6 // pixels repeated: nothing falls
)

// enlarged is the factor, 2 or 1.5, by which a picture seems to have been enlarged; 0 for none, -1 where it cannot be told.
//
// Nothing finer than the pixels it was made of can be on an enlarged picture: the power of its rows and columns, of differences so that
// photographs have about the same everywhere, falls off above the cut at 1/(2·factor) of the sampling. A lens out of focus does so too,
// if less abruptly. But interpolated pixels also differ from their neighbours by turns more and less, with the period of the enlargement
// (Gallagher 2005, "Detection of linear and cubic interpolation in JPEG compressed images", who looks at second differences; of first
// ones the pattern of the factor 2 is there as well). Both together decide, or a fall that no lens makes.
func enlarged(g *plane) float64 {
	if g.w < leastSide || g.h < leastSide {
		return -1
	}
	var two, three [2]evidence
	for i, lines := range [2]lines{{g.pix, g.w, g.h, 1, g.w}, {g.pix, g.h, g.w, g.w, 1}} {
		p := lines.power()
		if bandMean(p, 0.13, 0.22) < leastBand/12 { // rounding has a power of 1/12
			return -1
		}
		d := newBeats(&lines)
		three[i] = evidence{whitened(p, 0.37, 0.47) / whitened(p, 0.20, 0.29), d.at(1.0 / 3)}
		d.withoutBlocks()
		two[i] = evidence{whitened(p, 0.29, 0.42) / whitened(p, 0.13, 0.22), d.at(0.5) / math.Sqrt2}
	}
	a, b := both(two), both(three)
	switch {
	case a.fall < steepTwo, a.fall < fallTwo && a.beat > beatTwo, a.beat > beatBlocks:
		return 2
	case b.fall < steepThree, b.fall < fallThree && b.beat > beatThree, b.beat > beatBlocks:
		return 1.5
	}
	return 0
}

// evidence is what speaks for one factor.
type evidence struct{ fall, beat float64 }

// both joins the evidence of rows and columns: the mean fall, and the weaker pattern.
func both(e [2]evidence) evidence {
	return evidence{math.Sqrt(e[0].fall * e[1].fall), min(e[0].beat, e[1].beat)}
}

// lines are the rows of a picture, or its columns: count of them, of n values each.
type lines struct {
	pix         []uint8
	n, count    int
	along, next int // steps in pix
}

// power is the power of the lines by frequency, 0 to n/2, averaged: 1/12 where there is nothing but rounding.
func (l *lines) power() []float64 {
	fft := fourier.NewFFT(l.n)
	out := make([]float64, l.n/2+1)
	window, energy := make([]float64, l.n), 0.0
	for i := range window {
		window[i] = 0.5 - 0.5*math.Cos(2*math.Pi*float64(i+1)/float64(l.n+1))
		energy += window[i] * window[i]
	}
	x, c := make([]float64, l.n), make([]complex128, l.n/2+1)
	used := min(l.count, mostLines)
	for k := range used {
		row, mean := k*l.count/used*l.next, 0.0
		for i := range x {
			x[i] = float64(l.pix[row+i*l.along])
			mean += x[i] / float64(l.n)
		}
		for i := range x {
			x[i] = (x[i] - mean) * window[i]
		}
		for i, z := range fft.Coefficients(c, x) {
			out[i] += (real(z)*real(z) + imag(z)*imag(z)) / (energy * float64(used))
		}
	}
	return out
}

// bandMean is the mean power between two frequencies, in parts of the sampling.
func bandMean(p []float64, lo, hi float64) float64 {
	return band(p, lo, hi, func(float64) float64 { return 1 })
}

// whitened is the mean power of differences in a band, less that of rounding.
func whitened(p []float64, lo, hi float64) float64 {
	q := make([]float64, len(p))
	for i, v := range p {
		q[i] = max(v-1.0/12, 0)
	}
	return max(band(q, lo, hi, func(f float64) float64 { return math.Pow(math.Sin(math.Pi*f), 2) }), 1e-9)
}

func band(p []float64, lo, hi float64, weight func(f float64) float64) float64 {
	sum, n := 0.0, 0
	for i, v := range p {
		if f := 0.5 * float64(i) / float64(len(p)-1); lo <= f && f <= hi {
			sum += v * weight(f)
			n++
		}
	}
	return sum / float64(n)
}

// beats are the strengths of patterns in how much neighbours along the lines differ.
type beats struct {
	d      []float64 // mean differences by place, less those of the places around
	middle float64   // the median strength
}

func newBeats(l *lines) *beats {
	d := make([]float64, l.n-1)
	for k := range l.count {
		row := k * l.next
		for i := range d {
			at := row + i*l.along
			d[i] += math.Abs(float64(l.pix[at+l.along]) - float64(l.pix[at]))
		}
	}
	const around = 6
	b := &beats{d: make([]float64, len(d))}
	for i := range d {
		mean := 0.0
		for j := i - around; j <= i+around; j++ {
			mean += d[min(max(j, 0), len(d)-1)] / (2*around + 1)
		}
		b.d[i] = (d[i] - mean) / float64(l.count)
	}
	c := fourier.NewFFT(len(d)).Coefficients(nil, b.d)
	var all []float64
	for _, z := range c[len(d)/10:] {
		all = append(all, math.Hypot(real(z), imag(z)))
	}
	slices.Sort(all)
	b.middle = all[len(all)/2] + 1e-9
	return b
}

// withoutBlocks takes the edges of JPEG's blocks of 8 out, whose pattern is at half of the sampling too: the places of the greatest
// differences become like those two before and after, which keeps a pattern of period 2.
func (b *beats) withoutBlocks() {
	var sums [8]float64
	for i, v := range b.d {
		sums[i%8] += v
	}
	edge := 0
	for i, v := range sums {
		if v > sums[edge] {
			edge = i
		}
	}
	for i := edge; i < len(b.d); i += 8 {
		b.d[i] = (b.d[max(i-2, i%2)] + b.d[min(i+2, len(b.d)-1-(len(b.d)-1-i)%2)]) / 2
	}
}

// at is the strength at a frequency, over the median one.
func (b *beats) at(f float64) float64 {
	var re, im float64
	for i, v := range b.d {
		sin, cos := math.Sincos(2 * math.Pi * f * float64(i))
		re, im = re+v*cos, im+v*sin
	}
	return math.Hypot(re, im) / b.middle
}
