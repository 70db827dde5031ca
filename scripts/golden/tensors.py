"""Writes the small files of tensor/testdata with the libraries that people's
files come from. Run from the repository's root, with torch, numpy and
safetensors installed:

    python scripts/golden/tensors.py

The expected values are formulas in tensor/peer_test.go.
"""
import collections
import pickle

import numpy as np
import torch
from safetensors.torch import save_file

OUT = "tensor/testdata/"


def tensors():
    base = torch.arange(24, dtype=torch.float32) / 8 - 1
    return {
        "w": base.reshape(2, 3, 4).clone(),
        "f64": torch.arange(3, dtype=torch.float64) / 3,
        "half": (torch.arange(5) / 4).half(),
        "bf16": (torch.arange(5) / 4).bfloat16(),
        "i64": torch.tensor([[-1, 2**40]]),
        "u8": torch.tensor([0, 255], dtype=torch.uint8),
        "bool": torch.tensor([True, False, True]),
        "scalar": torch.tensor(0.25),
        "empty": torch.zeros(0, 3),
    }, base


def main():
    t, base = tensors()
    save_file(t, OUT + "peer.safetensors", metadata={"format": "pt"})
    views = collections.OrderedDict(t)
    views["transposed"] = base.reshape(4, 6).t()  # strides (1, 6)
    views["slice"] = base[3:7]                    # of the same storage
    views["strided"] = base[1::5]
    views["expanded"] = torch.tensor([7.0]).expand(2, 3)
    views["bn.num_batches_tracked"] = torch.tensor(5)
    views["parameter"] = torch.nn.Parameter(base[:2].clone())
    views._metadata = collections.OrderedDict({"": {"version": 1}})
    for zipped, name in ((True, "peer_zip.pth"), (False, "peer_stream.pth")):
        torch.save(views, OUT + name, _use_new_zipfile_serialization=zipped)
    torch.save({"state_dict": {"a": base[:2].clone()}, "epoch": 3, "note": "x", "lr": 0.5}, OUT + "nested.pth")
    torch.save(torch.arange(6, dtype=torch.float32).reshape(2, 3), OUT + "one.pt")
    torch.save(torch.nn.Linear(1, 1), OUT + "module.pth")
    net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Sequential(torch.nn.BatchNorm1d(2).half()))
    net[0].weight.data, net[0].bias.data = base[:6].reshape(2, 3).clone(), base[6:8].clone()
    torch.jit.save(torch.jit.script(net), OUT + "script.pt")

    a = np.arange(6, dtype=np.float64).reshape(2, 3) / 4
    stats = {
        "num_images": 5,
        "fid": {"mu": a[0], "sigma": a},
        "fd_dinov2": {"mu": a[1].astype(np.float32), "sigma": np.asfortranarray(a)},
        "big": a.astype(">f4"),
        "number": np.float64(0.125),
        "count": np.int64(-3),
        "flags": [True, None, (1, 2.5, "t\u00e9xt", b"by\xfftes", 2**70, -(2**70))],
        "set": {1},
    }
    for protocol in range(6):
        with open(OUT + f"stats{protocol}.pkl", "wb") as f:
            pickle.dump(stats, f, protocol=protocol)


if __name__ == "__main__":
    main()
