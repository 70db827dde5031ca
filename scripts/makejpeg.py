"""Makes internal/cpu/testdata/jpeg: small JPEG files of every kind that decoders treat differently, and the SHA-256 of the
pixels that Pillow decodes them to (CMYK as the file stores it: Pillow's inversion undone). Run with Pillow: python scripts/makejpeg.py"""
import hashlib
import io
import json
import pathlib

import PIL
from PIL import Image, features

out = pathlib.Path(__file__).parent.parent / "internal/cpu/testdata/jpeg"
out.mkdir(parents=True, exist_ok=True)


def picture(w, h, mode, seed):
    """Smooth waves, edges and noise from a 32-bit congruential sequence."""
    n, px, s = len(mode), bytearray(), seed
    for y in range(h):
        for x in range(w):
            for c in range(n):
                s = (s * 1664525 + 1013904223) & 0xFFFFFFFF
                v = (x * (3 + c) * 255 // max(1, 2 * w) + y * (2 + c) * 255 // max(1, 3 * h)) % 256
                if (x // 5 + y // 7 + c) % 3 == 0:
                    v = 255 - v
                px.append((v * 7 + (s >> 24)) // 8)
    return Image.frombytes({1: "L", 3: "RGB", 4: "CMYK"}[n], (w, h), bytes(px))


cases = []
for name, mode, size, opts in [
    ("444-q95", "RGB", (33, 17), dict(quality=95, subsampling="4:4:4")),
    ("422-q80", "RGB", (35, 19), dict(quality=80, subsampling="4:2:2")),
    ("420-q90", "RGB", (37, 21), dict(quality=90, subsampling="4:2:0")),
    ("420-q30", "RGB", (64, 48), dict(quality=30, subsampling="4:2:0")),
    ("420-q5", "RGB", (31, 33), dict(quality=5, subsampling="4:2:0")),
    ("420-progressive", "RGB", (45, 39), dict(quality=85, subsampling="4:2:0", progressive=True)),
    ("422-restart", "RGB", (50, 40), dict(quality=75, subsampling="4:2:2", restart_marker_blocks=3)),
    ("rgb-keep", "RGB", (23, 25), dict(quality=90, keep_rgb=True)),
    ("1x1", "RGB", (1, 1), dict(quality=75)),
    ("gray", "L", (27, 15), dict(quality=80)),
    ("gray-progressive", "L", (40, 41), dict(quality=60, progressive=True)),
    ("cmyk", "CMYK", (21, 22), dict(quality=85)),
]:
    buf = io.BytesIO()
    picture(*size, mode, 7 + len(cases)).save(buf, "JPEG", **opts)
    data = buf.getvalue()
    (out / f"{name}.jpg").write_bytes(data)
    back = Image.open(io.BytesIO(data))
    px = back.tobytes()
    if back.mode == "CMYK":
        px = bytes(255 - v for v in px)
    cases.append(dict(file=f"{name}.jpg", width=back.width, height=back.height, channels=len(back.getbands()), sha256=hashlib.sha256(px).hexdigest()))
made = f"Pillow {PIL.__version__}, libjpeg-turbo {features.version('libjpeg_turbo')}, scripts/makejpeg.py"
(out / "cases.json").write_text(json.dumps(dict(made_by=made, cases=cases), indent=1) + "\n")
