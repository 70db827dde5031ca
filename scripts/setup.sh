#!/usr/bin/env bash
# Finds what the fast build (tag "native") needs, installs what is missing where it may, and says what is left and what that costs.
# Exit status 0 always, so that the pure-Go build goes on; the last line says "native: yes" or "native: no".
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
# The CUDA compiler, headers and disassemblers, pinned one by one: 110 MB to download, 277 MB in .cuda, no GPU and no root needed.
cuda=("cuda-toolkit[nvcc,cudart,cccl,crt,nvvm]==13.0.2" nvidia-cuda-cuobjdump==13.2.86 nvidia-cuda-nvdisasm==13.2.86)
# The runtime of ONNX models, for their tests and bin/fidlab: 19 MB to download, 23 MB in .onnx. Its absence costs those models alone.
onnx=onnxruntime==1.27.0
packages=(libdnnl-dev libopenblas-dev liblapacke-dev libturbojpeg0-dev libdeflate-dev)

has() { printf '#include <%s>\n' "$1" | ${CC:-gcc} -E -x c - >/dev/null 2>&1; }

missing() {
	command -v "${CC:-gcc}" >/dev/null || echo gcc
	command -v "${CXX:-g++}" >/dev/null || echo g++
	has dnnl.h || echo libdnnl-dev
	has cblas.h || echo libopenblas-dev
	has lapacke.h || echo liblapacke-dev
	has turbojpeg.h || echo libturbojpeg0-dev
	has libdeflate.h || echo libdeflate-dev
}

say() { printf 'setup: %s\n' "$*" >&2; }

command -v go >/dev/null || { say "go: not found; install Go 1.26 or newer"; exit 1; }

want=$(missing | tr '\n' ' ')
if [ -n "${want// /}" ]; then
	say "missing for the fast build: $want"
	run=""
	[ "$(id -u)" = 0 ] || run="sudo -n"
	if command -v apt-get >/dev/null && { [ -z "$run" ] || $run true 2>/dev/null; }; then
		say "installing with apt-get: ${packages[*]} gcc g++"
		{ $run apt-get update -qq && DEBIAN_FRONTEND=noninteractive $run apt-get install -y -qq --no-install-recommends "${packages[@]}" gcc g++; } >&2 2>&1 ||
			say "apt-get could not install them (offline?)"
	else
		say "apt-get is not here or may not be run; install them yourself: ${packages[*]}"
	fi
	want=$(missing | tr '\n' ' ')
fi

# cuda.h of CUDA 12 or 13 is needed to build; nvcc 13.0 only to change kernels, whose compiled form is in the repository.
cuda_header() { [ -e .cuda/nvidia/cu13/include/cuda.h ] || [ -e /usr/local/cuda/include/cuda.h ]; }
cuda_compiler() { [ -x .cuda/nvidia/cu13/bin/nvcc ] || /usr/local/cuda/bin/nvcc --version 2>/dev/null | grep -q 'release 13\.'; }
if ! cuda_compiler || ! cuda_header; then
	if python3 -m pip --version >/dev/null 2>&1; then
		say "installing with pip into .cuda: ${cuda[*]}"
		rm -rf .cuda.tmp
		if python3 -m pip install -q --disable-pip-version-check --target .cuda.tmp "${cuda[@]}" >&2; then
			rm -rf .cuda && mv .cuda.tmp .cuda
		else
			rm -rf .cuda.tmp
			say "pip could not install them (offline?)"
		fi
	else
		say "python3 with pip is not here; install it, or CUDA 13.0 into /usr/local/cuda"
	fi
	cuda_compiler || say "no nvcc 13.0: make kernels cannot compile changed kernels; the compiled ones in kernels/bin are used as they are"
	cuda_header || want="$want cuda.h"
fi
if ! ls .onnx/libonnxruntime* >/dev/null 2>&1; then
	say "installing with pip into .onnx: $onnx"
	rm -rf .onnx .onnx.tmp
	if python3 -m pip install -q --disable-pip-version-check --no-deps --target .onnx.tmp "$onnx" >&2 && mkdir .onnx &&
		mv .onnx.tmp/onnxruntime/capi/libonnxruntime.* .onnx.tmp/onnxruntime/{LICENSE,ThirdPartyNotices.txt} .onnx/; then
		:
	else
		rm -rf .onnx
		say "pip is not here or could not install it (offline?); ONNX models need it: pip install onnxruntime"
	fi
	rm -rf .onnx.tmp
fi
if [ -n "${want// /}" ]; then
	say "still missing: $want"
	say "cost: bin/fidlab is built in pure Go: the same results, about 10 to 35 times slower, JPEG not bit-equal to Pillow, no GPU"
	echo "native: no"
else
	say "found gcc $(${CC:-gcc} -dumpversion), oneDNN, OpenBLAS, LAPACKE, TurboJPEG, libdeflate and CUDA headers; a GPU is not needed"
	echo "native: yes"
fi
