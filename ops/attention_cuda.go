package ops

import (
	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/kernels"
)

// The launches of attention's passes. Operands are checked and on one GPU.

// attnKernel is a kernel for one dtype and greatest head dimension: rows of
// queries or keys in a block, the block's threads, its bytes of shared memory.
type attnKernel[F any] struct {
	rows, threads, shared int
	launch                F
}

type (
	attnForwardLaunch = func(s *cuda.Stream, g cuda.Grid, out, lse, q, k, v, bias, keyLens, cuQ, cuK, blocks cuda.Ptr, scale float32,
		biasBatch, biasHeads, blockShift, blockBatch, blockHeads, left, right, batch, heads, kvHeads, lq, lk, d, aligned int32)
	attnDKVLaunch = func(s *cuda.Stream, g cuda.Grid, dk, dv, dout, q, k, v, lse, delta, bias, keyLens, cuQ, cuK, blocks cuda.Ptr, scale float32,
		biasBatch, biasHeads, blockShift, blockBatch, blockHeads, left, right, batch, heads, kvHeads, lq, lk, d, aligned int32)
	attnDQLaunch = func(s *cuda.Stream, g cuda.Grid, dq, dout, q, k, v, lse, delta, bias, keyLens, cuQ, cuK, blocks cuda.Ptr, scale float32,
		biasBatch, biasHeads, blockShift, blockBatch, blockHeads, left, right, batch, heads, kvHeads, lq, lk, d, aligned int32)
)

// The kernels by dtype (attnDType) and by d <= 32, 64, 128, 256; each one's
// contract, above it in its file, has the same numbers.
var attnForward = [3][4]attnKernel[attnForwardLaunch]{
	{{128, 128, 48128, kernels.AttentionForward32F32}, {128, 128, 72704, kernels.AttentionForward64F32}, {64, 128, 77824, kernels.AttentionForward128F32}, {64, 128, 143360, kernels.AttentionForward256F32}},
	{{128, 128, 16384, kernels.AttentionForward32F16}, {128, 128, 32768, kernels.AttentionForward64F16}, {128, 128, 49152, kernels.AttentionForward128F16}, {64, 128, 98304, kernels.AttentionForward256F16}},
	{{128, 128, 16384, kernels.AttentionForward32Bf16}, {128, 128, 32768, kernels.AttentionForward64Bf16}, {128, 128, 49152, kernels.AttentionForward128Bf16}, {64, 128, 98304, kernels.AttentionForward256Bf16}},
}

var attnDKV = [3][4]attnKernel[attnDKVLaunch]{
	{{64, 128, 38144, kernels.AttentionDkv32F32}, {64, 128, 62720, kernels.AttentionDkv64F32}, {64, 128, 111872, kernels.AttentionDkv128F32}, {32, 128, 143616, kernels.AttentionDkv256F32}},
	{{128, 128, 25088, kernels.AttentionDkv32F16}, {128, 128, 49664, kernels.AttentionDkv64F16}, {128, 256, 98816, kernels.AttentionDkv128F16}, {64, 256, 131584, kernels.AttentionDkv256F16}},
	{{128, 128, 25088, kernels.AttentionDkv32Bf16}, {128, 128, 49664, kernels.AttentionDkv64Bf16}, {128, 256, 98816, kernels.AttentionDkv128Bf16}, {64, 256, 131584, kernels.AttentionDkv256Bf16}},
}

var attnDQ = [3][4]attnKernel[attnDQLaunch]{
	{{64, 128, 38400, kernels.AttentionDq32F32}, {64, 128, 62976, kernels.AttentionDq64F32}, {64, 128, 112128, kernels.AttentionDq128F32}, {32, 128, 138496, kernels.AttentionDq256F32}},
	{{128, 128, 25600, kernels.AttentionDq32F16}, {128, 128, 66560, kernels.AttentionDq64F16}, {128, 128, 99328, kernels.AttentionDq128F16}, {64, 128, 131584, kernels.AttentionDq256F16}},
	{{128, 128, 25600, kernels.AttentionDq32Bf16}, {128, 128, 66560, kernels.AttentionDq64Bf16}, {128, 128, 99328, kernels.AttentionDq128Bf16}, {64, 128, 131584, kernels.AttentionDq256Bf16}},
}

