"""Runs the published tools on one pair of picture folders and compares their numbers with fidlab's. All of them get the seeded
weights of testdata/golden/inception/README.md in place of a download, so the numbers mean nothing by themselves. Run from the
repository's root with the packages of scripts/bench/requirements.txt, torchmetrics 1.9.0, prdc 0.2 and piq 0.8.0 installed:

    python scripts/peers/agree.py bin/fidlab WORK

WORK is a folder for the pictures and the weights. Prints the table of docs/migration.md and writes testdata/golden/peers/agree.json.
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
BIN, WORK = sys.argv[1], sys.argv[2]
REF, GEN = os.path.join(WORK, "ref"), os.path.join(WORK, "gen")
SETS = {REF: ("ref", "shapes?size=64"), GEN: ("test", "shapes?size=64&only=2")}


def pictures():
    os.makedirs(WORK, exist_ok=True)
    for path, (split, name) in SETS.items():
        if not os.path.exists(path):
            subprocess.run([BIN, "data", "gen", name, "--split", split, "-n", str(N), "-o", path], check=True, stdout=subprocess.DEVNULL)


def main():
    import numpy as np
    import torch
    from PIL import Image

    torch.manual_seed(0)
    pictures()
    weights = recipe.weights_file(WORK)
    out = {}

    # pytorch-fid, with its own loader of weights pointed at the file.
    from pytorch_fid import fid_score, inception

    inception.load_state_dict_from_url = lambda *a, **k: torch.load(weights)
    out["pytorch-fid", "fid"] = fid_score.calculate_fid_given_paths([REF, GEN], 50, "cpu", 64, num_workers=0)

    # clean-fid: its loader, its resizing and its distance; the network is pytorch-fid's, fed as NVIDIA's script feeds its own.
    from cleanfid import fid as clean

    net = inception.InceptionV3([0], resize_input=False, normalize_input=False).eval()

    def features(x):
        with torch.no_grad():
            return net((x - 128) / 128)[0].mean((2, 3))

    a, b = (clean.get_folder_features(f, features, num_workers=0, batch_size=25, device="cpu", mode="clean", verbose=False) for f in (REF, GEN))
    out["clean-fid", "fid"] = clean.frechet_distance(a.mean(0), np.cov(a, rowvar=False), b.mean(0), np.cov(b, rowvar=False))

    # torch-fidelity.
    import torch_fidelity

    m = torch_fidelity.calculate_metrics(
        input1=GEN, input2=REF, cuda=False, isc=True, fid=True, prc=True, feature_extractor="inception-v3-compat", feature_layer_fid="64", feature_layer_prc="2048",
        feature_extractor_weights_path=weights, batch_size=25, verbose=False, cache=False, samples_find_ext="png")
    out["torch-fidelity", "fid"] = m["frechet_inception_distance"]
    out["torch-fidelity", "is"] = m["inception_score_mean"]
    out["torch-fidelity", "precision"], out["torch-fidelity", "recall"] = m["precision"], m["recall"]

    # torchmetrics.
    from torchmetrics.image.fid import FrechetInceptionDistance

    stacks = {f: torch.from_numpy(np.stack([np.asarray(Image.open(p).convert("RGB")) for p in sorted(glob.glob(f + "/*.png"))]).transpose(0, 3, 1, 2)) for f in SETS}
    tm = FrechetInceptionDistance(feature=64, feature_extractor_weights_path=weights)
    for f, real in ((REF, True), (GEN, False)):
        for part in stacks[f].split(25):
            tm.update(part, real=real)
    out["torchmetrics", "fid"] = tm.compute().item()

    # prdc, as dgm-eval calls it, and piq, on features of pytorch-fid.
    from prdc import compute_prdc

    net = inception.InceptionV3([0, 3]).eval()
    rows = {}
    for f in SETS:
        with torch.no_grad():
            both = [net(part.float() / 255) for part in stacks[f].split(25)]
        rows[f] = [torch.cat([p[k].mean((2, 3)) for p in both]) for k in (0, 1)]
    d = compute_prdc(rows[REF][1].numpy(), rows[GEN][1].numpy(), nearest_k=5)
    for k, v in d.items():
        out["prdc", k] = v
    import piq

    out["piq", "fid"] = piq.FID()(rows[GEN][0].double(), rows[REF][0].double()).item()

    ours = {}

    def run(tool, metrics, *flags):
        r = subprocess.run([BIN, "fid", REF, GEN, "--preset", tool, "--metrics", metrics, "--weights", weights, "--force", "--no-ci", "--json", *flags], check=True, capture_output=True, text=True)
        return json.loads(r.stdout)["metrics"]

    for tool in ("pytorch-fid", "clean-fid", "torch-fidelity", "torchmetrics"):
        ours[tool, "fid"] = run(tool, "fid", "--features", "inception:64")["fid"]["value"]
    ours["piq", "fid"] = ours["pytorch-fid", "fid"]
    m = run("torch-fidelity", "is,pr")
    ours["torch-fidelity", "is"] = m["is"]["value"]
    ours["torch-fidelity", "precision"], ours["torch-fidelity", "recall"] = m["pr"]["precision"], m["pr"]["recall"]
    m = run("dgm-eval", "pr,dc")
    for name, k in (("precision", "pr"), ("recall", "pr"), ("density", "dc"), ("coverage", "dc")):
        ours["prdc", name] = m[k][name]

    print("| tool | figure | its value | fidlab's | difference |\n|---|---|---|---|---|")
    cases = []
    for (tool, figure), v in out.items():
        v, o = float(v), ours[tool, figure]
        print(f"| {tool} | {figure} | {v:.8g} | {o:.8g} | {abs(o - v) / max(abs(v), 1e-12):.1e} |")
        cases.append({"tool": tool, "figure": figure, "value": v})
    os.makedirs("testdata/golden/peers", exist_ok=True)
    versions = {}
    from importlib.metadata import version

    for name in ("pytorch-fid", "clean-fid", "torch-fidelity", "torchmetrics", "prdc", "piq", "torch", "scipy", "numpy", "pillow"):
        versions[name] = version(name)
    with open("testdata/golden/peers/agree.json", "w") as f:
        json.dump({"n": N, "ref": "shapes:ref?size=64", "gen": "shapes:test?size=64&only=2", "versions": versions, "cases": cases}, f, indent=1)


main()
