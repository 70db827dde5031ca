"""Makes testdata/golden/decode: small pictures of every format and kind that imageio reads, and what Pillow's convert("RGB") makes of
them. Deterministic for given library versions. Run: python scripts/golden/decode.py (needs Pillow and numpy)."""
import io
import json
import pathlib
import shutil

import numpy as np
import PIL
from PIL import Image, ImageOps, features

OUT = pathlib.Path(__file__).parents[2] / "testdata/golden/decode"
cases, wanted = [], {}


def picture(w, h, channels, seed=1):
    """Waves, an edge and noise, uint8 [h, w, channels]."""
    r = np.random.default_rng(seed)
    y, x = np.mgrid[0:h, 0:w]
    p = [127 + 90 * np.sin(0.3 * (x * (1 + c % 2) + y * (0.5 + c)) + c) + 40 * (x > w // 2) for c in range(channels)]
    return (np.stack(p, -1) + r.normal(0, 10, (h, w, channels))).clip(0, 255).astype(np.uint8)


def want_file(rgb):
    """Stores a result once, named by its content."""
    b = io.BytesIO()
    Image.fromarray(rgb).save(b, "PNG", optimize=True)
    if b.getvalue() not in wanted:
        wanted[b.getvalue()] = f"want-{len(wanted):03d}.png"
        (OUT / wanted[b.getvalue()]).write_bytes(b.getvalue())
    return wanted[b.getvalue()]


def case(name, data, exact, rgb=None, note="", **facts):
    """exact: every decoder must agree; else only libjpeg-turbo or libwebp's own conversion does."""
    (OUT / name).write_bytes(data)
    im = Image.open(io.BytesIO(data))
    if rgb is None:
        rgb = np.asarray(im.convert("RGB"))
    c = {"file": name, "want": want_file(rgb), "exact": exact, **facts}
    if note:
        c["note"] = note
    cases.append(c)


def saved(im, fmt, **kw):
    b = io.BytesIO()
    im.save(b, fmt, **kw)
    return b.getvalue()


def jpegs():
    for q in (10, 25, 50, 75, 90, 95, 100):
        for s, sub in ((0, "444"), (1, "422"), (2, "420")):
            w, h = 33 + q % 7, 29 + s
            im = Image.fromarray(picture(w, h, 3, q + s))
            case(f"q{q}-{sub}.jpg", saved(im, "JPEG", quality=q, subsampling=s), False, lossy=True)
    rgb = Image.fromarray(picture(41, 37, 3, 5))
    for s, sub in ((0, "444"), (1, "422"), (2, "420")):
        case(f"progressive-{sub}.jpg", saved(rgb, "JPEG", quality=80, subsampling=s, progressive=True), False, lossy=True)
    case("optimised.jpg", saved(rgb, "JPEG", quality=60, optimize=True), False, lossy=True)
    case("restart.jpg", saved(rgb, "JPEG", quality=60, restart_marker_blocks=2), False, lossy=True)
    case("rgb.jpg", saved(rgb, "JPEG", quality=90, keep_rgb=True), False, lossy=True)
    for w, h in ((1, 1), (2, 1), (1, 9), (7, 3), (8, 8), (16, 16), (17, 15), (64, 48)):
        case(f"size-{w}x{h}.jpg", saved(Image.fromarray(picture(w, h, 3, w)), "JPEG", quality=75), False, lossy=True)
    gray = Image.fromarray(picture(31, 22, 1, 8)[:, :, 0])
    case("gray.jpg", saved(gray, "JPEG", quality=85), False, lossy=True, gray=True)
    case("gray-progressive.jpg", saved(gray, "JPEG", quality=40, progressive=True), False, lossy=True, gray=True)
    cmyk = Image.fromarray(picture(25, 18, 4, 9), "CMYK")
    case("cmyk.jpg", saved(cmyk, "JPEG", quality=90), False, lossy=True, cmyk=True)
    for o in range(2, 9):
        exif = Image.Exif()
        exif[0x0112] = o
        data = saved(Image.fromarray(picture(19, 12, 3, 4)), "JPEG", quality=90, exif=exif)
        case(f"orientation-{o}.jpg", data, False, lossy=True, rotated=True)
        turned = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
        cases[-1]["want_oriented"] = want_file(turned)


def pngs():
    rgb, rgba = picture(29, 21, 3, 1), picture(29, 21, 4, 2)
    gray = picture(29, 21, 1, 3)[:, :, 0]
    case("rgb.png", saved(Image.fromarray(rgb), "PNG"), True)
    case("rgb-level0.png", saved(Image.fromarray(rgb), "PNG", compress_level=0), True)
    case("rgb-big.png", saved(Image.fromarray(picture(150, 110, 3, 5)), "PNG"), True)
    case("rgba.png", saved(Image.fromarray(rgba), "PNG"), True, alpha=True)
    case("gray.png", saved(Image.fromarray(gray), "PNG"), True, gray=True)
    case("gray-alpha.png", saved(Image.fromarray(rgba[:, :, :2].copy(), "LA"), "PNG"), True, gray=True, alpha=True)
    case("bilevel.png", saved(Image.fromarray(gray > 128), "PNG"), True, gray=True)
    case("transparent-colour.png", saved(Image.fromarray(rgb), "PNG", transparency=tuple(int(v) for v in rgb[3, 4])), True, alpha=True)
    case("transparent-gray.png", saved(Image.fromarray(gray), "PNG", transparency=int(gray[0, 0])), True, gray=True, alpha=True)
    for colours, bits in ((256, 8), (16, 4), (4, 2), (2, 1)):
        p = Image.fromarray(rgb).quantize(colours)
        case(f"palette-{bits}.png", saved(p, "PNG", bits=bits), True, palette=True)
    case("palette-transparent.png", saved(Image.fromarray(rgb).quantize(64), "PNG", transparency=5), True, palette=True, alpha=True)
    for bits in (2, 4):
        g = gray >> (8 - bits)
        case(f"gray-{bits}.png", raw_png(29, 21, bits, 0, packed(g, bits)), True, gray=True)
    deep = (gray.astype(np.uint16) << 8) + gray[::-1, ::-1]
    case("gray-16.png", saved(Image.fromarray(deep), "PNG"), True, rgb=np.repeat((deep >> 8).astype(np.uint8)[:, :, None], 3, 2),
         note="high byte; Pillow saturates", gray=True, deep=True)
    deep3 = (rgb.astype(np.uint16) << 8) + rgb[::-1, ::-1]
    case("rgb-16.png", raw_png(29, 21, 16, 2, [r.astype(">u2").tobytes() for r in deep3]), True, deep=True)
    deep4 = (rgba.astype(np.uint16) << 8) + rgba[::-1, ::-1]
    case("rgba-16.png", raw_png(29, 21, 16, 6, [r.astype(">u2").tobytes() for r in deep4]), True, deep=True, alpha=True)
    case("gray-alpha-16.png", raw_png(29, 21, 16, 4, [r.astype(">u2").tobytes() for r in deep4[:, :, :2]]), True, deep=True, alpha=True, gray=True)
    for kind, name, px in ((2, "rgb", rgb), (6, "rgba", rgba), (0, "gray", gray[:, :, None])):
        for f in range(5):
            rows = filtered(px, f)
            facts = {"gray": kind == 0, "alpha": kind == 6}
            case(f"filter-{f}-{name}.png", raw_png(29, 21, 8, kind, rows, prefiltered=True), True, **facts)
        case(f"many-chunks-{name}.png", raw_png(29, 21, 8, kind, [r.tobytes() for r in px], chunk=50), True, gray=kind == 0, alpha=kind == 6)
        case(f"interlaced-{name}.png", raw_png(29, 21, 8, kind, adam7(px), prefiltered=True, interlace=1), True, gray=kind == 0, alpha=kind == 6)
    case("1x1.png", saved(Image.fromarray(picture(1, 1, 3)), "PNG"), True)
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(Image.fromarray(rgb), "PNG", exif=exif)
    case("orientation-6.png", data, True, rotated=True)
    cases[-1]["want_oriented"] = want_file(np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")))


def packed(g, bits):
    """Rows of sub-byte samples."""
    rows = []
    for r in g:
        s = "".join(format(int(v), f"0{bits}b") for v in r)
        s += "0" * (-len(s) % 8)
        rows.append(int(s, 2).to_bytes(len(s) // 8, "big"))
    return rows


def adam7(px):
    rows = []
    for x0, y0, dx, dy in ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)):
        for r in px[y0::dy, x0::dx]:
            if r.size:
                rows.append(b"\0" + r.tobytes())
    return rows


def filtered(px, f):
    """The rows of an 8-bit picture under one PNG filter."""
    step, rows, prev = px.shape[2], [], None
    for r in px.reshape(px.shape[0], -1).astype(int):
        up = np.zeros_like(r) if prev is None else prev
        left = np.concatenate([np.zeros(step, int), r[:-step]])
        corner = np.concatenate([np.zeros(step, int), up[:-step]])
        p = left + up - corner
        da, db, dc = abs(p - left), abs(p - up), abs(p - corner)
        paeth = np.where((da <= db) & (da <= dc), left, np.where(db <= dc, up, corner))
        base = [np.zeros_like(r), left, up, (left + up) // 2, paeth][f]
        rows.append(bytes([f]) + ((r - base) % 256).astype(np.uint8).tobytes())
        prev = r
    return rows


def raw_png(w, h, depth, kind, rows, prefiltered=False, chunk=1 << 30, interlace=0):
    import struct
    import zlib

    def ch(k, d):
        return struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d))

    z = zlib.compress(b"".join(r if prefiltered else b"\0" + r for r in rows))
    idat = b"".join(ch(b"IDAT", z[i : i + chunk]) for i in range(0, len(z), chunk))
    return b"\x89PNG\r\n\x1a\n" + ch(b"IHDR", struct.pack(">IIBBBBB", w, h, depth, kind, 0, 0, interlace)) + idat + ch(b"IEND", b"")


def part_gif(transparent):
    """A GIF whose first frame covers a part of the screen."""
    colours = bytes([10, 20, 30, 200, 100, 50, 0, 255, 0, 9, 9, 9])
    im = Image.new("P", (3, 2))
    im.putpalette(colours)
    im.putdata([1, 2, 3, 1, 2, 3])
    one = saved(im, "GIF", optimize=False)
    at = one.index(b",\0\0\0\0\3\0\2\0")
    pixels = one[at + 10 + (3 * (2 << (one[at + 9] & 7)) if one[at + 9] & 0x80 else 0) :]
    mark = b"" if transparent is None else bytes([0x21, 0xF9, 4, 1, 0, 0, transparent, 0])
    return b"GIF89a\x08\0\x06\0\x81\2\0" + colours + mark + b",\2\0\1\0\3\0\2\0\0" + pixels


def others():
    rgb, rgba = Image.fromarray(picture(27, 20, 3, 11)), Image.fromarray(picture(27, 20, 4, 12))
    gray = Image.fromarray(picture(27, 20, 1, 13)[:, :, 0])
    case("lossless.webp", saved(rgb, "WEBP", lossless=True), True)
    case("lossless-alpha.webp", saved(rgba, "WEBP", lossless=True, exact=True), True, alpha=True)
    for q in (20, 75, 95):
        im = Image.fromarray(picture(43 + q % 2, 35, 3, q))
        case(f"q{q}.webp", saved(im, "WEBP", quality=q), True, lossy=True)
    case("alpha-q80.webp", saved(rgba, "WEBP", quality=80), True, lossy=True, alpha=True)
    case("1x1.webp", saved(Image.fromarray(picture(1, 1, 3)), "WEBP", quality=80), True, lossy=True)
    for comp in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"):
        case(f"rgb-{comp}.tif", saved(rgb, "TIFF", compression=comp), True)
    for o in (3, 6):
        exif = Image.Exif()
        exif[0x0112] = o
        case(f"orientation-{o}.tif", saved(rgb, "TIFF", exif=exif), True)
    case("rgba.tif", saved(rgba, "TIFF"), True, alpha=True)
    case("gray.tif", saved(gray, "TIFF"), True, gray=True)
    case("palette.tif", saved(rgb.quantize(64), "TIFF"), True, palette=True)
    deep = (np.asarray(gray).astype(np.uint16) << 8) + 7
    case("gray-16.tif", saved(Image.fromarray(deep), "TIFF"), True, rgb=np.repeat((deep >> 8).astype(np.uint8)[:, :, None], 3, 2),
         note="high byte; Pillow saturates", gray=True, deep=True)
    case("bilevel.tif", saved(Image.fromarray(np.asarray(gray) > 128), "TIFF"), True, gray=True)
    case("rgb.bmp", saved(rgb, "BMP"), True)
    case("gray.bmp", saved(gray, "BMP"), True, palette=True)
    case("palette.bmp", saved(rgb.quantize(50), "BMP"), True, palette=True)
    case("bilevel.bmp", saved(Image.fromarray(np.asarray(gray) > 128), "BMP"), True, palette=True)
    case("rgba.bmp", saved(rgba, "BMP"), True, alpha=True)
    case("plain.gif", saved(rgb.quantize(100), "GIF"), True, palette=True)
    case("interlaced.gif", saved(rgb.quantize(30), "GIF", interlace=1), True, palette=True)
    case("transparent.gif", saved(rgb.quantize(30), "GIF", transparency=3), True, palette=True, alpha=True)
    frames = [Image.fromarray(picture(27, 20, 3, s)).quantize(40) for s in (20, 21, 22)]
    case("animated.gif", saved(frames[0], "GIF", save_all=True, append_images=frames[1:]), True, palette=True)
    case("part.gif", part_gif(None), True, palette=True)
    case("part-transparent.gif", part_gif(3), True, palette=True, alpha=True)
    case("gray.gif", saved(gray, "GIF"), True, palette=True)
    a = np.asarray(rgb)
    case("binary.ppm", b"P6\n# note\n27 20\n255\n" + a.tobytes(), True)
    case("binary-16.ppm", b"P6 27 20 1000\n" + (a.astype(int) * 1000 // 255).astype(">u2").tobytes(), True, deep=True)
    case("binary-7.ppm", b"P6 27 20 7\n" + (a >> 5).tobytes(), True)
    case("text.ppm", b"P3\n27 20\n255\n" + " ".join(str(v) for v in a.ravel()).encode(), True)
    case("text-100.ppm", b"P3\n27 20 100\n" + "\n".join(str(v * 100 // 255) for v in a.ravel().astype(int)).encode(), True)
    g = np.asarray(gray)
    case("binary.pgm", b"P5\n27 20\n255\n" + g.tobytes(), True, gray=True)
    case("binary-16.pgm", b"P5\n27 20\n65535\n" + (g.astype(int) * 257).astype(">u2").tobytes(), True,
         rgb=np.repeat(g[:, :, None], 3, 2), note="high byte; Pillow saturates", gray=True, deep=True)
    case("text.pgm", b"P2\n27 20\n15\n" + " ".join(str(v >> 4) for v in g.ravel()).encode(), True, gray=True)
    case("binary.pbm", saved(Image.fromarray(g > 128), "PPM"), True, gray=True)
    case("text.pbm", b"P1\n27 20\n" + b"\n".join(b"".join(b"1" if v > 128 else b"0" for v in r) for r in g), True, gray=True)


shutil.rmtree(OUT, ignore_errors=True)
OUT.mkdir(parents=True)
jpegs()
pngs()
others()
for c in cases:  # false facts are the default
    for k in [k for k, v in c.items() if v is False and k != "exact"]:
        del c[k]
made = {"pillow": PIL.__version__, **{k: features.version(k) for k in ("libjpeg_turbo", "webp", "zlib", "libtiff")}, "numpy": np.__version__}
(OUT / "cases.json").write_text(json.dumps({"produced_by": made, "cases": cases}, indent=1) + "\n")
(OUT / "README.md").write_text(f"""# decode
`cases.json` -> cases[]: `file`, and `want`, a PNG with what Pillow's `convert("RGB")` makes of it (`want_oriented`: after its EXIF rotation).
`exact`: every decoder must give these bits; otherwise (JPEG) only libjpeg-turbo does, and others are within a few levels. The flags name what
must be reported of the picture (gray, alpha, palette, deep, cmyk, rotated, lossy). Cases with a `note` depart from Pillow on purpose: gray of 16
bits gives its high byte; Pillow {PIL.__version__} saturates at 255 there, which makes such pictures white.
Made by `python scripts/golden/decode.py` with Pillow {PIL.__version__} (libjpeg-turbo {features.version("libjpeg_turbo")}, libwebp {features.version("webp")}). {len(cases)} cases.
""")
print(len(cases), "cases,", sum(f.stat().st_size for f in OUT.iterdir()), "bytes")
