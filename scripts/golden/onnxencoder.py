"""Writes testdata/golden/onnxencoder: three small encoders in ONNX files with seeded weights, their sidecars, pictures, and the
features that onnxruntime gives for them after the transforms of torchvision, Pillow and NumPy that the sidecars name. Run from
the repository's root with onnx, onnxruntime, pillow, torch and torchvision installed:

    python scripts/golden/onnxencoder.py
"""
import json
import os

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper
from PIL import Image
from torchvision import transforms as tv

OUT = "testdata/golden/onnxencoder/"
R = np.random.default_rng(5)


def const(name, *shape):
    return numpy_helper.from_array((R.normal(0, 1, shape) / np.sqrt(np.prod(shape[1:] or (1,)))).astype(np.float32), name)


def save(name, nodes, weights, x, y):
    graph = h.make_graph(nodes, name, [x], [y], weights)
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, OUT + name + ".onnx")


def models():
    # Features as they are: [B, 10].
    save("plain", [
        h.make_node("Conv", ["x", "w", "b"], ["c"], strides=[2, 2]), h.make_node("Relu", ["c"], ["r"]),
        h.make_node("GlobalAveragePool", ["r"], ["g"]), h.make_node("Flatten", ["g"], ["f"]), h.make_node("Gemm", ["f", "v", "a"], ["y"]),
    ], [const("w", 6, 3, 3, 3), const("b", 6), const("v", 6, 10), const("a", 10)],
        h.make_tensor_value_info("x", T.FLOAT, ["B", 3, 16, 16]), h.make_tensor_value_info("y", T.FLOAT, ["B", 10]))
    # Tokens of pictures whose channels come last and whose size is open; two outputs.
    save("tokens", [
        h.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]), h.make_node("Conv", ["t", "w", "b"], ["c"], strides=[4, 4]),
        h.make_node("Reshape", ["c", "shape"], ["s"]), h.make_node("Transpose", ["s"], ["u"], perm=[0, 2, 1]), h.make_node("Tanh", ["u"], ["tokens"]),
    ], [const("w", 7, 3, 4, 4), const("b", 7), numpy_helper.from_array(np.array([0, 7, -1], np.int64), "shape")],
        h.make_tensor_value_info("x", T.FLOAT, ["B", "H", "W", 3]), h.make_tensor_value_info("tokens", T.FLOAT, ["B", "N", 7]))
    # Maps of two pictures at a time, in half precision at the end.
    save("map", [
        h.make_node("Conv", ["x", "w", "b"], ["c"], strides=[4, 4]), h.make_node("Sigmoid", ["c"], ["s"]), h.make_node("Cast", ["s"], ["y"], to=T.FLOAT16),
    ], [const("w", 5, 3, 4, 4), const("b", 5)],
        h.make_tensor_value_info("x", T.FLOAT, [2, 3, 16, 16]), h.make_tensor_value_info("y", T.FLOAT16, [2, 5, 4, 4]))


SIDES = {
    "plain": {"preset": "torchvision", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
    "tokens": {"preset": "openai", "mean": [0.5, 0.4, 0.3], "std": [0.5, 0.25, 0.2], "size": 12, "layout": "hwc", "channels": "bgr", "input": "x",
               "output": "tokens", "output_shape": [9, 7], "pool": "mean", "skip": 1, "unit": True},
    "map": {"preset": "dgm-eval", "mean": [0, 0, 0], "std": [1, 1, 1], "pool": "spatial"},
}


def features(name, pictures):
    """The transforms written out; a picture at a time, but for the network that takes two."""
    side = SIDES[name]
    size = side.get("size", 16)
    bicubic, bilinear = tv.InterpolationMode.BICUBIC, tv.InterpolationMode.BILINEAR
    resize = {
        "torchvision": [tv.Resize((size * 256 + 112) // 224, bilinear), tv.CenterCrop(size)],
        "openai": [tv.Resize(size, bicubic), tv.CenterCrop(size)],
        "dgm-eval": [tv.Resize((size, size), bicubic)],
    }[side["preset"]]
    session = ort.InferenceSession(OUT + name + ".onnx", providers=["CPUExecutionProvider"])
    rows = []
    for p in pictures:
        if side.get("channels") == "bgr":
            p = p[:, :, ::-1]
        x = tv.Compose(resize + [tv.ToTensor(), tv.Normalize(side["mean"], side["std"])])(Image.fromarray(np.ascontiguousarray(p))).numpy()[None]
        if side.get("layout") == "hwc":
            x = x.transpose(0, 2, 3, 1)
        if name == "map":
            x = np.concatenate([x, np.zeros_like(x)])
        y = session.run(None, {"x": np.ascontiguousarray(x)})[0][0].astype(np.float64)
        if side.get("pool") == "mean":
            y = y[side["skip"]:].mean(0)
        elif side.get("pool") == "spatial":
            y = y.mean((1, 2))
        if side.get("unit"):
            y = y / np.linalg.norm(y)
        rows.append(y)
    return np.array(rows)


def main():
    os.makedirs(OUT, exist_ok=True)
    models()
    pictures = R.integers(0, 256, (5, 40, 30, 3), dtype=np.uint8)
    for i, p in enumerate(pictures):  # smooth, so that resizing matters
        pictures[i] = np.asarray(Image.fromarray(p).resize((5, 6)).resize((30, 40), Image.Resampling.BICUBIC))
    np.save(OUT + "pictures.npy", pictures)
    out = {}
    for name, side in SIDES.items():
        with open(OUT + name + ".json", "w") as f:
            json.dump(side, f, indent=1)
        out[name] = features(name, pictures)
        print(name, out[name].shape, np.abs(out[name]).max())
    with open(OUT + "features.json", "w") as f:
        json.dump({k: v.tolist() for k, v in out.items()}, f)
    print("torch", torch.__version__, "onnxruntime", ort.__version__)


main()
