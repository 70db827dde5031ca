"""Times torch on the operations that gpubench lists, in the same two ways.

    torch_peer.py SPECS.json OUT.json [--device cuda] [--reps 30]

A spec is an operation and its sizes, "sdpa b=4 h=16 q=2048 k=2048 d=64 dtype=bf16 causal=1 pass=fwd"; scripts/gpubench/case.go lists them.
Cold: 256 MiB written before each run. Hot: back to back, at least 0.2 ms between two events. Each is the median.
"""
import argparse
import json
import statistics
import time

import torch
import torch.nn.functional as F

DTYPES = {"f32": torch.float32, "f64": torch.float64, "f16": torch.float16, "bf16": torch.bfloat16, "i32": torch.int32}


class Clock:
    """Times a function; on the CPU with the wall clock, for a rehearsal."""

    def __init__(self, device, reps):
        self.cuda = device.startswith("cuda")
        self.reps = reps
        self.flush = torch.empty(256 << 20 if self.cuda else 4096, dtype=torch.uint8, device=device)

    def _times(self, fn, inner, cold):
        if not self.cuda:
            out = []
            for _ in range(self.reps):
                start = time.perf_counter()
                fn()
                out.append(1e6 * (time.perf_counter() - start))
            return statistics.median(out)
        pairs = []
        for i in range(self.reps):
            if cold:
                self.flush.fill_(i & 127)
            a, b = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            a.record()
            for _ in range(inner):
                fn()
            b.record()
            pairs.append((a, b))
        torch.cuda.synchronize()
        return statistics.median(1e3 * a.elapsed_time(b) / inner for a, b in pairs)

    def __call__(self, fn):
        start = time.perf_counter()
        for i in range(100):
            fn()
            if self.cuda:
                torch.cuda.synchronize()
            if i >= 2 and time.perf_counter() - start > 0.05:
                break
        cold = self._times(fn, 1, True)
        inner = min(256, 1 + int(200 / max(cold, 1e-3)))
        return cold, self._times(fn, inner, False)


