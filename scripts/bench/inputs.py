"""Makes the inputs that both sides read, below the folder given: features, statistics, pictures, weights, network."""
import io
import os
import sys

import numpy as np


def features(path, n, seed, shift, basis):
    """Gaussian rows whose covariance has eigenvalues about 1/i, as float32."""
    if os.path.exists(path):
        return
    r = np.random.default_rng(seed)
    d = len(basis)
    s = np.arange(1, d + 1) ** -0.5 * (1 + 0.1 * r.standard_normal(d))
    x = (r.standard_normal((n, d)) * s) @ basis.T + 0.4 + shift * r.standard_normal(d)
    np.save(path, x.astype(np.float32))


def statistics(path, features_path):
    if not os.path.exists(path):
        x = np.load(features_path).astype(np.float64)
        np.savez(path, mu=x.mean(0), sigma=np.cov(x, rowvar=False))


def picture(i, side):
    """side x side: smooth waves with grain, so that PNG and JPEG sizes are like those of photographs."""
    r = np.random.default_rng(i)
    g = np.mgrid[0:side, 0:side] / side
    waves = [np.sin(2 * np.pi * (r.uniform(1, 6) * g[0] + r.uniform(1, 6) * g[1] + r.uniform())) for _ in range(3)]
    im = 127 + 90 * np.stack(waves, -1)
    return (im + r.normal(0, 12, im.shape)).clip(0, 255).astype(np.uint8)


def pictures(folder, first, n, kind, side=256):
    from PIL import Image

    os.makedirs(folder, exist_ok=True)
    for i in range(n):
        path = os.path.join(folder, f"{i:04d}.{kind}")
        if not os.path.exists(path):
            b = io.BytesIO()
            Image.fromarray(picture(first + i, side)).save(b, "PNG" if kind == "png" else "JPEG", **({} if kind == "png" else {"quality": 90}))
            with open(path, "wb") as f:
                f.write(b.getvalue())


def network(path, home):
    """The FID Inception as ONNX: [n,3,299,299] in [-1,1] to [n,2048]."""
    if os.path.exists(path):
        return
    import torch
    from pytorch_fid.inception import InceptionV3

    os.environ["TORCH_HOME"] = home
    body = InceptionV3([3], resize_input=False, normalize_input=False).eval()

    class Flat(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.body = body

        def forward(self, x):
            return self.body(x)[0].flatten(1)

    with torch.no_grad():
        torch.onnx.export(Flat().eval(), (torch.rand(2, 3, 299, 299),), path, input_names=["x"], output_names=["f"],
                          opset_version=17, dynamic_axes={"x": {0: "n"}, "f": {0: "n"}}, dynamo=False)


def main(out):
    os.makedirs(out, exist_ok=True)
    at = lambda name: os.path.join(out, name)
    names = [("ref", 1, 0.0), ("gen", 2, 0.02)]
    if not all(os.path.exists(at(f"{n}{s}.npz")) for n, _, _ in names for s in (200, 1000, 10000)):
        basis, _ = np.linalg.qr(np.random.default_rng(1234).standard_normal((2048, 2048)))
        for n in (200, 1000, 10000):
            for name, seed, shift in names:
                features(at(f"{name}{n}.npy"), n, seed, shift, basis)
                statistics(at(f"{name}{n}.npz"), at(f"{name}{n}.npy"))
    pictures(at("ref"), 0, 200, "png")
    pictures(at("gen"), 1000, 200, "png")
    pictures(at("jpg"), 0, 64, "jpg")
    pictures(at("net"), 2000, 32, "png", 299)
    from recipe import weights_file

    weights_file(at("torch"))
    network(at("inception.onnx"), at("torch"))
    import towers

    for name in towers.NETWORKS:
        if not os.path.exists(at(name + ".pth")):
            towers.save(name, at(name + ".pth"))


if __name__ == "__main__":
    main(sys.argv[1])
