"""Writes testdata/golden/unet: tiny U-Nets of diffusers and a twin of ADM's in
torch, with weights, inputs, results and gradients. Run from the repository's
root, with torch, diffusers and safetensors installed:

    python scripts/golden/unet.py

Everything is computed in float64; weights and inputs are values of float16, in
which the weights are stored. Of every parameter p the file has p·g and g·g of
its gradient g, of some the whole gradient. The loss is the sum of the results
times the weights cot.*.
"""
import json
import math

import torch
from diffusers import ControlNetModel, UNet2DConditionModel, UNet2DModel
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

OUT = "testdata/golden/unet/"


def half(x):
    return x.to(torch.float16).to(torch.float64)


def draw(gen, *shape):
    return half(torch.randn(*shape, generator=gen, dtype=torch.float64))


def seeded(model, seed):
    """The same weights on every machine, none of them zero or one."""
    gen = torch.Generator().manual_seed(seed)
    model.double().eval()
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            v = torch.randn(p.shape, generator=gen, dtype=torch.float64)
            if p.dim() > 1:
                v /= math.sqrt(p[0].numel())
            elif "norm" in name or name.endswith(("_layers.0.weight", "out.0.weight")):
                v = 0.2 * v + (1 if name.endswith("weight") else 0)
            else:
                v *= 0.2
            p.copy_(half(v))
    return model


def save(name, model, inputs, leaves, run, whole):
    """run gives a dict of results; leaves are the inputs whose gradients are wanted."""
    gen = torch.Generator().manual_seed(99)
    for k in leaves:
        inputs[k].requires_grad_(True)
    with FlopCounterMode(display=False) as count, torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        out = run(inputs)
    cot = {k: draw(gen, *v.shape) for k, v in out.items()}
    sum((v * cot[k]).sum() for k, v in out.items()).backward()
    t = {"w." + k: p.detach().to(torch.float16) for k, p in model.named_parameters()}
    names, sums = [], []
    for k, p in sorted(model.named_parameters()):
        g = torch.zeros_like(p) if p.grad is None else p.grad
        names.append(k)
        sums.append([(p * g).sum().item(), (g * g).sum().item()])
        if k in whole:
            t["gradp." + k] = g
    missing = set(whole) - set(names)
    assert not missing, missing
    t["sums"] = torch.tensor(sums, dtype=torch.float64)
    for k, v in inputs.items():
        t["in." + k] = v.detach().clone()
    for k in leaves:
        t["grad." + k] = inputs[k].grad
    for k in out:
        t["out." + k], t["cot." + k] = out[k].detach(), cot[k]
    t = {k: v.contiguous().clone() for k, v in t.items()}
    save_file(t, OUT + name + ".safetensors", metadata={"names": json.dumps(names), "flops": str(count.get_total_flops())})
    print(name, count.get_total_flops(), "operations", sum(p.numel() for p in model.parameters()), "parameters")


def times(*v):
    return torch.tensor(v, dtype=torch.float64)


def ddpm():
    gen = torch.Generator().manual_seed(1)
    m = seeded(UNet2DModel(
        sample_size=8, in_channels=3, out_channels=3, block_out_channels=(8, 16), layers_per_block=2, norm_num_groups=4, norm_eps=1e-6,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"), attention_head_dim=None,
        downsample_padding=0, flip_sin_to_cos=False, freq_shift=1), 1)
    inputs = {"x": draw(gen, 2, 3, 8, 8), "time": times(3, 7.5)}
    save("ddpm", m, inputs, ["x"], lambda i: {"y": m(i["x"], i["time"]).sample},
         ["time_embedding.linear_1.weight", "down_blocks.0.downsamplers.0.conv.weight", "mid_block.attentions.0.to_q.bias", "up_blocks.0.resnets.2.conv_shortcut.weight"])


