"""Writes diffusion/testdata/golden/twolevel.json, the noise levels of the two-level
grid, from the formulas alone, in decimals of 50 digits. Run from the repository's
root with any Python 3; nothing but the standard library is used:

    python scripts/golden/twolevel.py

sigma_j = sqrt((1-abar_j)/abar_j) of a table of betas, j = 0..T-1. A curve of rho
from hi to lo has the values (hi^(1/rho) + i/(n-1)*(lo^(1/rho) - hi^(1/rho)))^rho.

 1. S is the curve of base_rho through base levels from sigma_{T-1} to sigma_0.
 2. The times of S[0] and S[cut] lie between the table's entries by ln sigma.
 3. steps+1 times between them follow the curve of respace_rho, in time.
 4. The level of a time lies between the table's entries by abar.
"""
import json
from decimal import Decimal as D, getcontext

getcontext().prec = 50
OUT = "diffusion/testdata/golden/twolevel.json"


def scaled_linear(n, first, last):
    a, b = D(first).sqrt(), D(last).sqrt()
    return [(a + (b - a) * i / (n - 1)) ** 2 for i in range(n)]


def linear(n, first, last):
    a, b = D(first), D(last)
    return [a + (b - a) * i / (n - 1) for i in range(n)]


def table(betas):
    abar, out = D(1), []
    for beta in betas:
        abar *= 1 - beta
        out.append(abar)
    return out


def level(abar):
    return ((1 - abar) / abar).sqrt()


def curve(n, hi, lo, rho):
    r = 1 / D(rho)
    a, b = hi ** r, lo ** r
    return [(a + (b - a) * i / (n - 1)) ** D(rho) for i in range(n)]


def time_by_log(abars, sigma):
    logs = [level(a).ln() for a in abars]
    s = min(max(sigma.ln(), logs[0]), logs[-1])  # a curve's end may miss the table's by its last digit
    for j in range(len(logs) - 1):
        if logs[j] <= s <= logs[j + 1]:
            return j + (s - logs[j]) / (logs[j + 1] - logs[j])
    raise ValueError(sigma)


def level_by_abar(abars, t):
    t = min(max(t, D(0)), D(len(abars) - 1))
    j = min(int(t), len(abars) - 2)
    w = t - j
    return level((1 - w) * abars[j] + w * abars[j + 1])


def two_level(abars, steps, base, base_rho, cut, respace_rho):
    s = curve(base, level(abars[-1]), level(abars[0]), base_rho)
    start, end = time_by_log(abars, s[0]), time_by_log(abars, s[cut])
    times = curve(steps + 1, start, end, respace_rho)
    return s, times, [level_by_abar(abars, t) for t in times]


TABLES = {
    "vp-scaled": scaled_linear(1000, "0.00085", "0.012"),
    "vp": linear(1000, "0.0001", "0.02"),
}
CASES = [  # name, table, steps, base, base_rho, cut, respace_rho
    ("f5", "vp-scaled", 5, 8, "5", 6, "1.2"),
    ("f6", "vp-scaled", 6, 8, "5", 6, "1.2"),
    ("f8", "vp-scaled", 8, 12, "7", 9, "1.2"),
    ("f8-sdxl", "vp-scaled", 8, 12, "12", 10, "1.2"),
    ("", "vp-scaled", 8, 12, "7", 8, "1.2"),
    ("", "vp-scaled", 8, 12, "12", 9, "1.2"),
    ("", "vp-scaled", 7, 12, "10", 7, "1.2"),
    ("", "vp-scaled", 4, 12, "10", 4, "1.2"),
    ("", "vp-scaled", 1, 8, "5", 1, "1.2"),
    ("", "vp-scaled", 6, 8, "5", 7, "1"),
    ("", "vp-scaled", 20, 30, "3", 22, "2.5"),
    ("f5", "vp", 5, 8, "5", 6, "1.2"),
    ("f8", "vp", 8, 12, "7", 9, "1.2"),
]


def main():
    out = []
    for name, path, steps, base, base_rho, cut, rho in CASES:
        s, times, sigmas = two_level(table(TABLES[path]), steps, base, base_rho, cut, rho)
        out.append({
            "rule": name, "path": path, "steps": steps, "base": base, "base_rho": float(base_rho), "cut": cut, "respace_rho": float(rho),
            "base_sigmas": [float(v) for v in s], "times": [float(v) for v in times], "sigmas": [float(v) for v in sigmas],
        })
    with open(OUT, "w") as f:
        json.dump({"made_by": "scripts/golden/twolevel.py", "cases": out}, f, indent=1)
        f.write("\n")


main()
