"""Writes testdata/golden/extract: what the published code of feature extractors makes of small
networks with weights from weightrecipe.py. Run from the repository's root, with torch,
transformers and torchvision installed and with checkouts of facebookresearch/dinov2 and openai/CLIP:

    python scripts/golden/extractors.py DINOV2 CLIP

Everything is computed in float64. The files list tensors and shapes as the networks have them.
"""
import json
import os
import sys
import tempfile

os.environ["XFORMERS_DISABLED"] = "1"
sys.path.insert(0, os.path.dirname(__file__))
sys.path[1:1] = sys.argv[1:3]
import torch  # noqa: E402
import transformers  # noqa: E402
import weightrecipe  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

OUT = "testdata/golden/extract/"


def fill(net, salt):
    """Gives the network its weights and returns their names and shapes."""
    net = net.double().eval()
    params = []
    for name, t in net.state_dict().items():
        if t.is_floating_point() and t.numel() > 0:
            t.copy_(torch.from_numpy(weightrecipe.tensor(salt, name, tuple(t.shape))).double())
            params.append([name, list(t.shape)])
    return params


def through_file(net, salt):
    """fill for a network of transformers: through a file, whose names are not those in memory."""
    with tempfile.TemporaryDirectory() as d:
        net.save_pretrained(d)
        path = os.path.join(d, "model.safetensors")
        t = {k: torch.from_numpy(weightrecipe.tensor(salt, k, tuple(v.shape))) for k, v in load_file(path).items()}
        save_file(t, path, metadata={"format": "pt"})
        net = type(net).from_pretrained(d, dtype=torch.float64, attn_implementation="eager").eval()
    return net, [[k, list(v.shape)] for k, v in t.items()]


def write(name, cases):
    with open(OUT + name, "w") as f:
        json.dump({"torch": torch.__version__, "transformers": transformers.__version__, "cases": cases}, f, separators=(",", ":"))
        f.write("\n")
    print(name, os.path.getsize(OUT + name), "bytes,", len(cases), "cases")


def rows(x):
    return [[float(f"{v:.12g}") for v in r] for r in x.double().tolist()]


@torch.no_grad()
def dinov2():
    from functools import partial

    from dinov2.layers import MemEffAttention
    from dinov2.layers import NestedTensorBlock as Block
    from dinov2.models.vision_transformer import DinoVisionTransformer

    cases = []
    width, depth, heads, grid, patch = 32, 3, 2, 5, 14
    for kind in ("mlp", "swiglu"):
        for registers in (0, 4):
            for size in (42, 70, 98):
                net = DinoVisionTransformer(
                    img_size=grid * patch, patch_size=patch, embed_dim=width, depth=depth, num_heads=heads, mlp_ratio=4, init_values=1.0,
                    ffn_layer="swiglufused" if kind == "swiglu" else "mlp", block_chunks=0, num_register_tokens=registers,
                    block_fn=partial(Block, attn_class=MemEffAttention),
                    interpolate_antialias=registers > 0, interpolate_offset=0.0 if registers else 0.1)
                salt = f"dinov2 {kind} {registers} "
                params = fill(net, salt)
                net.pos_embed.data = net.pos_embed.data.float()  # interpolated in float32 anyway
                x = torch.from_numpy(weightrecipe.pictures(salt, 2, size)).double()
                hidden = params[[p[0] for p in params].index(f"blocks.0.mlp.{'w3' if kind == 'swiglu' else 'fc2'}.weight")][1][1]
                cases.append({"from": "dinov2", "width": width, "depth": depth, "heads": heads, "hidden": hidden, "swiglu": kind == "swiglu",
                              "registers": registers, "patch": patch, "grid": grid, "size": size, "salt": salt, "params": params,
                              "features": rows(net(x))})
    size = grid * patch  # no interpolation: transformers has another rule
    for kind in ("mlp", "swiglu"):
        for registers in (0, 4):
            c = dict(hidden_size=width, num_hidden_layers=depth, num_attention_heads=heads, mlp_ratio=4, image_size=size, patch_size=patch,
                     use_swiglu_ffn=kind == "swiglu", attn_implementation="eager")
            net = (transformers.Dinov2WithRegistersModel(transformers.Dinov2WithRegistersConfig(num_register_tokens=registers, **c)) if registers
                   else transformers.Dinov2Model(transformers.Dinov2Config(**c)))
            salt = f"hf dinov2 {kind} {registers} "
            net, params = through_file(net, salt)
            x = torch.from_numpy(weightrecipe.pictures(salt, 2, size)).double()
            hidden = [s for n, s in params if n.endswith("encoder.layer.0.mlp." + ("weights_out" if kind == "swiglu" else "fc2") + ".weight")][0][1]
            cases.append({"from": "transformers", "width": width, "depth": depth, "heads": heads, "hidden": hidden, "swiglu": kind == "swiglu",
                          "registers": registers, "patch": patch, "grid": grid, "size": size, "salt": salt, "params": params,
                          "features": rows(net(x).last_hidden_state[:, 0])})
    write("dinov2.json", cases)


