package main

import "slices"

// mutations has every kind of mistake and every family of kernels. The detector is the one that was
// expected to find the mistake when it was thought of; a missed one is a hole in the detectors.
var mutations = slices.Concat(attentionMutations, []mutation{
	// Splatting, with its sort.
	{
		name: "splat-batch", kind: "divergent barrier", file: "splat2d.cu",
		old:     "        __syncthreads();\n    }\n    float bg[C];",
		new:     "        if ((int)threadIdx.x < here) __syncthreads();\n    }\n    float bg[C];",
		kernels: "splat2d_sum.*", detector: "scheduler",
	},
	{
		name: "splat-weights", kind: "missing bounds check", file: "splat2d.cu",
		old: "if (x < width && y < height) z[", new: "if (x < width) z[",
		kernels: "splat2d_sum.*", detector: "asan",
	},
	{
		name: "splat-features", kind: "missing __syncwarp", file: "splat2d_gather.h",
		old:     "f[k] = feature[g * w.cp + k];\n    __syncwarp();",
		new:     "f[k] = feature[g * w.cp + k];",
		kernels: "splat2d_gather.*", detector: "tsan",
	},
	{
		name: "splat-large", kind: "missing __syncthreads", file: "splat2d_gather.h",
		old:     "                __syncthreads();\n                const size_t plane = g / perImage * area;",
		new:     "                const size_t plane = g / perImage * area;",
		kernels: "splat2d_large.*", detector: "result",
	},
	{
		name: "splat-cover", kind: "missing __syncwarp", file: "splat2d_cover.h",
		old:     "        __syncwarp(); // e and v of all pixels are here\n",
		new:     "",
		kernels: "splat2d_cover.*", detector: "tsan",
	},
	{
		name: "splat-furthest", kind: "missing __syncthreads", file: "splat2d_alphaback.h",
		old:     "    if (threadIdx.x == 0) furthest = 0;\n    __syncthreads();",
		new:     "    if (threadIdx.x == 0) furthest = 0;",
		kernels: "splat2d_alphaback4_f32", detector: "order",
	},
	{
		name: "radix-peers", kind: "missing __syncwarp", file: "radix_tile.h",
		old: "        __syncwarp();\n        rank[k] =", new: "        rank[k] =",
		kernels: "radix.*", detector: "tsan", test: "TestSplat",
	},
	// Statistics and linear algebra.
	{
		name: "moments-sums", kind: "missing __syncthreads", file: "covariance.cu",
		old: "    sums[way][lane] = sum;\n    __syncthreads();", new: "    sums[way][lane] = sum;",
		kernels: "moments_sum_f32", detector: "result",
	},
	{
		name: "moments-rows", kind: "missing bounds check", file: "covariance.cu",
		old: "if (in && r < end) raw[i] =", new: "if (in) raw[i] =",
		kernels: "moments_.*", detector: "asan",
	},
	{
		name: "moments-stage", kind: "missing __syncthreads", file: "covariance.cu",
		old: "        __syncthreads(); // the other stage is free again", new: "        // the other stage is free again",
		kernels: "moments_.*_f32", detector: "tsan",
	},
	// Samplers.
	{
		name: "lincomb-end", kind: "missing bounds check", file: "lincomb.cu",
		old: "if (vectors && at + V <= n) {", new: "if (vectors && at < n) {",
		kernels: "lincomb_f32", detector: "asan",
	},
	{
		name: "threshold-bins", kind: "past a shared array", file: "threshold.cu",
		old: "i < bins; i += THREADS)\n        local[i] = 0;", new: "i <= bins; i += THREADS)\n        local[i] = 0;",
		kernels: "threshold_count_f32", detector: "asan", test: "Threshold",
	},
	{
		name: "threshold-clear", kind: "missing __syncthreads", file: "threshold.cu",
		old:     "    if (threadIdx.x == 0) least = 0xffffffffu;\n    __syncthreads();",
		new:     "    if (threadIdx.x == 0) least = 0xffffffffu;",
		kernels: "threshold_count_f32", detector: "tsan", test: "Threshold",
	},
	{
		name: "guidance-sums", kind: "missing __syncthreads", file: "guidance.cu",
		old: "    __syncthreads();\n    if (threadIdx.x < 4) {", new: "    if (threadIdx.x < 4) {",
		kernels: "guide_moments_.*", detector: "result", test: "Guid",
	},
	{
		name: "variance-end", kind: "missing bounds check", file: "variance.cu",
		old: "e < end && e < size;", new: "e < end && e <= size;",
		kernels: "row_variance_.*", detector: "asan", test: "RowVariance",
	},
	{
		name: "nearest-rows", kind: "missing bounds check", file: "pair_tile.h",
		old: "const bool in = first + row < rows && at + c < d;", new: "const bool in = first + row <= rows && at + c < d;",
		kernels: "nearest_code_.*", detector: "asan", test: "Nearest",
	},
	{
		name: "pairsums-rows", kind: "missing bounds check", file: "pair_tile.h",
		old: "const bool in = first + row < rows && at + c < d;", new: "const bool in = first + row <= rows && at + c < d;",
		kernels: "pair_sums_.*", detector: "asan", test: "PairSums",
	},
	{
		name: "pairsums-stage", kind: "missing __syncthreads", file: "pairsums.cu",
		old: "                    dot[i][j] += static_cast<double>(part[i][j]);\n            __syncthreads();", new: "                    dot[i][j] += static_cast<double>(part[i][j]);",
		kernels: "pair_sums_.*", detector: "tsan", test: "PairSums",
	},
	{
		name: "nearestk-rows", kind: "missing bounds check", file: "pair_tile.h",
		old: "const bool in = first + row < rows && at + c < d;", new: "const bool in = first + row <= rows && at + c < d;",
		kernels: "nearestk_find_.*", detector: "asan", test: "NearestK",
	},
	{
		name: "nearestk-bounds", kind: "past a shared array", file: "nearestk.cu",
		old: "for (int i = threadIdx.x; i < TILE * MOST; i += THREADS)", new: "for (int i = threadIdx.x; i <= TILE * MOST; i += THREADS)",
		kernels: "nearestk_find_.*", detector: "asan", test: "NearestK",
	},
	{
		name: "nearestk-stage", kind: "missing __syncthreads", file: "pair_tile.h",
		old: "        __syncthreads();\n        multiply(sum, a, b, tx, ty);", new: "        multiply(sum, a, b, tx, ty);",
		kernels: "nearestk_find_.*", detector: "tsan", test: "NearestK",
	},
	{
		name: "nearestk-queue", kind: "missing __syncwarp", file: "nearestk.cu",
		old: "        queued += __popc(b);\n        __syncwarp();", new: "        queued += __popc(b);",
		kernels: "nearestk_measure_.*", detector: "tsan", test: "NearestK",
	},
	{
		name: "balls-rows", kind: "missing bounds check", file: "balls.cu",
		old: "                if (col >= n) continue;\n", new: "",
		kernels: "ball_counts_.*", detector: "asan", test: "BallCounts",
	},
	{
		name: "balls-stage", kind: "missing __syncthreads", file: "pair_tile.h",
		old: "        __syncthreads();\n        multiply(sum, a, b, tx, ty);", new: "        multiply(sum, a, b, tx, ty);",
		kernels: "ball_counts_.*", detector: "tsan", test: "BallCounts",
	},
	{
		name: "sliced-end", kind: "missing bounds check", file: "sliced.cu",
		old: "                if (i >= here) continue;\n", new: "",
		kernels: "sliced_sort_.*", detector: "asan", test: "SortRows",
	},
	{
		name: "sliced-tile", kind: "missing __syncthreads", file: "sliced.cu",
		old: "            __syncthreads(); // the tile before is written, and sums is free\n", new: "",
		kernels: "sliced_sort_.*", detector: "tsan", test: "SortRows",
	},
	{
		name: "sliced-sums", kind: "missing __syncthreads", file: "sliced.cu",
		old: "sums[threadIdx.x >> 5] = s;\n    __syncthreads();", new: "sums[threadIdx.x >> 5] = s;",
		kernels: "sliced_gaps_.*", detector: "tsan", test: "RowDistances",
	},
	{
		name: "lowrank-skip", kind: "divergent barrier", file: "lowrank.cu",
		old:     "        __syncthreads();\n        if (d >= dims) continue;",
		new:     "        if (d >= dims) continue;\n        __syncthreads();",
		kernels: "lowrank_.*", detector: "scheduler", test: "Gaussian|LowRank|Flow",
	},
	// Operations of networks.
	{
		name: "rows-team", kind: "missing __syncthreads", file: "rows.h",
		old:     "    if ((threadIdx.x & 31) == 0) shared[threadIdx.x >> 5] = v;\n    __syncthreads();\n    v = shared[0];\n#pragma unroll\n    for (int w = 1; w < ROW_WARPS; w++)\n        v += shared[w];",
		new:     "    if ((threadIdx.x & 31) == 0) shared[threadIdx.x >> 5] = v;\n    v = shared[0];\n#pragma unroll\n    for (int w = 1; w < ROW_WARPS; w++)\n        v += shared[w];",
		kernels: "softmax_f32", detector: "result", test: "Softmax",
	},
	{
		name: "rows-end", kind: "missing bounds check", file: "softmax.cu",
		old:     "    if (t.row >= rows) return;\n    x += t.row * n;\n    Best<T> best",
		new:     "    x += t.row * n;\n    Best<T> best",
		kernels: "argmax_f32", detector: "asan", test: "ArgMax",
	},
	{
		name: "matmul-band", kind: "missing __syncthreads", file: "gemm_finish.h",
		old:     "        __syncthreads();\n#pragma unroll 1\n        for (int i = threadIdx.x; i < BAND",
		new:     "#pragma unroll 1\n        for (int i = threadIdx.x; i < BAND",
		kernels: "matmul_small_f32", detector: "result", test: "MatMul|Linear",
	},
	{
		name: "matmul-rows", kind: "missing bounds check", file: "gemm_finish.h",
		old: "if (r < z.m && c < z.n)", new: "if (c < z.n)",
		kernels: "matmul_f64", detector: "asan", test: "MatMul|Linear",
	},
	{
		name: "norm-sums", kind: "missing __syncthreads", file: "norm.cu",
		old:     "    of[warp][1][lane] = along;\n    __syncthreads();\n    if (warp >= 2",
		new:     "    of[warp][1][lane] = along;\n    if (warp >= 2",
		kernels: "norm_sums_f32", detector: "result", test: "NormOn",
	},
	{
		name: "norm-channels", kind: "missing __syncthreads", file: "groupnorm.cu",
		old:     "    __syncthreads();\n    T c1 = 0, c2 = 0;",
		new:     "    T c1 = 0, c2 = 0;",
		kernels: "group_norm_back_f32", detector: "tsan", test: "GroupNormOn",
	},
	{
		name: "permute-edge", kind: "missing bounds check", file: "layout.cu",
		old: "if (r0 + l < rows && c0 + tx < cols) {", new: "if (r0 + l < rows) {",
		kernels: "permute_tile_f64", detector: "asan", test: "PermuteOn",
	},
	{
		name: "code-sums-last", kind: "missing bounds check", file: "layout.cu",
		old: "const int mine = first + lane < rows ? ids[first + lane] : -1;", new: "const int mine = ids[first + lane];",
		kernels: "code_sums_.*", detector: "asan", test: "CodeSums",
	},
	{
		name: "code-sums-number", kind: "wrong sum", file: "layout.cu",
		old: "count += __popc(mask);", new: "count = __popc(mask);",
		kernels: "code_sums_.*", detector: "result", test: "CodeSums",
	},
	// Resizing and random numbers.
	{
		name: "resize-chunk", kind: "missing __syncthreads", file: "resize.cu",
		old:     "        __syncthreads();\n        for (int i = threadIdx.x; i < CHUNK * TILE",
		new:     "        for (int i = threadIdx.x; i < CHUNK * TILE",
		kernels: "resize_.*", detector: "tsan",
	},
	{
		name: "resize-edge", kind: "missing bounds check", file: "resize.cu",
		old: "        if (s >= second.out || f >= first.out) continue;\n", new: "",
		kernels: "resize_.*", detector: "asan",
	},
	{
		name: "noise-end", kind: "missing bounds check", file: "noise.cu",
		old: "        if (e >= size) break;\n        double r =", new: "        double r =",
		kernels: "noise_f32", detector: "asan",
	},
	// Training, elementwise and sums.
	{
		name: "elements-end", kind: "missing bounds check", file: "elements.h",
		old: "        if (e < p.n) x[e] = r[i];", new: "        x[e] = r[i];",
		kernels: "(affine|dropout|pair)_f32", detector: "asan", test: "TestAffine",
	},
	{
		name: "repeat-row", kind: "wrong index", file: "repeat.h",
		old: "        r = rest;\n    }\n    at = i;", new: "    }\n    at = i;",
		kernels: "pair_.*", detector: "result", test: "TestPairs",
	},
	{
		name: "sum-lanes", kind: "missing __syncthreads", file: "sum.cu",
		old: "    of[tid] = s;\n    __syncthreads();", new: "    of[tid] = s;",
		kernels: "sum_(part_)?f(32|64)", detector: "result", test: "TestSumTo",
	},
	{
		name: "optim-tail", kind: "missing bounds check", file: "elements.h",
		old: "r[i] = e < p.n ? x[e] : T(0);", new: "r[i] = x[e];",
		kernels: "(adam|lion|sgd)_f(32|64)", detector: "asan", test: "TestLion",
	},
	{
		name: "lion16-tail", kind: "missing bounds check", file: "optim.cu",
		old: "if (e < p.n) x[e] = fromFloat<bf16>(r[i]);", new: "x[e] = fromFloat<bf16>(r[i]);",
		kernels: "lion_m16", detector: "asan", test: "TestLionNarrow",
	},
	{
		name: "lion16-halves", kind: "wrong index", file: "optim.cu",
		old: "unpack2<bf16>(v.y, r[2], r[3]);", new: "unpack2<bf16>(v.x, r[2], r[3]);",
		kernels: "lion_m16", detector: "result", test: "TestLionNarrow",
	},
	{
		name: "gumbel-first", kind: "missing bounds check", file: "dropout.cu",
		old: "if (i >= 0 && i < size) out[i]", new: "if (i < size) out[i]",
		kernels: "gumbel_.*", detector: "asan", test: "TestGumbels",
	},
	{
		name: "order-lanes", kind: "missing bounds check", file: "order.cu",
		old: "    if (lane >= lanes) return;\n", new: "",
		kernels: "cumsum_.*", detector: "asan", test: "TestCumSum",
	},
	{
		name: "conv-edge", kind: "missing bounds check", file: "conv.cu",
		old: "if (k < end && y >= 0 && y < p.h && xx >= 0 && xx < p.w) {", new: "if (k < end && y >= 0 && xx >= 0 && xx < p.w) {",
		kernels: "conv_f(32|64)", detector: "result", test: "TestConvOnDevices",
	},
	{
		name: "conv-tiles", kind: "missing __syncthreads", file: "conv.cu",
		old: "                put(tiles[at ^ 1][1], vb, spreadB);\n            }\n            __syncthreads();", new: "                put(tiles[at ^ 1][1], vb, spreadB);\n            }",
		kernels: "conv_data_f32", detector: "result", test: "TestConvOnDevices",
	},
	{
		name: "band-edge", kind: "missing bounds check", file: "convband.cu",
		old: "const bool in = k < depth && y >= 0 && y < p.h && xx >= 0 && xx < p.w;", new: "const bool in = k < depth && y >= 0 && y < p.h && xx >= 0;",
		kernels: "conv_band_f32", detector: "result", test: "TestConvBand",
	},
	{
		name: "band-chains", kind: "wrong sum", file: "convband.cu",
		old: "*z = k0 > 0 ? *z + acc[i][j] : acc[i][j];", new: "*z = acc[i][j];",
		kernels: "conv_band_large_f32", detector: "result", test: "TestConvBandInLargeTiles",
	},
	{
		name: "band-window", kind: "missing bounds check", file: "bands.cu",
		old: "endX = min(x0 + p.kw, p.w)", new: "endX = x0 + p.kw",
		kernels: "pool_band_.*", detector: "result", test: "TestPoolBand$",
	},
	{
		name: "band-padding", kind: "missing bounds check", file: "bands.cu",
		old: "narrow<T>(k < c ? x[static_cast<long long>(k) * area] : 0.f)", new: "narrow<T>(x[static_cast<long long>(k) * area])",
		kernels: "planes_band_.*", detector: "asan", test: "TestBandsInAndOut",
	},
	{
		name: "band-terms", kind: "wrong sum", file: "bands.cu",
		old: "fromFloat<bf16>(x[i] - toFloat(h))", new: "fromFloat<bf16>(x[i])",
		kernels: "band_terms", detector: "result", test: "TestSplitBand",
	},
	{
		name: "upsample-row", kind: "wrong index", file: "upsample.cu",
		old: "    digitOf(at, k); // the row of x", new: "    at /= 2; // the row of x",
		kernels: "upsample_f(32|64)", detector: "result", test: "TestUpsampleOnDevices",
	},
	{
		name: "group-last-sums", kind: "missing __syncthreads", file: "groupnormlast.cu",
		old: "        of[1][t.rank] = along;\n        __syncthreads();", new: "        of[1][t.rank] = along;",
		kernels: "group_norm_last_back_f(32|64)", detector: "result", test: "TestGroupNormLastOnDevices",
	},
	{
		name: "grouped-rows", kind: "missing bounds check", file: "grouped.h",
		old: "    return min(max(offsets[g], 0), rows);", new: "    return offsets[g] + 1;",
		kernels: "grouped_small_f32", detector: "asan", test: "TestGroupedOnDevices",
	},
	{
		name: "grouped-sums", kind: "missing __syncthreads", file: "grouped.cu",
		old: "    sums[way][lane] = sum;\n    __syncthreads();", new: "    sums[way][lane] = sum;",
		kernels: "grouped_sum_f(32|64)", detector: "result", test: "TestGroupedOnDevices",
	},
	{
		name: "linear-sums", kind: "missing __syncthreads", file: "linear_attention.h",
		old: "        __syncthreads(); // sums are whole\n#pragma", new: "#pragma",
		kernels: "linear_states_f(32|64)", detector: "order", test: "TestLinearAttentionOnDevices",
	},
	{
		name: "linear-tail", kind: "missing bounds check", file: "linear_attention.h",
		old: "        if (i + x < h.tokens) to[", new: "        to[",
		kernels: "linear_out_f32", detector: "asan", test: "TestLinearAttentionOnDevices",
	},
	{
		name: "adafactor-sums", kind: "missing __syncthreads", file: "adafactor.cu",
		old: "    sums[way][lane] = sum;\n    __syncthreads();", new: "    sums[way][lane] = sum;",
		kernels: "adafactor_cols_f(32|64)", detector: "result", test: "TestAdafactorOnDevices",
	},
	// Products on tensor cores.
	{
		name: "mma-wait", kind: "cp.async without a wait", file: "mma_tile.h",
		old: "            copyAsyncWait<stages - 2>();\n", new: "",
		kernels: "conv16_bf16", detector: "result", test: "TestConv16OnDevices",
	},
	{
		name: "mma-stage", kind: "wrong index", file: "mma_tile.h",
		old: "            const T* const a = ring + s % stages * stage;", new: "            const T* const a = ring + (s + 1) % stages * stage;",
		kernels: "matmul16_small_f16", detector: "result", test: "TestMatMul16OnDevices",
	},
	{
		name: "mma-barrier", kind: "missing __syncthreads", file: "mma_tile.h",
		old: "            __syncthreads(); // step s is there", new: "            // step s is there",
		kernels: "matmul16_small_bf16", detector: "tsan", test: "TestMatMul16OnDevices",
	},
	{
		name: "mma-rows", kind: "missing bounds check", file: "mma_tile.h",
		old: "            const bool in = inside && line + i < lines;", new: "            const bool in = inside;",
		kernels: "matmul16_small_f16", detector: "asan", test: "TestMatMul16OnDevices",
	},
	{
		name: "mma-store", kind: "missing __syncthreads", file: "mma_finish.h",
		old: "make_float2(v, next);\n        });\n        __syncthreads();", new: "make_float2(v, next);\n        });",
		kernels: "conv16_small_f16", detector: "tsan", test: "TestConv16OnDevices",
	},
	{
		name: "conv16-tail", kind: "lost end of a sum", file: "conv16.cu",
		old: "    const int steps = (k + M::depth - 1) / M::depth;", new: "    const int steps = k / M::depth;",
		kernels: "conv16_small_bf16", detector: "result", test: "TestConv16OnDevices",
	},
	{
		name: "conv16-edge", kind: "missing bounds check", file: "conv16.cu",
		old: "const bool in = real && static_cast<unsigned>(y) < static_cast<unsigned>(p.h) &&", new: "const bool in = real &&",
		kernels: "conv16_narrow_f16", detector: "result", test: "TestConv16OnDevices",
	},
	{
		name: "matmul16-piece", kind: "wrong index", file: "matmul16.cu",
		old: "const int k = min(o.depth, o.k - at.piece * o.depth);", new: "const int k = o.depth;",
		kernels: "matmul16_small_bf16", detector: "asan", test: "TestMatMul16OnDevices",
	},
	{
		name: "conv16-pixels", kind: "lost end of a sum", file: "conv16_weight.cu",
		old: "            acc, ring, (end - first + M::depth - 1) / M::depth,", new: "            acc, ring, (end - first) / M::depth,",
		kernels: "conv16_weight_small_bf16", detector: "result", test: "TestConvInBF16OnTensorCores",
	},
	{
		name: "conv16-rows", kind: "missing bounds check", file: "conv16_weight.cu",
		old: "const bool in = real && row < end && corner.inside(p, dy, dx);", new: "const bool in = real && row < end;",
		kernels: "conv16_weight_bf16", detector: "result", test: "TestConvInBF16OnTensorCores",
	},
	{
		name: "grouped16-rest", kind: "missing bounds check", file: "grouped16.cu",
		old: "across = min(cols, e.n - col0);", new: "across = cols;",
		kernels: "grouped16_small_bf16", detector: "asan", test: "TestGrouped16OnDevices",
	},
	{
		name: "grouped16-group", kind: "wrong index", file: "grouped16.cu",
		old: "    w += static_cast<size_t>(p.group) * e.n * e.k;\n", new: "",
		kernels: "grouped16_f16", detector: "result", test: "TestGrouped16OnDevices",
	},
})
