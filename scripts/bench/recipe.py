"""pytorch-fid's Inception with the seeded weights of testdata/golden/inception/README.md instead of a download."""
import os

import numpy as np

GOLDEN = 0x9E3779B97F4A7C15
MASK = (1 << 64) - 1


def key(name):
    """FNV-1a, 64 bits."""
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = ((h ^ byte) * 0x100000001B3) & MASK
    return h


def uniforms(name, n):
    """n multiples of 2^-24 in [0, 1): the splitmix64 stream of a name."""
    with np.errstate(over="ignore"):
        z = np.uint64(key(name)) + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(GOLDEN)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(40)).astype(np.float64) * 2.0**-24


def parameter(name, shape):
    u = uniforms(name, int(np.prod(shape)))
    if name.endswith("conv.weight"):
        v = (2 * u - 1) * np.sqrt(6.0 / np.prod(shape[1:]))
    elif name.endswith(("bn.weight", "bn.running_var")):
        v = 0.75 + 0.5 * u
    elif name.endswith(("bn.bias", "bn.running_mean")):
        v = (2 * u - 1) * 0.1
    else:
        assert name in ("fc.weight", "fc.bias"), name
        v = (2 * u - 1) / np.sqrt(2048.0)
    return v.astype(np.float32).reshape(shape)


def weights_file(home):
    """Puts the weights where torch looks for downloads below home, under the published name; returns the path."""
    import torch
    import torchvision
    from pytorch_fid import inception

    path = os.path.join(home, "hub", "checkpoints", "pt_inception-2015-12-05-6726825d.pth")
    if os.path.exists(path):
        return path
    os.makedirs(os.path.dirname(path), exist_ok=True)
    # The parameters' names and shapes, without the weights: the loader is asked for an empty state.
    saved, inception.load_state_dict_from_url = inception.load_state_dict_from_url, lambda *a, **k: None
    load, torch.nn.Module.load_state_dict = torch.nn.Module.load_state_dict, lambda self, state, *a, **k: None
    try:
        net = inception.fid_inception_v3()
    finally:
        inception.load_state_dict_from_url, torch.nn.Module.load_state_dict = saved, load
    state = {}
    for name, t in net.state_dict().items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.zeros((), dtype=torch.int64)
        else:
            state[name] = torch.from_numpy(parameter(name, tuple(t.shape)))
    torch.save(state, path + ".part")
    os.replace(path + ".part", path)
    return path
