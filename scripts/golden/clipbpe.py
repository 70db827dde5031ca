"""Writes testdata/golden/extract/bpe.txt, a small table of merges learnt from the texts below, and bpe.json, what OpenAI's
tokenizer makes of texts with it. Needs ftfy, regex and a checkout of openai/CLIP; with the published table as well, prints how
many of the texts fidlab's tokenizer (TestBPEPublished, FIDLAB_BPE) must agree on:

    python scripts/golden/clipbpe.py CLIP
"""
import collections
import gzip
import json
import os
import sys
import tempfile

sys.path.insert(0, sys.argv[1])
from clip.simple_tokenizer import SimpleTokenizer, bytes_to_unicode  # noqa: E402

LEARN = """a photo of a red circle above the blue square in the morning light
two small dogs and one cat are sitting on the green grass near the house
the painting shows a woman with a hat, it's raining and they're walking; we'll see what he'd say
a photo depicts the largest triangle, a photo depicts the smallest star in the picture"""

TEXTS = [
    "a photo of a cat", "A Photo Depicts  the RED circle!", "it's, they're, I'm, we'll, he'd, you've, don't", "3 dogs and 12 cats in 2024",
    "hello   world\n\ttabs", "caf\u00e9 na\u00efve \u00fcber", "cafe\u0301 composed", "\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8", "emoji \U0001F600\U0001F680 and more...",
    "quotes \u201cdouble\u201d and \u2018single\u2019", "it\u2019s curly", "&lt;b&gt; &amp;amp; &quot;html&quot;", "<b>&amp; tag</b>", "\ufb01ne o\ufb03ce \ufb06ar",
    "\uff26\uff55\uff4c\uff4c \uff57\uff49\uff44\uff54\uff48\uff01", "\u0391\u03a3 \u039f\u03a3\u039f\u03a3 \u03a3", "\u0130stanbul", "<|startoftext|>x<|endoftext|>", "!!! ... ???",
    "semi;colon:and/slash\\back_under-score", "x\u00b2 \u00bd \u2460 \u0663", "''s 't's", "zero\u200bwidth and bom\ufeff", "bell\x07 and null\x00", "line\u2028sep",
    "", " ", "a", "\u00df\u1e9e STRASSE", "\u0915\u094d\u0937 marks", "na\u00efve\u2026 dots", "50% off $9.99 #tag @user", "\u1fb3 \u01c5",
]


def learn(n):
    enc = bytes_to_unicode()
    words = collections.Counter(w for line in LEARN.split("\n") for w in line.replace(",", " ,").replace(";", " ;").split())
    words = {tuple([enc[b] for b in w.encode()[:-1]] + [enc[w.encode()[-1]] + "</w>"]): c for w, c in words.items()}
    merges = []
    for _ in range(n):
        pairs = collections.Counter()
        for w, c in words.items():
            for p in zip(w, w[1:]):
                pairs[p] += c
        if not pairs:
            break
        best = max(pairs, key=lambda p: (pairs[p], p))
        merges.append(best)
        out = {}
        for w, c in words.items():
            v, i = [], 0
            while i < len(w):
                if w[i:i + 2] == best:
                    v.append(w[i] + w[i + 1])
                    i += 2
                else:
                    v.append(w[i])
                    i += 1
            out[tuple(v)] = c
        words = out
    return merges


def main():
    out = "testdata/golden/extract/"
    table = "#version: 0.2, learnt by scripts/golden/clipbpe.py\n" + "".join(f"{a} {b}\n" for a, b in learn(200))
    with open(out + "bpe.txt", "w") as f:
        f.write(table)
    with tempfile.TemporaryDirectory() as d:
        path = os.path.join(d, "t.gz")
        with gzip.open(path, "wb") as f:
            f.write(table.rstrip("\n").encode())
        small = SimpleTokenizer(path)
    large = SimpleTokenizer()
    cases = [{"text": t, "ids": small.encode(t), "published": large.encode(t)} for t in TEXTS]
    with open(out + "bpe.json", "w") as f:
        json.dump({"begin": small.encoder["<|startoftext|>"], "end": small.encoder["<|endoftext|>"], "symbols": len(small.encoder), "cases": cases}, f,
                  separators=(",", ":"))
        f.write("\n")
    print(len(cases), "texts,", len(small.encoder), "symbols")


main()