def resample():
    """Scale and shift, residual blocks that halve and double, classes, several heads."""
    gen = torch.Generator().manual_seed(2)
    m = seeded(UNet2DModel(
        sample_size=8, in_channels=2, out_channels=4, block_out_channels=(8, 8, 16), layers_per_block=1, norm_num_groups=4, attn_norm_num_groups=4,
        down_block_types=("ResnetDownsampleBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("ResnetUpsampleBlock2D", "AttnUpBlock2D", "UpBlock2D"), attention_head_dim=4,
        downsample_type="resnet", upsample_type="resnet", resnet_time_scale_shift="scale_shift", num_class_embeds=3), 2)
    inputs = {"x": draw(gen, 2, 2, 8, 8), "time": times(1, 6), "classes": torch.tensor([2, 0], dtype=torch.int32)}
    save("resample", m, inputs, ["x"], lambda i: {"y": m(i["x"], i["time"], class_labels=i["classes"].long()).sample},
         ["class_embedding.weight", "down_blocks.0.downsamplers.0.conv1.weight", "up_blocks.1.attentions.0.to_v.weight"])


def fourier():
    """Random waves of the logarithm of the time; the peer divides its result by the time."""
    gen = torch.Generator().manual_seed(7)
    m = UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=2, time_embedding_type="fourier",
        down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"), add_attention=False)
    m = seeded(m, 7)
    inputs = {"x": draw(gen, 2, 1, 8, 8), "time": times(0.25, 6)}
    save("fourier", m, inputs, ["x"], lambda i: {"y": m(i["x"], i["time"]).sample * i["time"][:, None, None, None]}, ["time_embedding.linear_1.weight"])


CONDITION = dict(
    in_channels=4, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, cross_attention_dim=6, attention_head_dim=2,
    class_embed_type="projection", projection_class_embeddings_input_dim=5)


def condition_inputs(seed):
    gen = torch.Generator().manual_seed(seed)
    return {"x": draw(gen, 2, 4, 8, 8), "time": times(2, 5), "text": draw(gen, 2, 3, 6), "lens": torch.tensor([3, 1], dtype=torch.int32),
            "vector": draw(gen, 2, 5)}, gen


def keep(i):
    return torch.arange(i["text"].shape[1])[None] < i["lens"][:, None]


def condition():
    """Cross-attention with padding, a vector, residuals of a control branch."""
    m = seeded(UNet2DConditionModel(
        sample_size=8, out_channels=4, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2), **CONDITION), 3)
    inputs, gen = condition_inputs(3)
    for k, c, s in [("skip0", 8, 8), ("skip1", 8, 8), ("skip2", 8, 4), ("skip3", 16, 4), ("middle", 16, 4)]:
        inputs[k] = draw(gen, 2, c, s, s)

    def run(i):
        return {"y": m(i["x"], i["time"], i["text"], class_labels=i["vector"], encoder_attention_mask=keep(i),
                       down_block_additional_residuals=tuple(i[f"skip{k}"] for k in range(4)), mid_block_additional_residual=i["middle"]).sample}

    save("condition", m, inputs, ["x", "text", "vector", "skip0", "skip2", "middle"], run,
         ["down_blocks.1.attentions.0.transformer_blocks.1.attn2.to_k.weight", "mid_block.attentions.0.proj_in.weight", "class_embedding.linear_1.weight"])


def control():
    m = seeded(ControlNetModel(
        conditioning_channels=3, conditioning_embedding_out_channels=(4, 6), down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), **CONDITION), 4)
    inputs, gen = condition_inputs(4)
    inputs["hint"] = draw(gen, 2, 3, 16, 16)

    def run(i):
        # The branch turns masks into biases itself only for its U-Net; text without padding.
        r = m(i["x"], i["time"], i["text"], controlnet_cond=i["hint"], class_labels=i["vector"])
        return {f"skip{k}": v for k, v in enumerate(r.down_block_res_samples)} | {"middle": r.mid_block_res_sample}

    save("control", m, inputs, ["x", "text", "hint"], run, ["controlnet_cond_embedding.blocks.1.weight", "controlnet_mid_block.bias"])


