"""Compares fidlab's extractors in their real sizes with the published code, once, by the command line: weights of
weightrecipe.py in a file as it is published, pictures as PNG, torch in float32. Needs what extractors.py needs, and
a built fidlab:

    python scripts/golden/extractorsizes.py DINOV2 CLIP bin/fidlab WORKDIR NAME...

Prints, for each name, the largest difference of a picture's features over the largest feature, and how far the pictures'
own features are apart, and the seconds and the peak memory of the command; of a CLIP also the cosines of two pictures and their texts, and how far they are from torch's.
"""
import json
import os
import subprocess
import sys
import time
import warnings

os.environ["XFORMERS_DISABLED"] = "1"
warnings.filterwarnings("ignore")
sys.path.insert(0, os.path.dirname(__file__))
sys.path[1:1] = sys.argv[1:3]
import numpy as np  # noqa: E402
import torch  # noqa: E402
import torchvision.transforms as T  # noqa: E402
import weightrecipe  # noqa: E402
from PIL import Image  # noqa: E402

FIDLAB, WORK = sys.argv[3:5]
BICUBIC = T.InterpolationMode.BICUBIC
CLIP = {"clip-vit-b32": (512, 224, 12, 768, 32, 512, 8), "clip-vit-b16": (512, 224, 12, 768, 16, 512, 8),
        "clip-vit-l14": (768, 224, 24, 1024, 14, 768, 12), "clip-vit-l14-336": (768, 336, 24, 1024, 14, 768, 12)}


def square(img):
    side = min(img.size)
    x, y = (img.width - side) // 2, (img.height - side) // 2
    return img.crop((x, y, x + side, y + side))


def published(name):
    """Returns the network, its transform, and what of it gives the features."""
    if name.startswith("dinov2"):
        from dinov2.hub import backbones
        make = getattr(backbones, name.replace("-", "_"))
        norm = T.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        net = make(pretrained=False)
        return net, T.Compose([T.Resize((224, 224), BICUBIC), T.ToTensor(), norm]), net
    if name == "vgg16":
        import torchvision
        net = torchvision.models.vgg16(weights=None)
        norm = T.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        return net, T.Compose([T.Resize(256), T.CenterCrop(224), T.ToTensor(), norm]), lambda x: net.classifier[:5](net.features(x).flatten(1))
    from clip.model import CLIP as Net
    embed, size, layers, width, patch, text, heads = CLIP[name]
    net = Net(embed, size, layers, width, patch, 77, 49408, text, heads, 12)
    norm = T.Normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
    cut = [square, T.Resize((size, size), BICUBIC)] if size == 336 else [T.Resize(size, BICUBIC), T.CenterCrop(size)]
    return net, T.Compose(cut + [T.ToTensor(), norm]), net.encode_image


def fidlab(*args):
    """Runs a command and returns its seconds and its peak memory in GiB."""
    start = time.time()
    p = subprocess.Popen([FIDLAB, *args], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    said = p.stderr.read()
    _, status, usage = os.wait4(p.pid, 0)
    if status:
        sys.exit(f"{FIDLAB} {' '.join(args)}: status {status}: {said}")
    return time.time() - start, usage.ru_maxrss / 2**20


def clipscore(net, images, name, folder, path):
    import clip

    texts = ["a red circle, it's bright", "two small DOGS in 2024 … and a café"]
    for i, t in enumerate(texts):
        with open(os.path.join(folder, f"{i}.txt"), "w") as f:
            f.write(t + "\n")
    y = net.encode_text(clip.tokenize(texts, truncate=True)).double().numpy()
    x = images.astype(np.float64)
    cos = (x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
    vocab = os.path.join(os.path.dirname(clip.__file__), "bpe_simple_vocab_16e6.txt.gz")
    preset = "cmmd" if name.endswith("336") else "openai"
    each = os.path.join(WORK, "each.jsonl")
    fidlab("score", folder, "--captions", "txt", "--vocab", vocab, "--features", name, "--weights", path, "--preset", preset, "--rule", "cosine",
           "--each", each, "--overwrite")
    ours = [json.loads(line)["score"] for line in open(each)]
    return f"cosines {ours} off by {np.abs(ours - cos).max():.1e}"


@torch.no_grad()
def main():
    folder = os.path.join(WORK, "pictures")
    os.makedirs(folder, exist_ok=True)
    rng = np.random.default_rng(1)
    for i, (h, w) in enumerate(((256, 256), (301, 207))):
        y, x = np.mgrid[:h, :w]
        p = [127 + 100 * np.sin(x / (5 + i) + c) * np.cos(y / (9 - 2 * c)) + rng.normal(0, 9, (h, w)) for c in range(3)]
        Image.fromarray(np.stack(p, -1).clip(0, 255).astype(np.uint8)).save(os.path.join(folder, f"{i}.png"))
    pictures = [Image.open(os.path.join(folder, f)).convert("RGB") for f in sorted(os.listdir(folder)) if f.endswith(".png")]
    for name in sys.argv[5:]:
        net, transform, features = published(name)
        net = net.float().eval()
        for key, t in net.state_dict().items():
            if t.numel() and t.is_floating_point():
                t.copy_(torch.from_numpy(weightrecipe.tensor("size ", key, tuple(t.shape))))
        want = features(torch.stack([transform(p) for p in pictures])).numpy()
        path, out = os.path.join(WORK, name + ".pth"), os.path.join(WORK, name + ".npy")
        torch.save(net.state_dict(), path)
        scores = clipscore(net, want, name, folder, path) if name in CLIP else ""
        del net, features
        preset = {"d": "dgm-eval", "v": "torchvision", "c": "cmmd" if name.endswith("336") else "openai"}[name[0]]
        seconds, memory = fidlab("features", folder, "--features", name, "--weights", path, "--preset", preset, "-o", out, "--overwrite")
        os.remove(path)
        got = np.load(out)
        off = (np.abs(got - want).max(1) / np.abs(want).max(1)).max()
        spread = np.abs(want[0] - want[1]).max() / np.abs(want).max()
        print(f"| {name} | {want.shape[1]} | {off:.1e} | {spread:.2f} | {seconds:.0f} s, {memory:.1f} GiB | {scores}", flush=True)


main()
