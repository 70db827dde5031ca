package fid

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/fidlab/fidlab/internal/cpu"
)

// points are a set's vectors, prepared for distances: in float32 around a
// common centre for the many that are far from any threshold, and as they are
// for the few that are not.
type points struct {
	s      *Stats
	offset []float64 // what features lack, nil for nothing
	n, d   int
	x      []float32 // [n, d], around the centre
	norm   []float64 // squared lengths of x
	length []float64 // lengths
}

func newPoints(s *Stats, centre []float64) *points {
	d := s.Dim()
	p := &points{s: s, n: s.N, d: d, offset: s.centring(), x: make([]float32, s.N*d), norm: make([]float64, s.N), length: make([]float64, s.N)}
	const chunk = 64
	cpu.Each((s.N+chunk-1)/chunk, func(_ *cpu.Worker, c int) {
		for i := c * chunk; i < min(s.N, (c+1)*chunk); i++ {
			row, out := s.Features[i*d:(i+1)*d], p.x[i*d:(i+1)*d]
			for j, v := range row {
				w := float64(v) - centre[j]
				if p.offset != nil {
					w += p.offset[j]
				}
				out[j] = float32(w)
				p.norm[i] += float64(out[j]) * float64(out[j])
			}
			p.length[i] = math.Sqrt(p.norm[i])
		}
	})
	return p
}

// centring is the offset, nil where it is nothing but the rounding of two ways to take a mean.
func (s *Stats) centring() []float64 {
	offset, scale := s.offset(), 0.0
	for _, m := range s.Mu {
		scale = max(scale, math.Abs(m))
	}
	if !slices.ContainsFunc(offset, func(o float64) bool { return math.Abs(o) > 1e-12*scale }) {
		return nil
	}
	return offset
}

// exact is the squared distance of row i of p and row k of q, in float64 and in
// the order of the features, so that it is the same both ways round.
func (p *points) exact(i int, q *points, k int) float64 {
	a, b := p.s.Features[i*p.d:(i+1)*p.d], q.s.Features[k*p.d:(k+1)*p.d]
	var sum float64
	if p.offset == nil && q.offset == nil {
		for j, v := range a {
			t := float64(v) - float64(b[j])
			sum += t * t
		}
		return sum
	}
	for j, v := range a {
		x, y := float64(v), float64(b[j])
		if p.offset != nil {
			x += p.offset[j]
		}
		if q.offset != nil {
			y += q.offset[j]
		}
		sum += (x - y) * (x - y)
	}
	return sum
}

// slack bounds how far |x|² + |y|² - 2·x·y in float32 is from the exact squared
// distance, for vectors of those lengths: the product's sum of d terms, and the
// rounding of the coordinates.
func slack(d int, x, y float64) float64 {
	const u = 0x1p-24
	return 1.01 * (2*float64(d+2)*u*x*y + 4*u*(x*x+y*y))
}

// tileRows are the rows and columns of a block of distances.
const tileRows = 512

func tiles(n int) int { return (n + tileRows - 1) / tileRows }

// dots writes x·y for rows [i, i+m) of p and [k, k+n) of q to out [m, n].
func dots(w *cpu.Worker, out []float32, p *points, i, m int, q *points, k, n int) {
	cpu.Dots32(w, m, n, p.d, p.x[i*p.d:], q.x[k*p.d:], out)
}

// candidates are the nearest so far of a row: enough to hold its k nearest
// whatever the rounding, or over when there are too many.
type candidates struct {
	at    []int32
	about []float64 // squared distances in float32's arithmetic
	most  float64   // that a further candidate may have
	over  bool
}

// push adds a candidate for one of the k nearest; e is the slack of all.
func (c *candidates) push(k, room int, at int, about, e float64) {
	if c.over {
		return
	}
	c.at, c.about = append(c.at, int32(at)), append(c.about, about)
	if len(c.at) < room {
		return
	}
	kth := slices.Clone(c.about)
	slices.Sort(kth)
	c.most = kth[k-1] + 2*e
	kept := 0
	for i, v := range c.about {
		if v <= c.most {
			c.at[kept], c.about[kept] = c.at[i], v
			kept++
		}
	}
	c.at, c.about = c.at[:kept], c.about[:kept]
	c.over = kept == room
}

