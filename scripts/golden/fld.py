"""Writes testdata/golden/fld/fld.safetensors: sets of features, and what the definition of the feature
likelihood divergence (arXiv 2302.04440, with the constants of the authors' code) makes of them
in float64. Run from the repository's root with torch and safetensors installed and with a checkout of
github.com/marcojira/fld, whose mixtures (in float32) the sets without copies are held to first:

    python scripts/golden/fld.py FLD

The baseline here is of the first and the second half of the training set, not of random ones.
"""
import importlib.util
import math
import os
import sys
import types

import numpy as np
import torch
from safetensors.numpy import save_file

OUT = "testdata/golden/fld/"


def fit(centres, x, epochs=50):
    """Logarithms of the variances around centres that suit x, and how many epochs that took."""
    n, d = len(centres), x.shape[1]
    dist = ((x[:, None] - centres[None]) ** 2).sum(2)
    origin = 0.81 * ((x - x.mean(0)) ** 2).sum(1, keepdim=True)
    var = ((dist.min(0).values + 1e-3) / d).log().requires_grad_()
    last = torch.zeros(1, dtype=x.dtype, requires_grad=True)
    adam, losses = torch.optim.Adam([var, last], lr=0.5), []
    for _ in range(epochs):
        adam.zero_grad()
        ll = torch.cat([log_density(dist, var, d) - math.log(n), log_density(origin, last, d)], 1)
        loss = -torch.logsumexp(ll, 1).mean() / d
        loss.backward()
        adam.step()
        with torch.no_grad():
            var.clamp_(-40, 40)
        losses.append(loss.item())
        if len(losses) > 6 and max(abs(losses[-1] - l) for l in losses[-5:]) < 5e-4:
            break
    return var.detach(), len(losses)


def log_density(dist, var, d):
    return -0.5 * dist / var.exp() - d / 2 * (var + math.log(2 * math.pi))


def nll(centres, var, x):
    d = x.shape[1]
    ll = log_density(((x[:, None] - centres[None]) ** 2).sum(2), var, d) - math.log(len(centres))
    return (-torch.logsumexp(ll, 1) / d).mean().item()


def authors(root):
    """The authors' class, without what it draws pictures with."""
    for name in ["matplotlib", "matplotlib.pyplot", "seaborn", "tqdm", "fld", "fld.utils"]:
        sys.modules.setdefault(name, types.ModuleType(name))
    sys.modules["tqdm"].tqdm = lambda x, **_: x
    sys.modules["fld.utils"].shuffle = lambda x: x
    spec = importlib.util.spec_from_file_location("mog", os.path.join(root, "fld/MoG.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.MoG


def main():
    MoG = authors(sys.argv[1])
    r = np.random.default_rng(7)
    d = 12
    scale, shift = r.uniform(0.2, 3, d), r.normal(0, 5, d)
    mix = r.normal(0, 1, (d, d)) / 2 + np.eye(d)
    draw = lambda n, s=1.0: ((r.normal(0, s, (n, d)) @ mix) * scale + shift).astype(np.float32)
    train, test = draw(260), draw(150)
    copies = train[:90] + r.normal(0, 1e-3, (90, d)).astype(np.float32)
    sets = {"good": draw(120), "narrow": draw(120, 0.4), "copies": copies.astype(np.float32), "half": np.concatenate([copies[:45], draw(45)])}
    out = {"train": train, "test": test}
    results = []
    for name, gen in sets.items():
        tr, te, ge = (torch.tensor(a, dtype=torch.float64) for a in (train, test, gen))
        mean, std = te.mean(0), te.std(0)
        tr, te, ge = (tr - mean) / std, (te - mean) / std, (ge - mean) / std
        half = min(len(ge), len(tr) // 2)
        var, epochs = fit(ge, tr)
        base, base_epochs = fit(tr[:half], tr[half:])
        row = [nll(ge, var, te), nll(ge, var, tr), nll(tr[:half], base, te)]
        theirs = []
        for centres, x in [(ge, tr), (tr[:half], tr[half:])]:
            m = MoG(centres.float())
            m.fit(x.float())
            theirs.append(m)
        check = [theirs[0].get_dim_adjusted_nlls(te.float()), theirs[0].get_dim_adjusted_nlls(tr.float()), theirs[1].get_dim_adjusted_nlls(te.float())]
        check = [c.mean().item() for c in check]
        print(name, epochs, base_epochs, row, check)
        if name in ("good", "narrow"):  # the distances of copies are what float32's rounding leaves of them
            assert all(abs(a - b) < 2e-6 for a, b in zip(row, check)), (row, check)
        out[name] = gen
        results.append(row + [epochs, base_epochs])
    out["results"] = np.array(results)
    os.makedirs(OUT, exist_ok=True)
    save_file(out, OUT + "fld.safetensors")


main()
