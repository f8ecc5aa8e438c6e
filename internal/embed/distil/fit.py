"""Fits a vector for each token to the teacher's vectors of sentences, and writes the table.

    python fit.py MODEL_FOLDER DIM out.bin SENTENCES.txt VECTORS.npz [SENTENCES.txt VECTORS.npz ...]

A sentence's vector is the sum of its tokens' vectors, scaled to length 1. The start is the teacher's vector of each
token alone, weighted by a / (a + frequency) (smooth inverse frequency, Arora et al. 2017) and projected on the
main components of the sentences. From there least squares, ridged towards the start, lead to the teacher's vectors;
the lengths of the sums are held fixed meanwhile, so that it is done in rounds.
"""
import struct
import sys

import numpy as np
import scipy.sparse as sparse
from tokenizers import Tokenizer

A, RIDGE, ROUNDS, STEPS, HELD = 1e-3, 10, 4, 12, 2000


def unit(x):
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-9)


def read(tokenizer, files):
    """How often each sentence has each token; the teacher's vectors of the sentences and of the tokens."""
    texts, vectors = [], []
    for sentences, npz in zip(files[::2], files[1::2]):
        texts += open(sentences).read().splitlines()
        data = np.load(npz)
        vectors.append(data["sentences"])
    ids = [e.ids for e in tokenizer.encode_batch(texts, add_special_tokens=False)]
    tokens = data["tokens"]
    counts = sparse.csr_matrix(
        (np.ones(sum(map(len, ids)), np.float32), np.concatenate(ids), np.cumsum([0] + [len(i) for i in ids])),
        shape=(len(ids), len(tokens)),
    )
    counts.sum_duplicates()
    return counts, np.concatenate(vectors), tokens


def solve(x, b, ridge, steps):
    """Conjugate gradients for (x'x + ridge) d = b, column by column at once."""
    xt = x.T.tocsr()
    d, r = np.zeros_like(b), b
    p, rr = r, (r * r).sum(0)
    for _ in range(steps):
        ap = xt @ (x @ p) + ridge * p
        alpha = rr / np.maximum((p * ap).sum(0), 1e-20)
        d, r = d + alpha * p, r - alpha * ap
        new = (r * r).sum(0)
        p, rr = r + new / np.maximum(rr, 1e-20) * p, new
    return d


def fit(counts, targets, tokens, dim):
    held, held_targets = counts[:HELD], unit(targets[:HELD])
    counts, targets = counts[HELD:], targets[HELD:]
    frequency = np.asarray(counts.sum(0)).ravel() + 0.3
    frequency /= frequency.sum()
    _, components = np.linalg.eigh((targets.T @ targets).astype(np.float64))
    components = components[:, ::-1][:, :dim].astype(np.float32)
    targets = unit(targets @ components)
    table = (A / (A + frequency)).astype(np.float32)[:, None] * ((tokens - tokens.mean(0)) @ components)
    for _ in range(ROUNDS):
        scale = (1 / np.maximum(np.linalg.norm(counts @ table, axis=1), 1e-9)).astype(np.float32)
        x = sparse.diags(scale) @ counts
        table = table + solve(x, x.T @ (targets - x @ table), np.float32(RIDGE * (scale**2).mean()), STEPS)
        s = unit(held @ table)
        print("held-out cosine to the teacher %.4f" % ((s @ components.T) * held_targets).sum(1).mean(), flush=True)
    # PCA's first numbers are the largest. A random rotation makes them alike, so that 4 bits serve all equally.
    return table @ np.linalg.qr(np.random.RandomState(1).randn(dim, dim))[0].astype(np.float32)


def quantize(table):
    """Numbers from -7 to 7 and a scale for each row, the best of some."""
    largest = np.abs(table).max(1, keepdims=True)
    best, error = None, np.full((len(table), 1), np.inf)
    for share in np.linspace(0.5, 1, 26):
        scale = (largest * share / 7 + 1e-7).astype(np.float16).astype(np.float32)
        q = np.clip(np.round(table / scale), -7, 7)
        e = ((q * scale - table) ** 2).sum(1, keepdims=True)
        if best is None:
            best, scales = q, scale
        best, scales, error = np.where(e < error, q, best), np.where(e < error, scale, scales), np.minimum(e, error)
    return best.astype(np.int8), scales


def write(path, vocabulary, q, scales):
    """The file that internal/embed/table.go describes."""
    words = "".join(w + "\n" for w in vocabulary).encode()
    with open(path, "wb") as f:
        f.write(b"epstatic" + struct.pack("<III", q.shape[1], len(vocabulary), len(words)) + words)
        f.write(scales.astype("<f2").tobytes())
        half = q.shape[1] // 2
        f.write(((q[:, :half] + 8) | (q[:, half:] + 8) << 4).astype(np.uint8).tobytes())


def main():
    folder, dim, out = sys.argv[1:4]
    tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
    tokenizer.no_padding()
    tokenizer.enable_truncation(126)  # the teacher's 128 have two more, which mark start and end
    table = fit(*read(tokenizer, sys.argv[4:]), int(dim))
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda w: w[1])
    # The rest are markers that no text has. Unknown words, the first row, say nothing.
    kept = [i for w, i in vocabulary if not (w.startswith("[") and len(w) > 1)]
    q, scales = quantize(np.concatenate([np.zeros((1, int(dim)), np.float32), table[kept]]))
    write(out, ["[UNK]"] + [vocabulary[i][0] for i in kept], q, scales)


if __name__ == "__main__":
    main()
