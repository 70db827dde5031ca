#!/usr/bin/env bash
# Packs all that a GPU machine without Go needs into one folder and one archive: test programs, the benchmark, the peer's script and gpu.sh.
#
#   scripts/gpu/pack.sh FOLDER          for a real GPU
#   scripts/gpu/pack.sh -host FOLDER    with the host device, for a rehearsal without a GPU
#
# PACK_LINES=0 leaves out the benchmark with line numbers in its kernels, for profile.sh; it needs nvcc.
# The compiled kernels are inside the programs. The archive is FOLDER.tar.gz and may have 60 MB.
set -euo pipefail
cd "$(dirname "$0")/../.."
limit=$((60 * 1000 * 1000))
tags=native
flags=(-trimpath)
if [ "${1:-}" = -host ]; then
	tags="native hostdev"
	flags=() # what the tests have compiled already serves again
	shift
fi
out=${1:?usage: pack.sh [-host] FOLDER}
say() { printf 'pack: %s\n' "$*" >&2; }

if ! grep -qs 'native: yes' .setup; then
	say "the native build is not possible here (make setup says why)"
	exit 1
fi
export CGO_ENABLED=1
ldflags="-s -w -extldflags '-static-libgcc -static-libstdc++'"

# build_test PACKAGE: the package's test program, if it has tests.
build_test() {
	local name=${1//\//-}
	go test -c "${flags[@]}" -tags "$tags" -ldflags "$ldflags" -o "$out/bin/$name.test" "./$1"
	mkdir -p "$out/src/$name" # where it runs, beside its test data
	if [ -d "$1/testdata" ]; then cp -r "$1/testdata" "$out/src/$name/"; fi
}

rm -rf "$out" "$out.tar.gz"
mkdir -p "$out/bin"
for p in cuda kernels gpu ops; do
	[ -d "$p" ] && build_test "$p"
done
go build "${flags[@]}" -tags "$tags" -ldflags "$ldflags" -o "$out/bin/gpubench" ./scripts/gpubench
if [ "$tags" = native ] && [ "${PACK_LINES:-1}" = 1 ]; then
	lines=$(mktemp -d)
	trap 'rm -rf "$lines"' EXIT
	if CGO_ENABLED=0 go run ./scripts/kernels lines "$lines" >&2; then
		go build -overlay "$lines/overlay.json" "${flags[@]}" -tags "$tags" -ldflags "$ldflags" -o "$out/bin/gpubench-lines" ./scripts/gpubench
		mkdir "$out/kernels"
		cp kernels/*.cu kernels/*.h "$out/kernels/"
	else
		say "no benchmark with line numbers: the profilers will not show source lines"
	fi
fi
mkdir "$out/golden"
cp -r testdata/golden/fid "$out/golden/" # what the tests of ops read
cp scripts/gpu/gpu.sh scripts/gpu/torch_peer.py scripts/profile.sh "$out/"
{
	git describe --tags --always --dirty 2>/dev/null || echo devel
	echo "tags: $tags"
} >"$out/VERSION"
archive() {
	tar -C "$(dirname "$out")" --sort=name --owner=0 --group=0 --numeric-owner -czf "$out.tar.gz" "$(basename "$out")"
	bytes=$(stat -c %s "$out.tar.gz")
	say "$out.tar.gz: $bytes bytes"
}
archive
if [ "$bytes" -gt "$limit" ] && [ -e "$out/bin/gpubench-lines" ]; then
	say "that is more than $limit: the benchmark with line numbers is left out, make gpubench-lines makes it"
	rm -r "$out/bin/gpubench-lines" "$out/kernels"
	archive
fi
if [ "$bytes" -gt "$limit" ]; then
	say "that is more than $limit"
	exit 1
fi