@torch.no_grad()
def clip():
    import clip.model as published

    published.LayerNorm = torch.nn.LayerNorm  # theirs rounds to float32
    size, patch, width, depth, heads, embed, vocab, context = 32, 8, 64, 3, 1, 24, 99, 12
    ids = [[1, 5, 9, 98], [1, 7, 7, 3, 40, 2, 11, 12, 13, 14, 15, 98], [1, 98]]
    padded = torch.tensor([i + [0] * (context - len(i)) for i in ids])
    cases = []
    for source in ("openai", "transformers"):
        salt = f"clip {source} "
        x = torch.from_numpy(weightrecipe.pictures(salt, 2, size)).double()
        if source == "openai":
            net = published.CLIP(embed, size, depth, width, patch, context, vocab, width, heads, depth)
            params = fill(net, salt)
            image, text = net.encode_image(x), net.encode_text(padded)
        else:
            c = transformers.CLIPConfig(
                text_config=dict(vocab_size=vocab, hidden_size=width, intermediate_size=4 * width, num_hidden_layers=depth, num_attention_heads=heads,
                                 max_position_embeddings=context, hidden_act="quick_gelu", eos_token_id=98, bos_token_id=1, pad_token_id=0),
                vision_config=dict(hidden_size=width, intermediate_size=4 * width, num_hidden_layers=depth, num_attention_heads=heads,
                                   image_size=size, patch_size=patch, hidden_act="quick_gelu"), projection_dim=embed)
            net, params = through_file(transformers.CLIPModel(c), salt)
            image, text = (net.visual_projection(net.vision_model(x).pooler_output),
                           net.text_projection(net.text_model(padded).pooler_output))
        cases.append({"from": source, "width": width, "depth": depth, "heads": heads, "patch": patch, "size": size, "embed": embed, "vocab": vocab,
                      "context": context, "salt": salt, "params": params, "features": rows(image), "ids": ids, "texts": rows(text)})
    write("clip.json", cases)


@torch.no_grad()
def vgg16():
    from torchvision.models.vgg import VGG, make_layers

    salt, size, widths, hidden, classes = "vgg16 ", 224, (4, 6, 8, 10, 12), 20, 10
    layers = [w for w, n in zip(widths, (2, 2, 3, 3, 3)) for w in (w,) * n + ("M",)]
    net = VGG(make_layers(layers), init_weights=False)
    linear = torch.nn.Linear
    for i, (n_in, n_out) in ((0, (49 * widths[-1], hidden)), (3, (hidden, hidden)), (6, (hidden, classes))):
        net.classifier[i] = linear(n_in, n_out)
    params = fill(net, salt)
    x = torch.from_numpy(weightrecipe.pictures(salt, 2, size)).double()
    taps = {name: rows(net.features[:i + 1](x).mean((2, 3)))
            for i, name in ((3, "relu1_2"), (8, "relu2_2"), (15, "relu3_3"), (22, "relu4_3"), (29, "relu5_3"))}
    f = torch.flatten(net.avgpool(net.features(x)), 1)
    fc2 = net.classifier[:4](f)
    taps |= {"fc2": rows(fc2), "fc2_relu": rows(fc2.relu()), "logits": rows(net.classifier(f))}
    write("vgg16.json", [{"from": "torchvision", "salt": salt, "size": size, "widths": widths, "hidden": hidden, "classes": classes,
                          "params": params, "taps": taps}])


def ways():
    """What a network gets of a picture, by torchvision on Pillow and by torch-fidelity; pictures of testdata/golden/resize."""
    import numpy as np
    import torchvision.transforms as T
    from PIL import Image
    from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

    size, bicubic, cases = 12, T.InterpolationMode.BICUBIC, []
    norms = {"imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
             "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))}

    def square(img):
        side = min(img.size)
        x, y = (img.width - side) // 2, (img.height - side) // 2
        return img.crop((x, y, x + side, y + side))

    for file in ("img0_37x53.png", "img2_300x500.png", "img4_600x450.png"):
        img = Image.open("testdata/golden/resize/" + file).convert("RGB")
        for name, norm, before in (("dgm-eval", "imagenet", [T.Resize((size, size), bicubic)]), ("openai", "clip", [T.Resize(size, bicubic), T.CenterCrop(size)]),
                                   ("cmmd", "clip", [square, T.Resize((size, size), bicubic)]),
                                   ("torchvision", "imagenet", [T.Resize(round(256 * size / 224)), T.CenterCrop(size)])):
            x = T.Compose(before + [T.ToTensor(), T.Normalize(*norms[norm])])(img)
            cases.append({"from": "torchvision", "file": file, "preset": name, "size": size, "norm": norm, "features": rows(x.flatten(1))})
        x = torch.from_numpy(np.asarray(img).astype(np.float32).transpose(2, 0, 1))[None]
        x = interpolate_bilinear_2d_like_tensorflow1x(x, size=(size, size), align_corners=False)[0]
        mean, std = (255 * torch.tensor(v).view(3, 1, 1) for v in norms["imagenet"])
        cases.append({"from": "torch-fidelity", "file": file, "preset": "torch-fidelity", "size": size, "norm": "imagenet", "features": rows(((x - mean) / std).flatten(1))})
        x = torch.from_numpy(np.asarray(img).astype(np.float32).transpose(2, 0, 1))[None]
        x = torch.nn.functional.interpolate(x, size=(size, size), mode="bicubic", antialias=True)[0]
        cases.append({"from": "torch", "file": file, "preset": "edm2", "size": size, "norm": "imagenet", "features": rows(((x - mean) / std).flatten(1))})
    write("ways.json", cases)


if __name__ == "__main__":
    os.makedirs(OUT, exist_ok=True)
    for f in (dinov2, clip, vgg16, ways):
        f()
