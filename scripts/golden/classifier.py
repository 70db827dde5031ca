"""Writes testdata/golden/classifier: small classifiers in torch with weights,
pictures, features, logits and gradients of the cross-entropy. Run from the
repository's root, with torch and safetensors installed:

    python scripts/golden/classifier.py

Everything is computed in float64; weights and pictures are values of float16.
"""
import math

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

OUT = "testdata/golden/classifier/"


class LeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 3, 5, padding=2), nn.Conv2d(3, 4, 5, padding=2)
        self.fc1, self.fc2, self.fc3 = nn.Linear(4 * 9, 10), nn.Linear(10, 8), nn.Linear(8, 5)

    def forward(self, x, _):
        for c in (self.conv1, self.conv2):
            x = F.max_pool2d(F.relu(c(x)), 2)
        f = F.relu(self.fc2(F.relu(self.fc1(x.flatten(1)))))
        return f, self.fc3(f)


def norm(c):
    return nn.GroupNorm(c // 4, c)


class Block(nn.Module):
    def __init__(self, cin, cout, step, width):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(cin, cout, 3, step, 1, bias=False), norm(cout)
        self.conv2, self.norm2 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False), norm(cout)
        self.emb = nn.Linear(width, 2 * cout)
        self.downsample = nn.Sequential(nn.Conv2d(cin, cout, 1, step, bias=False), norm(cout)) if step > 1 or cin != cout else nn.Identity()

    def forward(self, x, e):
        scale, shift = self.emb(e)[:, :, None, None].chunk(2, 1)
        h = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x))))) * (1 + scale) + shift
        return F.relu(self.downsample(x) + h)


class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(2, 8, 3, padding=1, bias=False), norm(8)
        self.time_embed = nn.Sequential(nn.Linear(8, 32), nn.SiLU(), nn.Linear(32, 32))
        self.layer1 = nn.ModuleList([Block(8, 8, 1, 32), Block(8, 8, 1, 32)])
        self.layer2 = nn.ModuleList([Block(8, 12, 2, 32), Block(12, 12, 1, 32)])
        self.fc = nn.Linear(12, 5)

    def forward(self, x, t):
        w = t[:, None] * torch.exp(-math.log(10000) * torch.arange(4, dtype=torch.float64) / 4)[None]
        e = F.silu(self.time_embed(torch.cat([torch.cos(w), torch.sin(w)], 1)))
        x = F.relu(self.norm1(self.conv1(x)))
        for b in (*self.layer1, *self.layer2):
            x = b(x, e)
        f = x.mean((2, 3))
        return f, self.fc(f)


def save(name, model, x, t):
    gen = torch.Generator().manual_seed(7)
    model.double()
    with torch.no_grad():
        for _, p in sorted(model.named_parameters()):
            v = torch.randn(p.shape, generator=gen, dtype=torch.float64)
            p.copy_((v / math.sqrt(p[0].numel()) if p.dim() > 1 else 0.5 + 0.3 * v).half().double())
    x.requires_grad_(True)
    labels = torch.tensor([3, 0, 1])
    f, y = model(x, t)
    F.cross_entropy(y, labels).backward()
    out = {"w." + k: p.detach().half() for k, p in model.named_parameters()} | {"g." + k: p.grad for k, p in model.named_parameters()}
    out |= {"x": x.detach(), "labels": labels.int(), "features": f.detach(), "logits": y.detach(), "gx": x.grad}
    if t is not None:
        out["time"] = t
    save_file({k: v.contiguous().clone() for k, v in out.items()}, OUT + name + ".safetensors")


if __name__ == "__main__":
    gen = torch.Generator().manual_seed(8)
    draw = lambda *s: torch.randn(*s, generator=gen, dtype=torch.float64).half().double()
    save("lenet", LeNet(), draw(3, 1, 12, 12), None)
    save("resnet", ResNet(), draw(3, 2, 6, 6), torch.tensor([0.5, 20, 999], dtype=torch.float64))
