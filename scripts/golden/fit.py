"""Writes data/folder/testdata/fit.json: what Pillow makes of pictures by the two ways of training sets,
the center-crop of EDM's dataset_tool.py and the center_crop_arr of ADM. Run from the repository's root with
Pillow and numpy installed:

    python scripts/golden/fit.py

A picture's value at x, y, c is (7x + 13y + 50c + xy) mod 251; the test makes the same.
"""
import json

import numpy as np
import PIL
from PIL import Image


def picture(w, h):
    y, x, c = np.mgrid[0:h, 0:w, 0:3]
    return Image.fromarray(((7 * x + 13 * y + 50 * c + x * y) % 251).astype(np.uint8))


def crop(m, size):
    a = np.array(m)
    side = min(a.shape[:2])
    top, left = (a.shape[0] - side) // 2, (a.shape[1] - side) // 2
    square = Image.fromarray(a[top:top + side, left:left + side])
    return np.array(square.resize((size, size), Image.LANCZOS))


def adm(m, size):
    while min(m.size) >= 2 * size:
        m = m.resize((m.size[0] // 2, m.size[1] // 2), resample=Image.BOX)
    factor = size / min(m.size)
    m = m.resize((round(m.size[0] * factor), round(m.size[1] * factor)), resample=Image.BICUBIC)
    a = np.array(m)
    top, left = (a.shape[0] - size) // 2, (a.shape[1] - size) // 2
    return a[top:top + size, left:left + size]


def squash(m, size):
    return np.array(m.resize((size, size), Image.LANCZOS))


cases = []
for w, h, size in [(37, 21, 8), (16, 50, 8), (8, 8, 8), (5, 9, 8), (33, 33, 16), (70, 64, 16), (17, 16, 8), (31, 90, 8)]:
    for name, f in [("crop", crop), ("adm", adm), ("squash", squash)]:
        cases.append({"fit": name, "width": w, "height": h, "size": size, "pixels": f(picture(w, h), size).tobytes().hex()})
with open("data/folder/testdata/fit.json", "w") as f:
    json.dump({"pillow": PIL.__version__, "cases": cases}, f, indent=0)
    f.write("\n")
