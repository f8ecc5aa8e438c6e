"""Writes what the reference implementations make of some texts, for the Go tests.

    pip install numpy scipy safetensors==0.8.0 tokenizers==0.23.3
    PYTHONPATH=../distil python reference.py CACHE      # the folder with the models, see folder_test.go

wordpiece.json: tokens of BERT's tokenizer. folder.json: tokens and the first numbers of vectors of each model;
builtin.json: vectors' first numbers of table.bin. bert/: a BERT of random numbers, and its vectors.
"""
import json
import struct
import sys
from pathlib import Path

import minilm
import numpy as np
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

here = Path(__file__).parent
cache = Path(sys.argv[1])


def tokenizer(path):
    t = Tokenizer.from_file(str(path))
    t.no_padding()
    t.no_truncation()
    return t


def unit(v):
    return v / max(np.linalg.norm(v), 1e-9)


texts = [c["text"] for c in json.load(open(here / "wordpiece.json"))]
bert = tokenizer(cache / "minilm/tokenizer.json")
json.dump(
    [{"text": t, "tokens": bert.encode(t, add_special_tokens=False).tokens} for t in texts],
    open(here / "wordpiece.json", "w"),
    indent=0,
)

out = {}
t = tokenizer(cache / "wordllama/l2_supercat_tokenizer_config.json")
e = load_file(cache / "wordllama/l2_supercat_256.safetensors")["embedding.weight"].astype(np.float32)
ids = [t.encode(s, add_special_tokens=False).ids for s in texts]
out["wordllama"] = [(i, unit(e[i].sum(0))[:8].tolist()) for i in ids]

t = tokenizer(cache / "tokenlearn/tokenizer.json")
w = load_file(cache / "tokenlearn/model.safetensors")
e, unknown = w["embeddings"].astype(np.float32)[w["mapping"]] * w["weights"][:, None], json.loads(t.to_str())["model"]["unk_id"]
ids = [t.encode(s, add_special_tokens=False).ids for s in texts]
out["tokenlearn"] = [(i, unit(e[[j for j in i if j != unknown]].sum(0))[:8].tolist()) for i in ids]

m = minilm.MiniLM(str(cache / "minilm"))
m.tokenizer.enable_truncation(256)
ids = [m.tokenizer.encode(s).ids for s in texts]
out["minilm"] = [(i, m.embed(np.array([i]))[0][:8].tolist()) for i in ids]
json.dump(
    {n: [{"ids": i, "vector": [round(f, 5) for f in v]} for i, v in r] for n, r in out.items()},
    open(here / "folder.json", "w"),
    separators=(",", ":"),
)

b = open(here.parent / "table.bin", "rb").read()
dim, n, size = struct.unpack("<III", b[8:20])
rank = {w: i for i, w in enumerate(b[20 : 20 + size].decode().split("\n")[:-1])}
scales = np.frombuffer(b, "<f2", n, 20 + size).astype(np.float32)
rows = np.frombuffer(b, np.uint8, n * dim // 2, 20 + size + 2 * n).reshape(n, dim // 2)
rows = (np.concatenate([rows & 15, rows >> 4], 1).astype(np.float32) - 8) * scales[:, None]
ids = [[rank[w] for w in bert.encode(s, add_special_tokens=False).tokens] for s in texts]
json.dump([[round(float(f), 5) for f in unit(rows[i].sum(0))[:8]] for i in ids], open(here / "builtin.json", "w"))

# A small encoder, so that the arithmetic is tested without large files.
rng = np.random.RandomState(1)
dim, grown, layers = 8, 12, 2
minilm.LAYERS, minilm.HEADS, minilm.DIM = layers, 2, dim
words = ["[UNK]", "[CLS]", "[SEP]", "cat", "##s", "dog", ",", "the"]
w = {
    "embeddings.word_embeddings.weight": (len(words), dim),
    "embeddings.position_embeddings.weight": (9, dim),
    "embeddings.token_type_embeddings.weight": (2, dim),
    "embeddings.LayerNorm": dim,
}
for i in range(layers):
    p = f"encoder.layer.{i}."
    for name, out, into in [(f"attention.self.{s}", dim, dim) for s in ("query", "key", "value")] + [
        ("attention.output.dense", dim, dim),
        ("intermediate.dense", grown, dim),
        ("output.dense", dim, grown),
    ]:
        w[p + name + ".weight"], w[p + name + ".bias"] = (out, into), (out,)
    w[p + "attention.output.LayerNorm"] = w[p + "output.LayerNorm"] = dim
for name, shape in list(w.items()):
    if isinstance(shape, int):
        del w[name]
        w[name + ".weight"], w[name + ".bias"] = (shape,), (shape,)
w = {name: rng.randn(*shape).astype(np.float32) for name, shape in w.items()}
(here / "bert").mkdir(exist_ok=True)
save_file(w, here / "bert/model.safetensors")
f = json.loads(bert.to_str())
f["model"]["vocab"] = {t: i for i, t in enumerate(words)}
f["added_tokens"] = []
f["post_processor"] = None
json.dump(f, open(here / "bert/tokenizer.json", "w"), indent=1)
json.dump(
    {"model_type": "bert", "hidden_act": "gelu", "num_attention_heads": 2, "num_hidden_layers": layers, "layer_norm_eps": 1e-12},
    open(here / "bert/config.json", "w"),
)
m = minilm.MiniLM(str(here / "bert"))
# The last one has more tokens than there are positions.
texts = ["cat", "the dogs", "the cats, the dog", "Cats cats cats dog cats cats, the dog"]
ids = [[1] + m.tokenizer.encode(t).ids[:7] + [2] for t in texts]
json.dump(
    [{"text": t, "vector": [round(float(f), 6) for f in m.embed(np.array([i]))[0]]} for t, i in zip(texts, ids)],
    open(here / "bert/expected.json", "w"),
    indent=0,
)
