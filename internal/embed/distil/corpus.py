"""Sentences to fit the table to. Prints one a line.

All sources are free and on any Debian machine: WordNet's definitions, examples and synonyms, sentences made
from templates with WordNet's common words, the doc comments of Go's standard library, the docstrings of
Python's, and the descriptions of Debian's packages.
"""
import argparse
import ast
import glob
import hashlib
import os
import random
import re
import subprocess
import sysconfig

# The number of sentences of each source, at most.
DEFINITIONS, EXAMPLES, SYNONYMS, CHATS, GO, PYTHON, DEBIAN = 14000, 12000, 3000, 16000, 8000, 5000, 10000

# Slots are names of WordNet's lexicographer files.
TEMPLATES = """
I went to the {noun.location} with my {kin} {when}.
I bought a {noun.artifact} for my {kin} {when}, it was {adj}!
We had {noun.food} and {noun.food} for dinner {when}.
My {kin} loves {noun.animal}s, so we got one {when}.
What did your {kin} say about the {noun.artifact}?
When did you {verb.motion} to the {noun.location}?
How was the {noun.event}? I heard it was {adj}.
I feel so much {noun.feeling} about the {noun.event}.
Thanks! I have been working on my {noun.cognition} {when}.
That sounds {adj}! How long have you been doing {noun.act}?
I started a new job as a {noun.person} {when}.
My {kin} is a {noun.person} and works with {noun.artifact}s.
Which {noun.communication} did the {noun.person} {verb.communication}?
We talked about {noun.cognition} and {noun.state} {when}.
I am planning a {noun.event} for my {kin} next {period}.
Here is a photo of a {noun.object} and a {noun.animal} near the {noun.artifact}.
Where did the {noun.person} find the {noun.artifact}?
The {noun.person} decided to {verb.change} the {noun.possession} because of {noun.state}.
I have been reading about {noun.phenomenon} and {noun.plant}s lately.
It helps me with {noun.feeling} when I {verb.body}.
Let me {verb.contact} the {noun.artifact} first, then {verb.creation} a {noun.communication}.
Wow, {adj} {noun.artifact}! Did you {verb.creation} it yourself?
Who gave the {noun.person} a {noun.possession} {when}?
Our {noun.group} met in {noun.location} to {verb.social} the {noun.act}.
The {noun.body} of my {kin} hurts, so we went to see a {noun.person}.
""".strip().splitlines()
WORDS = {
    "kin": "mother father sister brother son daughter wife husband friend boss neighbour cousin grandmother "
    "grandfather aunt uncle kids family teacher partner team dog".split(),
    "when": "yesterday|today|last week|last month|last year|last Friday|two days ago|this morning|in summer|in 2022|"
    "on my birthday|over the weekend|recently|tomorrow|next week|for years".split("|"),
    "period": "week month summer year weekend spring Saturday".split(),
}
LEXNAMES = """adj.all adj.pert adv.all noun.Tops noun.act noun.animal noun.artifact noun.attribute noun.body
noun.cognition noun.communication noun.event noun.feeling noun.food noun.group noun.location noun.motive noun.object
noun.person noun.phenomenon noun.plant noun.possession noun.process noun.quantity noun.relation noun.shape noun.state
noun.substance noun.time verb.body verb.change verb.cognition verb.communication verb.competition verb.consumption
verb.contact verb.creation verb.emotion verb.motion verb.perception verb.possession verb.social verb.stative
verb.weather adj.ppl""".split()


def wordnet(folder):
    """Gives definitions, examples, synonyms and, by lexicographer file, words with how often they were counted."""
    counts = {}
    for line in open(f"{folder}/cntlist.rev"):
        key, _, n = line.split()
        lemma, sense = key.split("%")
        file = LEXNAMES[int(sense.split(":")[1])]
        counts[lemma, file] = counts.get((lemma, file), 0) + int(n)
    definitions, examples, synonyms, words = [], [], [], {}
    for part in ("noun", "verb", "adj", "adv"):
        for line in open(f"{folder}/data.{part}"):
            if line.startswith(" "):
                continue
            head, _, gloss = line.partition(" | ")
            f = head.split()
            lemmas = [re.sub(r"\(.*", "", w).replace("_", " ") for w in f[4 : 4 + 2 * int(f[3], 16) : 2]]
            quoted = re.findall(r'"([^"]+)"', gloss)
            text = re.split(r'; "', gloss)[0].strip()
            definitions.append(f"{lemmas[0]}: {text}")
            examples += [q for q in quoted if len(q.split()) > 3]
            if len(lemmas) > 2:
                synonyms.append(", ".join(lemmas))
            file = LEXNAMES[int(f[1])]
            for w in lemmas:
                if n := counts.get((w.lower().replace(" ", "_"), file)):
                    words.setdefault("adj" if file == "adj.all" else file, {})[w] = n
    return definitions, examples, synonyms, words


def chats(words, rng, n):
    """Sentences as people write them: a template, or two, with common words at random."""

    def fill(slot):
        if w := WORDS.get(slot[1]):
            return rng.choice(w)
        w = words[slot[1]]
        # The square root lets the many rarer words come up as well.
        return rng.choices(list(w), [c**0.5 for c in w.values()])[0]

    for _ in range(n):
        yield " ".join(re.sub(r"\{([\w.]+)\}", fill, t) for t in rng.sample(TEMPLATES, rng.choice((1, 1, 2))))


def go_comments():
    root = subprocess.check_output(["go", "env", "GOROOT"], text=True).strip()
    for path in sorted(glob.glob(f"{root}/src/**/*.go", recursive=True)):
        if "/testdata/" in path or "/vendor/" in path:
            continue
        for block in re.findall(r"(?:^// .*\n)+", open(path, errors="replace").read(), re.M):
            yield re.sub(r"\n?// ?", " ", block)


def docstrings():
    for path in sorted(glob.glob(sysconfig.get_path("stdlib") + "/**/*.py", recursive=True)):
        if "site-packages" in path or "/test" in path:
            continue
        try:
            tree = ast.parse(open(path, errors="replace").read())
        except (SyntaxError, ValueError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Module)) and (d := ast.get_docstring(node)):
                yield d


def debian():
    for block in subprocess.check_output(["apt-cache", "dumpavail"], text=True).split("\n\n"):
        if m := re.search(r"^Description(?:-en)?: (.*(?:\n .*)*)", block, re.M):
            yield m[1].replace("\n .\n", " ").replace("\n", " ")


def pieces(texts, rng, n):
    """One to three sentences of a text, 20 to 300 characters; n texts at most, each once."""
    out = set()
    for t in sorted(set(texts), key=lambda t: hashlib.sha1(t.encode()).digest()):
        s = re.split(r"(?<=[.!?]) +", " ".join(t.split()))
        i = rng.randrange(len(s))
        p = " ".join(s[i : i + rng.randint(1, 3)])[:300]
        if len(p) >= 20:
            out.add(p)
        if len(out) == n:
            break
    return sorted(out)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("wordnet", help="folder with data.noun and the like (Debian: wordnet-base)")
    a = p.parse_args()
    rng = random.Random(1)
    definitions, examples, synonyms, words = wordnet(a.wordnet)
    out = rng.sample(definitions, DEFINITIONS) + rng.sample(examples, EXAMPLES) + rng.sample(synonyms, SYNONYMS)
    out += chats(words, rng, CHATS)
    out += pieces(go_comments(), rng, GO) + pieces(docstrings(), rng, PYTHON) + pieces(debian(), rng, DEBIAN)
    rng.shuffle(out)
    print("\n".join(" ".join(s.split()) for s in out))


if __name__ == "__main__":
    main()
