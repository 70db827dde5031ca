#!/usr/bin/env bash
# Profiles one case of gpubench with NVIDIA's tools. docs/profiling.md says how to read what comes out.
#
#   profile.sh list                    the cases
#   profile.sh ncu CASE [FOLDER]       one launch of the case's kernel in detail (Nsight Compute)
#   profile.sh nsys REGEXP [FOLDER]    the timeline of all cases that match (Nsight Systems)
#
#   GPUBENCH=PROGRAM   the benchmark, where it is not beside this script and shall not be built with go
#   NCU_SET=full       the sections that ncu gathers
set -euo pipefail
PATH="$PATH:/usr/local/cuda/bin"
here=$(cd "$(dirname "$0")" && pwd)
verb=${1:-}
what=${2:-}
out=${3:-profile-out}

say() { printf 'profile.sh: %s\n' "$*" >&2; }
usage() {
	sed -n '2,/^set /p' "$0" | sed '$d; s/^# \{0,1\}//' >&2
	exit 2
}
need() {
	command -v "$1" >/dev/null && return
	say "$1 is not here; it comes with the CUDA toolkit, or as the package $2"
	exit 1
}

# The benchmark: with line numbers in the kernels where there is one, carried along or built from this checkout.
benchmark() {
	local p
	for p in "${GPUBENCH:-}" "$here/bin/gpubench-lines" "$here/bin/gpubench"; do
		if [ -n "$p" ] && [ -x "$p" ]; then
			echo "$p"
			return
		fi
	done
	p=$here/../bin/gpubench-lines
	if [ ! -x "$p" ] || [ -n "$(cd "$here/.." && find cuda gpu kernels ops scripts/gpubench -newer "$p" -print -quit)" ]; then
		(cd "$here/.." && make -s gpubench-lines >&2) || {
			say "no benchmark: set GPUBENCH, or run this in a checkout with Go, or beside the bin folder of make gpu-pack"
			return 1
		}
	fi
	echo "$p"
}

# Where the kernels' sources are, for the source page.
sources() {
	if [ -e "$here/kernels/device.h" ]; then echo "$here/kernels"; else echo "$here/../kernels"; fi
}

case $verb in
list)
	"$(benchmark)" -list
	;;
ncu)
	[ -n "$what" ] || usage
	need ncu nsight-compute
	mkdir -p "$out"
	bench=$(benchmark)
	kernel=$("$bench" -list | awk -v c="$what" '$1 == c { print $2 }')
	[ -n "$kernel" ] || {
		say "no case is called $what"
		exit 1
	}
	# The case runs four times: three launches warm up, the fourth is taken. Caches are cold and clocks fixed, as ncu does by itself.
	ncu --set "${NCU_SET:-full}" --import-source yes --source-folders "$(sources)" --kernel-name "regex:^$kernel\$" --launch-skip 3 --launch-count 1 \
		--force-overwrite --export "$out/$what" "$bench" -once "$what"
	ncu --import "$out/$what.ncu-rep" --page details >"$out/$what.txt"
	ncu --import "$out/$what.ncu-rep" --page source --csv >"$out/$what.source.csv" || say "no source page"
	say "open $out/$what.ncu-rep with ncu-ui; the text is in $out/$what.txt"
	;;
nsys)
	[ -n "$what" ] || usage
	need nsys nsight-systems
	mkdir -p "$out"
	bench=$(benchmark)
	nsys profile --trace cuda,nvtx,osrt --cuda-memory-usage true --force-overwrite true --output "$out/timeline" \
		"$bench" -run "$what" -md "$out/bench.md"
	nsys stats --report cuda_gpu_kern_sum,cuda_api_sum,nvtx_gpu_proj_sum "$out/timeline.nsys-rep" | tee "$out/timeline.txt"
	say "open $out/timeline.nsys-rep with nsys-ui"
	;;
*) usage ;;
esac
