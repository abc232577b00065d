"""Measure the recall of supporting passages of scout, and its difference to other rankings of the same passages.

    $ python research/index_recall.py --data hotpotqa/validation.jsonl --offset 100 --rivals rivals/val.json

`--rivals` is a file of `research/rivals.py`. Intervals are 95 %, by bootstrap over questions; differences are paired.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tqdm import tqdm

from at2_prune import AT2Pruner, LanguageModel, load_questions
from at2_prune.bootstrap import bootstrap_difference, bootstrap_mean
from at2_prune.pruning.selection import top_k

KS = (1, 2, 3, 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--offset", type=int, default=0)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--methods", nargs="+", default=["scout"])
    parser.add_argument("--model", help="the scoring model; by default the embedded one")
    parser.add_argument("--coefficients", help="for the first method; by default those in the package")
    parser.add_argument("--rivals", type=Path)
    args = parser.parse_args()
    questions = [q for q in load_questions(args.data, offset=args.offset, limit=args.limit) if q.gold]
    rankings: dict[str, list[list[int]]] = {}
    model: LanguageModel | str | None = args.model
    for place, method in enumerate(args.methods):
        own = args.coefficients if place == 0 else None
        pruner = AT2Pruner.from_pretrained(model, own, method=method)
        model = pruner.language_model
        scores = [pruner.score(q.text, q.passages) for q in tqdm(questions, desc=method)]
        rankings[method] = [top_k(some, len(some), "score") for some in scores]
    if args.rivals:
        known = json.loads(args.rivals.read_text(encoding="utf-8"))
        for name in next(iter(known.values())):
            rankings[name] = [known[q.id][name] for q in questions]
    print(f"{args.data}, {len(questions)} questions from {args.offset} on; recall of supporting passages")
    base = args.methods[0]
    for k in KS:
        recall = {
            name: [len({*q.gold} & {*order[:k]}) / len(q.gold) for q, order in zip(questions, orders, strict=True)]
            for name, orders in rankings.items()
        }
        for name, values in recall.items():
            paired = "" if name == base else f"   {base} less {name} {bootstrap_difference(recall[base], values)}"
            print(f"@{k} {name:<16}{bootstrap_mean(values)}{paired}", flush=True)
    compared = [i for i, q in enumerate(questions) if q.kind == "comparison"]
    for name, orders in rankings.items():
        if compared:
            three = [len({*questions[i].gold} & {*orders[i][:3]}) / len(questions[i].gold) for i in compared]
            print(f"comparison questions @3 {name:<16}{bootstrap_mean(three)}")


if __name__ == "__main__":
    main()
