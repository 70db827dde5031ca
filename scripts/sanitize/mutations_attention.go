package main

// attentionMutations are those of the kernels of attention.
var attentionMutations = []mutation{
	{
		name: "attention-wait", kind: "cp.async without a wait", file: "attention_forward.h",
		old:     "        copyAsyncWait<0>();\n        __syncthreads(); // values are here",
		new:     "        __syncthreads(); // values are here",
		kernels: "attention_forward32_f16", detector: "result",
	},
	{
		name: "attention-barrier", kind: "missing __syncthreads", file: "attention_forward.h",
		old: "__syncthreads(); // values are here", new: "// values are here",
		kernels: "attention_forward32_bf16", detector: "tsan",
	},
	{
		name: "attention-store", kind: "missing bounds check", file: "attention_tile.h",
		old: "            if (r < valid && chunk * 8 < d)", new: "            if (chunk * 8 < d)",
		kernels: "attention_forward32_f16", detector: "asan",
	},
	{
		name: "attention-load", kind: "missing bounds check", file: "attention_tile.h",
		old: "from, inside && row + r < valid);", new: "from, inside);",
		kernels: "attention_forward32_f16", detector: "asan",
	},
	{
		name: "attention-warp", kind: "missing __syncwarp", file: "attention_tile.h",
		old: "    __syncwarp();\n    if (aligned) {", new: "    if (aligned) {",
		kernels: "attention_forward32_f16", detector: "tsan",
	},
	{
		name: "hopper-values", kind: "missing barrierWait", file: "attention_hopper.h",
		old: "            barrierWait(&barriers.fullValues[before], (i - 1) / STAGES & 1);\n", new: "",
		kernels: "attention_hopper_.*", detector: "scheduler",
	},
	{
		name: "hopper-last", kind: "missing barrierWait", file: "attention_hopper.h",
		old: "        barrierWait(&barriers.fullValues[last % STAGES], last / STAGES & 1);\n", new: "",
		kernels: "attention_hopper_.*", detector: "tsan",
	},
	{
		name: "hopper-parity", kind: "wrong phase", file: "attention_hopper.h",
		old: "free = (i / STAGES & 1) ^ 1", new: "free = i / STAGES & 1",
		kernels: "attention_hopper_.*", detector: "scheduler",
	},
	{
		name: "hopper-bytes", kind: "wrong byte count", file: "attention_hopper.h",
		old:     "barrierExpect(&barriers.fullValues[stage], Tiles::STEP * sizeof(T));",
		new:     "barrierExpect(&barriers.fullValues[stage], Tiles::STEP);",
		kernels: "attention_hopper_.*", detector: "scheduler",
	},
	{
		name: "hopper-wait", kind: "missing wgmmaWait", file: "attention_hopper.h",
		old: "            wgmmaWait<1>();\n", new: "",
		kernels: "attention_hopper_.*", detector: "scheduler",
	},
	{
		name: "hopper-swizzle", kind: "wrong matrix in shared memory", file: "attention_hopper.h",
		old:     "swizzled128(tiles.keys(stage), 16, 1024)",
		new:     "swizzled128(tiles.keys(stage), 16, 512)",
		kernels: "attention_hopper_.*", detector: "result",
	},
	{
		name: "hopper-trans", kind: "wrong matrix in shared memory", file: "attention_hopper.h",
		old: "advanced(right, k * 16 * 128)", new: "advanced(right, k * 32)",
		kernels: "attention_hopper_.*", detector: "result",
	},
	{
		name: "hopper-release", kind: "place given back early", file: "attention_hopper.h",
		old:     "            wgmmaWait<0>();\n            settle(out[0]);\n            settle(p);\n            if (lane == 0) barrierArrive(&barriers.emptyValues[before]);",
		new:     "            if (lane == 0) barrierArrive(&barriers.emptyValues[before]);\n            wgmmaWait<0>();\n            settle(out[0]);\n            settle(p);",
		kernels: "attention_hopper_.*_128", detector: "tsan",
	},
	{
		name: "hopper-fence", kind: "missing wgmmaFence", file: "attention_hopper.h",
		old:     "            settle(p);\n            wgmmaFence();\n            hopperScores",
		new:     "            settle(p);\n            hopperScores",
		kernels: "attention_hopper_.*", detector: "scheduler",
	},
	{
		name: "hopper-proxy", kind: "missing fenceProxyAsync", file: "attention_hopper.h",
		old: "            fenceProxyAsync();\n            namedSync(3, 256);", new: "            namedSync(3, 256);",
		kernels: "attention_hopper_.*", detector: "result",
	},
	{
		name: "hopper-store", kind: "missing namedSync", file: "attention_hopper.h",
		old: "    namedSync(4 + group, 128);\n", new: "",
		kernels: "attention_hopper_.*_128", detector: "tsan",
	},
	{
		name: "hopper-turns", kind: "turns that do not match", file: "attention_hopper.h",
		old: "            if (group == 0 || i + 1 < steps) namedArrive(2 - group, 256);", new: "            namedArrive(2 - group, 256);",
		kernels: "attention_hopper_.*", detector: "scheduler",
	},
	{
		name: "hopper-lines", kind: "missing __syncwarp", file: "attention_hopper_backward.h",
		old: "                __syncwarp(); // every lane has read the last step's lines\n", new: "",
		kernels: "attention_hopper_dkv_.*_64", detector: "tsan",
	},
	{
		name: "hopper-empty", kind: "missing barrierWait", file: "attention_hopper_backward.h",
		old: "                barrierWait(&barriers.empty[stage], (i / 2 & 1) ^ 1);\n", new: "",
		kernels: "attention_hopper_dkv_.*", detector: "scheduler",
	},
	{
		name: "hopper-outer", kind: "missing wgmmaWait", file: "attention_hopper_backward.h",
		old:     "            wgmmaWait<1>();\n            settle(dp[0]);",
		new:     "            settle(dp[0]);",
		kernels: "attention_hopper_dkv_.*", detector: "result",
	},
	{
		name: "hopper-own", kind: "missing barrierWait", file: "attention_hopper_backward.h",
		old:     "        unsigned ds[KEYS / 16][4] = {};\n        barrierWait(&barriers.own[group], 0);\n",
		new:     "        unsigned ds[KEYS / 16][4] = {};\n",
		kernels: "attention_hopper_dq_.*", detector: "scheduler",
	},
	{
		name: "hopper-copy", kind: "wrong box", file: "attention_hopper_backward.h",
		old:     "copyBox(tiles.step(stage, 1) + part * Tiles::STEP_PART, b, &barriers.full[stage], 64 * part,",
		new:     "copyBox(tiles.step(stage, 1) + part * Tiles::STEP_PART, b, &barriers.full[stage], 0,",
		kernels: "attention_hopper_d.*_128", detector: "result",
	},
	{
		name: "blocks-edge", kind: "missing bounds check", file: "attention.h",
		old: "if (i + y < p.lq && j + x < p.lk)", new: "if (j + x < p.lk)",
		kernels: "attention_forward32_f16", detector: "asan",
	},
	{
		name: "blocks-step", kind: "wrong index", file: "attention_forward.h",
		old: "at += (j - j0) * stride, j0 = j;", new: "at += KEYS * stride, j0 = j;",
		kernels: "attention_forward32_bf16", detector: "result",
	},
	{
		name: "decode-merge", kind: "missing __syncthreads", file: "attention_decode.h",
		old:     "    __syncthreads(); // tiles are free for the warps' results\n",
		new:     "",
		kernels: "attention_decode64_f16", detector: "tsan",
	},
	{
		name: "decode-row", kind: "missing __syncwarp", file: "attention_decode.h",
		old:     "        __syncwarp(); // the row's exponentials are here\n",
		new:     "",
		kernels: "attention_decode64_f32", detector: "tsan",
	},
	{
		name: "decode-end", kind: "missing bounds check", file: "attention_decode.h",
		old:     "        if (j >= end) return nullptr;\n",
		new:     "",
		kernels: "attention_decode64_bf16", detector: "asan",
	},
	{
		name: "append-start", kind: "missing bounds check", file: "attention_decode.h",
		old: "if (j < 0 || j >= ", new: "if (j >= ",
		kernels: "attention_append_v16", detector: "asan",
	},
}