// Those of a bias's gradient are for every d and as dq's in their operands.
var attnDBias = [3]attnKernel[attnDQLaunch]{
	{64, 128, 36864, kernels.AttentionDbiasF32}, {64, 128, 32768, kernels.AttentionDbiasF16}, {64, 128, 32768, kernels.AttentionDbiasBf16},
}

var attnDelta = [3]func(s *cuda.Stream, g cuda.Grid, delta, dout, out cuda.Ptr, queries int64, heads, lq, d, aligned int32){
	kernels.AttentionDeltaF32, kernels.AttentionDeltaF16, kernels.AttentionDeltaBf16,
}

// attnDType is a dtype's place in the tables.
func attnDType(dt gpu.DType) int {
	switch dt {
	case gpu.Float16:
		return 1
	case gpu.BFloat16:
		return 2
	}
	return 0
}

// attnWidth is the place of head dimension d in the tables.
func attnWidth(d int) int {
	i := 0
	for w := 32; w < d; w *= 2 {
		i++
	}
	return i
}

// attnLimit bounds the kernels' place of a query among the keys in 32 bits.
const attnLimit = 1 << 29

// attnProblem is what every kernel takes.
type attnProblem struct {
	bias, keyLens, cuQ, cuK, blocks                cuda.Ptr
	left, right                                    int32
	blockShift, blocksB, blocksH                   int32
	batch, heads, kvHeads, lq, lk, d, biasB, biasH int32
	dt, width                                      int      // places in the tables
	copied                                         cuda.Ptr // keyLens, where they were on the CPU, else 0
}

// free gives back what problem took.
func (p *attnProblem) free(s *cuda.Stream) { s.Free(p.copied) }

func (n *attnSizes) problem(s *cuda.Stream, in AttentionInput, cfg AttentionConfig) attnProblem {
	if n.lq > attnLimit || n.lk > attnLimit {
		n.fail("%d queries and %d keys, want at most %d on a GPU", n.lq, n.lk, attnLimit)
	}
	p := attnProblem{
		bias: ptr(in.Bias), cuQ: ptr(in.CuQ), cuK: ptr(in.CuK), blocks: ptr(in.Blocks),
		left: -1, right: -1,
		batch: int32(n.b), heads: int32(n.h), kvHeads: int32(n.hkv), lq: int32(n.lq), lk: int32(n.lk), d: int32(n.d),
		biasB: int32(n.biasB), biasH: int32(n.biasH),
		blockShift: int32(6 + in.Block/128), blocksB: int32(n.blocksB), blocksH: int32(n.blocksH),
		dt: attnDType(in.Q.DType()), width: attnWidth(n.d),
	}
	if in.KeyLens != nil {
		p.keyLens, p.copied = numbers(s, in.KeyLens)
	}
	if cfg.Window > 0 && cfg.Window <= n.lq+n.lk { // a wider one hides nothing
		p.left, p.right = int32(cfg.Window-1), int32(cfg.Window-1)
	}
	if cfg.Causal {
		p.right = 0
	}
	return p
}

// aligned is 1 where every row of d elements of the tensors lies on 16 bytes.
func (n *attnSizes) aligned(ts ...*gpu.Tensor) int32 {
	for _, t := range ts {
		if t != nil && (n.d*t.DType().Size()%16 != 0 || t.Ptr()%16 != 0) {
			return 0
		}
	}
	return 1
}

// grid has ceil(length / rows) blocks for each of heads and sequences.
func (n *attnSizes) grid(length, rows, heads, threads, shared int) cuda.Grid {
	return cuda.Grid{X: ceil(length, rows) * heads * n.b, Y: 1, Z: 1, BX: threads, Shared: shared}
}

