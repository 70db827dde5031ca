"""Runs the published tools on one pair of picture folders and compares their numbers with fidlab's. All of them get the seeded
weights of testdata/golden/inception/README.md in place of a download, so the numbers mean nothing by themselves. Run from the
repository's root with the packages of scripts/bench/requirements.txt and scripts/peers/requirements.txt installed:

    python scripts/peers/agree.py bin/fidlab WORK [TOOL...]

WORK is a folder for the pictures and the weights. Prints the table of docs/migration.md and writes testdata/golden/peers/agree.json; with tools named,
these alone are run, and the others' cases stay.
Distances are of the network's 64 features, of which 100 pictures give covariances of full rank: with 2048 the tools' roots of
singular matrices lose half of their digits.
"""
import glob
import json
import os
import subprocess
import sys
import warnings

warnings.filterwarnings("ignore")
sys.path.insert(0, "scripts/bench")
import recipe  # noqa: E402

N = 100
BIN, WORK, TOOLS = sys.argv[1], sys.argv[2], sys.argv[3:]
OUT = "testdata/golden/peers/agree.json"
REF, GEN = os.path.join(WORK, "ref"), os.path.join(WORK, "gen")
SETS = {REF: ("ref", "shapes?size=64"), GEN: ("test", "shapes?size=64&only=2")}


def pictures():
    os.makedirs(WORK, exist_ok=True)
    for path, (split, name) in SETS.items():
        if not os.path.exists(path):
            subprocess.run([BIN, "data", "gen", name, "--split", split, "-n", str(N), "-o", path], check=True, stdout=subprocess.DEVNULL)


def piq_converged(piq, x, y):
    """piq's distance with its own iteration, which it stops as soon as S·S is within 1e-5 of the product in the Frobenius norm, run on until
    it is within 1e-12. Prints where it stopped and what was missing then."""
    import torch

    module = sys.modules[piq.FID.__module__]
    mu, sigma = zip(*(module._compute_statistics(v) for v in (x, y)))
    product = sigma[0].mm(sigma[1])
    stopped, error = module._sqrtm_newton_schulz(product)
    isclose = torch.isclose
    torch.isclose = lambda error, zero, atol: torch.tensor(bool(error < 1e-12))
    try:
        root, end = module._sqrtm_newton_schulz(product, num_iters=60)
        value = module._compute_fid(mu[0], sigma[0], mu[1], sigma[1]).item()
    finally:
        torch.isclose = isclose
    eigen = torch.linalg.eigvals(product).real.clamp_min(0)
    print(f"piq: trace of the root {stopped.trace():.8g} where it stops at an error of {error.item():.1e}, {root.trace():.8g} at {end.item():.1e}, "
          f"by eigenvalues {eigen.sqrt().sum():.8g}; eigenvalues from {eigen.max():.2e} to {eigen.min():.1e}, "
          f"{(eigen < 1e-5 * eigen.max()).sum()} of {len(eigen)} below 1e-5 of the largest")
    return value


def pytorch_fid_tool(weights, out):
    from pytorch_fid import fid_score

    out["pytorch-fid", "fid"] = fid_score.calculate_fid_given_paths([REF, GEN], 50, "cpu", 64, num_workers=0)


def clean_fid_tool(weights, out):
    """Its loader, its resizing and its distance; the network is pytorch-fid's, fed as NVIDIA's script feeds its own."""
    import numpy as np
    import torch
    from cleanfid import fid as clean
    from pytorch_fid import inception

    net = inception.InceptionV3([0], resize_input=False, normalize_input=False).eval()

    def features(x):
        with torch.no_grad():
            return net((x - 128) / 128)[0].mean((2, 3))

    a, b = (clean.get_folder_features(f, features, num_workers=0, batch_size=25, device="cpu", mode="clean", verbose=False) for f in (REF, GEN))
    out["clean-fid", "fid"] = clean.frechet_distance(a.mean(0), np.cov(a, rowvar=False), b.mean(0), np.cov(b, rowvar=False))


def torch_fidelity_tool(weights, out):
    import torch_fidelity

    m = torch_fidelity.calculate_metrics(
        input1=GEN, input2=REF, cuda=False, isc=True, fid=True, prc=True, feature_extractor="inception-v3-compat", feature_layer_fid="64", feature_layer_prc="2048",
        feature_extractor_weights_path=weights, batch_size=25, verbose=False, cache=False, samples_find_ext="png")
    out["torch-fidelity", "fid"] = m["frechet_inception_distance"]
    out["torch-fidelity", "is"] = m["inception_score_mean"]
    out["torch-fidelity", "precision"], out["torch-fidelity", "recall"] = m["precision"], m["recall"]


def stacks():
    import numpy as np
    import torch
    from PIL import Image

    return {f: torch.from_numpy(np.stack([np.asarray(Image.open(p).convert("RGB")) for p in sorted(glob.glob(f + "/*.png"))]).transpose(0, 3, 1, 2)) for f in SETS}


def torchmetrics_tool(weights, out):
    from torchmetrics.image.fid import FrechetInceptionDistance

    tm = FrechetInceptionDistance(feature=64, feature_extractor_weights_path=weights)
    for f, pictures in stacks().items():
        for part in pictures.split(25):
            tm.update(part, real=f == REF)
    out["torchmetrics", "fid"] = tm.compute().item()


