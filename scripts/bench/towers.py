"""The networks of the tower rows in torch, under the names of their published files: DINOv2 B/14 and CLIP's image tower B/32, seeded."""
import torch
import torch.nn.functional as F
from torch import nn


class Scale(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), 0.3))

    def forward(self, x):
        return self.gamma * x


def attend(qkv, heads):
    n, length, width = qkv.shape
    out = F.scaled_dot_product_attention(*qkv.view(n, length, 3, heads, width // 3 // heads).permute(2, 0, 3, 1, 4))
    return out.transpose(1, 2).reshape(n, length, width // 3)


class DINOBlock(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.norm1, self.norm2 = heads, nn.LayerNorm(width, 1e-6), nn.LayerNorm(width, 1e-6)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})
        self.ls1, self.ls2 = Scale(width), Scale(width)

    def forward(self, x):
        x = x + self.ls1(self.attn["proj"](attend(self.attn["qkv"](self.norm1(x)), self.heads)))
        return x + self.ls2(self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x)))))


class DINO(nn.Module):
    def __init__(self, width=768, depth=12, heads=12):
        super().__init__()
        self.cls_token, self.pos_embed = nn.Parameter(torch.randn(1, 1, width)), nn.Parameter(torch.randn(1, 1370, width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, 14, 14)})
        self.blocks = nn.ModuleList(DINOBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, 1e-6)

    def places(self):
        grid = self.pos_embed[:, 1:].view(1, 37, 37, -1).permute(0, 3, 1, 2)
        grid = F.interpolate(grid, scale_factor=(16.1 / 37, 16.1 / 37), mode="bicubic")
        return torch.cat([self.pos_embed[:, :1], grid.flatten(2).transpose(1, 2)], 1)

    def forward(self, x):
        x = self.patch_embed["proj"](x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.places()
        for b in self.blocks:
            x = b(x)
        return self.norm(x)[:, 0]


class CLIPBlock(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.ln_1, self.ln_2 = heads, nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads)  # its weights alone
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)})

    def forward(self, x):
        a = self.attn
        x = x + a.out_proj(attend(F.linear(self.ln_1(x), a.in_proj_weight, a.in_proj_bias), self.heads))
        h = self.mlp["c_fc"](self.ln_2(x))
        return x + self.mlp["c_proj"](h * torch.sigmoid(1.702 * h))


class CLIPImage(nn.Module):
    def __init__(self, width=768, depth=12, heads=12, embed=512):
        super().__init__()
        self.class_embedding, self.positional_embedding = nn.Parameter(torch.randn(width)), nn.Parameter(torch.randn(50, width))
        self.conv1, self.ln_pre, self.ln_post = nn.Conv2d(3, width, 32, 32, bias=False), nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = nn.ModuleDict({"resblocks": nn.ModuleList(CLIPBlock(width, heads) for _ in range(depth))})
        self.proj = nn.Parameter(torch.randn(width, embed) * width**-0.5)

    def forward(self, x):
        x = self.conv1(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x], 1) + self.positional_embedding
        x = self.ln_pre(x)
        for b in self.transformer["resblocks"]:
            x = b(x)
        return self.ln_post(x[:, 0]) @ self.proj


NETWORKS = {  # class, what names begin with in the file, means and deviations of the pictures
    "dinov2-vitb14": (DINO, "", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "clip-vit-b32": (CLIPImage, "visual.", (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
}


def make(name):
    torch.manual_seed(7)
    return NETWORKS[name][0]().eval()


def save(name, path):
    torch.save({NETWORKS[name][1] + k: v for k, v in make(name).state_dict().items()}, path)


def pictures(name, files):
    import numpy as np
    from PIL import Image

    im = [np.asarray(Image.open(f).convert("RGB").resize((224, 224), Image.BICUBIC), dtype=np.float32) for f in files]
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in NETWORKS[name][2:])
    return (torch.from_numpy(np.stack(im)).permute(0, 3, 1, 2) / 255 - mean) / std
