"""A worker of the scenario others for Python: worker.py ADAPTER.

The protocol is described in others_protocol.go.
"""

import json
import os
import random
import re
import sys
import threading
import time
import uuid
import zlib

DIMENSIONS = 384


def embed(text):
    """An embedding that needs no model: words by their hashes, and the sum at length 1."""
    v = [0.0] * DIMENSIONS
    for word in re.findall("[a-z0-9]+", text.lower()):
        h = zlib.crc32(word.encode())
        v[(h >> 1) % DIMENSIONS] += 1 if h & 1 else -1
    length = sum(x * x for x in v) ** 0.5 or 1
    return [x / length for x in v]


def text_of(e):
    return "\n".join([e["task"], e["words"], e["out"]])


def must(ok, what):
    if not ok:
        raise RuntimeError(what)


class LangGraph:
    """SqliteStore: an item holds an episode, and is written whole each time; vectors are of its texts."""

    NAMESPACE = ("agent", "episodes")

    def __init__(self, target, known):
        from langgraph.store.sqlite import SqliteStore

        index = {"dims": DIMENSIONS, "embed": lambda texts: [embed(t) for t in texts], "fields": ["text"]}
        self.opened = SqliteStore.from_conn_string(os.path.join(target, "memory.db"), index=index)
        self.store = self.opened.__enter__()
        self.store.setup()

    def value(self, e, doc):
        return {"text": text_of(e), "episode": doc}

    def add(self, episodes):
        from langgraph.store.base import PutOp

        self.store.batch([PutOp(self.NAMESPACE, e["id"], self.value(e, e["episode"])) for e in episodes])

    def put(self, e):
        self.store.put(self.NAMESPACE, str(uuid.uuid4()), self.value(e, e["episode"]))

    def life(self, e):
        key, words = str(uuid.uuid4()), ""
        doc = {k: v for k, v in e["episode"].items() if k not in ("outcome", "end", "reward", "reflection")}
        doc["steps"] = []
        self.store.put(self.NAMESPACE, key, self.value({**e, "words": "", "out": ""}, doc))
        for step in e["episode"]["steps"]:
            doc["steps"].append(step)
            words += step["tool"] + " " + step.get("action", "") + "\n"
            self.store.put(self.NAMESPACE, key, self.value({**e, "words": words, "out": ""}, doc))
        self.store.put(self.NAMESPACE, key, self.value(e, e["episode"]))

    def get(self, key):
        item = self.store.get(self.NAMESPACE, key)
        must(item is not None and item.key == key, "no item " + key)

    def list(self, n):
        found = self.store.search(self.NAMESPACE, limit=n)
        must(len(found) == n, f"listed {len(found)} items, not {n}")

    def search(self, words):
        must(self.store.search(self.NAMESPACE, query=" ".join(words), limit=10), f"nothing found for {words}")

    def close(self):
        self.opened.__exit__(None, None, None)


class Mem0:
    """Memory without a language model (infer=False): a memory is a text with its episode as metadata.

    A life has a memory for each step, under one run_id. The ids are its own.
    """

    def __init__(self, target, known):
        os.environ.update(MEM0_TELEMETRY="False", MEM0_DIR=target, OPENAI_API_KEY="unused")
        from mem0 import Memory
        from mem0.embeddings.base import EmbeddingBase

        class Hashes(EmbeddingBase):
            def embed(self, text, memory_action=None):
                return embed(text)

        self.memory = Memory.from_config({
            "vector_store": {"provider": "qdrant", "config": {"path": os.path.join(target, "qdrant"), "on_disk": True, "embedding_model_dims": DIMENSIONS}},
            "history_db_path": os.path.join(target, "history.db"),
        })
        self.memory.embedding_model = Hashes()
        self.filters = {"user_id": "agent"}
        self.ids = [m["id"] for m in self.memory.get_all(filters=self.filters, top_k=len(known["ids"]))["results"]]

    def add(self, episodes):
        for e in episodes:
            self.put(e)

    def put(self, e):
        self.memory.add(text_of(e), user_id="agent", infer=False, metadata={"episode": json.dumps(e["episode"])})

    def life(self, e):
        run = str(uuid.uuid4())
        for text in [e["task"], *(json.dumps(s) for s in e["episode"]["steps"]), e["out"] or e["outcome"]]:
            self.memory.add(text, user_id="agent", run_id=run, infer=False)

    def get(self, _):
        key = random.choice(self.ids)
        found = self.memory.get(key)
        must(found and found["id"] == key, "no memory " + key)
        json.loads(found["metadata"]["episode"])

    def list(self, n):
        found = self.memory.get_all(filters=self.filters, top_k=n)["results"]
        must(len(found) == n, f"listed {len(found)} memories, not {n}")

    def search(self, words):
        found = self.memory.search(" ".join(words), filters=self.filters, top_k=10, threshold=0.0)["results"]
        must(found, f"nothing found for {words}")

    def close(self):
        self.memory.close()


class Worker:
    ADAPTERS = {"langgraph": LangGraph, "mem0": Mem0}

    def __init__(self):
        self.next = 0
        self.operations = {
            "put": lambda: self.memory.put(self.of(self.put_pool)),
            "life": lambda: self.memory.life(self.of(self.life_pool)),
            "get": lambda: self.memory.get(random.choice(self.known["ids"])),
            "list": lambda: self.memory.list(self.known["list"]),
            "search": lambda: self.memory.search(random.sample(self.known["words"], 3)),
        }

    def of(self, pool):
        self.next += 1
        return pool[self.next % len(pool)]

    def answer(self, call):
        op = call["op"]
        if op == "open":
            os.makedirs(call["target"], exist_ok=True)
            with open(os.path.join(call["data"], f"known-{call['episodes']}.json")) as f:
                self.known = json.load(f)
            self.memory = self.ADAPTERS[sys.argv[1]](call["target"], self.known)
            self.put_pool, self.life_pool = lines(call, "put"), lines(call, "life")
            return {}
        if op == "fill":
            episodes = lines(call, "fill")[: call["episodes"]]
            for i in range(0, len(episodes), 100):
                self.memory.add(episodes[i : i + 100])
            return {"done": len(episodes)}
        if op == "close":
            self.memory.close()
            return {}
        return measure(self.operations[op], call["callers"], call["window_ms"] / 1000)


def lines(call, name):
    with open(os.path.join(call["data"], name + ".jsonl")) as f:
        return [json.loads(line) for line in f]


def measure(operation, callers, window):
    """Lets so many callers do an operation until the window is over."""
    answer = {"done": 0.0, "latencies_us": [], "failed": 0}
    lock = threading.Lock()
    end = time.perf_counter() + window

    def one():
        begin = time.perf_counter()
        while begin < end:
            failure = None
            try:
                operation()
            except Exception as e:
                failure = e
            now = time.perf_counter()
            with lock:
                if failure is None:
                    answer["latencies_us"].append(round(1e6 * (now - begin)))
                    answer["done"] += min(1, (end - begin) / (now - begin))
                else:
                    answer["failed"] += 1
                    answer.setdefault("error", repr(failure)[:300])
            begin = now

    threads = [threading.Thread(target=one) for _ in range(callers)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return answer


def main():
    out, sys.stdout = sys.stdout, sys.stderr  # the standard output is for answers
    worker = Worker()
    for line in sys.stdin:
        call = json.loads(line)
        try:
            result = worker.answer(call)
        except Exception as e:
            result = {"failed": 1, "error": repr(e)[:300]}
        print(json.dumps(result), file=out, flush=True)
        if call["op"] == "close":
            return


main()
