"""Decode + resize to 299 on one core: clean-fid against fidlab, on the same files in the same run.
RUN: python scripts/bench/decode.py [FOLDER]   (from the repository; needs clean-fid, torch, Pillow, numpy)
Prints one JSON object: pictures a second of each, and their ratio. Both read the files from memory."""
import io
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

os.environ["OMP_NUM_THREADS"] = "1"
import numpy as np
import torch
from cleanfid.resize import build_resizer
from PIL import Image

torch.set_num_threads(1)
SIZE, COUNT, ROUNDS = 256, 16, 5


def picture(i):
    """Waves with noise, the same as the peers' figures in the design were taken with."""
    r, g = np.random.default_rng(i), np.mgrid[0:SIZE, 0:SIZE] / SIZE
    im = np.stack([127 + 90 * np.sin(2 * np.pi * (r.uniform(1, 6) * g[0] + r.uniform(1, 6) * g[1] + r.uniform())) for _ in range(3)], -1)
    return Image.fromarray((im + r.normal(0, 12, im.shape)).clip(0, 255).astype(np.uint8))


def main():
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
    data = {"png": [], "jpg": []}
    for i in range(COUNT):
        for ext, kind, kw in (("png", "PNG", {}), ("jpg", "JPEG", {"quality": 90})):
            b = io.BytesIO()
            picture(i).save(b, kind, **kw)
            (folder / f"{i:03d}.{ext}").write_bytes(b.getvalue())
            data[ext].append(b.getvalue())
    clean, out = build_resizer("clean"), {}
    for ext, files in data.items():
        best = 1e9
        for _ in range(ROUNDS):
            t = time.perf_counter()
            for b in files:
                clean(np.asarray(Image.open(io.BytesIO(b)).convert("RGB")))
            best = min(best, time.perf_counter() - t)
        out[ext] = {"clean-fid": COUNT / best}
    env = {**os.environ, "FIDLAB_BENCH_DIR": str(folder)}
    cmd = ["go", "test", "-tags", "native", "./imageio", "-run", "^$", "-bench", "DecodeResize", "-count", str(ROUNDS), "-benchtime", "0.3s"]
    text = subprocess.run(cmd, env=env, check=True, capture_output=True, text=True).stdout
    for ext in data:
        ns = min(float(v) for v in re.findall(rf"DecodeResize/{ext}\S*\s+\d+\s+(\d+(?:\.\d+)?) ns/op", text))
        out[ext]["fidlab"] = 1e9 / ns
        out[ext]["ratio"] = out[ext]["fidlab"] / out[ext]["clean-fid"]
    print(json.dumps(out, indent=1))


main()
