"""Trajectories of torch.optim.Adafactor, for nn/adafactor_test.go.

    python scripts/golden/adafactor.py > testdata/golden/adafactor/trajectories.json

torch takes min(lr, 1/sqrt(step)) for the learning rate; the rates here are below that.
Its eps is a pair: the root of the least second moment, and the least size that steps are
relative to. Gradients are of a fixed rule, so that the file holds parameters alone.
"""

import json
import math

import torch

STEPS = 40
SHAPES = {"matrix": (6, 5), "wide": (2, 9), "vector": (7,), "small": (3, 4)}
CASES = {
    "plain": dict(lr=0.01),
    "decay": dict(lr=0.05, weight_decay=0.3),
    "other settings": dict(lr=0.02, beta2_decay=-0.5, d=1.5, eps=(1e-3, 0.5), weight_decay=0.01),
}


def grad(name, step, shape):
    n = math.prod(shape)
    k = sorted(SHAPES).index(name)
    v = [math.sin(3.0 * i + step + k) * (1 + 3 * math.cos(i)) + (0.3 if i % 3 else 0.0) for i in range(n)]
    return torch.tensor(v, dtype=torch.float64).reshape(shape)


def start(name, shape):
    n = math.prod(shape)
    scale = 1e-4 if name == "small" else 1.0
    return torch.tensor([scale * math.cos(1.7 * i + 0.2) for i in range(n)], dtype=torch.float64).reshape(shape)


out = {"torch": torch.__version__, "steps": STEPS, "cases": {}}
for case, settings in CASES.items():
    params = {n: torch.nn.Parameter(start(n, s)) for n, s in SHAPES.items()}
    opt = torch.optim.Adafactor(list(params.values()), foreach=False, **settings)
    for step in range(STEPS):
        for n, p in params.items():
            p.grad = grad(n, step, SHAPES[n])
        opt.step()
    out["cases"][case] = {n: p.detach().reshape(-1).tolist() for n, p in params.items()}
print(json.dumps(out))
