#!/usr/bin/env bash
# Rehearses what runs on a GPU machine: packs with the host device, unpacks the archive elsewhere, runs gpu.sh at small sizes and
# looks at what it wrote. No GPU, no torch needed.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
say() { printf 'rehearse: %s\n' "$*" >&2; }

scripts/gpu/pack.sh -host "$work/gpu"
mkdir "$work/elsewhere"
tar -C "$work/elsewhere" -xzf "$work/gpu.tar.gz"
cd "$work/elsewhere/gpu"

# Go must not be needed: a path without it. A machine without a driver is refused with the reason.
PATH=/usr/bin:/bin
export PATH FIDLAB_BENCH_TINY=1
if command -v go >/dev/null; then say "go is on the short path too; that it is not needed is not shown"; fi
if [ ! -e /dev/nvidiactl ] && ./gpu.sh bench "$work/none" 2>"$work/refused"; then
	say "without a GPU gpu.sh should have failed"
	exit 1
fi
if [ ! -e /dev/nvidiactl ] && ! grep -q 'no usable' "$work/refused"; then
	say "no reason given:"
	cat "$work/refused" >&2
	exit 1
fi

export FIDLAB_HOST_DEVICE=1
FIDLAB_GPU_TESTS=${FIDLAB_GPU_TESTS:-'^(TestProbes|TestThereAndBack|TestRounding|TestLinComb.*)$'} ./gpu.sh test "$work/out" >&2
./gpu.sh bench "$work/out" >&2
for f in tests.md tests.json bench.md bench.json; do
	[ -s "$work/out/$f" ] || {
		say "$f was not written"
		exit 1
	}
done
# Every case has a time, and none failed.
cases=$(./bin/gpubench -list | wc -l)
rows=$(grep -c '"hot_us": [0-9]' "$work/out/bench.json")
if [ "$cases" -ne "$rows" ] || grep -q '"error"' "$work/out/bench.json"; then
	say "$rows of $cases cases were measured"
	exit 1
fi
# Every kernel is launched by a case: one that is not timed is not known to be fast.
untimed=$(comm -23 <(sed -n 's/^EXPORT(\(.*\))$/\1/p' "$root"/kernels/*.cu | sort -u) <(sed -n 's/.*"kernel": "\(.*\)",$/\1/p' "$work/out/bench.json" | sort -u))
if [ -n "$untimed" ]; then
	say "launched by no case of scripts/gpubench; add one for each: $(tr "\n" " " <<<"$untimed")"
	exit 1
fi
say "$cases cases, $(grep -o '"on_device": [0-9]*' "$work/out/tests.json" | head -n 1)"
