"""Writes testdata/golden/ppl: a tiny generator and its mapping as ONNX files, and the path lengths that torch-fidelity, torchmetrics and
StyleGAN2-ADA's metric find for it, with the seeded weights of weightrecipe.py in LPIPS' VGG16. Run from the repository's root, with
torch, torchvision, torch-fidelity, torchmetrics, onnx and onnxruntime installed:

    python scripts/golden/ppl.py

torch-fidelity and torchmetrics are run as they are, with their downloads of weights and their draws of latents replaced. StyleGAN2-ADA
is no package: "stylegan" is a transcription of the definition of its metrics/perceptual_path_length.py, in float64 around the same
network; its pictures are smaller than the 256 pixels that it reduces larger ones to.
"""
import importlib.metadata
import json
import os
import sys
import warnings

warnings.filterwarnings("ignore")
here = os.path.dirname(os.path.abspath(__file__))
sys.path = [p for p in sys.path if os.path.abspath(p or ".") != here]  # lpips.py there has a package's name
import numpy as np  # noqa: E402
import onnx  # noqa: E402
import onnxruntime as ort  # noqa: E402
import torch  # noqa: E402
from onnx import TensorProto as T  # noqa: E402
from onnx import helper as h  # noqa: E402
from onnx import numpy_helper  # noqa: E402

sys.path.append(here)
import weightrecipe  # noqa: E402

OUT = "testdata/golden/ppl/"
D, N = 6, 8
SALT = "lpips vgg "


def const(name, shape, scale=1.0):
    return numpy_helper.from_array((weightrecipe.tensor("ppl ", name, shape) * scale).astype(np.float32), name)


