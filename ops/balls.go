package ops

import (
	"sync/atomic"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/kernels"
)

// BallRules is how many radii BallCounts takes around each vector at most.
const BallRules = 4

// BallCounts sets balls, Int32 [q, m], to the number of balls around the rows of x [n, d] in which each row of y [m, d] lies, and held,
// Int32 [q, n], to 1 for the balls that hold any and 0 for others. radius, Float64 [q, n], has the squared radii by each of q rules, and
// strict tells for each whether a vector on the boundary is outside. The matrix of all distances is nowhere stored.
//
// What decides is NearestK's squared distance in float64, so the numbers are the same on every machine, on a GPU too. A distance or radius that is NaN
// is in no ball. It panics when shapes do not fit, q is not 1 to BallRules, and unless dtypes (float32 or float64) and devices agree.
func BallCounts(balls, held, x, y, radius *gpu.Tensor, strict []bool) {
	const op = "BallCounts"
	n, m, _ := wantSets(op, x, y)
	dev := sameDevice(op, x, y, balls, held, radius)
	q := len(strict)
	if q < 1 || q > BallRules {
		fail(op, "%d rules, want 1 to %d", q, BallRules)
	}
	wantShape(op, "balls", balls, gpu.Int32, q, m)
	wantShape(op, "held", held, gpu.Int32, q, n)
	wantShape(op, "radius", radius, gpu.Float64, q, n)
	bits := 0
	for i, s := range strict {
		bits |= int(flag(s)) << i
	}
	if dev.CUDA() {
		launchBallCounts(op, balls, held, x, y, radius, q, bits)
		return
	}
	clear(balls.I32())
	clear(held.I32())
	c := newCall(ballCounts, y, x, balls, held, radius)
	c.n[0], c.n[1] = q, bits
	c.each(ceil(m, distRows))
}

func ballCounts(c *call, _ *cpu.Worker, i int) {
	if c.double() {
		ballCountsOf[float64](c, i)
	} else {
		ballCountsOf[float32](c, i)
	}
}

// ballCountsOf does rows i·distRows of y and those after it.
func ballCountsOf[T cpu.Float](c *call, i int) {
	y, x, balls, held, radius := data[T](c.t[0]), data[T](c.t[1]), c.t[2].I32(), c.t[3].I32(), c.t[4].F64()
	d, first := c.t[0].Shape()[1], i*distRows
	m, n := len(y)/d, len(x)/d
	eachDistance(y, x, d, first, func(r, at int, d2 float64) {
		for q := range c.n[0] {
			if reach := radius[q*n+at]; d2 < reach || c.n[1]>>q&1 == 0 && d2 == reach {
				balls[q*m+first+r]++
				if atomic.LoadInt32(&held[q*n+at]) == 0 {
					atomic.StoreInt32(&held[q*n+at], 1)
				}
			}
		}
	})
}

func launchBallCounts(op string, balls, held, x, y, radius *gpu.Tensor, q, strict int) {
	Fill(balls, 0)
	Fill(held, 0)
	s, n, m, d := x.Device().Stream(), int32(x.Shape()[0]), int32(y.Shape()[0]), int32(x.Shape()[1])
	if n == 0 || m == 0 {
		return
	}
	c := newCentred(op, y, x)
	grid, pieces := blocks256(c.blocks*c.pieces), int32(c.pieces)
	if x.Double() {
		kernels.BallCountsF64(s, grid, balls.Ptr(), held.Ptr(), x.Ptr(), y.Ptr(), radius.Ptr(), c.centre, c.ys, c.xs, n, m, d, int32(q), int32(strict), pieces, c.slack)
	} else {
		kernels.BallCountsF32(s, grid, balls.Ptr(), held.Ptr(), x.Ptr(), y.Ptr(), radius.Ptr(), c.centre, c.ys, c.xs, n, m, d, int32(q), int32(strict), pieces, float32(c.slack))
	}
	c.free(s)
}
