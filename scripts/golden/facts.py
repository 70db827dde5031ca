"""Makes testdata/golden/facts: pictures with colour profiles and several JPEG encoders' settings, and what Pillow and imagehash say of
them. Run: python scripts/golden/facts.py (needs Pillow, numpy, scipy and imagehash)."""
import io
import json
import pathlib

import imagehash
import numpy as np
import PIL
from PIL import Image, ImageCms

OUT = pathlib.Path(__file__).parents[2] / "testdata/golden/facts"
OUT.mkdir(parents=True, exist_ok=True)


def picture(w, h, seed):
    r = np.random.default_rng(seed)
    y, x = np.mgrid[0:h, 0:w]
    a = r.uniform(0.02, 0.2, (3, 2))
    p = [127 + 90 * np.sin(a[c, 0] * x + a[c, 1] * y + c) + 40 * (x > w * r.uniform(0.2, 0.8)) for c in range(3)]
    return Image.fromarray((np.stack(p, -1) + r.normal(0, 6, (h, w, 3))).clip(0, 255).astype(np.uint8))


cases = []


def case(name, im, **kw):
    im.save(OUT / name, **kw)
    got = Image.open(OUT / name)
    cases.append({"file": name, "icc": "icc_profile" in got.info, "progressive": bool(got.info.get("progressive")),
                  "phash": str(imagehash.phash(got))})


srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
case("profile.png", picture(40, 30, 1), icc_profile=srgb)
case("profile.jpg", picture(40, 30, 2), icc_profile=srgb, quality=85)
case("profile.webp", picture(40, 30, 3), icc_profile=srgb, lossless=True)
case("plain.png", picture(64, 48, 4))
case("plain.webp", picture(50, 70, 5), lossless=True)
case("large.png", picture(150, 90, 6))
case("small.png", picture(20, 24, 7))
case("progressive.jpg", picture(60, 60, 8), quality=60, progressive=True)
case("gray.png", picture(70, 50, 9).convert("L"))
(OUT / "cases.json").write_text(json.dumps({"pillow": PIL.__version__, "imagehash": imagehash.__version__, "cases": cases}, indent=1) + "\n")
