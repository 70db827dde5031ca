"""One peer at one job, driven line by line: "run" answers with one JSON object. Own code; it only calls the peer.

    peer.py JOB INPUTS

The peer is loaded and warmed before the first answer, so that a run is the work alone.
"""
import glob
import io
import json
import os
import sys
import time
import warnings

warnings.filterwarnings("ignore")
THREADS = int(os.environ.get("OMP_NUM_THREADS", "2"))


def frechet(tool, n):
    """The distance between two sets of n features of 2048 values, from their statistics."""
    import numpy as np

    a, b = (np.load(os.path.join(INPUTS, f"{s}{n}.npz")) for s in ("ref", "gen"))
    a, b = ({"mu": s["mu"], "sigma": s["sigma"]} for s in (a, b))
    if tool == "pytorch-fid":
        from pytorch_fid.fid_score import calculate_frechet_distance

        return lambda: {"value": float(calculate_frechet_distance(a["mu"], a["sigma"], b["mu"], b["sigma"]))}
    from torch_fidelity.metric_fid import fid_statistics_to_metric

    return lambda: {"value": float(next(iter(fid_statistics_to_metric(a, b, False).values())))}


def frechet_from_features(tool, n):
    """The same including mean and covariance of the features."""
    import numpy as np

    x, y = (np.load(os.path.join(INPUTS, f"{s}{n}.npy")).astype(np.float64) for s in ("ref", "gen"))
    if tool == "pytorch-fid":
        from pytorch_fid.fid_score import calculate_frechet_distance as f

        return lambda: {"value": float(f(x.mean(0), np.cov(x, rowvar=False), y.mean(0), np.cov(y, rowvar=False)))}
    from torch_fidelity.metric_fid import fid_statistics_to_metric as g

    def run():
        a, b = ({"mu": v.mean(0), "sigma": np.cov(v, rowvar=False)} for v in (x, y))
        return {"value": float(next(iter(g(a, b, False).values())))}

    return run


def batch(n=32):
    """Pictures of 299x299 as the network takes them."""
    import numpy as np
    from PIL import Image

    names = sorted(glob.glob(os.path.join(INPUTS, "net", "*.png")))[:n]
    im = [np.asarray(Image.open(f).convert("RGB")) for f in names]
    return np.ascontiguousarray(np.stack(im).transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1)


def network(tool, precision):
    """Features of 32 images by the network with recipe weights."""
    x, path = batch(), os.path.join(INPUTS, "inception.onnx")
    if tool == "onnxruntime":
        import onnxruntime as ort

        o = ort.SessionOptions()
        o.intra_op_num_threads, o.inter_op_num_threads = THREADS, 1
        s = ort.InferenceSession(path, o, providers=["CPUExecutionProvider"])
        f = lambda: s.run(None, {"x": x})[0]
    elif tool == "openvino":
        import openvino as ov

        core = ov.Core()
        m = core.read_model(path)
        m.reshape(list(x.shape))
        c = core.compile_model(m, "CPU", {"INFERENCE_NUM_THREADS": THREADS, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision})
        r = c.create_infer_request()
        f = lambda: next(iter(r.infer({0: x}).values()))
    else:
        import torch
        from pytorch_fid.inception import InceptionV3

        os.environ["TORCH_HOME"] = os.path.join(INPUTS, "torch")
        torch.set_num_threads(THREADS)
        net = InceptionV3([3], resize_input=False, normalize_input=False).eval()
        t = torch.from_numpy(x)

        def f():
            with torch.no_grad():
                return net(t)[0].flatten(1).numpy()

    return lambda: {"items": len(x), "value": float(abs(f()).mean())}


def decode(kind):
    """Decoding and clean-fid's resize to 299x299 of 64 pictures in memory, on one core."""
    import numpy as np
    import torch
    from cleanfid.resize import build_resizer
    from PIL import Image

    torch.set_num_threads(1)
    folder = {"png": "ref", "jpg": "jpg"}[kind]
    data = [open(f, "rb").read() for f in sorted(glob.glob(os.path.join(INPUTS, folder, "*." + kind)))[:64]]
    resize = build_resizer("clean")

    def run():
        out = [resize(np.asarray(Image.open(io.BytesIO(b)).convert("RGB"))) for b in data]
        # Three pixels of each stand for it; a sum over all of them would take time of its own.
        return {"items": len(out), "value": float(np.mean([(v[0, 0, 0] + v[1, 149, 0] + v[298, 298, 2]) / 3 for v in out]))}

    return run


def attention(n, backward):
    """Attention in float32 of one sequence with 8 heads of 64, in the layout that suits the peer."""
    import numpy as np
    import torch

    torch.set_num_threads(THREADS)
    n, heads, d = int(n), 8, 64

    def spread(seed):
        u = (np.arange(n * heads * d, dtype=np.uint32) + np.uint32(seed << 24)) * np.uint32(2654435761)
        x = (u >> np.uint32(8)).astype(np.float32) / 2**22 - 2
        return torch.from_numpy(x).reshape(1, n, heads, d).transpose(1, 2).contiguous()

    q, k, v, g = (spread(seed) for seed in (1, 2, 3, 4))
    f = torch.nn.functional.scaled_dot_product_attention
    corner = lambda t: float(t[0, -1, -1].abs().double().mean())

    def forward():
        with torch.no_grad():
            return {"value": corner(f(q, k, v))}

    def both():
        x = [t.detach().requires_grad_() for t in (q, k, v)]
        out = f(*x)
        out.backward(g)
        return {"value": corner(out.detach()) + sum(corner(t.grad) for t in x)}

    return both if backward == "true" else forward


