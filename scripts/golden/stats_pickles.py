"""Writes the statistics pickles that fid's tests read: the dictionary of EDM2's `calculate_metrics.py ref` and the
state that stylegan2-ada-pytorch caches, with values by formula. RUN: python stats_pickles.py OUTDIR (needs numpy)."""
import os
import pickle
import sys

import numpy as np


def stats(d, scale):
    i = np.arange(d, dtype=np.float64)
    mu = scale * (i + 0.5)
    return mu, scale * (np.eye(d) * 2 + 1 / (1 + i[:, None] + i[None, :]))


def main(out):
    edm2 = {"num_images": 50000}
    for key, d, scale in (("fid", 4, 1.0), ("fd_dinov2", 3, 3.0)):
        mu, sigma = stats(d, scale)
        edm2[key] = {"mu": mu, "sigma": sigma}
    with open(os.path.join(out, "edm2.pkl"), "wb") as f:
        pickle.dump(edm2, f)
    n, (mu, cov0) = 1000, stats(4, 1.0)
    state = {
        "capture_all": False, "capture_mean_cov": True, "max_items": None, "num_items": n, "num_features": 4, "all_features": None,
        "raw_mean": mu * n, "raw_cov": (cov0 + np.outer(mu, mu)) * n,
    }
    with open(os.path.join(out, "stylegan2_ada.pkl"), "wb") as f:
        pickle.dump(state, f)


if __name__ == "__main__":
    main(sys.argv[1])
