"""Rows of T5's relative position bias as transformers chooses them, for nn/relativebias_test.go.

    python scripts/golden/relativebias.py > testdata/golden/relativebias/buckets.json

Needs torch and transformers. Rows are for keys from `from` places after the query on (negative:
before it).
"""

import json

import torch
import transformers
from transformers.models.t5.modeling_t5 import T5Attention

REACH = 300
cases = []
for buckets, most, both in [(32, 128, True), (32, 128, False), (8, 20, True), (20, 77, False), (12, 1000, True)]:
    rel = torch.arange(-REACH, REACH + 1)
    rows = T5Attention._relative_position_bucket(rel, bidirectional=both, num_buckets=buckets, max_distance=most)
    cases.append({"buckets": buckets, "most": most, "both": both, "from": -REACH, "rows": rows.tolist()})
print(json.dumps({"torch": torch.__version__, "transformers": transformers.__version__, "cases": cases}))
