package ops

import (
	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/kernels"
)

// The launches of attention's maps: blocks of attnSide queries or keys, 128 threads.
const (
	attnSide     = 64
	sharedScores = 2 * attnSide * (attnSide + 4) * 4           // two tiles of rows
	sharedGrads  = (2*attnSide*(attnSide+4) + attnSide*40) * 4 // and one of scores
	sharedMapped = (attnSide*40 + attnSide/2*(attnSide+4)) * 4 // of a map, and of rows
)

type (
	mapsLaunch = func(s *cuda.Stream, g cuda.Grid, maps, q, k, lse, bias, keyLens, headPick, keyPick, headPlace, keyPlace cuda.Ptr, scale float32,
		biasBatch, biasHeads, left, right, picked, mapKeys, mean, batch, heads, kvHeads, lq, lk, d int32)
	mapsDeltaLaunch = func(s *cuda.Stream, g cuda.Grid, delta, dmaps, q, k, lse, bias, keyLens, headPick, keyPick, headPlace, keyPlace cuda.Ptr, scale float32,
		biasBatch, biasHeads, left, right, picked, mapKeys, mean, batch, heads, kvHeads, lq, lk, d int32)
	mapsGradLaunch = func(s *cuda.Stream, g cuda.Grid, gradient, dmaps, delta, q, k, lse, bias, keyLens, headPick, keyPick, headPlace, keyPlace cuda.Ptr, scale float32,
		biasBatch, biasHeads, left, right, picked, mapKeys, mean, batch, heads, kvHeads, lq, lk, d int32)
	mappedLaunch = func(s *cuda.Stream, g cuda.Grid, to, a, b cuda.Ptr, heads, kvHeads, lq, lk, d int32)
)

// The kernels by dtype (attnDType).
var (
	attnMaps       = [3]mapsLaunch{kernels.AttentionMapsF32, kernels.AttentionMapsF16, kernels.AttentionMapsBf16}
	attnMapsDelta  = [3]mapsDeltaLaunch{kernels.AttentionMapsDeltaF32, kernels.AttentionMapsDeltaF16, kernels.AttentionMapsDeltaBf16}
	attnMapsDQ     = [3]mapsGradLaunch{kernels.AttentionMapsDqF32, kernels.AttentionMapsDqF16, kernels.AttentionMapsDqBf16}
	attnMapsDK     = [3]mapsGradLaunch{kernels.AttentionMapsDkF32, kernels.AttentionMapsDkF16, kernels.AttentionMapsDkBf16}
	attnMapped     = [3]mappedLaunch{kernels.AttentionMappedF32, kernels.AttentionMappedF16, kernels.AttentionMappedBf16}
	attnMappedMaps = [3]mappedLaunch{kernels.AttentionMappedDmapsF32, kernels.AttentionMappedDmapsF16, kernels.AttentionMappedDmapsBf16}
	attnMappedDV   = [3]mappedLaunch{kernels.AttentionMappedDvF32, kernels.AttentionMappedDvF16, kernels.AttentionMappedDvBf16}
)

// attnChoice is a MapSelect on the device: what is chosen, and the place of each
// head and key among it or -1. A list that would hold all is 0.
type attnChoice struct {
	lists                                  cuda.Ptr // of all four, 0 without any
	headPick, keyPick, headPlace, keyPlace cuda.Ptr
	picked, mapKeys, mean                  int32
}

func (n *attnSizes) choice(s *cuda.Stream, sel MapSelect) attnChoice {
	c := attnChoice{picked: int32(n.h), mapKeys: int32(n.lk)}
	if sel.Mean {
		c.mean = 1
	}
	var lists []int32
	pick := func(chosen []int, total int) (at, places int) {
		at = len(lists)
		for _, v := range chosen {
			lists = append(lists, int32(v))
		}
		places = len(lists)
		for range total {
			lists = append(lists, -1)
		}
		for i, v := range chosen {
			lists[places+v] = int32(i)
		}
		return at, places
	}
	var heads, headPlaces, keys, keyPlaces int
	if sel.Heads != nil {
		c.picked = int32(len(sel.Heads))
		heads, headPlaces = pick(sel.Heads, n.h)
	}
	if sel.Keys != nil {
		c.mapKeys = int32(len(sel.Keys))
		keys, keyPlaces = pick(sel.Keys, n.lk)
	}
	if len(lists) == 0 {
		return c
	}
	c.lists = uploaded(s, lists)
	at := func(i int) cuda.Ptr { return c.lists + cuda.Ptr(4*i) }
	if sel.Heads != nil {
		c.headPick, c.headPlace = at(heads), at(headPlaces)
	}
	if sel.Keys != nil {
		c.keyPick, c.keyPlace = at(keys), at(keyPlaces)
	}
	return c
}