def features_of(block):
    """pytorch-fid's features of both sets."""
    import torch
    from pytorch_fid import inception

    net = inception.InceptionV3([block]).eval()
    with torch.no_grad():
        return {f: torch.cat([net(part.float() / 255)[0].mean((2, 3)) for part in pictures.split(25)]) for f, pictures in stacks().items()}


def prdc_tool(weights, out):
    """As dgm-eval calls it."""
    from prdc import compute_prdc

    rows = features_of(3)
    for k, v in compute_prdc(rows[REF].numpy(), rows[GEN].numpy(), nearest_k=5).items():
        out["prdc", k] = v


def piq_tool(weights, out):
    import piq

    rows = features_of(0)
    x, y = rows[GEN].double(), rows[REF].double()
    out["piq", "fid"] = piq.FID()(x, y).item()
    out["piq, its root to the end", "fid"] = piq_converged(piq, x, y)


def pyiqa_tool(weights, out):
    """Its folders, resizing and network; its download of weights is pointed at the file. The distance is that of singular values: its own root
    of 2023 by 2023 numbers of rank 99 takes minutes and loses half of the digits. It averages no block but the last over places."""
    import torch
    from pyiqa.archs import fid_arch, inception

    inception.load_pretrained_network = lambda net, *a, **k: net.load_state_dict(torch.load(weights), strict=True)
    net = fid_arch.FID(dims="mixed_6a").model
    sets = [fid_arch.get_folder_features(f, net, device="cpu", num_workers=0, batch_size=25, verbose=False) for f in (REF, GEN)]
    out["pyiqa", "sfid"] = by_singular_values(*sets)


def by_singular_values(x, y):
    """The distance of two sets of fewer vectors than features, whose covariances are singular: the root's trace is the sum of the singular
    values of A·Bᵀ, A and B being the centred vectors over √(n-1)."""
    import numpy as np

    x, y = x.astype(np.float64), y.astype(np.float64)
    d = x.mean(0) - y.mean(0)
    a, b = ((v - v.mean(0)) / np.sqrt(len(v) - 1) for v in (x, y))
    return d @ d + (a * a).sum() + (b * b).sum() - 2 * np.linalg.svd(a @ b.T, compute_uv=False).sum()


ALL = {"pytorch-fid": pytorch_fid_tool, "clean-fid": clean_fid_tool, "torch-fidelity": torch_fidelity_tool, "torchmetrics": torchmetrics_tool, "prdc": prdc_tool,
       "piq": piq_tool, "pyiqa": pyiqa_tool}


def fidlab(tool, metrics, weights, *flags):
    r = subprocess.run([BIN, "fid", REF, GEN, "--preset", tool, "--metrics", metrics, "--weights", weights, "--force", "--no-ci", "--json", *flags], check=True, capture_output=True, text=True)
    return json.loads(r.stdout)["metrics"]


def ours(tool, weights):
    """fidlab's figures beside a tool's."""
    low = ("--features", "inception:64")
    if tool == "prdc":
        m = fidlab("dgm-eval", "pr,dc", weights)
        return {"precision": m["pr"]["precision"], "recall": m["pr"]["recall"], "density": m["dc"]["density"], "coverage": m["dc"]["coverage"]}
    if tool == "pyiqa":
        return {"sfid": fidlab(tool, "sfid", weights, *low)["sfid"]["value"]}
    got = {"fid": fidlab("pytorch-fid" if tool == "piq" else tool, "fid", weights, *low)["fid"]["value"]}
    if tool == "torch-fidelity":
        m = fidlab(tool, "is,pr", weights)
        got |= {"is": m["is"]["value"], "precision": m["pr"]["precision"], "recall": m["pr"]["recall"]}
    return got


def main():
    import torch
    from pytorch_fid import inception

    torch.manual_seed(0)
    pictures()
    weights = recipe.weights_file(WORK)
    inception.load_state_dict_from_url = lambda *a, **k: torch.load(weights)  # pytorch-fid's own loader
    old = []
    if TOOLS:
        with open(OUT) as f:
            old = [c for c in json.load(f)["cases"] if c["tool"].split(",")[0] not in TOOLS]
    print("| tool | figure | its value | fidlab's | difference |\n|---|---|---|---|---|", flush=True)
    cases = []
    for name in TOOLS or ALL:
        out = {}
        ALL[name](weights, out)
        mine = ours(name, weights)
        for (tool, figure), v in out.items():
            v, o = float(v), mine[figure]
            print(f"| {tool} | {figure} | {v:.8g} | {o:.8g} | {abs(o - v) / max(abs(v), 1e-12):.1e} |", flush=True)
            cases.append({"tool": tool, "figure": figure, "value": v})
    cases = sorted(old + cases, key=lambda c: list(ALL).index(c["tool"].split(",")[0]))
    os.makedirs(os.path.dirname(OUT), exist_ok=True)
    from importlib.metadata import version

    versions = {name: version(name) for name in ("pytorch-fid", "clean-fid", "torch-fidelity", "torchmetrics", "prdc", "piq", "pyiqa", "torch", "scipy", "numpy", "pillow")}
    with open(OUT, "w") as f:
        json.dump({"n": N, "ref": "shapes:ref?size=64", "gen": "shapes:test?size=64&only=2", "versions": versions, "cases": cases}, f, indent=1)


main()
