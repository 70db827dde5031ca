"""The two networks of the training rows in torch, as ours are in train.go: a diffusion transformer of 2.0 M parameters and a U-Net of 0.5 M."""
import math

import torch
import torch.nn.functional as F
from torch import nn


def waves(t, width):
    angles = t[:, None].float() * torch.exp(-math.log(1e4) * torch.arange(width // 2) / (width // 2))
    return torch.cat([angles.cos(), angles.sin()], -1)


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Linear(4 * width, width))
        self.change = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x, c):
        shift1, scale1, gate1, shift2, scale2, gate2 = self.change(c)[:, None].chunk(6, -1)
        n, length, width = x.shape
        qkv = self.qkv(self.norm(x) * (1 + scale1) + shift1).view(n, length, 3, self.heads, width // self.heads)
        out = F.scaled_dot_product_attention(*qkv.permute(2, 0, 3, 1, 4))
        x = x + gate1 * self.proj(out.transpose(1, 2).reshape(n, length, width))
        return x + gate2 * self.mlp(self.norm(x) * (1 + scale2) + shift2)


class DiT(nn.Module):
    def __init__(self, width=128, depth=6, heads=4, patch=4, size=28):
        super().__init__()
        self.patch, self.grid = patch, size // patch
        self.patches = nn.Conv2d(1, width, patch, patch)
        self.places = nn.Parameter(0.02 * torch.randn(1, self.grid**2, width), requires_grad=False)
        self.time = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))
        self.label = nn.Embedding(1001, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.change, self.last = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width)), nn.Linear(width, patch * patch)

    def forward(self, x, t, labels):
        h = self.patches(x).flatten(2).transpose(1, 2) + self.places
        c = self.time(waves(t, 256)) + self.label(labels)
        for b in self.blocks:
            h = b(h, c)
        shift, scale = self.change(c)[:, None].chunk(2, -1)
        h = self.last(self.norm(h) * (1 + scale) + shift).view(-1, self.grid, self.grid, self.patch, self.patch, 1)
        return h.permute(0, 5, 1, 3, 2, 4).reshape(-1, 1, self.grid * self.patch, self.grid * self.patch)


class Residual(nn.Module):
    def __init__(self, before, after, embedding):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(8, before), nn.Conv2d(before, after, 3, padding=1)
        self.time = nn.Linear(embedding, after)
        self.norm2, self.conv2 = nn.GroupNorm(8, after), nn.Conv2d(after, after, 3, padding=1)
        self.skip = nn.Conv2d(before, after, 1) if before != after else nn.Identity()

    def forward(self, x, e):
        h = self.conv1(F.silu(self.norm1(x))) + self.time(e)[:, :, None, None]
        return self.skip(x) + self.conv2(F.silu(self.norm2(h)))


class UNet(nn.Module):
    def __init__(self, ch=32):
        super().__init__()
        self.ch, e = ch, 4 * ch
        self.time = nn.Sequential(nn.Linear(ch, e), nn.SiLU(), nn.Linear(e, e), nn.SiLU())
        self.first, self.down1 = nn.Conv2d(1, ch, 3, padding=1), Residual(ch, ch, e)
        self.half1, self.down2 = nn.Conv2d(ch, ch, 3, 2, 1), Residual(ch, 2 * ch, e)
        self.half2, self.mid1 = nn.Conv2d(2 * ch, 2 * ch, 3, 2, 1), Residual(2 * ch, 2 * ch, e)
        self.norm, self.qkv, self.proj = nn.GroupNorm(8, 2 * ch), nn.Conv2d(2 * ch, 6 * ch, 1), nn.Conv2d(2 * ch, 2 * ch, 1)
        self.mid2, self.up2, self.up1 = Residual(2 * ch, 2 * ch, e), Residual(4 * ch, 2 * ch, e), Residual(3 * ch, ch, e)
        self.out = nn.Sequential(nn.GroupNorm(8, ch), nn.SiLU(), nn.Conv2d(ch, 1, 3, padding=1))

    def forward(self, x, t):
        e = self.time(waves(t, self.ch))
        h1 = self.down1(self.first(x), e)
        h2 = self.down2(self.half1(h1), e)
        h = self.mid1(self.half2(h2), e)
        n, c, height, width = h.shape
        qkv = self.qkv(self.norm(h)).view(n, 3, 4, c // 4, height * width).transpose(-1, -2)
        out = F.scaled_dot_product_attention(*qkv.unbind(1)).transpose(-1, -2).reshape(n, c, height, width)
        h = self.mid2(h + self.proj(out), e)
        h = self.up2(torch.cat([F.interpolate(h, scale_factor=2.0), h2], 1), e)
        h = self.up1(torch.cat([F.interpolate(h, scale_factor=2.0), h1], 1), e)
        return self.out(h)


def train(name, what, layout, threads):
    """A training step with AdamW, or a pass without gradients, of one of the networks in a memory layout."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    n = {"dit": 64, "unet": 128}[name]
    model = {"dit": DiT, "unet": UNet}[name]()
    x, target, t = torch.randn(n, 1, 28, 28), torch.randn(n, 1, 28, 28), torch.randint(0, 1000, (n,))
    if layout == "last":
        model, x, target = (v.to(memory_format=torch.channels_last) for v in (model, x, target))
    inputs = (x, t, torch.randint(0, 1000, (n,))) if name == "dit" else (x, t)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    opt = torch.optim.AdamW(model.parameters(), 1e-4, fused=True)

    def forward():
        with torch.no_grad():
            model(*inputs)
        return {"value": trained}

    def step():
        opt.zero_grad(set_to_none=True)
        F.mse_loss(model(*inputs), target).backward()
        opt.step()
        return {"value": trained}

    return forward if what == "forward" else step
