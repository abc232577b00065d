"""Measure the recall of supporting passages of a study's methods, by data set and pooled.

    $ python research/study_recall.py docs/results.json
    $ at2-prune study research/study.yaml --out runs/study --stage rank
    $ python research/study_recall.py runs/study --skip hotpotqa=100
    $ python research/study_recall.py runs/study --skip hotpotqa=100 --from hotpotqa/validation.jsonl --type comparison

Intervals are 95 %, by bootstrap over questions. Pooled intervals resample questions within each data set. Differences
are paired. A folder needs only rankings, and gives every k from 1 to 5. `--skip` leaves out the first questions of a
data set, for example those on which a method was chosen. `--type` keeps questions of these types, which the files of
`--from` name. From results, the numbers are those of the study's page, at the values of k that were answered. Methods
that rank differently for each reader are left out.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from at2_prune.bootstrap import bootstrap_pooled
from at2_prune.datasets import load_questions
from at2_prune_eval.k_values import ALL
from at2_prune_eval.study.cells import read_cells

KS = (1, 2, 3, 4, 5)
Values = dict[str, list[float]]
"""The recall of each question, by data set."""


def lines(file: Path) -> list[dict[str, Any]]:
    return [record for record in map(json.loads, file.read_text(encoding="utf-8").splitlines()) if "id" in record]


def recall(rankings: dict[str, list[int]], questions: Sequence[dict[str, Any]], k: int) -> list[float]:
    """Return the share of each question's supporting passages among its best k."""
    return [len({*q["gold"]} & {*rankings[q["id"]][:k]}) / len(q["gold"]) for q in questions]


def from_folder(parser: argparse.ArgumentParser, args: argparse.Namespace) -> dict[int, dict[str, Values]]:
    """Compute the recall of each method at each k from the rankings in a study's folder."""
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
    methods = sorted({parts[0] for parts in files if len(parts) == 2})  # not the readers' own
    found: dict[int, dict[str, Values]] = {k: {method: {} for method in methods} for k in KS}
    for method in methods:
        for name, some in questions.items():
            ranked = {one["id"]: one["ranking"] for one in lines(args.study / "rankings" / f"{method}.{name}.jsonl")}
            for k in KS:
                found[k][method][name] = recall(ranked, some, k)
    return found


def from_results(file: Path) -> dict[int, dict[str, Values]]:
    """Take the recall of each method at each k from the results of a study."""
    cells = read_cells(file)
    names = cells.data_of(cells.readers)
    found: dict[int, dict[str, Values]] = {}
    for method, k in cells.keys:
        by_reader = [{name: cells.parts[one, name].cells[method, k].recall for name in names} for one in cells.readers]
        if k != ALL and all(values == by_reader[0] for values in by_reader):
            found.setdefault(int(k), {})[method] = by_reader[0]
    return dict(sorted(found.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="the folder of a study, or its results.json")
    parser.add_argument("--subject", default="scout", help="the method that the others are compared with")
    parser.add_argument("--skip", nargs="+", default=[], metavar="DATA=N")
    parser.add_argument("--from", dest="files", nargs="+", default=[], metavar="FILE", help="files of questions")
    parser.add_argument("--type", dest="types", nargs="+", metavar="TYPE", help="types of question, as in HotpotQA")
    args = parser.parse_args()
    if args.study.is_file():
        if args.skip or args.files or args.types:
            parser.error("--skip, --from and --type need the folder of the study")
        found = from_results(args.study)
    else:
        found = from_folder(parser, args)
    for k, methods in found.items():
        if args.subject not in methods:
            parser.error(f"{args.study} has no recall of {args.subject} at {k}")
        subject = methods.pop(args.subject)
        if k == next(iter(found)):
            print(", ".join(f"{name}: {len(values)} questions" for name, values in subject.items()))
        show(k, args.subject, subject, methods)


def show(k: int, name: str, subject: Values, others: dict[str, Values]) -> None:
    """Print the recall of each method at one k, and the subject's less that of each other method."""
    for method, by in {name: subject, **others}.items():
        cells = [str(bootstrap_pooled([values])) for values in by.values()]
        print(f"@{k} {method:<14}" + "  ".join([*cells, f"pooled {bootstrap_pooled(list(by.values()))}"]))
        if method != name:
            less = [
                [one - other for one, other in zip(subject[data], values, strict=True)] for data, values in by.items()
            ]
            cells = [str(bootstrap_pooled([values])) for values in less]
            print(f"   {name} less it " + "  ".join([*cells, f"pooled {bootstrap_pooled(less)}"]))


if __name__ == "__main__":
    main()