class Res(nn.Module):
    def __init__(self, cin, cout, emb, groups, up=False, down=False):
        super().__init__()
        self.up, self.down = up, down
        self.in_layers = nn.Sequential(nn.GroupNorm(groups, cin), nn.SiLU(), nn.Conv2d(cin, cout, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb, 2 * cout))
        self.out_layers = nn.Sequential(nn.GroupNorm(groups, cout), nn.SiLU(), nn.Identity(), nn.Conv2d(cout, cout, 3, padding=1))
        self.skip_connection = nn.Identity() if cin == cout else nn.Conv2d(cin, cout, 1)

    def move(self, x):
        if self.up:
            return x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        return F.avg_pool2d(x, 2) if self.down else x

    def forward(self, x, emb):
        h = self.in_layers[2](self.move(self.in_layers[1](self.in_layers[0](x))))
        scale, shift = self.emb_layers(emb)[:, :, None, None].chunk(2, 1)
        h = self.out_layers[0](h) * (1 + scale) + shift
        return self.skip_connection(self.move(x)) + self.out_layers[3](self.out_layers[1](h))


class Attn(nn.Module):
    """Queries, keys and values of one head after the other in one layer."""

    def __init__(self, c, groups, width):
        super().__init__()
        self.norm, self.qkv, self.proj_out, self.width = nn.GroupNorm(groups, c), nn.Conv1d(c, 3 * c, 1), nn.Conv1d(c, c, 1), width

    def forward(self, x, _):
        n, c, h, w = x.shape
        y = self.qkv(self.norm(x).reshape(n, c, h * w)).reshape(n, c // self.width, 3, self.width, h * w)
        q, k, v = y[:, :, 0], y[:, :, 1], y[:, :, 2]
        p = torch.softmax(torch.einsum("nhdq,nhdk->nhqk", q, k) / math.sqrt(self.width), -1)
        return x + self.proj_out(torch.einsum("nhqk,nhdk->nhdq", p, v).reshape(n, c, h * w)).reshape(n, c, h, w)


class Conv(nn.Conv2d):
    def forward(self, x, _):
        return super().forward(x)


class Stage(nn.ModuleList):
    def forward(self, x, emb):
        for m in self:
            x = m(x, emb)
        return x


class ADM(nn.Module):
    """The U-Net of guided diffusion, with attention in the middle and at some levels."""

    def __init__(self, cin, cout, c, mult, blocks, attention, classes, groups, width):
        super().__init__()
        emb = 4 * c
        self.c = c
        self.time_embed = nn.Sequential(nn.Linear(c, emb), nn.SiLU(), nn.Linear(emb, emb))
        self.label_emb = nn.Embedding(classes, emb)
        res = lambda i, o, **k: Res(i, o, emb, groups, **k)
        at = lambda ch: Attn(ch, groups, width)
        ch = c * mult[0]
        self.input_blocks, self.output_blocks = nn.ModuleList([Stage([Conv(cin, ch, 3, padding=1)])]), nn.ModuleList()
        skips = [ch]
        for level, m in enumerate(mult):
            for _ in range(blocks):
                self.input_blocks.append(Stage([res(ch, c * m)] + ([at(c * m)] if level in attention else [])))
                ch = c * m
                skips.append(ch)
            if level < len(mult) - 1:
                self.input_blocks.append(Stage([res(ch, ch, down=True)]))
                skips.append(ch)
        self.middle_block = Stage([res(ch, ch), at(ch), res(ch, ch)])
        for level, m in reversed(list(enumerate(mult))):
            for i in range(blocks + 1):
                s = [res(ch + skips.pop(), c * m)] + ([at(c * m)] if level in attention else [])
                ch = c * m
                if level > 0 and i == blocks:
                    s.append(res(ch, ch, up=True))
                self.output_blocks.append(Stage(s))
        self.out = nn.Sequential(nn.GroupNorm(groups, ch), nn.SiLU(), nn.Conv2d(ch, cout, 3, padding=1))

    def forward(self, x, t, y):
        half = self.c // 2
        w = t[:, None] * torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float64) / half)[None]
        emb = self.time_embed(torch.cat([torch.cos(w), torch.sin(w)], 1)) + self.label_emb(y)
        skips = []
        for s in self.input_blocks:
            x = s(x, emb)
            skips.append(x)
        x = self.middle_block(x, emb)
        for s in self.output_blocks:
            x = s(torch.cat([x, skips.pop()], 1), emb)
        return self.out(x)


