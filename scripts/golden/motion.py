"""Writes testdata/golden/motion: what the programs that made HumanML3D's and
KIT-ML's feature files, and ParCo's part splitter, say to clips of our own. Run
from the repository's root with numpy and scipy installed and with checkouts of
github.com/EricGuo5513/momask-codes (which has HumanML3D's notebooks as modules),
github.com/qrzou/ParCo and github.com/exitudio/MMM:

    python scripts/golden/motion.py MOMASK PARCO MMM

The dozen functions of torch that those programs call are stood in for by NumPy in
float64, so that the expected values have all their digits.
"""
import json
import sys
import types

import numpy as np
import scipy.ndimage

OUT = "testdata/golden/motion/"


class Tensor(np.ndarray):
    """A NumPy array with the methods of a tensor that are called."""

    @property
    def device(self):
        return "cpu"

    def to(self, *a, dtype=None):
        kinds = [x for x in a if isinstance(x, type)] + ([dtype] if isinstance(dtype, type) else [])
        return self.astype(kinds[0]) if kinds else self

    def float(self):
        return self.astype(np.float64)

    def numpy(self):
        return np.asarray(self)

    def clone(self):
        return self.copy()

    def detach(self):
        return self

    def contiguous(self):
        return self

    def expand(self, *shape):
        shape = shape[0] if isinstance(shape[0], tuple) else shape
        own = (1,) * (len(shape) - self.ndim) + self.shape
        return np.broadcast_to(self.reshape(own), [o if s == -1 else s for s, o in zip(shape, own)]).view(Tensor)

    def view(self, *shape):
        if len(shape) == 1 and isinstance(shape[0], type):
            return np.ndarray.view(self, shape[0])
        return self.reshape(shape[0] if len(shape) == 1 else shape)

    def unsqueeze(self, dim):
        return np.expand_dims(self, dim)

    def sum(self, dim=None, keepdim=False, **kw):
        return np.asarray(self).sum(axis=dim, keepdims=keepdim, **kw).view(Tensor)


def tensor(x):
    return np.asarray(x, dtype=np.float64).view(Tensor)


def stand_in():
    t = types.ModuleType("torch")
    t.Tensor, t.tensor, t.from_numpy, t.float, t.int64 = tensor, tensor, lambda x: x.astype(np.float64).view(Tensor), np.float64, np.int64
    t.zeros = lambda *s, **_: np.zeros(s[0] if isinstance(s[0], tuple) else s).view(Tensor)
    t.ones_like, t.zeros_like, t.sqrt, t.sin, t.cos = np.ones_like, np.zeros_like, np.sqrt, np.sin, np.cos
    t.eye = lambda n: np.eye(n).view(Tensor)
    t.cross = lambda a, b, dim=-1: np.cross(a, b, axis=dim).view(Tensor)
    t.norm = lambda x, p=2, dim=-1, keepdim=False: np.linalg.norm(x, axis=dim, keepdims=keepdim).view(Tensor)
    t.cat = lambda xs, dim=0: np.concatenate(xs, axis=dim).view(Tensor)
    t.stack = lambda xs, dim=0: np.stack(xs, axis=dim).view(Tensor)
    t.unbind = lambda x, dim: [np.take(x, i, axis=dim) for i in range(x.shape[dim])]
    t.cumsum = lambda x, dim: np.cumsum(x, axis=dim)
    t.matmul = t.bmm = np.matmul
    t.is_tensor = lambda x: isinstance(x, Tensor)
    t.device = str
    data = types.ModuleType("torch.utils.data")
    data.Dataset = object
    utils = types.ModuleType("torch.utils")
    utils.data, t.utils = data, utils
    t.nn = types.ModuleType("torch.nn")
    filters = types.ModuleType("scipy.ndimage.filters")
    filters.gaussian_filter1d = scipy.ndimage.gaussian_filter1d
    tqdm = types.ModuleType("tqdm")
    tqdm.tqdm = lambda x: x
    sys.modules.update({"torch": t, "torch.utils": utils, "torch.utils.data": data, "torch.nn": t.nn, "scipy.ndimage.filters": filters, "tqdm": tqdm})
    np.float = float


def body(parents, rest, rng):
    """A standing figure: bones along plausible directions, with lengths of its own."""
    place = np.zeros((len(parents), 3))
    for j, p in enumerate(parents):
        if p >= 0:
            d = np.array(rest[j]) + rng.normal(0, 0.15, 3)
            place[j] = place[p] + d / np.linalg.norm(d) * rng.uniform(0.1, 0.4)
    return place


