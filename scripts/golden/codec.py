"""Writes testdata/golden/codec, critic and nn: tiny autoencoders of diffusers;
twins in torch of a vision transformer codec, of the motion codec, of a patch
critic and of a distance of features, with weights, inputs, results and
gradients; and feature maps that torch has resized. Run from the repository's
root, with torch, diffusers and safetensors installed:

    python scripts/golden/codec.py

Networks are computed in float64; weights and inputs are values of float16, in
which the weights are stored. The loss is the sum of the results times the
weights cot.*; grad.* are its gradients by inputs, and sums has of every
parameter p, in the order of its name, p·g and g·g of its gradient g.
"""
import json
import math
import os

import torch
from diffusers import AutoencoderKL, VQModel
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

OUT = "testdata/golden/"


def half(x):
    return x.to(torch.float16).to(torch.float64)


def draw(gen, *shape):
    return half(torch.randn(shape, generator=gen, dtype=torch.float64))


def seeded(model, seed):
    """The same weights on every machine, none of them zero or one."""
    gen = torch.Generator().manual_seed(seed)
    model.double()
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            v = torch.randn(p.shape, generator=gen, dtype=torch.float64)
            if "embedding" in name or "pos" in name or "latents" in name or "blank" in name:
                v *= 0.5
            elif p.dim() > 1:
                v *= 1.4 / math.sqrt(p[0].numel())
            elif name.endswith("weight"):  # of a norm
                v = 1 + 0.2 * v
            else:
                v *= 0.2
            p.copy_(half(v))
    return model


def save(name, model, inputs, run):
    """run gives a dict of results for inputs, all of which get gradients."""
    gen = torch.Generator().manual_seed(99)
    for v in inputs.values():
        v.requires_grad_(True)
    out = run(**inputs)
    index = {k: v for k, v in out.items() if not v.is_floating_point()}
    out = {k: v for k, v in out.items() if v.is_floating_point()}
    cot = {k: draw(gen, *v.shape) for k, v in out.items()}
    sum((v * cot[k]).sum() for k, v in out.items()).backward()
    t = {"w." + k: p.detach().to(torch.float16) for k, p in model.named_parameters()}
    sums = []
    names = sorted(k for k, _ in model.named_parameters())
    params = dict(model.named_parameters())
    for k in names:
        p = params[k]
        g = torch.zeros_like(p) if p.grad is None else p.grad
        sums.append([(p.detach() * g).sum().item(), (g * g).sum().item()])
    t["sums"] = torch.tensor(sums, dtype=torch.float64)
    for k, v in inputs.items():
        t["in." + k] = v.detach()
        t["grad." + k] = v.grad
    for k, v in out.items():
        t["out." + k], t["cot." + k] = v.detach(), cot[k]
    for k, v in index.items():
        t["index." + k] = v.to(torch.float64)
    os.makedirs(os.path.dirname(OUT + name), exist_ok=True)
    t = {k: v.contiguous() for k, v in t.items()}
    save_file(t, OUT + name + ".safetensors", metadata={"names": json.dumps(names)})
    os.chmod(OUT + name + ".safetensors", 0o644)
    print(name, os.path.getsize(OUT + name + ".safetensors"), sum(p.numel() for p in model.parameters()))


def kl():
    for name, down, up, extra in (
        ("kl", ("DownEncoderBlock2D",) * 2, ("UpDecoderBlock2D",) * 2, {}),
        ("kl_attn", ("DownEncoderBlock2D", "AttnDownEncoderBlock2D"), ("AttnUpDecoderBlock2D", "UpDecoderBlock2D"),
         dict(mid_block_add_attention=False, use_quant_conv=False, use_post_quant_conv=False)),
    ):
        m = seeded(AutoencoderKL(in_channels=2, out_channels=2, down_block_types=down, up_block_types=up, block_out_channels=(8, 12),
                                 layers_per_block=1, latent_channels=3, norm_num_groups=4, **extra), 1)
        gen = torch.Generator().manual_seed(2)

        def run(x, eps):
            d = m.encode(x).latent_dist
            z = d.mean + torch.exp(0.5 * d.logvar) * eps
            return {"mean": d.mean, "logvar": d.logvar, "kl": d.kl(), "y": m.decode(z).sample}
        save("codec/" + name, m, {"x": draw(gen, 2, 2, 8, 6), "eps": draw(gen, 2, 3, 4, 3)}, run)


