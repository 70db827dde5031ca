#!/usr/bin/env bash
# Finds what the fast build (tag "native") needs, installs what is missing where it may, and says what is left and what that costs.
# Exit status 0 always, so that the pure-Go build goes on; the last line says "native: yes" or "native: no".
set -uo pipefail
cd "$(dirname "$0")/.."
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
if [ -n "${want// /}" ]; then
	say "still missing: $want"
	say "cost: bin/fidlab is built in pure Go: the same results, about 10 to 35 times slower, JPEG not bit-equal to Pillow"
	echo "native: no"
else
	say "found gcc $(${CC:-gcc} -dumpversion), oneDNN, OpenBLAS, LAPACKE, TurboJPEG and libdeflate headers; a GPU is not needed"
	echo "native: yes"
fi