def clip(parents, rest, frames, turn, unit, seed):
    """A body that wanders, turns and swings every bone; nothing in it is a copy of data."""
    rng = np.random.default_rng(seed)
    base = body(parents, rest, rng)
    phase, rate = rng.uniform(0, 6, (len(parents), 3)), rng.uniform(0.05, 0.3, (len(parents), 3))
    out = np.zeros((frames, len(parents), 3))
    for t in range(frames):
        place = base.copy()
        for j, p in enumerate(parents):
            if p >= 0:
                d = base[j] - base[p] + 0.05 * np.sin(phase[j] + rate[j] * t)
                place[j] = place[p] + d / np.linalg.norm(d) * np.linalg.norm(base[j] - base[p])
        a = 0.7 + turn * t / frames
        rot = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
        out[t] = place @ rot.T + [2 + 0.03 * t, 1.1 + 0.05 * np.sin(0.3 * t), -1 + 0.02 * t]
    return out * unit


def main():
    momask, parco, mmm = sys.argv[1:4]
    stand_in()
    sys.path.insert(0, momask)
    from utils import motion_process as mp
    from utils import paramUtil as pu
    from common.skeleton import Skeleton
    cases = []
    for name, raw, chains, face, right, left, leg, limit, unit in [
            ("HumanML3D", pu.t2m_raw_offsets, pu.t2m_kinematic_chain, [2, 1, 17, 16], [8, 11], [7, 10], (5, 8), 0.002, 1),
            ("KIT", pu.kit_raw_offsets, pu.kit_kinematic_chain, [11, 16, 5, 8], [14, 15], [19, 20], (17, 18), 0.05, 5)]:
        joints = len(raw)
        n_raw = tensor(raw)
        skeleton = Skeleton(n_raw, chains, "cpu")
        parents = skeleton.parents()
        # Other bodies stand on their heads in the table of directions; ours stands.
        rest = np.where(np.abs(raw[:, [2]]) > 0, raw * [[1, 1, 1]] + [[0, -0.2, 0]], raw)
        target = skeleton.get_offsets_joints(tensor(body(parents, rest, np.random.default_rng(99)) * unit))
        for k, (frames, turn) in enumerate([(16, 0.8), (9, -1.1)]):
            source = clip(parents, rest, frames, turn, unit, 7 + k)
            mp.n_raw_offsets, mp.kinematic_chain, mp.tgt_offsets = n_raw, chains, target
            mp.l_idx1, mp.l_idx2, mp.fid_r, mp.fid_l, mp.face_joint_indx = *leg, right, left, face
            retargeted = mp.uniform_skeleton(source.copy(), target)
            rows, prepared, _, _ = mp.process_file(source.copy(), limit)
            t = rows[None].astype(np.float64).view(Tensor)
            ric = np.asarray(mp.recover_from_ric(t.copy(), joints))[0]
            skeleton.set_offset(target)
            rot = np.asarray(mp.recover_from_rot(t[0].copy(), joints, skeleton))
            arrays = dict(joints=source, retargeted=retargeted, prepared=prepared, rows=rows, recovered=ric, rotated=rot)
            for what, x in arrays.items():
                np.asarray(x, dtype="<f8").tofile(OUT + f"{name}-{k}-{what}.f64")
            cases.append({"layout": name, "prefix": f"{name}-{k}-", "bones": np.linalg.norm(target, axis=1).tolist()})

    sys.path.insert(0, parco)
    for m in [m for m in sys.modules if m == "utils" or m.startswith("utils.") or m == "dataset"]:
        del sys.modules[m]
    from dataset.dataset_VQ_bodypart import whole2parts
    parts = {name: [np.asarray(p[0]).astype(int).tolist() for p in whole2parts(np.arange(width, dtype=np.float64)[None], mode)]
             for name, mode, width in [("HumanML3D", "t2m", 263), ("KIT", "kit", 251)]}
    sys.path.insert(0, mmm)
    for m in [m for m in sys.modules if m == "utils" or m.startswith("utils.")]:
        del sys.modules[m]
    from utils import humanml_utils as hu
    upper = np.nonzero(hu.HML_UPPER_BODY_MASK)[0].tolist()
    with open(OUT + "cases.json", "w") as f:
        json.dump({"cases": cases, "parco_parts": parts, "mmm_upper": upper}, f, indent=None)
        f.write("\n")


main()
