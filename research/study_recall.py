"""Measure the recall of supporting passages of a study's rankings, by data set and pooled.

    $ at2-prune study research/study.yaml --out runs/study --stage rank
    $ python research/study_recall.py runs/study --skip hotpotqa=100
    $ python research/study_recall.py runs/study --skip hotpotqa=100 --from hotpotqa/validation.jsonl --type comparison

Intervals are 95 %, by bootstrap over questions. Pooled intervals resample questions within each data set. Differences
are paired. `--skip` leaves out the first questions of a data set, for example those on which a method was chosen.
`--type` keeps questions of these types, which the files of `--from` name.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from at2_prune.bootstrap import bootstrap_pooled
from at2_prune.datasets import load_questions

KS = (1, 2, 3, 4, 5)
Values = dict[str, list[float]]
"""The recall of each question, by data set."""


def lines(file: Path) -> list[dict[str, Any]]:
    return [record for record in map(json.loads, file.read_text(encoding="utf-8").splitlines()) if "id" in record]


def recall(rankings: dict[str, list[int]], questions: Sequence[dict[str, Any]], k: int) -> list[float]:
    """Return the share of each question's supporting passages among its best k."""
    return [len({*q["gold"]} & {*rankings[q["id"]][:k]}) / len(q["gold"]) for q in questions]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="the folder of a study")
    parser.add_argument("--subject", default="scout", help="the method that the others are compared with")
    parser.add_argument("--skip", nargs="+", default=[], metavar="DATA=N")
    parser.add_argument("--from", dest="files", nargs="+", default=[], metavar="FILE", help="files of questions")
    parser.add_argument("--type", dest="types", nargs="+", metavar="TYPE", help="types of question, as in HotpotQA")
    args = parser.parse_args()
    ids = {question.id for file in args.files for question in load_questions(file, kinds=args.types)}
    skipped = {name: int(count) for name, _, count in (one.partition("=") for one in args.skip)}
    questions = {}
    for file in sorted((args.study / "questions").glob("*.jsonl")):
        some = [question for question in lines(file) if question["gold"]]
        some = [question for question in some[skipped.get(file.stem, 0) :] if not ids or question["id"] in ids]
        if some:
            questions[file.stem] = some
    if not questions:
        parser.error(f"{args.study} holds no questions with gold passages; run the stage rank first")
    files = [file.stem.split(".") for file in (args.study / "rankings").glob("*.jsonl")]
    methods = sorted({parts[0] for parts in files if len(parts) == 2} - {args.subject})  # not the readers' own
    print(", ".join(f"{name}: {len(some)} questions" for name, some in questions.items()))
    for k in KS:
        found: dict[str, Values] = {}
        for method in (args.subject, *methods):
            found[method] = {}
            for name, some in questions.items():
                ranked = {
                    one["id"]: one["ranking"] for one in lines(args.study / "rankings" / f"{method}.{name}.jsonl")
                }
                found[method][name] = recall(ranked, some, k)
        for method, by in found.items():
            cells = [str(bootstrap_pooled([values])) for values in by.values()]
            print(f"@{k} {method:<14}" + "  ".join([*cells, f"pooled {bootstrap_pooled(list(by.values()))}"]))
            if method != args.subject:
                less = [
                    [one - other for one, other in zip(found[args.subject][name], values, strict=True)]
                    for name, values in by.items()
                ]
                cells = [str(bootstrap_pooled([values])) for values in less]
                print(f"   {args.subject} less it " + "  ".join([*cells, f"pooled {bootstrap_pooled(less)}"]))


if __name__ == "__main__":
    main()