def vq():
    m = seeded(VQModel(in_channels=2, out_channels=2, down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
                       block_out_channels=(8, 12), layers_per_block=1, latent_channels=3, norm_num_groups=4, num_vq_embeddings=11, vq_embed_dim=4), 3)
    gen = torch.Generator().manual_seed(4)

    def run(x):
        h = m.encode(x).latents
        _, loss, (_, _, idx) = m.quantize(h)
        y = m.decode(h)
        return {"h": h, "loss": loss, "y": y.sample, "codes": idx}
    save("codec/vq", m, {"x": draw(gen, 2, 2, 8, 6)}, run)


class PreNorm(nn.Module):
    def __init__(self, width, fn):
        super().__init__()
        self.norm, self.fn = nn.LayerNorm(width), fn

    def forward(self, x, keep=None):
        return x + (self.fn(self.norm(x)) if keep is None else self.fn(self.norm(x), keep))


class Attend(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.to_qkv, self.to_out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width)

    def forward(self, x, keep):
        b, n, c = x.shape
        q, k, v = self.to_qkv(x).view(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        s = q @ k.transpose(-1, -2) / math.sqrt(c // self.heads)
        s = s.masked_fill(~keep[:, None, None, :], -math.inf)
        return self.to_out((s.softmax(-1) @ v).transpose(1, 2).reshape(b, n, c))


class Feed(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, width))

    def forward(self, x):
        return self.net(x)


class Blocks(nn.Module):
    def __init__(self, width, heads, hidden, depth):
        super().__init__()
        self.layers = nn.ModuleList(nn.ModuleList([PreNorm(width, Attend(width, heads)), PreNorm(width, Feed(width, hidden))]) for _ in range(depth))

    def forward(self, x, keep):
        for a, f in self.layers:
            x = f(a(x, keep))
        return x


class Half(nn.Module):
    pass


class ViT(nn.Module):
    """Patches, or a few learnt tokens beside them, and states of a text on both sides."""

    def __init__(self, size, patch, channels, width, heads, hidden, depth, latent, codes, tokens, text):
        super().__init__()
        self.patch, self.grid, self.tokens, self.codes = patch, size // patch, tokens, codes
        n = self.grid ** 2
        e, d = Half(), Half()
        e.to_patch_embedding = nn.Sequential(nn.Conv2d(channels, width, patch, patch))
        e.transformer, e.norm = Blocks(width, heads, hidden, depth), nn.LayerNorm(width)
        e.en_pos_embedding = nn.Parameter(torch.zeros(1, n, width))
        d.transformer, d.norm = Blocks(width, heads, hidden, depth), nn.LayerNorm(width)
        d.de_pos_embedding = nn.Parameter(torch.zeros(1, n, width))
        d.to_pixel = Half()
        d.to_pixel.conv_out = nn.ConvTranspose2d(width, channels, patch, patch)
        if tokens:
            e.latents, d.latents = nn.Parameter(torch.zeros(1, tokens, width)), nn.Parameter(torch.zeros(1, tokens, width))
            d.blank = nn.Parameter(torch.zeros(1, 1, width))
        if text:
            e.text, d.text = nn.Linear(text, width), nn.Linear(text, width)
        self.encoder, self.decoder = e, d
        self.pre_quant, self.post_quant = nn.Linear(width, latent), nn.Linear(latent, width)
        if codes:
            self.quantizer = Half()
            self.quantizer.embedding = nn.Embedding(codes, latent)

    def keep(self, b, n, lens):
        k = torch.ones(b, n, dtype=torch.bool)
        return k if lens is None else torch.cat([k, torch.arange(5)[None] < torch.tensor(lens)[:, None]], 1)

    def forward(self, x, text=None, lens=None):
        e, d = self.encoder, self.decoder
        b, n = x.shape[0], self.grid ** 2
        h = e.to_patch_embedding(x).flatten(2).transpose(1, 2) + e.en_pos_embedding
        at = 0
        if self.tokens:
            h, at = torch.cat([h, e.latents.expand(b, -1, -1)], 1), n
        count = h.shape[1]
        if text is not None:
            h = torch.cat([h, e.text(text)], 1)
        h = e.norm(e.transformer(h, self.keep(b, count, lens)))[:, at:count]
        z, out = self.pre_quant(h), {}
        if self.codes:
            zn, w = F.normalize(z, dim=-1), F.normalize(self.quantizer.embedding.weight, dim=-1)
            idx = (zn @ w.T).argmax(-1)
            q = w[idx]
            out = {"loss": 0.25 * ((zn - q.detach()) ** 2).mean() + ((q - zn.detach()) ** 2).mean(), "codes": idx}
            z = zn + (q - zn).detach()
        else:
            out = {"z": z}
        u = self.post_quant(z)
        if self.tokens:
            u = torch.cat([d.blank + d.de_pos_embedding.expand(b, -1, -1), u + d.latents], 1)
        else:
            u = u + d.de_pos_embedding
        if text is not None:
            u = torch.cat([u, d.text(text)], 1)
        u = d.norm(d.transformer(u, self.keep(b, count, lens)))[:, :n]
        out["y"] = d.to_pixel.conv_out(u.transpose(1, 2).reshape(b, -1, self.grid, self.grid))
        return out


def vit():
    gen = torch.Generator().manual_seed(6)
    m = seeded(ViT(8, 2, 2, 16, 2, 24, 2, 4, 9, 0, 0), 5)
    save("codec/vit", m, {"x": draw(gen, 2, 2, 8, 8)}, m)
    m = seeded(ViT(8, 2, 2, 16, 2, 24, 2, 4, 0, 3, 6), 7)
    save("codec/vit_tokens", m, {"x": draw(gen, 2, 2, 8, 8), "text": draw(gen, 2, 5, 6)}, lambda x, text: m(x, text, [5, 2]))


class Res1D(nn.Module):
    def __init__(self, width, dilation):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv1d(width, width, 3, 1, dilation, dilation), nn.Conv1d(width, width, 1)

    def forward(self, x):
        return x + self.conv2(F.relu(self.conv1(F.relu(x))))


class Stack1D(nn.Module):
    def __init__(self, width, depth):
        super().__init__()
        self.model = nn.Sequential(*[Res1D(width, 3 ** j) for j in reversed(range(depth))])

    def forward(self, x):
        return self.model(x)


class Motion(nn.Module):
    def __init__(self, channels, width, depth, downs, latent, codes, levels):
        super().__init__()
        self.encoder, self.decoder = Half(), Half()
        self.encoder.model = nn.Sequential(
            nn.Conv1d(channels, width, 3, 1, 1), nn.ReLU(),
            *[nn.Sequential(nn.Conv1d(width, width, 4, 2, 1), Stack1D(width, depth)) for _ in range(downs)],
            nn.Conv1d(width, latent, 3, 1, 1))
        self.decoder.model = nn.Sequential(
            nn.Conv1d(latent, width, 3, 1, 1), nn.ReLU(),
            *[nn.Sequential(Stack1D(width, depth), nn.Upsample(scale_factor=2), nn.Conv1d(width, width, 3, 1, 1)) for _ in range(downs)],
            nn.Conv1d(width, width, 3, 1, 1), nn.ReLU(), nn.Conv1d(width, channels, 3, 1, 1))
        self.quantizer = Half()
        self.quantizer.layers = nn.ModuleList(Half() for _ in range(levels))
        for q in self.quantizer.layers:
            q.embedding = nn.Embedding(codes, latent)

    def forward(self, x):  # [N, T, channels]
        h = self.encoder.model(x.transpose(1, 2))
        rest = h.transpose(1, 2).reshape(-1, h.shape[1])
        total, loss, codes = 0, 0, []
        for q in self.quantizer.layers:
            w = q.embedding.weight
            k = torch.cdist(rest, w).argmin(1)
            e = w[k]
            loss = loss + (0.02 * ((rest - e.detach()) ** 2).mean() + ((e - rest.detach()) ** 2).mean()) / len(self.quantizer.layers)
            total = total + rest + (e - rest).detach()
            rest = rest - e.detach()
            codes.append(k)
        z = total.reshape(h.shape[0], -1, h.shape[1]).transpose(1, 2)
        return {"h": h, "loss": loss, "y": self.decoder.model(z).transpose(1, 2), "codes": torch.stack(codes, 1)}


def motion():
    m = seeded(Motion(7, 12, 3, 2, 4, 9, 3), 8)
    gen = torch.Generator().manual_seed(9)
    save("codec/motion", m, {"x": draw(gen, 2, 64, 7)}, m)


class Patch(nn.Module):
    """The critic of pix2pix and VQGAN: convolutions of 4×4, the last two with step 1."""

    def __init__(self, channels, width, layers, norm):
        super().__init__()
        make = {"batch": nn.BatchNorm2d, "group": lambda w: nn.GroupNorm(2, w), "none": lambda w: nn.Identity()}[norm]
        parts, w = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2)], width
        for n in range(1, layers + 1):
            out = width * min(2 ** n, 8)
            parts += [nn.Conv2d(w, out, 4, 2 if n < layers else 1, 1, bias=norm != "batch"), make(out), nn.LeakyReLU(0.2)]
            w = out
        self.main = nn.Sequential(*parts, nn.Conv2d(w, 1, 4, 1, 1))

    def forward(self, x):
        return self.main(x)


