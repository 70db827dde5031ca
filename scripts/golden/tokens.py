"""Writes testdata/golden/token: what transformers' GPT-2 and Llama and torch's Transformer
make of small random weights, with the gradients of a weighted sum of their results. Run from
the repository's root with torch, transformers and safetensors installed:

    python scripts/golden/tokens.py

Weights are float32 values, everything is computed in float64. Names and layouts are those of
package models/token: weights [out, in], queries, keys and values in one matrix.
"""
import os

import torch
import transformers
from safetensors.torch import save_file

OUT = "testdata/golden/token/"
torch.set_default_dtype(torch.float64)


def randomize(net, seed):
    """Normals of a size that makes every part matter; norms' weights around 1."""
    gen = torch.Generator().manual_seed(seed)
    for name, p in net.named_parameters():
        x = torch.randn(p.shape, generator=gen)
        scale = 0.2 if p.dim() > 1 else 0.1
        shift = 1.0 if p.dim() == 1 and "weight" in name and "norm" in name.replace("ln_", "norm") else 0.0
        p.data = (x * scale + shift).float().double()
    return net.double().eval()


def write(name, net, rename, y, inputs, seed):
    """Saves weights, inputs, result, and the gradients of sum(g * result)."""
    g = torch.randn(y.shape, generator=torch.Generator().manual_seed(seed)).float().double()
    named = dict(net.named_parameters())
    grads = torch.autograd.grad((g * y).sum(), list(named.values()), allow_unused=True)
    grads = {k: v for k, v in zip(named, grads) if v is not None}
    out = {"y": y.detach(), "gy": g.float()}
    out |= {"w." + k: v.float() for k, v in rename({k: named[k].detach() for k in grads}).items()}
    out |= {"g." + k: v for k, v in rename(grads).items()}
    out |= inputs
    os.makedirs(OUT, exist_ok=True)
    save_file({k: v.contiguous() for k, v in out.items()}, OUT + name + ".safetensors",
              metadata={"torch": torch.__version__, "transformers": transformers.__version__})
    print(name, sum(v.numel() * v.element_size() for v in out.values()), "bytes")


def gpt2():
    c = transformers.GPT2Config(vocab_size=17, n_positions=12, n_embd=16, n_layer=2, n_head=2)
    net = randomize(transformers.GPT2LMHeadModel(c), 1)
    ids = torch.randint(0, 17, (3, 10), generator=torch.Generator().manual_seed(2))

    def rename(d):
        r = {}
        for k, v in d.items():
            k = k.removeprefix("transformer.")
            turned = k.endswith("weight") and (".c_" in k)  # Conv1D keeps [in, out]
            r[k] = v.T if turned else v
        return r

    write("gpt2", net, rename, net(ids).logits, {"ids": ids.int()}, 3)


def llama():
    c = transformers.LlamaConfig(vocab_size=19, hidden_size=24, intermediate_size=32, num_hidden_layers=2,
                                 num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=16,
                                 rms_norm_eps=1e-5, rope_theta=10000.0, attn_implementation="sdpa")
    net = randomize(transformers.LlamaForCausalLM(c), 4)
    # The angles' table is made in float32; here it has all its digits.
    rot = net.model.rotary_emb
    rot.inv_freq = 1.0 / 10000.0 ** (torch.arange(0, 6, 2, dtype=torch.float64) / 6)

    def forward(x, position_ids, *_, **__):
        a = position_ids[..., None].double() * rot.inv_freq
        a = torch.cat((a, a), -1)
        return a.cos(), a.sin()

    rot.forward = forward
    # Its norms compute in float32.
    for m in net.modules():
        if type(m).__name__ == "LlamaRMSNorm":
            def norm(x, m=m):
                return m.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + m.variance_epsilon))
            m.forward = norm
    ids = torch.randint(0, 19, (2, 9), generator=torch.Generator().manual_seed(5))

    def rename(d):
        r = {"wte.weight": d["model.embed_tokens.weight"], "ln_f.weight": d["model.norm.weight"], "lm_head.weight": d["lm_head.weight"]}
        for i in range(2):
            a, b = f"model.layers.{i}.", f"h.{i}."
            r[b + "attn.c_attn.weight"] = torch.cat([d[a + f"self_attn.{n}_proj.weight"] for n in "qkv"])
            r[b + "attn.c_proj.weight"] = d[a + "self_attn.o_proj.weight"]
            r[b + "ln_1.weight"], r[b + "ln_2.weight"] = d[a + "input_layernorm.weight"], d[a + "post_attention_layernorm.weight"]
            for n in ("gate", "up"):
                r[b + f"mlp.{n}_proj.weight"] = d[a + f"mlp.{n}_proj.weight"]
            r[b + "mlp.c_proj.weight"] = d[a + "mlp.down_proj.weight"]
        return r

    write("llama", net, rename, net(ids).logits, {"ids": ids.int()}, 6)


def pair():
    """torch's encoder with norms after and decoder with norms before, over vectors."""
    enc = torch.nn.TransformerEncoderLayer(16, 2, 24, 0.0, "gelu", batch_first=True, norm_first=False)
    dec = torch.nn.TransformerDecoderLayer(16, 4, 40, 0.0, "relu", batch_first=True, norm_first=True)
    dec.activation = torch.nn.functional.gelu

    class Pair(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = torch.nn.TransformerEncoder(enc, 2, enable_nested_tensor=False)
            self.decoder = torch.nn.TransformerDecoder(dec, 2, norm=torch.nn.LayerNorm(16))

        def forward(self, x, lens, y):
            pad = torch.arange(x.shape[1])[None] >= lens[:, None]
            memory = self.encoder(x, src_key_padding_mask=pad)
            n = y.shape[1]
            causal = torch.triu(torch.ones(n, n, dtype=torch.bool), 1)
            return self.decoder(y, memory, tgt_mask=causal, memory_key_padding_mask=pad)

    net = randomize(Pair(), 7)
    gen = torch.Generator().manual_seed(8)
    x, y = torch.randn(2, 7, 16, generator=gen).float(), torch.randn(2, 5, 16, generator=gen).float()
    lens = torch.tensor([7, 4])

    def rename(d):
        r = {}
        for side, layers in (("encoder", 2), ("decoder", 2)):
            for i in range(layers):
                a, b = f"{side}.layers.{i}.", f"{side}.h.{i}."
                for p in ("weight", "bias"):
                    r[b + "attn.c_attn." + p] = d[a + "self_attn.in_proj_" + p]
                    r[b + "attn.c_proj." + p] = d[a + "self_attn.out_proj." + p]
                    r[b + "mlp.c_fc." + p], r[b + "mlp.c_proj." + p] = d[a + "linear1." + p], d[a + "linear2." + p]
                    r[b + "ln_1." + p] = d[a + "norm1." + p]
                    r[b + "ln_2." + p] = d[a + ("norm3." if side == "decoder" else "norm2.") + p]
                    if side == "decoder":
                        r[b + "ln_cross_attn." + p] = d[a + "norm2." + p]
                        for n, part in zip("qkv", d[a + "multihead_attn.in_proj_" + p].chunk(3)):
                            r[b + f"crossattention.{n}_attn." + p] = part
                        r[b + "crossattention.c_proj." + p] = d[a + "multihead_attn.out_proj." + p]
        for p in ("weight", "bias"):
            r["decoder.ln_f." + p] = d["decoder.norm." + p]
        return r

    out = net(x.double(), lens, y.double())
    write("pair", net, rename, out, {"x": x, "target": y, "lens": lens.int()}, 9)


gpt2()
llama()
pair()
