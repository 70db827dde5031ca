"""Weights that are not stored: every value of a tensor comes from its name.

key = FNV-1a-64 of salt + name; value i is uniform, u = (SplitMix64(key + (i+1)·golden) >> 40)·2^-24,
in an interval that the name and the shape choose (range_of). Values are computed in float64 and
rounded to float32. fid/extract's tests make the same ones.
"""
import math

import numpy as np


def key(text):
    h = 0xCBF29CE484222325
    for b in text.encode():
        h = ((h ^ b) * 0x100000001B3) % 2**64
    return h


def uniform(text, n):
    with np.errstate(over="ignore"):
        z = np.uint64(key(text)) + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
        z = z ^ z >> np.uint64(31)
    return (z >> np.uint64(40)).astype(np.float64) * 2.0**-24


def range_of(name, shape):
    last = name.split(".")[-1]
    if last == "gamma" or last.startswith("lambda"):
        return 0.1, 0.5
    if len(shape) == 1 and last == "weight":
        return 0.75, 1.25
    if len(shape) <= 1 and "embedding" not in last:
        return -0.1, 0.1
    if any(w in name for w in ("token", "pos_embed", "position_embedding", "positional_embedding", "class_embedding")):
        return -0.5, 0.5
    fan = shape[0] if last in ("proj", "text_projection") else math.prod(shape[1:])
    high = math.sqrt(3 / fan)
    return -high, high


def tensor(salt, name, shape):
    low, high = range_of(name, shape)
    u = uniform(salt + name, math.prod(shape))
    v = (2 * u - 1) * high if low == -high else low + (high - low) * u
    return v.astype(np.float32).reshape(shape)


def pictures(salt, n, size):
    """n network inputs [3, size, size], uniform in [-2, 2)."""
    return ((2 * uniform(f"{salt}pictures", n * 3 * size * size) - 1) * 2).astype(np.float32).reshape(n, 3, size, size)
