#!/usr/bin/env bash
# Makes the throw-away environment of the peers (FIDLAB_PEERS, default .venv) and prints its interpreter. Exit status 3 when that
# is not possible, e.g. offline; the bench then reports our side alone.
set -uo pipefail
cd "$(dirname "$0")/../.."
venv=${FIDLAB_PEERS:-.venv}
python=$venv/bin/python
say() { printf 'bench setup: %s\n' "$*" >&2; }

if [ -x "$python" ] && "$python" -c 'import pytorch_fid, cleanfid, torch_fidelity, onnxruntime, openvino, diffusers, prdc' 2>/dev/null; then
	echo "$python"
	exit 0
fi
command -v python3 >/dev/null || { say "python3: not found; the peers are left out"; exit 3; }
say "installing the peers into $venv (about 5 GB, once; remove the folder when done)"
[ -x "$python" ] || python3 -m venv "$venv" >&2 || { say "python3 -m venv failed (Debian: apt-get install python3-venv); the peers are left out"; exit 3; }
"$python" -m pip install --quiet --disable-pip-version-check --timeout 20 --retries 1 -r scripts/bench/requirements.txt >&2 ||
	{ say "pip could not install the peers (offline?); they are left out"; exit 3; }
"$python" -c 'import pytorch_fid, cleanfid, torch_fidelity, onnxruntime, openvino, diffusers, prdc' >&2 || { say "the peers do not import; they are left out"; exit 3; }
echo "$python"
