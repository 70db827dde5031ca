"""Writes data/folder/testdata/*.parquet: one table of pictures, labels and captions in the ways that Arrow has of writing it, and
some that are not read. Deterministic for a version of the library. Run: python scripts/golden/parquet.py (needs pyarrow 26.0.1)."""

import os

import pyarrow as pa
import pyarrow.parquet as pq

OUT = os.path.join(os.path.dirname(__file__), "..", "..", "data", "folder", "testdata")

names = ["b/2.png", "a/1.png"]
captions = [["a dog"], ["a red cat", "a cat"]]
table = pa.table({
    "split": ["train", "train"],
    "file_name": names,
    "captions": pa.array(captions, pa.list_(pa.string())),
    "label": pa.array([5, 3], pa.int64()),
    "width": pa.array([1.5, None], pa.float64()),
    "box": pa.array([{"x": 1}, {"x": 2}], pa.struct([("x", pa.int32())])),
})
rows = pa.table({  # a picture's captions in rows of their own, nulls among them
    "image": ["b/2.png", "a/1.png", "a/1.png"],
    "text": pa.array(["a dog", "a red cat", "a cat"], pa.large_string()),
    "caption": pa.array([None, None, None], pa.string()),
    "class": ["dog", None, "cat"],
})


def write(name, t, **options):
    pq.write_table(t, os.path.join(OUT, name + ".parquet"), **options)


for codec in ["none", "snappy", "gzip", "brotli", "zstd", "lz4"]:
    write(codec, table, compression=codec)
write("plain", table, use_dictionary=False, data_page_version="2.0", compression="zstd")
write("delta", rows, use_dictionary=False, column_encoding={"text": "DELTA_BYTE_ARRAY", "image": "DELTA_LENGTH_BYTE_ARRAY"}, compression="none")
write("groups", rows, row_group_size=1, write_page_index=True)
write("many", pa.table({"file_name": [f"{i}.png" for i in range(9000)], "text": pa.array([[f"number {i}"] * (i % 3 + 1) for i in range(9000)]),
                        "label": pa.array([i % 10 for i in range(9000)], pa.int32())}), row_group_size=4000, data_page_size=4096, compression="zstd")
write("floats", pa.table({"file_name": names, "text": pa.array([1.5, 2.5])}))
write("struct", pa.table({"file_name": names, "text": pa.array([{"en": "a"}, {"en": "b"}])}))
write("binary", pa.table({"file_name": names, "text": pa.array([b"\xff\xfe", b"b"])}))
write("nameless", pa.table({"text": ["a", "b"]}))
write("nothing", pa.table({"file_name": pa.array([], pa.string()), "text": pa.array([], pa.string())}))
