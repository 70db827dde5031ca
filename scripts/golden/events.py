"""Event files of the package tensorboard, for train/events_test.go.

    python scripts/golden/events.py                 # writes testdata/golden/events
    python scripts/golden/events.py --read DIR      # what TensorBoard finds in a run's folder, as JSON

The first writes run.tfevents, the bytes that tensorboard's protocol buffers and its record
writer make of the events in run.json: a file's version, scalars of several steps, a picture
(picture.png, also written), and the beginning of a call that goes on. Made with tensorboard
2.21.0 and protobuf 7.36.
"""
import argparse
import json
import math
import pathlib
import struct
import zlib

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

OUT = pathlib.Path("testdata/golden/events")
EVENTS = [
    {"wall": 1700000000.25, "step": 0, "version": "brain.Event:2"},
    {"wall": 1700000001.5, "step": 1, "scalars": [["examples", 16.0], ["loss", 0.8125], ["norm", 1.1]]},
    {"wall": 1700000002.0, "step": 50, "scalars": [["loss", math.pi], ["norm", -1e-30], ["rate", 0.0], ["loss.critic", 1e38]]},
    {"wall": 1700000002.125, "step": 50, "picture": "samples"},
    {"wall": 1700000009.0, "step": 51, "start": True},
    {"wall": 1700000010.0, "step": 300000, "scalars": [["held_out", 12345678.9]]},
]


def png(width, height):
    rows = b"".join(b"\0" + bytes((17 * x + 5 * y * c) % 256 for x in range(width) for c in (1, 2, 3)) for y in range(height))
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def write():
    OUT.mkdir(parents=True, exist_ok=True)
    picture = png(7, 5)
    (OUT / "picture.png").write_bytes(picture)
    with open(OUT / "run.tfevents", "wb") as f:
        w = RecordWriter(f)
        for e in EVENTS:
            m = Event(wall_time=e["wall"], step=e["step"])
            if "version" in e:
                m.file_version = e["version"]
            for tag, v in e.get("scalars", []):
                m.summary.value.add(tag=tag, simple_value=v)
            if "picture" in e:
                m.summary.value.add(tag=e["picture"], image=Summary.Image(height=5, width=7, colorspace=3, encoded_image_string=picture))
            if "start" in e:
                m.session_log.status = SessionLog.START
            w.write(m.SerializeToString())
        w.flush()
    (OUT / "run.json").write_text(json.dumps(EVENTS, indent=1) + "\n")


def read(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    a = EventAccumulator(folder, size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    a.Reload()
    tags = a.Tags()
    print(json.dumps({
        "scalars": {t: [[e.step, e.value] for e in a.Scalars(t)] for t in tags["scalars"]},
        "images": {t: [[e.step, e.width, e.height, len(e.encoded_image_string)] for e in a.Images(t)] for t in tags["images"]},
        "first": a.FirstEventTimestamp(),
    }))


if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("--read")
    o = p.parse_args()
    read(o.read) if o.read else write()