func (c *attnChoice) free(s *cuda.Stream) {
	if c.lists != 0 {
		s.Free(c.lists)
	}
}

// blocks is a grid of as many blocks as the product of the counts.
func blocks(shared int, counts ...int) cuda.Grid {
	g := cuda.Grid{X: 1, Y: 1, Z: 1, BX: 128, Shared: shared}
	for _, c := range counts {
		g.X *= c
	}
	return g
}

// sides is how many times attnSide covers n.
func sides(n int) int { return ceil(n, attnSide) }

func (n *attnSizes) attentionMapsCUDA(maps, lse *gpu.Tensor, in AttentionInput, cfg AttentionConfig, sel MapSelect) {
	s := maps.Device().Stream()
	p := n.problem(s, in, cfg)
	defer p.free(s)
	c := n.choice(s, sel)
	defer c.free(s)
	shape := maps.Shape()
	attnMaps[p.dt](s, blocks(sharedScores, sides(shape[3]), sides(n.lq), shape[1], n.b),
		maps.Ptr(), in.Q.Ptr(), in.K.Ptr(), lse.Ptr(), p.bias, p.keyLens, c.headPick, c.keyPick, c.headPlace, c.keyPlace, n.scale,
		p.biasB, p.biasH, p.left, p.right, c.picked, c.mapKeys, c.mean, p.batch, p.heads, p.kvHeads, p.lq, p.lk, p.d)
}

func (n *attnSizes) attentionMapsBackwardCUDA(dq, dk, dmaps, lse *gpu.Tensor, in AttentionInput, cfg AttentionConfig, sel MapSelect) {
	dev := dq.Device()
	s := dev.Stream()
	p := n.problem(s, in, cfg)
	defer p.free(s)
	c := n.choice(s, sel)
	defer c.free(s)
	delta := dev.New(gpu.Float32, n.b, n.h, n.lq)
	defer delta.Free()
	attnMapsDelta[p.dt](s, blocks(sharedScores, sides(n.lq), int(c.picked), n.b),
		delta.Ptr(), dmaps.Ptr(), in.Q.Ptr(), in.K.Ptr(), lse.Ptr(), p.bias, p.keyLens, c.headPick, c.keyPick, c.headPlace, c.keyPlace, n.scale,
		p.biasB, p.biasH, p.left, p.right, c.picked, c.mapKeys, c.mean, p.batch, p.heads, p.kvHeads, p.lq, p.lk, p.d)
	gradient := func(launch mapsGradLaunch, to *gpu.Tensor, length, heads int) {
		launch(s, blocks(sharedGrads, sides(n.d), sides(length), heads, n.b),
			to.Ptr(), dmaps.Ptr(), delta.Ptr(), in.Q.Ptr(), in.K.Ptr(), lse.Ptr(), p.bias, p.keyLens, c.headPick, c.keyPick, c.headPlace, c.keyPlace, n.scale,
			p.biasB, p.biasH, p.left, p.right, c.picked, c.mapKeys, c.mean, p.batch, p.heads, p.kvHeads, p.lq, p.lk, p.d)
	}
	gradient(attnMapsDQ[p.dt], dq, n.lq, n.h)
	if dk != nil {
		gradient(attnMapsDK[p.dt], dk, n.lk, n.hkv)
	}
}

// mappedOn launches a product with maps: to from a and b.
func (n *attnSizes) mappedOn(launch [3]mappedLaunch, g cuda.Grid, dt gpu.DType, to, a, b *gpu.Tensor) {
	launch[attnDType(dt)](to.Device().Stream(), g, to.Ptr(), a.Ptr(), b.Ptr(), int32(n.h), int32(n.hkv), int32(n.lq), int32(n.lk), int32(n.d))
}

func (n *attnSizes) attentionFromMapsCUDA(out, maps, v *gpu.Tensor) {
	n.mappedOn(attnMapped, blocks(sharedMapped, sides(n.d), sides(n.lq), n.h, n.b), v.DType(), out, maps, v)
}

func (n *attnSizes) attentionFromMapsBackwardCUDA(dmaps, dv, dout, maps, v *gpu.Tensor) {
	if dmaps != nil {
		n.mappedOn(attnMappedMaps, blocks(sharedScores, sides(n.lk), sides(n.lq), n.h, n.b), v.DType(), dmaps, dout, v)
	}
	if dv != nil {
		n.mappedOn(attnMappedDV, blocks(sharedMapped, sides(n.d), sides(n.lk), n.hkv, n.b), v.DType(), dv, maps, dout)
	}
}