def save(name, nodes, weights, x, y):
    model = h.make_model(h.make_graph(nodes, name, [x], [y], weights), opset_imports=[h.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, OUT + name + ".onnx")


def models(side, name, levels):
    """latent [n, 6] -> picture [n, 3, side, side] in [-1, 1], or 8-bit."""
    nodes = [h.make_node("Gemm", ["z", "a", "b"], ["f"], transB=1), h.make_node("LeakyRelu", ["f"], ["g"], alpha=0.2),
             h.make_node("Reshape", ["g", "shape"], ["m"]), h.make_node("Resize", ["m", "", "", "sizes"], ["u"], mode="linear"),
             h.make_node("Conv", ["u", "w", "c"], ["v"], pads=[1, 1, 1, 1]), h.make_node("Tanh", ["v"], ["y"])]
    weights = [const("a.weight", (8 * 9, D), 2), const("b.bias", (8 * 9,)), const("w.weight", (3, 8, 3, 3), 2), const("c.bias", (3,))]
    nodes[0].input[1:], nodes[4].input[1:] = ["a.weight", "b.bias"], ["w.weight", "c.bias"]
    weights += [numpy_helper.from_array(np.array([-1, 8, 3, 3], np.int64), "shape")]
    # The number of samples is left open, so the sizes are made of it.
    nodes[3:3] = [h.make_node("Shape", ["m"], ["s"]), h.make_node("Slice", ["s", "zero", "one"], ["s0"]), h.make_node("Concat", ["s0", "rest"], ["sizes"], axis=0)]
    weights += [numpy_helper.from_array(np.array(v, np.int64), k) for k, v in (("zero", [0]), ("one", [1]), ("rest", [8, side, side]))]
    out, dtype = "y", T.FLOAT
    if levels:
        weights += [numpy_helper.from_array(np.float32(v), k) for k, v in (("plus", 1), ("times", 127.5), ("low", 0), ("high", 255))]
        nodes += [h.make_node("Add", ["y", "plus"], ["y1"]), h.make_node("Mul", ["y1", "times"], ["y2"]),
                  h.make_node("Clip", ["y2", "low", "high"], ["y3"]), h.make_node("Cast", ["y3"], ["levels"], to=T.UINT8)]
        out, dtype = "levels", T.UINT8
    save(name, nodes, weights, h.make_tensor_value_info("z", T.FLOAT, ["n", D]), h.make_tensor_value_info(out, dtype, ["n", 3, side, side]))


def mapping():
    """z [n, 6] -> w [n, 6], z brought to unit mean square first."""
    nodes = [h.make_node("Mul", ["z", "z"], ["q"]), h.make_node("ReduceMean", ["q"], ["m"], axes=[1]), h.make_node("Sqrt", ["m"], ["r"]),
             h.make_node("Div", ["z", "r"], ["u"]), h.make_node("Gemm", ["u", "k.weight", "l.bias"], ["f"], transB=1), h.make_node("LeakyRelu", ["f"], ["w"], alpha=0.2)]
    save("mapping", nodes, [const("k.weight", (D, D)), const("l.bias", (D,))], h.make_tensor_value_info("z", T.FLOAT, ["n", D]),
         h.make_tensor_value_info("w", T.FLOAT, ["n", D]))


def run(name, x):
    return ort.InferenceSession(OUT + name + ".onnx").run(None, {"z": np.asarray(x, np.float32)})[0]


def recipe(key, shape):
    t = torch.from_numpy(weightrecipe.tensor(SALT, key, tuple(shape)))
    return t.abs() if key.startswith("lin") else t


def torch_fidelity_value(ends, name, epsilon, interp):
    import torch_fidelity.metric_ppl as ppl
    import torch_fidelity.sample_similarity_lpips as sim
    import torchvision
    from torch_fidelity.generative_model_onnx import GenerativeModelONNX

    def vgg():
        net = torchvision.models.vgg16(weights=None)
        net.load_state_dict({k: recipe(k, v.shape) for k, v in net.state_dict().items()})
        return net

    sim.torchvision_load_pretrained_vgg16 = vgg
    shapes = dict(zip(range(5), (64, 128, 256, 512, 512)))
    sim.load_state_dict_from_url = lambda *a, **k: {f"lin{i}.model.1.weight": recipe(f"lin{i}.model.1.weight", (1, c, 1, 1)) for i, c in shapes.items()}
    draws = iter((ends[:, 0], ends[:, 1]))
    ppl.sample_random = lambda *a: torch.from_numpy(next(draws))
    if not hasattr(np.percentile, "old"):  # its argument interpolation is gone from NumPy
        old = np.percentile
        np.percentile = lambda a, q, interpolation: old(a, q, method=interpolation)
        np.percentile.old = old
    model = GenerativeModelONNX(OUT + name + ".onnx", D, "normal", 0)
    return ppl.calculate_ppl(1, input1=model, input1_model_num_samples=len(ends), input1_model_z_size=D, input1_model_num_classes=0, cuda=False, batch_size=8,
                             verbose=False, ppl_epsilon=epsilon, ppl_z_interp_mode=interp, ppl_reduction="none", rng_seed=0)["perceptual_path_length_mean"]


def torchmetrics_value(ends, epsilon, interp):
    from torchmetrics.functional.image import perceptual_path_length
    from torchmetrics.functional.image.lpips import _LPIPS

    net = _LPIPS(pretrained=False, net="vgg", pnet_rand=True, resize=64).eval()
    for name, t in net.state_dict().items():
        if not name.startswith(("scaling_layer", "lins.")):
            t.copy_(recipe(name if name.startswith("lin") else "features." + ".".join(name.split(".")[2:]), t.shape))
    draws = iter((ends[:, 0], ends[:, 1]))

    class Generator(torch.nn.Module):
        def sample(self, n):
            return torch.from_numpy(next(draws))

        def forward(self, z):
            return (torch.from_numpy(run("generator", z.numpy())) + 1) * 127.5

    mean, _, _ = perceptual_path_length(Generator(), num_samples=len(ends), batch_size=8, epsilon=epsilon, interpolation_method=interp, sim_net=net)
    return mean.item()


def stylegan_value(ends, times, epsilon, space, full, crop, name):
    import torchvision

    net = torchvision.models.vgg16(weights=None).features.double()
    net.load_state_dict({k[9:]: recipe(k, v.shape).double() for k, v in torchvision.models.vgg16(weights=None).state_dict().items() if k.startswith("features")})
    lin = [recipe(f"lin{i}.model.1.weight", (1, c, 1, 1)).double() for i, c in enumerate((64, 128, 256, 512, 512))]

    def unit(x):
        return x / np.linalg.norm(x, axis=-1, keepdims=True)

    def slerp(a, b, t):
        a, b = unit(a), unit(b)
        d = (a * b).sum(-1, keepdims=True)
        p = t * np.arccos(d)
        return unit(a * np.cos(p) + unit(b - d * a) * np.sin(p))

    t = times[:, None] if full else np.zeros((len(ends), 1))
    a, b = ends[:, 0], ends[:, 1]
    if space == "w":
        a, b = run("mapping", a), run("mapping", b)
        at = [(a + (b - a) * s.astype(np.float32)) for s in (t, t + epsilon)]
    else:
        at = [run("mapping", slerp(a.astype(np.float64), b.astype(np.float64), s)) for s in (t, t + epsilon)]
    lengths = []
    for x, y in zip(*(torch.from_numpy(run(name, s)).double() for s in at)):
        maps = []
        for img in (x, y):
            if crop:
                c = img.shape[1] // 8
                img = img[:, c * 3:c * 7, c * 2:c * 6]
            v, taps = ((img - torch.tensor([-.030, -.088, -.188])[:, None, None]) / torch.tensor([.458, .448, .450])[:, None, None])[None], []
            for k, layer in enumerate(net):
                v = layer(v)
                if k in (3, 8, 15, 22, 29):
                    taps.append(v / (v.square().sum(1, keepdim=True).sqrt() + 1e-10))
            maps.append(taps)
        lengths.append(sum(((p - q).square() * w).sum(1).mean().item() for p, q, w in zip(*maps, lin)) / epsilon**2)
    lo, hi = np.percentile.old(lengths, 1, method="lower"), np.percentile.old(lengths, 99, method="higher")
    return float(np.mean([v for v in lengths if lo <= v <= hi]))


@torch.no_grad()
def main():
    os.makedirs(OUT, exist_ok=True)
    models(72, "generator", False)
    models(72, "levels", True)
    models(48, "small", True)
    mapping()
    ends = np.random.default_rng(3).normal(size=(N, 2, D)).astype(np.float32)
    times = np.random.default_rng(4).uniform(size=N)
    cases = []

    def add(value, **case):
        cases.append({**case, "value": value})
        print(cases[-1], flush=True)

    for name, epsilon, interp in (("levels", 1e-4, "lerp"), ("levels", 0.1, "lerp"), ("small", 0.1, "slerp_any"), ("levels", 0.1, "slerp_unit")):
        add(torch_fidelity_value(ends, name, epsilon, interp), rule="torch-fidelity", model=name, epsilon=epsilon, space="z", interpolate=interp.replace("_", "-"))
    for epsilon, interp in ((1e-4, "lerp"), (1e-2, "lerp"), (1e-2, "slerp_any"), (1e-2, "slerp_unit")):
        add(torchmetrics_value(ends, epsilon, interp), rule="torchmetrics", model="generator", epsilon=epsilon, space="z", interpolate=interp.replace("_", "-"))
    for name, epsilon, space, full, crop in (("generator", 1e-4, "w", False, False), ("generator", 1e-2, "w", True, True), ("generator", 1e-2, "z", True, False),
                                                ("generator", 1e-2, "z", False, True)):
        add(stylegan_value(ends, times, epsilon, space, full, crop, name), rule="stylegan", model=name, epsilon=epsilon, space=space, full=full, crop=crop,
            interpolate="lerp" if space == "w" else "slerp")
    versions = {n: importlib.metadata.version(n) for n in ("torch-fidelity", "torchmetrics", "torch", "torchvision", "onnxruntime")}
    with open(OUT + "lengths.json", "w") as f:
        json.dump({"versions": versions, "ends": ends.reshape(-1).tolist(), "times": times.tolist(), "cases": cases}, f, indent=None, separators=(",", ":"))
        f.write("\n")


main()
