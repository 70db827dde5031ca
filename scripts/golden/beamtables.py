"""Writes beam/shard/testdata/*.parquet and wide.npy: pictures and feature vectors as pyarrow and numpy write them. Deterministic for a
version of the libraries. Run: python scripts/golden/beamtables.py (needs pyarrow, numpy, pillow)."""

import io
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

OUT = os.path.join(os.path.dirname(__file__), "..", "..", "beam", "shard", "testdata")


def picture(i):
    """Pixel (x, y, c) of picture i is (7 i + 5 x + 3 y + 11 c) mod 256: the test computes it again."""
    y, x, c = np.meshgrid(np.arange(6), np.arange(5), np.arange(3), indexing="ij")
    b = io.BytesIO()
    Image.fromarray(((7 * i + 5 * x + 3 * y + 11 * c) % 256).astype(np.uint8)).save(b, "PNG")
    return b.getvalue()


def features(n, d):
    """Feature j of row i is sin(i + 1) (j + 1) + i j / 8: the test computes it again."""
    i, j = np.meshgrid(np.arange(n), np.arange(d), indexing="ij")
    return np.sin(i + 1.0) * (j + 1) + i * j / 8


def write(name, table, **options):
    pq.write_table(pa.table(table), os.path.join(OUT, name + ".parquet"), **options)


os.makedirs(OUT, exist_ok=True)
images = [picture(i) for i in range(9)]
hf = pa.array([{"bytes": b, "path": "%d.png" % i} for i, b in enumerate(images)], pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
write("images", {"image": hf, "label": pa.array(range(9), pa.int64())}, row_group_size=4, compression="snappy")
write("bytes", {"__key__": [str(i) for i in range(9)], "png": pa.array(images, pa.binary())}, compression="zstd")
write("nopicture", {"image": pa.array([images[0], None, b"no picture"], pa.binary())})
f = features(11, 6)
write("features", {"id": list(range(11)), "embedding": pa.array(list(f.astype(np.float32)), pa.list_(pa.float32()))}, row_group_size=4)
write("fixed", {"embedding": pa.array(list(f), pa.list_(pa.float64(), 6))}, compression="gzip")
write("ragged", {"embedding": pa.array([[1.0, 2.0], [3.0]], pa.list_(pa.float32()))})
write("null", {"embedding": pa.array([[1.0, 2.0], None], pa.list_(pa.float32()))})
write("nan", {"embedding": pa.array([[1.0, 2.0], [3.0, float("nan")]], pa.list_(pa.float32()))})
write("two", {"a": pa.array([[1.0]], pa.list_(pa.float32())), "b": pa.array([[1.0]], pa.list_(pa.float32()))})
write("text", {"caption": ["a dog"]})
write("norows", {"embedding": pa.array([], pa.list_(pa.float32()))})
np.save(os.path.join(OUT, "wide.npy"), f)
np.savez(os.path.join(OUT, "features.npz"), features=f.astype(np.float32), other=np.zeros(3))
