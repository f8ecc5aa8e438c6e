"""all-MiniLM-L6-v2 in numpy: the teacher. Writes its vectors of all tokens and of a file's lines.

    python minilm.py MODEL_FOLDER sentences.txt out.npz
"""
import sys

import numpy as np
from safetensors.numpy import load_file
from scipy.special import erf
from tokenizers import Tokenizer

LAYERS, HEADS, DIM = 6, 12, 384


class MiniLM:
    def __init__(self, folder):
        self.w = load_file(f"{folder}/model.safetensors")
        self.tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(128)

    def linear(self, x, name):
        return x @ self.w[name + ".weight"].T + self.w[name + ".bias"]

    def norm(self, x, name):
        x = x - x.mean(-1, keepdims=True)
        x /= np.sqrt((x * x).mean(-1, keepdims=True) + np.float32(1e-12))
        return x * self.w[name + ".weight"] + self.w[name + ".bias"]

    def embed(self, ids):
        """Vectors of length 1 of texts of the same number of tokens."""
        b, t = ids.shape
        x = self.w["embeddings.word_embeddings.weight"][ids]
        x = x + self.w["embeddings.position_embeddings.weight"][:t] + self.w["embeddings.token_type_embeddings.weight"][0]
        x = self.norm(x, "embeddings.LayerNorm")
        for n in range(LAYERS):
            p = f"encoder.layer.{n}."
            q, k, v = (
                self.linear(x, f"{p}attention.self.{s}").reshape(b, t, HEADS, -1).transpose(0, 2, 1, 3)
                for s in ("query", "key", "value")
            )
            a = q @ k.transpose(0, 1, 3, 2) / np.float32((DIM / HEADS) ** 0.5)
            a = np.exp(a - a.max(-1, keepdims=True))
            a /= a.sum(-1, keepdims=True)
            o = (a @ v).transpose(0, 2, 1, 3).reshape(b, t, DIM)
            x = self.norm(x + self.linear(o, p + "attention.output.dense"), p + "attention.output.LayerNorm")
            h = self.linear(x, p + "intermediate.dense")
            h *= np.float32(0.5) * (1 + erf(h * np.float32(2**-0.5)))
            x = self.norm(x + self.linear(h, p + "output.dense"), p + "output.LayerNorm")
        y = x.mean(1)
        return y / np.linalg.norm(y, axis=1, keepdims=True)

    def vocabulary(self):
        """The vector of each token as a text of its own."""
        n = len(self.w["embeddings.word_embeddings.weight"])
        ids = np.stack([np.full(n, 101), np.arange(n), np.full(n, 102)], 1)
        return np.concatenate([self.embed(ids[a : a + 512]) for a in range(0, n, 512)])

    def encode(self, texts):
        ids = [e.ids for e in self.tokenizer.encode_batch(texts)]
        groups = {}
        for i, t in enumerate(ids):
            groups.setdefault(len(t), []).append(i)
        out = np.zeros((len(texts), DIM), np.float32)
        for n in sorted(groups):
            step = max(1, 1024 // n)
            for a in range(0, len(groups[n]), step):
                g = groups[n][a : a + step]
                out[g] = self.embed(np.array([ids[i] for i in g]))
        return out


if __name__ == "__main__":
    folder, sentences, out = sys.argv[1:]
    model = MiniLM(folder)
    np.savez(out, tokens=model.vocabulary(), sentences=model.encode(open(sentences).read().splitlines()))