// radii are, for each row, the squared distances to its k nearest others, rising:
// [n, k]. They are exact in float64, whatever float32 confuses. The set needs
// more than k vectors.
func (p *points) radii(ctx context.Context, k int) ([]float64, error) {
	n, room := p.n, 4*k+28
	lists := make([]candidates, n)
	longest := slices.Max(p.length)
	errors := make([]float64, n)
	for i := range lists {
		lists[i].most = math.Inf(1)
		errors[i] = slack(p.d, p.length[i], longest)
	}
	blocks := tiles(n)
	locks := make([]sync.Mutex, blocks)
	var pairs [][2]int
	for i := range blocks {
		for j := i; j < blocks; j++ {
			pairs = append(pairs, [2]int{i, j})
		}
	}
	bufs := newBuffers()
	cpu.Each(len(pairs), func(w *cpu.Worker, t int) {
		if ctx.Err() != nil {
			return
		}
		bi, bj := pairs[t][0], pairs[t][1]
		i0, j0 := bi*tileRows, bj*tileRows
		m, c := min(tileRows, n-i0), min(tileRows, n-j0)
		dot := bufs.of(w)
		dots(w, dot, p, i0, m, p, j0, c)
		locks[bi].Lock()
		defer locks[bi].Unlock()
		if bi != bj {
			locks[bj].Lock()
			defer locks[bj].Unlock()
		}
		columns := lists[j0 : j0+c]
		norms := p.norm[j0 : j0+c]
		for i := range m {
			own := &lists[i0+i]
			row := dot[i*c : (i+1)*c]
			from := 0
			if bi == bj {
				from = i + 1
			}
			for j := from; j < c; j++ {
				about := p.norm[i0+i] + norms[j] - 2*float64(row[j])
				if about <= own.most {
					own.push(k, room, j0+j, about, errors[i0+i])
				}
				if other := &columns[j]; about <= other.most {
					other.push(k, room, i0+i, about, errors[j0+j])
				}
			}
		}
	})
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	out := make([]float64, n*k)
	cpu.Each(n, func(_ *cpu.Worker, i int) {
		c := &lists[i]
		near := make([]float64, 0, max(len(c.at), k))
		if c.over { // many as near as the k-th: take all
			for j := range n {
				if j != i {
					near = append(near, p.exact(i, p, j))
				}
			}
		} else {
			for _, j := range c.at {
				near = append(near, p.exact(i, p, int(j)))
			}
		}
		slices.Sort(near)
		copy(out[i*k:(i+1)*k], near[:k])
	})
	return out, nil
}

// buffers are a tile for every worker.
type buffers struct{ tile [][]float32 }

func newBuffers() *buffers { return &buffers{make([][]float32, cpu.Workers())} }

func (b *buffers) of(w *cpu.Worker) []float32 {
	if b.tile[w.ID] == nil {
		b.tile[w.ID] = make([]float32, tileRows*tileRows)
	}
	return b.tile[w.ID]
}

// ball is a rule of who lies in whose ball: within the squared radius, or
// strictly so.
type ball struct {
	radius []float64 // of each centre
	strict bool
}

func (b *ball) holds(i int, d2 float64) bool {
	return d2 < b.radius[i] || !b.strict && d2 == b.radius[i]
}

// inside is what lies in the balls of one set: how many balls each vector of the
// other set lies in, and which balls hold any.
type inside struct {
	balls []int32 // of each vector of the other set
	any   []bool  // of each centre
}

// meeting is what the vectors of two sets, p and q, have to do with each other.
type meeting struct {
	of, rev []inside // q's vectors in the balls around p's, and the reverse
	nearest []int    // each q's nearest p, the first of equals; may be nil where nobody asks for it
	dist    []float64
}

// neighbours find neighbours among a reference, side 0, and a generated set, side 1. All they find is exact in float64.
type neighbours interface {
	// radii are the squared distances of each vector of a side to its k nearest others, rising: [n, k].
	radii(ctx context.Context, side, k int) ([]float64, error)
	// meet compares every vector of the reference with every generated one.
	meet(ctx context.Context, around, reverse []ball, nearest bool) (meeting, error)
}

// cpuNeighbours are the sets' points.
type cpuNeighbours [2]*points

func (s cpuNeighbours) radii(ctx context.Context, side, k int) ([]float64, error) {
	return s[side].radii(ctx, k)
}

func (s cpuNeighbours) meet(ctx context.Context, around, reverse []ball, _ bool) (m meeting, err error) {
	m.of, m.rev, m.nearest, m.dist, err = meet(ctx, s[0], s[1], around, reverse)
	return m, err
}

