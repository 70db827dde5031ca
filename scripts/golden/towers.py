"""Writes testdata/golden/tower: what transformers' CLIPModel and torch's GRU make of small
random weights, with gradients. Run from the repository's root with torch, transformers and
safetensors installed:

    python scripts/golden/towers.py

Weights are float32 values, everything is computed in float64. clip-openai.safetensors has
CLIP's weights under the names and in the layouts of OpenAI's files.
"""
import os

import torch
import transformers
from safetensors.torch import save_file

OUT = "testdata/golden/tower/"
torch.set_default_dtype(torch.float64)
os.makedirs(OUT, exist_ok=True)


def save(name, tensors):
    save_file({k: v.detach().contiguous() for k, v in tensors.items()}, OUT + name + ".safetensors",
              metadata={"torch": torch.__version__, "transformers": transformers.__version__})
    os.chmod(OUT + name + ".safetensors", 0o644)
    print(name, sum(v.numel() * v.element_size() for v in tensors.values()), "bytes")


def randomize(net, seed):
    gen = torch.Generator().manual_seed(seed)
    for name, p in net.named_parameters():
        x = torch.randn(p.shape, generator=gen) * (0.2 if p.dim() > 1 else 0.1)
        if p.dim() == 1 and "norm" in name and name.endswith("weight"):
            x = x + 1
        if name == "logit_scale":
            x = torch.tensor(1.3)
        p.data = x.float().double()
    return net.double().eval()


def clip():
    c = transformers.CLIPConfig(
        text_config=dict(vocab_size=30, hidden_size=12, intermediate_size=40, num_hidden_layers=2, num_attention_heads=2,
                         max_position_embeddings=8, hidden_act="quick_gelu", eos_token_id=29, bos_token_id=1, pad_token_id=0),
        vision_config=dict(hidden_size=16, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
                           image_size=8, patch_size=4, hidden_act="quick_gelu"),
        projection_dim=10)
    c._attn_implementation = "sdpa"
    net = randomize(transformers.CLIPModel(c), 1)
    gen = torch.Generator().manual_seed(2)
    pictures = torch.randn(3, 3, 8, 8, generator=gen).float()
    ids = torch.tensor([[1, 5, 9, 29, 0, 0, 0, 0], [1, 7, 7, 3, 28, 2, 29, 0], [1, 29, 29, 4, 0, 0, 0, 0]])
    p = pictures.double().requires_grad_()
    out = net(input_ids=ids, pixel_values=p, return_loss=True)
    named = dict(net.named_parameters())
    grads = torch.autograd.grad(out.loss, list(named.values()) + [p])
    t = {"pictures": pictures, "ids": ids.int(), "image": out.image_embeds, "text": out.text_embeds, "loss": out.loss,
         "logits": out.logits_per_image, "states": out.text_model_output.last_hidden_state,
         "tokens": out.vision_model_output.last_hidden_state, "g_pictures": grads[-1]}
    t |= {"w." + k: v.float() for k, v in named.items()}
    t |= {"g." + k: v for k, v in zip(named, grads)}
    save("clip", t)

    # OpenAI's names and layouts.
    w = {k: v.detach().float() for k, v in named.items()}
    o = {"logit_scale": w["logit_scale"], "visual.proj": w["visual_projection.weight"].T, "text_projection": w["text_projection.weight"].T,
         "visual.class_embedding": w["vision_model.embeddings.class_embedding"],
         "visual.conv1.weight": w["vision_model.embeddings.patch_embedding.weight"],
         "visual.positional_embedding": w["vision_model.embeddings.position_embedding.weight"],
         "token_embedding.weight": w["text_model.embeddings.token_embedding.weight"],
         "positional_embedding": w["text_model.embeddings.position_embedding.weight"],
         "input_resolution": torch.tensor(8), "context_length": torch.tensor(8), "vocab_size": torch.tensor(30)}
    for s in ("weight", "bias"):
        o["visual.ln_pre." + s] = w["vision_model.pre_layrnorm." + s]
        o["visual.ln_post." + s] = w["vision_model.post_layernorm." + s]
        o["ln_final." + s] = w["text_model.final_layer_norm." + s]
        for here, there in (("visual.", "vision_model."), ("", "text_model.")):
            for i in range(2):
                a, b = f"{here}transformer.resblocks.{i}.", f"{there}encoder.layers.{i}."
                o[a + "attn.in_proj_" + s] = torch.cat([w[b + f"self_attn.{n}_proj.{s}"] for n in "qkv"])
                o[a + "attn.out_proj." + s] = w[b + "self_attn.out_proj." + s]
                o[a + "ln_1." + s], o[a + "ln_2." + s] = w[b + "layer_norm1." + s], w[b + "layer_norm2." + s]
                o[a + "mlp.c_fc." + s], o[a + "mlp.c_proj." + s] = w[b + "mlp.fc1." + s], w[b + "mlp.fc2." + s]
    save("clip-openai", o)


def gru():
    net = randomize(torch.nn.GRU(5, 6, 2, batch_first=True, bidirectional=True), 3)
    for p in net.parameters():
        p.data = (2 * p.data).float().double()
    x = torch.randn(3, 7, 5, generator=torch.Generator().manual_seed(4)).float()
    lens = torch.tensor([7, 3, 1])
    packed = torch.nn.utils.rnn.pack_padded_sequence(x.double(), lens, batch_first=True)
    y, h = net(packed)
    y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, batch_first=True)
    last = torch.cat([h[2], h[3]], -1)
    gen = torch.Generator().manual_seed(5)
    gy, gl = torch.randn(y.shape, generator=gen).float(), torch.randn(last.shape, generator=gen).float()
    named = dict(net.named_parameters())
    grads = torch.autograd.grad((gy * y).sum() + (gl * last).sum(), list(named.values()))
    t = {"x": x, "lens": lens.int(), "y": y, "last": last, "gy": gy, "gl": gl}
    t |= {"w." + k: v.detach().float() for k, v in named.items()}
    t |= {"g." + k: v for k, v in zip(named, grads)}
    save("gru", t)


clip()
gru()