def sdpa(o, dev):
    """Every backend that takes the shape, each by its name."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    b, h, d = o["b"], o["h"], o["d"]
    hk = o.get("hk", h)
    dtype = DTYPES[o["dtype"]]
    back = o.get("pass", "fwd") == "fwdbwd"
    q, k, v = (torch.randn(b, n, t, d, device=dev, dtype=dtype, requires_grad=back) for n, t in ((h, o["q"]), (hk, o["k"]), (hk, o["k"])))
    grad = torch.randn(b, h, o["q"], d, device=dev, dtype=dtype)
    opts = {"is_causal": bool(o.get("causal", 0))}
    wanted = [q, k, v]
    if o.get("bias", 0):  # one for each head, shared by the batch, and in the operands' type: the backends take no other
        opts["attn_mask"] = torch.randn(1, h, o["q"], o["k"], device=dev, dtype=dtype, requires_grad=back)
        wanted.append(opts["attn_mask"])
    if hk != h:
        opts["enable_gqa"] = True

    def run(backend):
        def forward():
            with sdpa_kernel(backend):
                return F.scaled_dot_product_attention(q, k, v, **opts)

        if not back:
            return forward
        return lambda: torch.autograd.grad(forward(), wanted, grad)

    return {x.name.lower().replace("_attention", ""): run(x) for x in (SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH)}


def eigh(o, dev):
    a = torch.randn(o["b"], o["n"], o["n"], device=dev, dtype=DTYPES[o["dtype"]])
    a = a @ a.mT / o["n"]
    if o.get("vectors", 1):
        return {"linalg.eigh": lambda: torch.linalg.eigh(a)}
    return {"linalg.eigvalsh": lambda: torch.linalg.eigvalsh(a)}


def cdist(o, dev):
    x, y = (torch.randn(n, o["d"], device=dev, dtype=DTYPES[o["dtype"]]) for n in (o["n"], o["m"]))
    return {"cdist": lambda: torch.cdist(x, y)}


def conv2d(o, dev):
    dtype = DTYPES[o["dtype"]]
    x = torch.randn(o["b"], o["c"], o["h"], o["w"], device=dev, dtype=dtype)
    w = torch.randn(o["k"], o["c"], o["r"], o["r"], device=dev, dtype=dtype)
    xl, wl = (t.to(memory_format=torch.channels_last) for t in (x, w))
    pad = o["r"] // 2
    return {"conv2d": lambda: F.conv2d(x, w, padding=pad), "conv2d channels_last": lambda: F.conv2d(xl, wl, padding=pad)}


def matmul(o, dev):
    dtype = DTYPES[o["dtype"]]
    a = torch.randn(o["b"], o["m"], o["k"], device=dev, dtype=dtype)
    b = torch.randn(o["b"], o["k"], o["n"], device=dev, dtype=dtype)
    return {"matmul": lambda: torch.matmul(a, b)}


def cov(o, dev):
    x = torch.randn(o["n"], o["d"], device=dev, dtype=DTYPES[o["dtype"]])

    def run():
        m = x.mean(0)
        c = x - m
        return c.T @ c / (o["n"] - 1)

    return {"mean, centre, matmul": run}


def lincomb(o, dev):
    xs = [torch.randn(o["n"], device=dev, dtype=DTYPES[o["dtype"]]) for _ in range(o["terms"])]

    def run():
        y = xs[0] * 0.5
        for i, x in enumerate(xs[1:]):
            y = torch.add(y, x, alpha=0.25 + i)
        return y

    return {"mul, add": run}


def activation(o, dev):
    x = torch.randn(o["n"], device=dev, dtype=DTYPES[o["dtype"]])
    f = {"silu": F.silu, "gelu": F.gelu, "sin": torch.sin}[o["f"]]
    return {o["f"]: lambda: f(x)}


def adamw(o, dev):
    p = torch.randn(o["n"], device=dev, dtype=DTYPES[o["dtype"]]).requires_grad_()
    p.grad = torch.randn_like(p)
    opt = torch.optim.AdamW([p], lr=1e-6, fused=True)
    return {"fused": opt.step}


def randn(o, dev):
    y = torch.empty(o["n"], device=dev, dtype=DTYPES[o["dtype"]])
    return {"normal_": y.normal_}


def sort(o, dev):
    x = torch.randint(0, 2**31 - 1, (o["n"],), device=dev, dtype=DTYPES[o["dtype"]])
    return {"sort": lambda: torch.sort(x)}


def sort_rows(o, dev):
    x = torch.randn(o["b"], o["n"], device=dev, dtype=DTYPES[o["dtype"]])
    return {"sort": lambda: torch.sort(x, dim=1)}


def quantile(o, dev):
    x = torch.randn(o["b"], o["n"], device=dev, dtype=DTYPES[o["dtype"]]).abs()
    return {"quantile": lambda: torch.quantile(x, 0.995, dim=1)}


def nearest(o, dev):
    z = torch.randn(o["n"], o["d"], device=dev, dtype=DTYPES[o["dtype"]])
    book = torch.randn(o["k"], o["d"], device=dev, dtype=DTYPES[o["dtype"]])
    return {"cdist.argmin": lambda: torch.cdist(z, book).argmin(1),
            "product.argmin": lambda: torch.addmm(book.square().sum(1), z, book.t(), alpha=-2).argmin(1)}


def var(o, dev):
    x = torch.randn(o["b"], o["n"], device=dev, dtype=DTYPES[o["dtype"]])
    return {"var": lambda: torch.var(x, dim=1)}


def resize(o, dev):
    x = torch.rand(o["b"], o["c"], o["h"], o["w"], device=dev)
    return {"interpolate antialias": lambda: F.interpolate(x, size=(o["to"], o["to"]), mode=o["mode"], antialias=o["mode"] in ("bilinear", "bicubic"))}


OPS = {f.__name__: f for f in (sdpa, eigh, cdist, conv2d, matmul, cov, lincomb, activation, adamw, randn, sort, sort_rows, quantile, nearest, var, resize)}


def parse(spec):
    name, *rest = spec.split()
    opts = dict(item.split("=", 1) for item in rest)
    return name, {k: int(v) if v.lstrip("-").isdigit() else v for k, v in opts.items()}


def measure(spec, clock, device):
    name, opts = parse(spec)
    row = {"all": {}}
    for what, fn in OPS[name](opts, device).items():
        try:
            cold, hot = clock(fn)
        except (RuntimeError, ValueError, TypeError) as err:  # a backend that does not take the shape
            row["all"][what] = str(err).strip().splitlines()[0][:200]
            continue
        row["all"][what] = {"cold_us": cold, "hot_us": hot}
        row["cold_us"] = min(cold, row.get("cold_us", cold))
        if "hot_us" not in row or hot < row["hot_us"]:
            row.update(hot_us=hot, best=what)
    if "best" not in row:
        row["error"] = "no backend takes it"
    return row


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("specs")
    p.add_argument("out")
    p.add_argument("--device", default="cuda")
    p.add_argument("--reps", type=int, default=30)
    a = p.parse_args()
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    clock = Clock(a.device, a.reps)
    rows = {}
    with open(a.specs, encoding="utf-8") as f:
        specs = json.load(f)
    for spec in specs:
        try:
            rows[spec] = measure(spec, clock, a.device)
        except Exception as err:  # one row that cannot be made is no reason to lose the others
            rows[spec] = {"error": f"{type(err).__name__}: {err}".splitlines()[0][:200]}
        print(spec, rows[spec].get("hot_us", rows[spec].get("error")), flush=True)
        if a.device.startswith("cuda"):
            torch.cuda.empty_cache()
    name = torch.cuda.get_device_name() if a.device.startswith("cuda") else "cpu"
    with open(a.out, "w", encoding="utf-8") as f:
        json.dump({"torch": torch.__version__, "device": name, "rows": rows}, f, indent=1)


if __name__ == "__main__":
    main()
