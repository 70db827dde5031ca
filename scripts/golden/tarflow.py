"""Writes testdata/golden/flow/tarflow.safetensors: what a twin of TarFlow, written here after
arXiv 2412.06329 with the parameters' names of its released weights, makes of small random
weights: the latent, the determinant, gradients of the loss, and the inverse, token by token
without a cache. Run from the repository's root with torch and safetensors installed and with a
checkout of github.com/apple/ml-tarflow, which the twin's blocks are held to first:

    python scripts/golden/tarflow.py TARFLOW

Weights are float32 values, everything is computed in float64. The determinant is checked here
with that of the Jacobian matrix.
"""
import math
import os
import sys

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

OUT = "testdata/golden/flow/"
torch.set_default_dtype(torch.float64)


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.norm = heads, nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        b, t, w = x.shape
        q, k, v = self.qkv(self.norm(x)).view(b, t, 3, self.heads, w // self.heads).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, t, w))


class MLP(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.main = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x):
        return self.main(self.norm(x))


class Layer(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.attention, self.mlp = Attention(width, heads), MLP(width)

    def forward(self, x):
        x = x + self.attention(x)
        return x + self.mlp(x)


class Block(nn.Module):
    def __init__(self, dim, tokens, width, heads, layers, classes, reverse):
        super().__init__()
        self.proj_in, self.proj_out = nn.Linear(dim, width), nn.Linear(width, 2 * dim)
        self.pos_embed = nn.Parameter(torch.zeros(tokens, width))
        self.class_embed = nn.Parameter(torch.zeros(classes, 1, width))
        self.attn_blocks = nn.ModuleList(Layer(width, heads) for _ in range(layers))
        self.order = (lambda x, d: x.flip(d)) if reverse else (lambda x, d: x)

    def coefficients(self, x, y):
        """Of tokens in the block's order; y < 0 is no class, the mean of all."""
        h = self.proj_in(x) + self.order(self.pos_embed, 0)
        c = torch.where((y < 0)[:, None, None], self.class_embed.mean(0), self.class_embed[y.clamp(min=0)])
        h = h + c
        for layer in self.attn_blocks:
            h = layer(h)
        a, b = F.pad(self.proj_out(h)[:, :-1], (0, 0, 1, 0)).chunk(2, -1)
        return a, b

    def forward(self, x, y):
        x = self.order(x, 1)
        a, b = self.coefficients(x, y)
        return self.order((x - b) * torch.exp(-a), 1), -a.sum((1, 2))

    def inverse(self, z, y, g=0.0, anneal=False):
        z = self.order(z, 1)
        x = z.clone()
        for i in range(1, z.shape[1]):
            a, b = self.coefficients(x, y)
            if g:
                k = g * (i / (z.shape[1] - 1) if anneal else 1)
                a0, b0 = self.coefficients(x, torch.full_like(y, -1))
                a, b = a + k * (a - a0), b + k * (b - b0)
            x[:, i] = z[:, i] * torch.exp(a[:, i]) + b[:, i]
        return self.order(x, 1)


class TarFlow(nn.Module):
    def __init__(self, channels, size, patch, width, heads, blocks, layers, classes):
        super().__init__()
        self.patch, self.shape = patch, (channels, *size)
        dim, tokens = channels * patch * patch, size[0] // patch * (size[1] // patch)
        self.blocks = nn.ModuleList(Block(dim, tokens, width, heads, layers, classes, i % 2 == 1) for i in range(blocks))
        self.register_buffer("var", torch.ones(tokens, dim))

    def forward(self, x, y):
        x = F.unfold(x, self.patch, stride=self.patch).transpose(1, 2)
        total = 0
        for b in self.blocks:
            x, d = b(x, y)
            total = total + d
        return x, total

    def inverse(self, z, y, g=0.0, anneal=False):
        x = z * self.var.sqrt()
        for b in reversed(self.blocks):
            x = b.inverse(x, y, g, anneal)
        return F.fold(x.transpose(1, 2), self.shape[1:], self.patch, stride=self.patch)


net = TarFlow(2, (4, 6), 2, 12, 2, 3, 2, 3).double()
gen = torch.Generator().manual_seed(1)
for name, p in net.named_parameters():
    x = torch.randn(p.shape, generator=gen) * (0.04 if "proj_out" in name else 0.2)
    p.data = (x + 1 if "norm.weight" in name else x).float().double()
x = torch.randn(4, 2, 4, 6, generator=gen).float()
y = torch.tensor([0, 2, -1, 1])
p = x.double().requires_grad_()
z, logdet = net(p, y)
n = z[0].numel()
loss = 0.5 * z.pow(2).mean() - logdet.mean() / n
nll = 0.5 * z.pow(2).sum((1, 2)) + 0.5 * n * math.log(2 * math.pi) - logdet
named = dict(net.named_parameters())
grads = torch.autograd.grad(loss, list(named.values()), retain_graph=True)
score = torch.autograd.grad(nll.sum(), p)[0]
J = torch.autograd.functional.jacobian(lambda v: net(v.view(1, 2, 4, 6), y[:1])[0].flatten(), x[0].double().flatten())
assert abs(torch.linalg.slogdet(J)[1] - logdet[0]) < 1e-10, "the determinant"
latent = torch.randn(4, 6, 8, generator=gen).float()

# The authors' blocks with these weights; what they compute in float32 has all its digits here.
sys.path.insert(0, sys.argv[1])
torch.Tensor.float, as_float = torch.Tensor.double, torch.Tensor.float
import transformer_flow as peer

with torch.no_grad():
    for i, block in enumerate(net.blocks):
        order = (peer.PermutationFlip if i % 2 else peer.PermutationIdentity)(6)
        theirs = peer.MetaBlock(8, 12, 6, order, 2, head_dim=6, num_classes=3).double().eval()
        missing, unknown = theirs.load_state_dict(block.state_dict(), strict=False)
        assert missing == ["attn_mask"] and not unknown, (missing, unknown)
        tokens, known = latent.double(), y.clamp(min=0)
        for a, b in zip(theirs(tokens, y), block(tokens, y)):
            b = b if b.dim() > 1 else b / n  # theirs is a mean
            assert (a - b).abs().max() < 1e-10, "the peer's block"
        assert (theirs.reverse(tokens.clone(), known) - block.inverse(tokens, known)).abs().max() < 1e-10, "the peer's inverse"
        for anneal in (False, True):
            a, b = theirs.reverse(tokens.clone(), known, 0.7, annealed_guidance=anneal), block.inverse(tokens, known, 0.7, anneal)
            assert (a - b).abs().max() < 1e-10, "the peer's guidance"
torch.Tensor.float = as_float
net.var = (torch.rand(6, 8, generator=gen) + 0.5).float().double()
with torch.no_grad():
    t = {"x": x, "y": torch.where(y < 0, 3, y).int(), "z": z, "logdet": logdet, "loss": loss, "nll": nll, "score": score, "latent": latent,
         "inverse": net.inverse(latent.double(), y), "guided": net.inverse(latent.double(), y, 0.7),
         "annealed": net.inverse(latent.double(), y, 0.7, True), "w.var": net.var.float()}
t |= {"w." + k: v.detach().float() for k, v in named.items()}
t |= {"g." + k: v for k, v in zip(named, grads)}
os.makedirs(OUT, exist_ok=True)
save_file({k: v.detach().contiguous() for k, v in t.items()}, OUT + "tarflow.safetensors", metadata={"torch": torch.__version__})
os.chmod(OUT + "tarflow.safetensors", 0o644)
print(sum(v.numel() * v.element_size() for v in t.values()), "bytes")
