package survey

import (
	"context"
	"math"
	"math/bits"
	"slices"

	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/internal/cpu"
)

const (
	hashSide  = 32 // the picture that is transformed
	thumbSide = 16 // the one that confirms
	nearBits  = 8  // of 64 that near copies may differ in
	nearCorr  = 0.97
)

// cosines are those of the first eight coefficients of a discrete cosine transform of 32 values.
var cosines = func() (c [8][hashSide]float64) {
	for k := range c {
		for i := range c[k] {
			c[k][i] = math.Cos(math.Pi * float64(k) * (float64(i) + 0.5) / hashSide)
		}
	}
	return c
}()

// perceptual is the hash of a picture by the cosine transform, and the picture as 16×16 gray values. A bit tells whether one of the
// lowest 8×8 coefficients of the picture at 32×32 is above their median (Zauner 2010, "Implementation and benchmarking of
// perceptual image hash functions"); sizes, filter and bits are those of the Python package imagehash, phash.
func (s *Survey) perceptual(g *plane) (hash uint64, thumb [thumbSide * thumbSide]uint8) {
	m := &imageio.Image{Width: g.w, Height: g.h, Pix: make([]uint8, 3*len(g.pix))}
	for i, v := range g.pix {
		q := m.Pix[3*i:][:3]
		q[0], q[1], q[2] = v, v, v
	}
	small := s.small.U8(m).Pix
	var rows [hashSide][8]float64 // along x
	for y := range hashSide {
		for k := range 8 {
			sum := 0.0
			for x := range hashSide {
				sum += cosines[k][x] * float64(small[3*(y*hashSide+x)])
			}
			rows[y][k] = sum
		}
	}
	var low [64]float64
	for j := range 8 {
		for k := range 8 {
			sum := 0.0
			for y := range hashSide {
				sum += cosines[j][y] * rows[y][k]
			}
			low[8*j+k] = sum
		}
	}
	sorted := slices.Sorted(slices.Values(low[:]))
	middle := (sorted[31] + sorted[32]) / 2
	for _, v := range low {
		hash <<= 1
		if v > middle {
			hash |= 1
		}
	}
	const step = hashSide / thumbSide
	for y := range thumbSide {
		for x := range thumbSide {
			sum := 0
			for dy := range step {
				for dx := range step {
					sum += int(small[3*((step*y+dy)*hashSide+step*x+dx)])
				}
			}
			thumb[y*thumbSide+x] = uint8((sum + step*step/2) / (step * step))
		}
	}
	return hash, thumb
}

// near tells whether p looks like q: few bits of the hashes differ, and the small pictures are nearly the same up to brightness and
// contrast. Pictures with nothing on them look like none.
func (p *picture) near(q *picture) bool {
	return bits.OnesCount64(p.hash^q.hash) <= nearBits && p.tone == plain && q.tone == plain && correlation(&p.thumb, &q.thumb) >= nearCorr
}

func correlation(a, b *[thumbSide * thumbSide]uint8) float64 {
	var sa, sb, saa, sbb, sab float64
	for i, x := range a {
		u, v := float64(x), float64(b[i])
		sa, sb, saa, sbb, sab = sa+u, sb+v, saa+u*u, sbb+v*v, sab+u*v
	}
	n := float64(len(a))
	va, vb := saa-sa*sa/n, sbb-sb*sb/n
	if va <= 0 || vb <= 0 {
		return 0
	}
	return (sab - sa*sb/n) / math.Sqrt(va*vb)
}

// copies finds equal and nearly equal pictures of the set.
func (s *Survey) copies(ctx context.Context, r *Report) error {
	firsts := map[[32]byte]int{}
	groups := map[int][]int{}
	var distinct []int
	for i := range s.seen {
		k, ok := firsts[s.seen[i].sum]
		if !ok {
			firsts[s.seen[i].sum] = i
			distinct = append(distinct, i)
			continue
		}
		r.Copies++
		groups[k] = append(groups[k], i)
	}
	r.CopyGroups, r.NearGroups = []Group{}, []Group{}
	for _, i := range distinct {
		if len(groups[i]) > 0 {
			r.CopyGroups = append(r.CopyGroups, s.group(append([]int{i}, groups[i]...)))
		}
	}
	alike, err := pairs(ctx, len(distinct), func(i, j int) bool { return s.seen[distinct[i]].near(&s.seen[distinct[j]]) })
	if err != nil {
		return err
	}
	clear(groups)
	head := make([]int, len(distinct)) // of the group of each
	for i, before := range alike {
		head[i] = i
		if before >= 0 {
			head[i] = head[before]
			r.Near++
			groups[head[i]] = append(groups[head[i]], distinct[i])
		}
	}
	for i := range distinct {
		if len(groups[i]) > 0 {
			r.NearGroups = append(r.NearGroups, s.group(append([]int{distinct[i]}, groups[i]...)))
		}
	}
	return nil
}

func (s *Survey) group(of []int) Group {
	var g Group
	for _, i := range of {
		g = append(g, s.seen[i].name)
	}
	return g
}

// pairs finds for each of n the first one before it that is like it, -1 for none. It compares all pairs, in parallel.
func pairs(ctx context.Context, n int, alike func(i, j int) bool) ([]int, error) {
	return matches(ctx, n, func(i int) int { return i }, alike)
}

// matches finds for each i < n the first j < limit(i) that is like it, -1 for none.
func matches(ctx context.Context, n int, limit func(i int) int, alike func(i, j int) bool) ([]int, error) {
	first := make([]int, n)
	const chunk = 64
	cpu.Each((n+chunk-1)/chunk, func(_ *cpu.Worker, c int) {
		for i := c * chunk; i < min((c+1)*chunk, n) && ctx.Err() == nil; i++ {
			first[i] = -1
			for j := range limit(i) {
				if alike(i, j) {
					first[i] = j
					break
				}
			}
		}
	})
	return first, ctx.Err()
}

// Shared is a picture of one set that another set has too.
type Shared struct {
	Image string `json:"image"`
	Of    string `json:"of"` // the first such picture of the other set
	Exact bool   `json:"exact"`
}

// Compare finds the pictures of gen whose pixels, or nearly so, ref has too.
func Compare(ctx context.Context, ref, gen *Survey) ([]Shared, error) {
	ref.sort()
	gen.sort()
	firsts := map[[32]byte]int{}
	for i := len(ref.seen) - 1; i >= 0; i-- {
		firsts[ref.seen[i].sum] = i
	}
	first, err := matches(ctx, len(gen.seen), func(int) int { return len(ref.seen) }, func(i, j int) bool { return gen.seen[i].near(&ref.seen[j]) })
	if err != nil {
		return nil, err
	}
	out := []Shared{}
	for i := range gen.seen {
		if k, ok := firsts[gen.seen[i].sum]; ok {
			out = append(out, Shared{gen.seen[i].name, ref.seen[k].name, true})
		} else if first[i] >= 0 {
			out = append(out, Shared{gen.seen[i].name, ref.seen[first[i]].name, false})
		}
	}
	return out, nil
}
