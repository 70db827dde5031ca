"""Writes testdata/golden/tokens/choice.json: the probabilities that transformers' processors of
logits leave, temperature, then top-k, then top-p. Run from the repository's root with torch and
transformers installed:

    python scripts/golden/tokendraw.py
"""
import json
import os

import torch
import transformers
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

OUT = "testdata/golden/tokens/"
os.makedirs(OUT, exist_ok=True)
gen = torch.Generator().manual_seed(1)
cases = []
for vocab, temp, k, p in [(5, 0, 0, 0), (5, 0.7, 0, 0), (9, 0, 3, 0), (9, 2.5, 4, 0), (9, 0, 0, 0.5), (12, 1.3, 0, 0.9), (12, 0.6, 5, 0.8),
                          (12, 0, 20, 0.99), (30, 3.0, 7, 0.3), (30, 0, 1, 0.5), (30, 0, 0, 0.01)]:
    logits = (2 * torch.randn(1, vocab, generator=gen)).float()
    x = logits.double()
    if temp:
        x = TemperatureLogitsWarper(temp)(None, x)
    if k:
        x = TopKLogitsWarper(k)(None, x)
    if p:
        x = TopPLogitsWarper(p)(None, x)
    cases.append({"logits": logits[0].tolist(), "temp": temp, "top_k": k, "top_p": p, "probs": x.softmax(-1)[0].tolist()})
with open(OUT + "choice.json", "w") as f:
    json.dump({"peer": "transformers " + transformers.__version__, "cases": cases}, f)
print(len(cases), "cases")
