"""Writes testdata/golden/dit: small diffusion transformers in PyTorch, in float64, with
what they give and the gradients of a loss, to compare models/dit with. Run from the
repository's root, with torch, diffusers and safetensors installed:

    python scripts/golden/dit.py

Weights are rounded to float16 first, and stored so. A gradient of more than 600 elements is
stored as two sums of it, over the last and over the first axis, weighted with cos(index).
"""
import os

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DiTTransformer2DModel
from safetensors.torch import save_file
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

OUT = "testdata/golden/dit/"
SMALL = 600


class Times(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(256, d), nn.SiLU(), nn.Linear(d, d))

    def forward(self, t):
        return self.mlp(waves(t, 256))


def waves(t, width):
    w = torch.tensor(10000.0, dtype=t.dtype) ** (-torch.arange(width // 2, dtype=t.dtype) / (width // 2))
    a = t[:, None] * w[None]
    return torch.cat([a.cos(), a.sin()], 1)


def places(h, w, d):
    """Sines and cosines of the column, then of the row."""
    def one(p):
        a = p[:, None] * 10000.0 ** (-torch.arange(d // 4, dtype=torch.float64) / (d // 4))[None]
        return torch.cat([a.sin(), a.cos()], 1)
    rows = torch.arange(h, dtype=torch.float64).repeat_interleave(w)
    cols = torch.arange(w, dtype=torch.float64).repeat(h)
    return torch.cat([one(cols), one(rows)], 1)[None]


class RMSNorm(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d))

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight


class Attention(nn.Module):
    def __init__(self, d, heads, bias=True, qknorm=False):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(d, 3 * d, bias=bias)
        self.proj = nn.Linear(d, d)
        self.q_norm = RMSNorm(d // heads) if qknorm else nn.Identity()
        self.k_norm = RMSNorm(d // heads) if qknorm else nn.Identity()

    def forward(self, x, turn=None):
        b, n, d = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        q, k = self.q_norm(q), self.k_norm(k)
        if turn is not None:
            q, k = turn(q), turn(k)
        p = (q @ k.transpose(-1, -2) / (d // self.heads) ** 0.5).softmax(-1)
        return self.proj((p @ v).transpose(1, 2).reshape(b, n, d))


class Rotary:
    """Neighbouring pairs of the first half of a head by the row, of the second by the column."""
    def __init__(self, h, w, head):
        n = head // 4
        f = 10000.0 ** (-torch.arange(n, dtype=torch.float64) * 2 / (head // 2))
        rows = torch.arange(h, dtype=torch.float64).repeat_interleave(w)
        cols = torch.arange(w, dtype=torch.float64).repeat(h)
        a = torch.cat([rows[:, None] * f, cols[:, None] * f], 1).repeat_interleave(2, 1)
        self.cos, self.sin = a.cos(), a.sin()

    def __call__(self, x):
        y = torch.stack([-x[..., 1::2], x[..., 0::2]], -1).flatten(-2)
        return x * self.cos + y * self.sin


class MLP(nn.Module):
    def __init__(self, d, act):
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(d, 4 * d), act, nn.Linear(4 * d, d)

    def forward(self, x):
        return self.fc2(self.act(self.fc1(x)))


class SwiGLU(nn.Module):
    def __init__(self, d):
        super().__init__()
        h = int(2 / 3 * 4 * d)
        self.w12, self.w3 = nn.Linear(d, 2 * h), nn.Linear(h, d)

    def forward(self, x):
        a, b = self.w12(x).chunk(2, -1)
        return self.w3(F.silu(a) * b)


class Block(nn.Module):
    def __init__(self, d, heads, lightning, qknorm, shift):
        super().__init__()
        self.shift = shift
        norm = (lambda: RMSNorm(d)) if lightning else (lambda: nn.LayerNorm(d, elementwise_affine=False, eps=1e-6))
        self.norm1, self.norm2 = norm(), norm()
        self.attn = Attention(d, heads, qknorm=qknorm)
        self.mlp = SwiGLU(d) if lightning else MLP(d, nn.GELU(approximate="tanh"))
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(d, (6 if shift else 4) * d))

    def forward(self, x, c, turn):
        m = self.adaLN_modulation(c)[:, None]
        if self.shift:
            b1, s1, g1, b2, s2, g2 = m.chunk(6, 2)
        else:
            (s1, g1, s2, g2), b1, b2 = m.chunk(4, 2), 0, 0
        x = x + g1 * self.attn(self.norm1(x) * (1 + s1) + b1, turn)
        return x + g2 * self.mlp(self.norm2(x) * (1 + s2) + b2)


class Final(nn.Module):
    def __init__(self, d, out, lightning):
        super().__init__()
        self.norm_final = RMSNorm(d) if lightning else nn.LayerNorm(d, elementwise_affine=False, eps=1e-6)
        self.linear = nn.Linear(d, out)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(d, 2 * d))

    def forward(self, x, c):
        b, s = self.adaLN_modulation(c)[:, None].chunk(2, 2)
        return self.linear(self.norm_final(x) * (1 + s) + b)


class Proj(nn.Module):
    def __init__(self, c, d, p):
        super().__init__()
        self.proj = nn.Conv2d(c, d, p, p)

    def forward(self, x):
        return self.proj(x).flatten(2).transpose(1, 2)


class Labels(nn.Module):
    def __init__(self, k, d):
        super().__init__()
        self.embedding_table = nn.Embedding(k + 1, d)


def pictures(x, h, w, p):
    b, _, n = x.shape
    return x.view(b, h // p, w // p, p, p, n // p // p).permute(0, 5, 1, 3, 2, 4).reshape(b, -1, h, w)


class DiT(nn.Module):
    def __init__(self, h, w, c, p, d, depth, heads, classes, lightning=False, qknorm=False, shift=True, sigma=True):
        super().__init__()
        self.h, self.w, self.p = h, w, p
        self.x_embedder, self.t_embedder, self.y_embedder = Proj(c, d, p), Times(d), Labels(classes, d)
        self.register_buffer("pos_embed", places(h // p, w // p, d))
        self.blocks = nn.ModuleList(Block(d, heads, lightning, qknorm, shift) for _ in range(depth))
        self.final_layer = Final(d, p * p * c * (2 if sigma else 1), lightning)
        self.turn = Rotary(h // p, w // p, d // heads) if lightning else None

    def forward(self, x, t, y):
        c = self.t_embedder(t) + self.y_embedder.embedding_table(y)
        x = self.x_embedder(x) + self.pos_embed
        for b in self.blocks:
            x = b(x, c, self.turn)
        return pictures(self.final_layer(x, c), self.h, self.w, self.p)


class UBlock(nn.Module):
    def __init__(self, d, heads, skip):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.attn, self.mlp = Attention(d, heads, bias=False), MLP(d, nn.GELU())
        if skip:
            self.skip_linear = nn.Linear(2 * d, d)

    def forward(self, x, skip=None):
        if skip is not None:
            x = self.skip_linear(torch.cat([x, skip], -1))
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class UViT(nn.Module):
    def __init__(self, h, w, c, p, d, depth, heads, classes):
        super().__init__()
        self.h, self.w, self.p, self.d = h, w, p, d
        self.patch_embed = Proj(c, d, p)
        self.label_emb = nn.Embedding(classes + 1, d)
        self.pos_embed = nn.Parameter(torch.zeros(1, 2 + h * w // p // p, d))
        self.in_blocks = nn.ModuleList(UBlock(d, heads, False) for _ in range(depth // 2))
        self.mid_block = UBlock(d, heads, False)
        self.out_blocks = nn.ModuleList(UBlock(d, heads, True) for _ in range(depth // 2))
        self.norm = nn.LayerNorm(d)
        self.decoder_pred = nn.Linear(d, p * p * c)
        self.final_layer = nn.Conv2d(c, c, 3, padding=1)

    def forward(self, x, t, y):
        x = torch.cat([self.label_emb(y)[:, None], waves(t, self.d)[:, None], self.patch_embed(x)], 1) + self.pos_embed
        skips = []
        for b in self.in_blocks:
            x = b(x)
            skips.append(x)
        x = self.mid_block(x)
        for b in self.out_blocks:
            x = b(x, skips.pop())
        return self.final_layer(pictures(self.decoder_pred(self.norm(x))[:, 2:], self.h, self.w, self.p))


class Pooled(nn.Module):
    """Attention to all tokens alike."""
    def __init__(self, d):
        super().__init__()
        self.v, self.proj = nn.Linear(d, d), nn.Linear(d, d)

    def forward(self, x, turn=None):
        return self.proj(self.v(x).mean(1, keepdim=True).expand_as(x))


class Cross(nn.Module):
    """Attention of x to y, by names that are given; the first lens of y's tokens are seen."""
    def __init__(self, d, width, heads, names=("to_q", "to_k", "to_v", "to_out")):
        super().__init__()
        self.heads, self.names = heads, names
        for n, (i, o) in zip(names, [(d, d), (width, d), (width, d), (d, d)]):
            l = nn.Linear(i, o)
            setattr(self, n, nn.ModuleList([l]) if n == "to_out" else l)

    def forward(self, x, y, lens=None):
        b, n, d = x.shape
        q, k, v = (getattr(self, m)(z).view(b, -1, self.heads, d // self.heads).transpose(1, 2) for m, z in zip(self.names, (x, y, y)))
        a = q @ k.transpose(-1, -2) / (d // self.heads) ** 0.5
        if lens is not None:
            a = a.masked_fill(torch.arange(y.shape[1])[None, None, None] >= lens[:, None, None, None], -torch.inf)
        out = getattr(self, self.names[3])
        return (out[0] if self.names[3] == "to_out" else out)((a.softmax(-1) @ v).transpose(1, 2).reshape(b, n, d))


class Few(DiT):
    """A block of pooling attention, few tokens of many, a block on them, many again, a block."""
    def __init__(self, h, w, c, p, d, heads, classes, grid):
        super().__init__(h, w, c, p, d, 5, heads, classes)
        self.grid = grid
        self.blocks[0].attn = Pooled(d)
        for i in 1, 3:
            self.blocks[i].attn = Cross(d, d, heads, ("q", "k", "v", "proj"))
        self.blocks[3].merged_layer1, self.blocks[3].merged_layer2 = nn.Linear(d, d), nn.Linear(d, d)

    def across(self, b, x, y, c):
        b1, s1, g1, b2, s2, g2 = b.adaLN_modulation(c)[:, None].chunk(6, 2)
        mod = lambda z: b.norm1(z) * (1 + s1) + b1
        q = x
        if hasattr(b, "merged_layer1"):
            n, d = x.shape[0], x.shape[2]
            up = F.interpolate(x.transpose(1, 2).reshape(n, d, self.grid, self.grid), (self.h // self.p, self.w // self.p), mode="nearest")
            q = b.merged_layer1(up.flatten(2).transpose(1, 2)) + b.merged_layer2(y)
        out = q + g1 * b.attn(mod(q), mod(x if q is not x else y))
        return out + g2 * b.mlp(b.norm2(out) * (1 + s2) + b2)

    def forward(self, x, t, y):
        c = self.t_embedder(t) + self.y_embedder.embedding_table(y)
        x = self.blocks[0](self.x_embedder(x) + self.pos_embed, c, None)
        n, _, d = x.shape
        s = F.adaptive_avg_pool2d(x.transpose(1, 2).reshape(n, d, self.h // self.p, self.w // self.p), self.grid).flatten(2).transpose(1, 2)
        s = self.blocks[2](self.across(self.blocks[1], s, x, c), c, None)
        x = self.blocks[4](self.across(self.blocks[3], s, x, c), c, None)
        return pictures(self.final_layer(x, c), self.h, self.w, self.p)


class Told(DiT):
    """Attention to a text between the two branches of each block."""
    def __init__(self, h, w, c, p, d, depth, heads, classes, width):
        super().__init__(h, w, c, p, d, depth, heads, classes, sigma=False)
        for b in self.blocks:
            b.cross_attn = Cross(d, width, heads)

    def forward(self, x, t, y, text, lens):
        c = self.t_embedder(t) + self.y_embedder.embedding_table(y)
        x = self.x_embedder(x) + self.pos_embed
        for b in self.blocks:
            b1, s1, g1, b2, s2, g2 = b.adaLN_modulation(c)[:, None].chunk(6, 2)
            x = x + g1 * b.attn(b.norm1(x) * (1 + s1) + b1)
            x = x + b.cross_attn(x, text, lens)
            x = x + g2 * b.mlp(b.norm2(x) * (1 + s2) + b2)
        return pictures(self.final_layer(x, c), self.h, self.w, self.p)


class Joined(UViT):
    """U-ViT of texts: time, text, patches."""
    def __init__(self, h, w, c, p, d, depth, heads, width, length):
        super().__init__(h, w, c, p, d, depth, heads, 1)
        del self.label_emb
        self.context_embed = nn.Linear(width, d)
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + length + h * w // p // p, d))

    def forward(self, x, t, y, text):
        x = torch.cat([waves(t, self.d)[:, None], self.context_embed(text), self.patch_embed(x)], 1) + self.pos_embed
        skips = []
        for b in self.in_blocks:
            x = b(x)
            skips.append(x)
        x = self.mid_block(x)
        for b in self.out_blocks:
            x = b(x, skips.pop())
        x = self.decoder_pred(self.norm(x))[:, 1 + text.shape[1]:]
        return self.final_layer(pictures(x, self.h, self.w, self.p))


def sums(g):
    """The gradient, or two weighted sums of it as one row."""
    if g.numel() <= SMALL:
        return g.reshape(-1)
    m = g.reshape(g.shape[0], -1)
    cos = lambda n: torch.cos(torch.arange(n, dtype=m.dtype))
    return torch.cat([m @ cos(m.shape[1]), cos(m.shape[0]) @ m])


def fill(net, seed):
    """Weights of about the size that networks have, none of them 0, rounded to float16."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for n, p in net.named_parameters():
            v = torch.randn(p.shape, generator=g, dtype=torch.float64)
            size = 0.3 if p.dim() == 1 else 1.2 / p[0].numel() ** 0.5
            p.copy_((v * size + (1 if p.dim() == 1 and n.endswith("weight") else 0)).half())


def data(seed, h, w, c, classes, times, out):
    g = torch.Generator().manual_seed(seed)
    n = len(times)
    x = torch.randn(n, c, h, w, generator=g, dtype=torch.float64).half().double().requires_grad_()
    goal = torch.randn(n, out, h, w, generator=g, dtype=torch.float64).half().double()
    y = torch.tensor([classes, 1, 0][:n])
    return x, torch.tensor(times, dtype=torch.float64, requires_grad=True), y, goal


def store(name, weights, grads, x, t, y, goal, out, count, more={}):
    e = {"in.x": x.detach().half(), "in.t": t.detach().float(), "in.y": y.int(), "in.goal": goal.half(), "out": out.detach().float(),
         "grad.in.x": x.grad.float()}
    for k, v in more.items():
        e["in." + k] = v.detach().half() if v.is_floating_point() else v.int()
        if v.grad is not None:
            e["grad.in." + k] = v.grad.float()
    if t.grad is not None:
        e["grad.in.t"] = t.grad.float()
    for n, p in weights.items():
        e["net." + n] = p.detach().half() if n != "pos_embed" or p.requires_grad else p.detach().float()
    for n, g in grads.items():
        e["grad.net." + n] = sums(g).float()
    os.makedirs(OUT, exist_ok=True)
    path = OUT + name + ".safetensors"
    save_file({k: v.contiguous() for k, v in e.items()}, path, metadata={"flops": str(count.get_total_flops())})
    print(path, os.path.getsize(path), "bytes;", len(grads), "gradients; largest of the result", float(out.detach().abs().max()))


def text(seed, *shape):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=g, dtype=torch.float64).half().double().requires_grad_()


def twin(name, net, seed, h, w, c, classes, times, out, **more):
    net = net.double()
    fill(net, seed)
    x, t, y, goal = data(seed + 1, h, w, c, classes, times, out)
    with FlopCounterMode(display=False) as count:
        res = net(x, t, y, **more)
    F.mse_loss(res, goal).backward()
    store(name, dict(net.state_dict(keep_vars=True)), {n: p.grad for n, p in net.named_parameters()}, x, t, y, goal, res, count, more)


def diffusers(name, seed):
    """The class of diffusers, which has a copy of the embeddings of time and class in each block."""
    net = DiTTransformer2DModel(num_attention_heads=2, attention_head_dim=12, in_channels=2, out_channels=4, num_layers=2, sample_size=8,
                                patch_size=2, num_embeds_ada_norm=5, norm_eps=1e-6).double().eval()
    fill(net, seed)
    first = net.transformer_blocks[0].norm1.emb
    for b in net.transformer_blocks[1:]:
        b.norm1.emb.load_state_dict(first.state_dict())
    x, t, y, goal = data(seed + 1, 8, 8, 2, 5, [3, 250, 999], 4)
    with FlopCounterMode(display=False) as count, nn.attention.sdpa_kernel(nn.attention.SDPBackend.MATH):
        res = net(x, t.detach().long(), class_labels=y).sample
    F.mse_loss(res, goal).backward()
    w = dict(net.state_dict(keep_vars=True))
    ours, grads = {}, {}

    def put(to, *names):
        ours[to] = torch.cat([w[n] for n in names]).detach()
        grads[to] = torch.cat([w[n].grad for n in names])

    for part in "weight", "bias":
        put("x_embedder.proj." + part, "pos_embed.proj." + part)
        put("final_layer.adaLN_modulation.1." + part, "proj_out_1." + part)
        put("final_layer.linear." + part, "proj_out_2." + part)
        for i in range(2):
            a, b = f"blocks.{i}.", f"transformer_blocks.{i}."
            put(a + "attn.qkv." + part, *(b + f"attn1.to_{k}." + part for k in "qkv"))
            put(a + "attn.proj." + part, b + "attn1.to_out.0." + part)
            put(a + "mlp.fc1." + part, b + "ff.net.0.proj." + part)
            put(a + "mlp.fc2." + part, b + "ff.net.2." + part)
            put(a + "adaLN_modulation.1." + part, b + "norm1.linear." + part)
    emb = "transformer_blocks.{}.norm1.emb."
    for to, n in [("t_embedder.mlp.0.weight", "timestep_embedder.linear_1.weight"), ("t_embedder.mlp.0.bias", "timestep_embedder.linear_1.bias"),
                  ("t_embedder.mlp.2.weight", "timestep_embedder.linear_2.weight"), ("t_embedder.mlp.2.bias", "timestep_embedder.linear_2.bias"),
                  ("y_embedder.embedding_table.weight", "class_embedder.embedding_table.weight")]:
        ours[to] = w[emb.format(0) + n].detach()
        grads[to] = sum(w[emb.format(i) + n].grad for i in range(2))
    ours["pos_embed"] = net.pos_embed.pos_embed.detach()
    t.grad = None
    store(name, ours, grads, x, t, y, goal, res, count)


def counts():
    """Trained parameters of the published sizes."""
    with torch.device("meta"):
        for name, d, depth, heads in ("S", 384, 12, 6), ("B", 768, 12, 12), ("L", 1024, 24, 16), ("XL", 1152, 28, 16):
            for p in 2, 4, 8:
                net = DiT(32, 32, 4, p, d, depth, heads, 1000)
                print(f"DiT-{name}/{p}", sum(q.numel() for q in net.parameters()))
        print("LightningDiT-XL/1", sum(q.numel() for q in DiT(16, 16, 32, 1, 1152, 28, 16, 1000, lightning=True, sigma=False).parameters()))
        for name, s, c, p, d, depth, heads in ("S/2", 32, 3, 2, 512, 12, 8), ("M/4", 64, 3, 4, 768, 16, 12), ("L/2", 32, 4, 2, 1024, 20, 16), ("L/4", 64, 4, 4, 1024, 20, 16), ("H/2", 32, 4, 2, 1152, 28, 16), ("H/4", 64, 4, 4, 1152, 28, 16):
            net = UViT(s, s, c, p, d, depth, heads, 1000)
            print(f"U-ViT-{name}", sum(q.numel() for q in net.parameters()))


if __name__ == "__main__":
    torch.set_num_threads(1)
    twin("dit", DiT(8, 12, 2, 2, 32, 2, 2, 5), 1, 8, 12, 2, 5, [3.0, 250.5, 999.0], 4)
    twin("lightning", DiT(6, 4, 3, 1, 32, 2, 2, 5, lightning=True, qknorm=True, sigma=False), 3, 6, 4, 3, 5, [0.0, 0.25, 1.0], 3)
    twin("noshift", DiT(4, 4, 2, 1, 24, 2, 3, 5, lightning=True, shift=False, sigma=False), 5, 4, 4, 2, 5, [0.125, 0.875], 2)
    twin("uvit", UViT(8, 12, 3, 2, 24, 4, 3, 5), 7, 8, 12, 3, 5, [1.0, 500.25, 1000.0], 3)
    diffusers("diffusers", 9)
    twin("few", Few(8, 12, 2, 2, 24, 3, 5, 3), 11, 8, 12, 2, 5, [3.0, 500.5], 4)
    twin("told", Told(4, 6, 2, 1, 24, 2, 3, 5, 7), 13, 4, 6, 2, 5, [3.0, 500.5, 7.0], 2, text=text(15, 3, 4, 7), lens=torch.tensor([4, 1, 3]))
    twin("joined", Joined(4, 6, 2, 1, 24, 2, 3, 7, 4), 17, 4, 6, 2, 5, [3.0, 500.5], 2, text=text(19, 2, 4, 7))
    counts()
