"""Writes testdata/golden/lpips/distances.json: what the lpips package and torchmetrics make of pairs of pictures, with the seeded
weights of weightrecipe.py in place of torchvision's and their own. Run from the repository's root, with torch, torchvision, lpips
and torchmetrics installed:

    python scripts/golden/lpips.py

Everything is computed in float64. Linear layers have the absolute values of the recipe's. "small" is a factor on the last convolutions,
which brings the map's lengths to where the two divide differently. Pictures are levels, floor(256·u).
"""
import importlib.metadata
import json
import os
import sys
import warnings

warnings.filterwarnings("ignore")
here = os.path.dirname(os.path.abspath(__file__))
sys.path = [p for p in sys.path if os.path.abspath(p or ".") != here]  # this file has the package's name
import lpips  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from torchmetrics.functional.image.lpips import _LPIPS  # noqa: E402

sys.path.append(here)
import weightrecipe  # noqa: E402

OUT = "testdata/golden/lpips/distances.json"
LAST = {"alex": "features.10.", "vgg": "features.28.", "squeeze": "features.12.expand"}
SIZES = {"alex": [(64, 66), (67, 79)], "vgg": [(33, 47), (64, 64)], "squeeze": [(64, 64), (67, 70), (66, 65)]}


def ours(name):
    """The name in torchvision's list, or that of a linear layer."""
    parts = name.split(".")
    return name if name.startswith("lin") else "features." + ".".join(parts[parts.index("net") + (3 if "slices" in parts else 2):])


def fill(net, salt, last, small):
    for name, t in net.state_dict().items():
        if name.startswith(("scaling_layer", "lins.")):  # lins are the same tensors again
            continue
        key = ours(name)
        v = torch.from_numpy(weightrecipe.tensor(salt, key, tuple(t.shape))).double()
        if key.startswith("lin"):
            v = v.abs()
        elif key.startswith(last):
            v = v * small
        t.copy_(v)


def picture(text, h, w):
    return np.floor(weightrecipe.uniform(text, 3 * h * w) * 256).reshape(1, 3, h, w)


@torch.no_grad()
def main():
    cases = []
    for net, sizes in SIZES.items():
        for small in (1, 2.0**-14):
            for (h, w) in sizes if small == 1 else sizes[:1]:
                salt = f"lpips {net} "
                a, b = (torch.from_numpy(picture(f"{salt}{h} {w} {k}", h, w) / 127.5 - 1) for k in "ab")
                for peer, make in (("lpips", lambda: lpips.LPIPS(pretrained=False, net=net, pnet_rand=True, verbose=False)),
                                   ("torchmetrics", lambda: _LPIPS(pretrained=False, net=net, pnet_rand=True))):
                    model = make().double().eval()
                    fill(model, salt, LAST[net], small)
                    value, layers = model(a, b, True)
                    cases.append({"peer": peer, "net": net, "height": h, "width": w, "small": small, "value": value.item(),
                                  "layers": [v.item() for v in layers]})
                    print(cases[-1])
    os.makedirs(os.path.dirname(OUT), exist_ok=True)
    versions = {n: importlib.metadata.version(n) for n in ("lpips", "torchmetrics", "torch", "torchvision")}
    with open(OUT, "w") as f:
        json.dump({"versions": versions, "cases": cases}, f, indent=1)
        f.write("\n")


main()