def critic():
    gen = torch.Generator().manual_seed(11)
    for norm in ("batch", "group", "none"):
        m = seeded(Patch(2, 4, 3, norm), 10).train()

        def run(real, fake):
            r, f = m(real), m(fake)
            out = {
                "real": r, "fake": f, "hinge": 0.5 * (F.relu(1 - r).mean() + F.relu(1 + f).mean()), "hinge_g": -f.mean(),
                "softplus": 0.5 * (F.softplus(-r).mean() + F.softplus(f).mean()), "softplus_g": F.softplus(-f).mean(),
            }
            if norm == "batch":
                out["mean"], out["var"] = m.main[3].running_mean.clone(), m.main[3].running_var.clone()
                m.eval()
                out["still"] = m(real)
            return out
        save("critic/patch_" + norm, m, {"real": draw(gen, 3, 2, 24, 24), "fake": draw(gen, 3, 2, 24, 24)}, run)


def features():
    class Weights(nn.Module):
        def __init__(self):
            super().__init__()
            self.lin = nn.ParameterList([nn.Parameter(torch.zeros(1, c, 1, 1)) for c in (3, 5)])
    m = seeded(Weights(), 12)
    gen = torch.Generator().manual_seed(13)

    def run(a0, b0, a1, b1):
        def unit(x):
            return x / (x.pow(2).sum(1, keepdim=True).sqrt() + 1e-10)
        total = 0
        for a, b, w in ((a0, b0, m.lin[0]), (a1, b1, m.lin[1])):
            total = total + F.conv2d((unit(a) - unit(b)) ** 2, w).mean([1, 2, 3])
        return {"d": total}
    save("critic/features", m, {"a0": draw(gen, 2, 3, 4, 5), "b0": draw(gen, 2, 3, 4, 5), "a1": draw(gen, 2, 5, 2, 3), "b1": draw(gen, 2, 5, 2, 3)}, run)


def resize():
    gen, t = torch.Generator().manual_seed(14), {}
    for kind in ("nearest", "area", "bilinear", "bicubic"):
        for size, to in (((5, 4), (8, 8)), ((8, 6), (3, 5)), ((6, 6), (1, 12)), ((2, 3), (2, 7)), ((1, 1), (4, 3))):
            x = draw(gen, 2, 2, *size)
            key = f"{kind}.{size[0]}.{size[1]}.{to[0]}.{to[1]}"
            t["in." + key], t["out." + key] = x, F.interpolate(x, to, mode=kind)
    os.makedirs(OUT + "nn", exist_ok=True)
    save_file(t, OUT + "nn/resize.safetensors")
    os.chmod(OUT + "nn/resize.safetensors", 0o644)


if __name__ == "__main__":
    resize()
    kl()
    vq()
    vit()
    motion()
    critic()
    features()