func (n *attnSizes) attentionCUDA(out, lse *gpu.Tensor, in AttentionInput, cfg AttentionConfig) {
	s := out.Device().Stream()
	p := n.problem(s, in, cfg)
	defer p.free(s)
	if n.attentionHopper(out, lse, in, &p) {
		return
	}
	k := attnForward[p.dt][p.width]
	k.launch(s, n.grid(n.lq, k.rows, n.h, k.threads, k.shared),
		out.Ptr(), lse.Ptr(), in.Q.Ptr(), in.K.Ptr(), in.V.Ptr(), p.bias, p.keyLens, p.cuQ, p.cuK, p.blocks, n.scale,
		p.biasB, p.biasH, p.blockShift, p.blocksB, p.blocksH, p.left, p.right, p.batch, p.heads, p.kvHeads, p.lq, p.lk, p.d, n.aligned(out, in.Q, in.K, in.V))
}

func (n *attnSizes) attentionBackwardCUDA(dq, dk, dv, dbias, dout, out, lse *gpu.Tensor, in AttentionInput, cfg AttentionConfig) {
	dev := dq.Device()
	s := dev.Stream()
	p := n.problem(s, in, cfg)
	defer p.free(s)
	delta := dev.New(gpu.Float32, n.queries, n.h)
	defer delta.Free()
	lq := p.lq
	if n.varlen {
		lq = 0
	}
	rows := cuda.Grid1(n.queries*n.h, 32, 256)
	attnDelta[p.dt](s, rows, delta.Ptr(), dout.Ptr(), out.Ptr(), int64(n.queries), p.heads, lq, p.d, n.aligned(dout, out))
	hopper := n.backwardHopper(dq, dk, dv, dout, lse, delta, in, &p)
	aligned := n.aligned(dq, dk, dv, dout, in.Q, in.K, in.V)
	if (dk != nil || dv != nil) && !hopper {
		k := attnDKV[p.dt][p.width]
		k.launch(s, n.grid(n.lk, k.rows, n.hkv, k.threads, k.shared),
			ptr(dk), ptr(dv), dout.Ptr(), in.Q.Ptr(), in.K.Ptr(), in.V.Ptr(), lse.Ptr(), delta.Ptr(),
			p.bias, p.keyLens, p.cuQ, p.cuK, p.blocks, n.scale,
			p.biasB, p.biasH, p.blockShift, p.blocksB, p.blocksH, p.left, p.right, p.batch, p.heads, p.kvHeads, p.lq, p.lk, p.d, aligned)
	}
	if !hopper {
		k := attnDQ[p.dt][p.width]
		k.launch(s, n.grid(n.lq, k.rows, n.h, k.threads, k.shared),
			dq.Ptr(), dout.Ptr(), in.Q.Ptr(), in.K.Ptr(), in.V.Ptr(), lse.Ptr(), delta.Ptr(),
			p.bias, p.keyLens, p.cuQ, p.cuK, p.blocks, n.scale,
			p.biasB, p.biasH, p.blockShift, p.blocksB, p.blocksH, p.left, p.right, p.batch, p.heads, p.kvHeads, p.lq, p.lk, p.d, aligned)
	}
	if dbias == nil {
		return
	}
	planes := ceil(n.lk, 64) * ceil(n.lq, 64) * n.biasB * n.biasH
	b := attnDBias[p.dt]
	b.launch(s, cuda.Grid{X: planes, Y: 1, Z: 1, BX: b.threads, Shared: b.shared},
		dbias.Ptr(), dout.Ptr(), in.Q.Ptr(), in.K.Ptr(), in.V.Ptr(), lse.Ptr(), delta.Ptr(),
		p.bias, p.keyLens, p.cuQ, p.cuK, p.blocks, n.scale,
		p.biasB, p.biasH, p.blockShift, p.blocksB, p.blocksH, p.left, p.right, p.batch, p.heads, p.kvHeads, p.lq, p.lk, p.d, aligned)
}