// meet is that of neighbours, of points p and q.
func meet(ctx context.Context, p, q *points, around, reverse []ball) (of, rev []inside, nearest []int, dist []float64, err error) {
	make2 := func(balls []ball, centres, others int) []inside {
		out := make([]inside, len(balls))
		for i := range out {
			out[i] = inside{make([]int32, others), make([]bool, centres)}
		}
		return out
	}
	of, rev = make2(around, p.n, q.n), make2(reverse, q.n, p.n)
	nearest, dist = make([]int, q.n), make([]float64, q.n)
	longest, longestQ := slices.Max(p.length), slices.Max(q.length)
	far := make([]float64, q.n) // the largest radius around each of q
	for r := range reverse {
		for j, v := range reverse[r].radius {
			far[j] = max(far[j], v)
		}
	}
	bufs := newBuffers()
	// A piece is a block of q's columns against all of p, so that only rev and of.any are shared.
	var mu sync.Mutex
	cpu.Each(tiles(q.n), func(w *cpu.Worker, b int) {
		j0 := b * tileRows
		c := min(tileRows, q.n-j0)
		anyOf := make2(around, p.n, 0)
		ballsRev := make([][]int32, len(reverse))
		for r := range ballsRev {
			ballsRev[r] = make([]int32, p.n)
		}
		near := make([]candidates, c)
		for j := range near {
			near[j].most = math.Inf(1)
		}
		for i0 := 0; i0 < p.n; i0 += tileRows {
			if ctx.Err() != nil {
				return
			}
			m := min(tileRows, p.n-i0)
			dot := bufs.of(w)
			dots(w, dot, p, i0, m, q, j0, c)
			for i := i0; i < i0+m; i++ {
				row := dot[(i-i0)*c : (i-i0+1)*c]
				reach, most := 0.0, slack(p.d, p.length[i], longestQ)
				for r := range around {
					reach = max(reach, around[r].radius[i])
				}
				reach += most
				for j, v := range row {
					about := p.norm[i] + q.norm[j0+j] - 2*float64(v)
					if about > reach && about-most > far[j0+j] && about > near[j].most {
						continue // outside of all, as nearly all pairs are
					}
					e := slack(p.d, p.length[i], q.length[j0+j])
					d2, known := about, false
					sure := func(r float64) bool { return known || math.Abs(about-r) > e }
					for r := range around {
						if !sure(around[r].radius[i]) {
							d2, known = p.exact(i, q, j0+j), true
						}
						if around[r].holds(i, d2) {
							of[r].balls[j0+j]++
							anyOf[r].any[i] = true
						}
					}
					for r := range reverse {
						if !sure(reverse[r].radius[j0+j]) {
							d2, known = p.exact(i, q, j0+j), true
						}
						if reverse[r].holds(j0+j, d2) {
							ballsRev[r][i]++
							rev[r].any[j0+j] = true
						}
					}
					if near := &near[j]; about <= near.most {
						near.push(1, 16, i, about, slack(p.d, longest, q.length[j0+j]))
					}
				}
			}
		}
		for j := range near {
			nearest[j0+j], dist[j0+j] = near[j].first(p, q, j0+j)
		}
		mu.Lock()
		defer mu.Unlock()
		for r := range around {
			for i, v := range anyOf[r].any {
				of[r].any[i] = of[r].any[i] || v
			}
		}
		for r := range reverse {
			for i, v := range ballsRev[r] {
				rev[r].balls[i] += v
			}
		}
	})
	return of, rev, nearest, dist, ctx.Err()
}

// first is the nearest of p to row j of q, and its squared distance.
func (c *candidates) first(p, q *points, j int) (at int, d2 float64) {
	at, d2 = -1, math.Inf(1)
	try := func(i int) {
		if v := p.exact(i, q, j); v < d2 || v == d2 && i < at {
			at, d2 = i, v
		}
	}
	if c.over {
		for i := range p.n {
			try(i)
		}
		return at, d2
	}
	for _, i := range c.at {
		try(int(i))
	}
	return at, d2
}

// needFeatures refuses sets whose distances of single vectors nobody knows.
func needFeatures(metric string, ref, gen *Stats, least int) error {
	if ref.Dim() != gen.Dim() {
		return badInput("the reference has %d features, the generated set %d; extract both with one extractor", ref.Dim(), gen.Dim())
	}
	for i, s := range []*Stats{ref, gen} {
		if err := needVectors(sides[i], metric, s, least); err != nil {
			return err
		}
	}
	return nil
}

// needVectors is needFeatures of one side.
func needVectors(side, metric string, s *Stats, least int) error {
	switch {
	case s.Features == nil:
		return badInput("%s: %s needs the feature vectors, and there are only statistics; give the images or an .npy of features", side, metric)
	case s.N < least:
		return numeric("%s: %s needs at least %d vectors, there %s", side, metric, least, isAre(s.N))
	case !cpu.Finite32(s.Features):
		return numeric("%s: a feature is not finite", side)
	}
	return nil
}

func isAre(n int) string {
	if n == 1 {
		return "is 1"
	}
	return fmt.Sprintf("are %d", n)
}
