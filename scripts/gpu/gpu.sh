#!/usr/bin/env bash
# Tests and times the kernels on this machine's GPU. Needs the NVIDIA driver, release 580 or newer, and nothing else: no Go, no CUDA toolkit.
#
#   ./gpu.sh test  [FOLDER]    every test on the device; compute-sanitizer on a short set, where it is installed
#   ./gpu.sh bench [FOLDER]    every kernel against its roofline, and against torch, where it is installed
#   ./gpu.sh all   [FOLDER]    both
#
# The results are tests.{md,json} and bench.{md,json} in FOLDER (gpu-out). Exit status 0: all passed and was measured.
#
#   FIDLAB_GPU_TESTS=REGEXP    run only these tests       FIDLAB_GPU_BENCH=REGEXP   time only these cases
#   FIDLAB_GPU_TIMEOUT=N       seconds for a program (1800)
#   PYTHON=python3             the interpreter that has torch
#   FIDLAB_HOST_DEVICE=1 FIDLAB_BENCH_TINY=1   a rehearsal without a GPU, with programs of pack.sh -host
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
verb=${1:-}
out=${2:-gpu-out}
limit=${FIDLAB_GPU_TIMEOUT:-1800}
python=${PYTHON:-python3}
host=${FIDLAB_HOST_DEVICE:-0}

# The programs are away from their sources; the golden files that they read came with them.
PATH="$PATH:/usr/local/cuda/bin"
export FIDLAB_CARRIED=1 FIDLAB_GOLDEN="$here/golden"

say() { printf 'gpu.sh: %s\n' "$*" >&2; }

# Is there a GPU, with a driver that knows code of CUDA 13.0?
check_device() {
	if [ "$host" = 1 ]; then
		say "rehearsal on the host device"
	elif command -v nvidia-smi >/dev/null; then
		local driver
		driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -n 1)
		nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm,power.limit --format=csv,noheader >&2 || true
		case ${driver%%.*} in
		'' | *[!0-9]*) say "nvidia-smi gives no driver version; going on" ;;
		*)
			if [ "${driver%%.*}" -lt 580 ]; then
				say "driver $driver is too old: the kernels are compiled by CUDA 13.0; install driver release 580 or newer"
				return 1
			fi
			;;
		esac
	else
		say "nvidia-smi is not here; asking the driver itself"
	fi
	if ! "$here/bin/gpubench" -info >&2; then
		say "no usable GPU"
		return 1
	fi
}

# run_logged NAME COMMAND...: run in src/NAME, output to logs/NAME.log, exit status to logs/NAME.rc
run_logged() {
	local name=$1 rc
	shift
	(cd "$here/src/$name" && exec timeout --kill-after=30 "$limit" "$@") >"$out/logs/$name.log" 2>&1
	rc=$?
	echo "$rc" >"$out/logs/$name.rc"
	say "$name: exit $rc"
}

tests() {
	local bin name failed=0
	rm -rf "$out/logs"
	mkdir -p "$out/logs"
	for bin in "$here"/bin/*.test; do
		name=$(basename "$bin" .test)
		run_logged "$name" "$bin" -test.v -test.timeout "${limit}s" ${FIDLAB_GPU_TESTS:+-test.run "$FIDLAB_GPU_TESTS"}
	done
	"$here/bin/gpubench" -tests "$out/logs" -json "$out/tests.json" -md "$out/tests.md" || failed=1
	sanitize || failed=1
	return "$failed"
}

# The sanitizers slow a kernel down 10 to 100 times: short tests only, and those of the device only.
sanitize() {
	local tool rc failed=0
	{
		echo
		echo "# compute-sanitizer"
		echo
	} >>"$out/tests.md"
	if [ "$host" = 1 ] || ! command -v compute-sanitizer >/dev/null; then
		say "compute-sanitizer is not run: $([ "$host" = 1 ] && echo "the host device is no GPU" || echo "it is not installed")"
		echo "Not run." >>"$out/tests.md"
		return 0
	fi
	for tool in memcheck racecheck initcheck synccheck; do
		(cd "$here/src/ops" && exec timeout --kill-after=30 "$limit" compute-sanitizer --tool "$tool" --error-exitcode 86 --print-limit 20 \
			"$here/bin/ops.test" -test.short -test.v -test.run "${FIDLAB_GPU_TESTS:-.}/^cuda\$") >"$out/logs/$tool.txt" 2>&1
		rc=$?
		case $rc in
		0) echo "- $tool: no error" ;;
		86) echo "- $tool: **errors**, see logs/$tool.txt" ;;
		124 | 137) echo "- $tool: not finished in $limit s" ;;
		*) echo "- $tool: **ended with $rc**, see logs/$tool.txt" ;;
		esac | tee -a "$out/tests.md" >&2
		case $rc in 0 | 124 | 137) ;; *) failed=1 ;; esac
	done
	return "$failed"
}

bench() {
	local peer=()
	mkdir -p "$out"
	"$here/bin/gpubench" -run "${FIDLAB_GPU_BENCH:-}" -specs "$out/specs.json" || return 1
	if [ "$host" = 1 ] && "$python" -c 'import torch' 2>/dev/null; then
		"$python" "$here/torch_peer.py" --device cpu --reps 2 "$out/specs.json" "$out/torch.json" && peer=(-torch "$out/torch.json")
	elif "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
		"$python" "$here/torch_peer.py" "$out/specs.json" "$out/torch.json" && peer=(-torch "$out/torch.json")
	else
		say "torch with CUDA is not here ($python): no column of the peer"
	fi
	"$here/bin/gpubench" -run "${FIDLAB_GPU_BENCH:-}" -json "$out/bench.json" -md "$out/bench.md" "${peer[@]}"
}

case $verb in
test | bench | all) ;;
*)
	sed -n '2,/^set /p' "$0" | sed '$d; s/^# \{0,1\}//' >&2
	exit 2
	;;
esac
mkdir -p "$out" && out=$(cd "$out" && pwd) || exit 1
check_device || exit 1
status=0
if [ "$verb" != bench ]; then tests || status=1; fi
if [ "$verb" != test ]; then
	bench || status=1
	[ -e "$out/bench.md" ] && cat "$out/bench.md"
fi
say "results in $out: $(cd "$out" && echo ./*.md ./*.json)"
exit "$status"
