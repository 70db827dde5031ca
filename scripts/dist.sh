#!/usr/bin/env bash
# Archives of the binary in dist/: linux/amd64 native where its headers are, pure Go for the rest. Same input, same bytes.
set -euo pipefail
cd "$(dirname "$0")/.."
version=${1:?usage: scripts/dist.sh VERSION}
rm -rf dist && mkdir -p dist
export SOURCE_DATE_EPOCH
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
ld="-s -w -X github.com/fidlab/fidlab/internal/cli.version=$version"
pack() { # os arch cgo tags
	local name="fidlab-$version-$1-$2" exe=fidlab
	[ "$1" = windows ] && exe=fidlab.exe
	mkdir -p "dist/$name"
	local ext=""
	[ "$3" = 1 ] && ext=" -extldflags '-static-libgcc -static-libstdc++'"
	CGO_ENABLED=$3 GOOS=$1 GOARCH=$2 go build -trimpath -tags "$4" -ldflags "$ld$ext" -o "dist/$name/$exe" ./cmd/fidlab
	cp LICENSE README.md CHANGELOG.md "dist/$name/"
	mkdir "dist/$name/assets" # where the program looks first
	cp assets/index.json assets/*.safetensors "dist/$name/assets/"
	tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -C dist -cf - "$name" | gzip -n9 >"dist/$name.tar.gz"
	rm -r "dist/$name"
}
if grep -q 'native: yes' .setup && [ "$(go env GOHOSTARCH)" = amd64 ] && [ "$(go env GOHOSTOS)" = linux ]; then
	pack linux amd64 1 native
else
	pack linux amd64 0 ""
fi
pack linux arm64 0 ""
pack darwin arm64 0 ""
pack windows amd64 0 ""
(cd dist && sha256sum ./*.tar.gz >SHA256SUMS && cat SHA256SUMS)