def adm():
    gen = torch.Generator().manual_seed(5)
    m = seeded(ADM(3, 6, 8, (1, 2), 1, {1}, 4, 4, 8), 5)
    inputs = {"x": draw(gen, 2, 3, 8, 8), "time": times(999, 12.5), "classes": torch.tensor([3, 1], dtype=torch.int32)}
    save("adm", m, inputs, ["x"], lambda i: {"y": m(i["x"], i["time"], i["classes"].long())},
         ["label_emb.weight", "output_blocks.1.2.in_layers.2.weight", "middle_block.1.qkv.weight"])


class EDMBlock(nn.Module):
    """A residual block and, where it has heads, attention: queries, keys and values of one
    channel after the other."""

    def __init__(self, cin, cout, emb, adaptive, eps, scale, up=False, down=False, heads=0, always=False):
        super().__init__()
        norm = lambda c: nn.GroupNorm(min(32, c // 4), c, eps=eps)
        self.up, self.down, self.heads, self.adaptive, self.scale = up, down, heads, adaptive, scale
        self.norm0, self.conv0 = norm(cin), nn.Conv2d(cin, cout, 3, padding=1)
        self.affine = nn.Linear(emb, cout * (2 if adaptive else 1))
        self.norm1, self.conv1 = norm(cout), nn.Conv2d(cout, cout, 3, padding=1)
        self.skip = nn.Conv2d(cin, cout, 1) if cin != cout or always and (up or down) else nn.Identity()
        if heads:
            self.norm2, self.qkv, self.proj = norm(cout), nn.Conv2d(cout, 3 * cout, 1), nn.Conv2d(cout, cout, 1)

    move = Res.move

    def forward(self, x, emb):
        h = self.conv0(self.move(F.silu(self.norm0(x))))
        a = self.affine(emb)[:, :, None, None]
        if self.adaptive:
            scale, shift = a.chunk(2, 1)
            h = F.silu(self.norm1(h) * (1 + scale) + shift)
        else:
            h = F.silu(self.norm1(h + a))
        x = (self.conv1(h) + self.skip(self.move(x))) * self.scale
        if self.heads:
            n, c, h, w = x.shape
            q, k, v = self.qkv(self.norm2(x)).reshape(n * self.heads, c // self.heads, 3, h * w).unbind(2)
            p = torch.softmax(torch.einsum("ncq,nck->nqk", q, k / math.sqrt(c // self.heads)), 2)
            x = (self.proj(torch.einsum("nqk,nck->ncq", p, v).reshape(n, c, h, w)) + x) * self.scale
        return x


class EDM(nn.Module):
    """The networks of EDM: with adaptive, its ADM; else DDPM++."""

    def __init__(self, size, cin, cout, c, mult, blocks, attention, classes, adaptive, width=0):
        super().__init__()
        emb = 4 * c
        self.c, self.adaptive, self.classes = c, adaptive, classes
        eps, scale = (1e-5, 1) if adaptive else (1e-6, math.sqrt(0.5))
        self.map_layer0, self.map_layer1 = nn.Linear(c, emb), nn.Linear(emb, emb)
        self.map_label = nn.Linear(classes, emb, bias=False) if adaptive else nn.Linear(classes, c)
        heads = lambda ch: ch // width if width else 1
        block = lambda i, o, attn=False, **k: EDMBlock(i, o, emb, adaptive, eps, scale, heads=heads(o) if attn else 0, always=not adaptive, **k)
        self.enc, self.dec = nn.ModuleDict(), nn.ModuleDict()
        ch, skips = cin, []

        def enter(name, m, out):
            nonlocal ch
            self.enc[name] = m
            ch = out
            skips.append(ch)

        for level, m in enumerate(mult):
            res = f"{size >> level}x{size >> level}"
            if level == 0:
                first = c * m if adaptive else c
                enter(res + "_conv", nn.Conv2d(cin, first, 3, padding=1), first)
            else:
                enter(res + "_down", block(ch, ch, down=True), ch)
            for i in range(blocks):
                enter(f"{res}_block{i}", block(ch, c * m, level in attention), c * m)
        for level, m in reversed(list(enumerate(mult))):
            res = f"{size >> level}x{size >> level}"
            if level == len(mult) - 1:
                self.dec[res + "_in0"], self.dec[res + "_in1"] = block(ch, ch, True), block(ch, ch)
            else:
                self.dec[res + "_up"] = block(ch, ch, up=True)
            for i in range(blocks + 1):
                self.dec[f"{res}_block{i}"] = block(ch + skips.pop(), c * m, level in attention and (adaptive or i == blocks))
                ch = c * m
        norm, conv = nn.GroupNorm(min(32, ch // 4), ch, eps=eps), nn.Conv2d(ch, cout, 3, padding=1)
        if adaptive:
            self.out_norm, self.out_conv = norm, conv
        else:
            self.dec[f"{size}x{size}_aux_norm"], self.dec[f"{size}x{size}_aux_conv"] = norm, conv

    def forward(self, x, t, labels):
        half = self.c // 2
        w = t[:, None] * 10000 ** (-torch.arange(half, dtype=torch.float64) / (half if self.adaptive else half - 1))[None]
        labels = F.one_hot(labels, self.classes + 1)[:, :self.classes].double()  # the last is none
        if self.adaptive:
            emb = self.map_layer1(F.silu(self.map_layer0(torch.cat([torch.cos(w), torch.sin(w)], 1)))) + self.map_label(labels)
        else:
            emb = torch.cat([torch.sin(w), torch.cos(w)], 1) + self.map_label(labels * math.sqrt(self.classes))
            emb = self.map_layer1(F.silu(self.map_layer0(emb)))
        emb, skips = F.silu(emb), []
        for name, m in self.enc.items():
            x = m(x) if name.endswith("_conv") else m(x, emb)
            skips.append(x)
        for name, m in self.dec.items():
            if "_aux_" in name:
                x = m(F.silu(x) if name.endswith("_conv") else x)
                continue
            if "_block" in name:
                x = torch.cat([x, skips.pop()], 1)
            x = m(x, emb)
        return x if not self.adaptive else self.out_conv(F.silu(self.out_norm(x)))


def edm():
    for name, args, whole in [
        ("edm-adm", (8, 3, 3, 8, (1, 2), 1, {1}, 3, True, 8), ["map_label.weight", "dec.8x8_up.conv0.weight", "enc.4x4_block0.qkv.weight"]),
        ("edm-ddpmpp", (8, 3, 3, 8, (2, 1), 2, {1}, 3, False), ["map_label.weight", "map_label.bias", "dec.4x4_block2.qkv.weight", "enc.4x4_down.skip.weight"]),
    ]:
        gen = torch.Generator().manual_seed(6)
        m = seeded(EDM(*args), 6)
        inputs = {"x": draw(gen, 3, 3, 8, 8), "time": times(0.75, -0.5, 20), "classes": torch.tensor([2, 3, 0], dtype=torch.int32)}
        save(name, m, inputs, ["x"], lambda i: {"y": m(i["x"], i["time"], i["classes"].long())}, whole)


def names():
    """Names and shapes of configurations that are too large to store, without memory for them."""
    sizes = {}
    with torch.device("meta"):
        sizes["ddpm-cifar10"] = UNet2DModel(
            sample_size=32, in_channels=3, out_channels=3, block_out_channels=(128, 256, 256, 256), layers_per_block=2, norm_num_groups=32,
            down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=None, downsample_padding=0, flip_sin_to_cos=False, freq_shift=1)
        sizes["adm-imagenet64"] = ADM(3, 6, 192, (1, 2, 3, 4), 3, {1, 2, 3}, 1000, 32, 64)
        sizes["adm-imagenet256"] = ADM(3, 6, 256, (1, 1, 2, 2, 4, 4), 2, {3, 4, 5}, 1000, 32, 64)
        sizes["edm-cifar10"] = EDM(32, 3, 3, 128, (2, 2, 2), 4, {1}, 10, False)
        sizes["stable-diffusion-1"] = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
    out = {k: {n: list(p.shape) for n, p in m.named_parameters()} for k, m in sizes.items()}
    with open(OUT + "names.json", "w") as f:
        json.dump(out, f, separators=(",", ":"))


if __name__ == "__main__":
    for f in [ddpm, resample, fourier, condition, control, adm, edm, names]:
        f()