def steps(name):
    """Twenty steps of a scheduler on 64 pictures of 3x32x32 for a network that always says the same noise, which costs nothing."""
    import diffusers
    import numpy as np
    import torch

    torch.set_num_threads(THREADS)
    torch.set_grad_enabled(False)
    o = {"timestep_spacing": "trailing"}
    s = {
        "ddim": lambda: diffusers.DDIMScheduler(clip_sample=False, **o),
        "dpm++2m": lambda: diffusers.DPMSolverMultistepScheduler(**o),
        "dpm++3m": lambda: diffusers.DPMSolverMultistepScheduler(solver_order=3, **o),
        "unipc": lambda: diffusers.UniPCMultistepScheduler(**o),
        "deis": lambda: diffusers.DEISMultistepScheduler(**o),
        "euler": lambda: diffusers.EulerDiscreteScheduler(**o),
    }[name]()
    n = 64 * 3 * 32 * 32

    def spread(seed):
        u = (np.arange(n, dtype=np.uint32) + np.uint32(seed << 24)) * np.uint32(2654435761)
        return torch.from_numpy((u >> np.uint32(8)).astype(np.float32) / 2**22 - 2).reshape(64, 3, 32, 32)

    start, eps = spread(1), spread(2)

    def run():
        s.set_timesteps(20)
        x = start * s.init_noise_sigma
        for t in s.timesteps:
            x = s.step(eps, t, x).prev_sample
        return {"value": float(x.flatten()[-64:].abs().double().mean())}

    return run


def train(name, what, layout):
    """A training step, or a forward pass, of one of networks.py; the value is the number of parameters."""
    import networks

    return networks.train(name, what, layout, THREADS)


def tower(name):
    """Features of 16 pictures by a vision transformer of towers.py."""
    import torch
    import towers

    torch.set_num_threads(THREADS)
    x = towers.pictures(name, sorted(glob.glob(os.path.join(INPUTS, "net", "*.png")))[:16])
    net = towers.make(name)

    def run():
        with torch.no_grad():
            return {"items": len(x), "value": float(net(x).abs().mean())}

    return run


def sets():
    """Two sets of 10,000 features of 2048 values, the reference first."""
    import numpy as np

    return [np.load(os.path.join(INPUTS, f"{s}10000.npy")) for s in ("ref", "gen")]


def prdc():
    """Precision, recall, density and coverage by 5 neighbours; the value is their sum."""
    from prdc import compute_prdc

    ref, gen = sets()
    return lambda: {"value": float(sum(compute_prdc(real_features=ref, fake_features=gen, nearest_k=5).values()))}


def precision_recall():
    """Both by 3 neighbours; the value is their sum."""
    import torch
    from torch_fidelity.metric_prc import prc_features_to_metric

    torch.set_num_threads(THREADS)
    ref, gen = (torch.from_numpy(x) for x in sets())

    def run():
        v = prc_features_to_metric(gen, ref, prc_neighborhood=3, prc_batch_size=10000, save_cpu_ram=False, verbose=False)
        return {"value": v["precision"] + v["recall"]}

    return run


def kid(subsets, size):
    import torch
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric

    ref, gen = (torch.from_numpy(x) for x in sets())
    return lambda: {"value": kid_features_to_metric(gen, ref, kid_subsets=int(subsets), kid_subset_size=int(size), verbose=False)[KEY_METRIC_KID_MEAN]}


def adamw(n):
    """A step of n parameters, as one tensor; the value is of the averages after the first step."""
    import numpy as np
    import torch

    torch.set_num_threads(THREADS)
    n = int(n)

    def spread(seed):
        u = (np.arange(n, dtype=np.uint32) + np.uint32(seed << 24)) * np.uint32(2654435761)
        return torch.from_numpy((u >> np.uint32(8)).astype(np.float32) / 2**22 - 2)

    p = torch.nn.Parameter(spread(1))
    p.grad = spread(3)
    o = torch.optim.AdamW([p], lr=1e-4, weight_decay=0.01, fused=True)
    o.step()
    value = float(p.detach()[-64:].abs().double().mean())

    def run():
        o.step()
        return {"value": value}

    return run


def versions():
    from importlib.metadata import version

    names = "pytorch-fid clean-fid torch-fidelity prdc torch diffusers onnxruntime openvino numpy scipy pillow".split()
    out = {n: version(n) for n in names}
    import numpy
    import scipy.linalg  # noqa: F401, so that its library is loaded

    numpy.ones((2, 2)) @ numpy.ones((2, 2))
    try:
        import threadpoolctl

        out["blas"] = ", ".join(sorted({f"{i['internal_api']} {i['version']} {i.get('architecture', '')} {i['num_threads']} threads"
                                        for i in threadpoolctl.threadpool_info() if i["user_api"] == "blas"}))
    except ImportError:
        pass
    return out


JOBS = {
    "frechet": frechet, "frechet-features": frechet_from_features, "network": network, "decode": decode, "attention": attention, "steps": steps, "train": train, "tower": tower, "prdc": prdc, "precision-recall": precision_recall,
    "kid": kid, "adamw": adamw, "versions": lambda: versions,
}

if __name__ == "__main__":
    job, INPUTS = sys.argv[1], sys.argv[2]
    answers, sys.stdout = sys.stdout, sys.stderr  # what peers print is not an answer
    name, *args = job.split(":")
    run = JOBS[name](*args)
    if name in ("network", "decode", "attention", "steps", "train", "tower", "adamw"):
        run()
    print(json.dumps({"ready": job}), file=answers, flush=True)
    for line in sys.stdin:
        t = time.perf_counter()
        out = run()
        out["seconds"] = time.perf_counter() - t
        print(json.dumps(out), file=answers, flush=True)
