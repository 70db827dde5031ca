package main

// mutations has every kind of mistake and every family of kernels.
var mutations = []mutation{
	{
		name: "lincomb-end", kind: "missing bounds check", file: "lincomb.cu",
		old: "if (vectors && at + V <= n) {", new: "if (vectors && at < n) {",
		kernels: "lincomb_f32", detector: "asan", test: "LinComb",
	},
	{
		name: "lincomb-bad", kind: "unordered write", file: "lincomb.cu",
		old: "            atomicMin(bad, static_cast<unsigned long long>(e));\n            return;", new: "            *bad = e;\n            return;",
		kernels: "lincomb_.*", detector: "tsan",
	},
	{
		name: "attention-wait", kind: "cp.async without a wait", file: "attention_forward.h",
		old: "        copyAsyncWait<0>();\n        __syncthreads(); // values are here", new: "        __syncthreads(); // values are here",
		kernels: "attention_forward32_f16", detector: "result",
	},
	{
		name: "attention-barrier", kind: "missing __syncthreads", file: "attention_forward.h",
		old: "__syncthreads(); // values are here", new: "// values are here",
		kernels: "attention_forward32_bf16", detector: "tsan",
	},
	{
		name: "attention-rows", kind: "missing bounds check", file: "attention_tile.h",
		old: "            if (r < valid && chunk * 8 < d)", new: "            if (chunk * 8 < d)",
		kernels: "attention_forward32_f16", detector: "asan",
	},
	{
		name: "attention-copy-rows", kind: "missing bounds check", file: "attention_tile.h",
		old: "from, inside && row + r < valid);", new: "from, inside);",
		kernels: "attention_forward32_f16", detector: "asan",
	},
	{
		name: "attention-warp", kind: "missing __syncwarp", file: "attention_tile.h",
		old: "    __syncwarp();\n    if (aligned) {", new: "    if (aligned) {",
		kernels: "attention_forward32_f16", detector: "tsan",
	},
}
