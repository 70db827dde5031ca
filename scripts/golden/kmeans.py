"""Makes testdata/golden/kmeans/cases.json: what scikit-learn's Lloyd iteration finds from given starts. Run: python
scripts/golden/kmeans.py (needs numpy and scikit-learn)."""
import json
import pathlib

import numpy as np
import sklearn
from sklearn.cluster import KMeans

OUT = pathlib.Path(__file__).parents[2] / "testdata/golden/kmeans"
OUT.mkdir(parents=True, exist_ok=True)
cases = []
for seed, n, d, k, spread in ((1, 90, 3, 4, 2.0), (2, 60, 8, 3, 1.0), (3, 120, 2, 6, 0.5), (4, 40, 5, 2, 0.0)):
    r = np.random.default_rng(seed)
    x = (r.normal(size=(n, d)) + spread * r.normal(size=(k, d))[r.integers(0, k, n)]).astype(np.float32)
    start = x[r.choice(n, k, replace=False)]
    m = KMeans(k, init=start.astype(np.float64), n_init=1, algorithm="lloyd", tol=0, max_iter=1000).fit(x.astype(np.float64))
    cases.append({"n": n, "d": d, "k": k, "x": [float(v) for v in x.ravel()], "start": [float(v) for v in start.ravel()],
                  "labels": m.labels_.tolist(), "centres": m.cluster_centers_.ravel().tolist(), "inertia": m.inertia_})
(OUT / "cases.json").write_text(json.dumps({"scikit-learn": sklearn.__version__, "cases": cases}) + "\n")
