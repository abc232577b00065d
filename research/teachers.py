"""Compare supervisions of the coefficients: ablations of the draft or of the known answer, and supporting facts.

    $ at2-prune train --data hotpotqa/train.jsonl --ablations 8 --dtype bfloat16 --out runs/kept
    $ at2-prune train --data hotpotqa/train.jsonl --ablations 8 --learn-from answer --limit 100 --dtype bfloat16 \\
          --out runs/answer
    $ python research/teachers.py runs/kept runs/answer

Every supervision has the same questions, rows and folds. Coefficients are fitted to four fifths and find the gold
passages of the remaining fifth, in turn. Prints the share of gold passages among the best 2 and 3, and the paired
difference in recall@2 to ablations of the draft. Intervals are 95 %, by bootstrap over questions.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from folds import FOLDS, cross_fitted, load

from at2_prune.attention.rows import RowGroup
from at2_prune.bootstrap import bootstrap_difference, bootstrap_mean
from at2_prune.training import Example, fit, fit_evidence

ROWS = (("draft",), ("question",), ("question", "question-max"), ("question", "question-max", "draft", "draft-max"))
Fit = Callable[[Sequence[Example], Sequence[RowGroup]], torch.Tensor]


def recalls(
    examples: Sequence[Example], taught: Sequence[Example], names: Sequence[str], fitted: Fit
) -> list[list[float]]:
    """Return recall at 2 and at 3 of each example, from coefficients fitted to the other folds of `taught`."""
    groups = [RowGroup.from_name(name) for name in names]
    values = cross_fitted(examples, groups, lambda some, fold: fitted(some, groups), [taught])
    return [values["gold_recall@2"], values["gold_recall@3"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("draft", type=Path, help="a folder of at2-prune train")
    parser.add_argument("answer", type=Path, help="the same with --learn-from answer")
    args = parser.parse_args()
    drafts, answers = ({e.question_id: e for e in load(folder)} for folder in (args.draft, args.answer))
    ids = sorted(set(drafts) & set(answers))
    own, known = [drafts[i] for i in ids], [answers[i] for i in ids]
    layers = range(len(own[0].layers))
    by_ablations: Fit = lambda examples, groups: fit(examples, groups)[0]  # noqa: E731
    by_evidence: Fit = lambda examples, groups: fit_evidence(examples, groups, layers)  # noqa: E731
    teachers: list[tuple[str, Sequence[Example], Fit]] = [
        ("ablations of the draft", own, by_ablations),
        ("ablations of the answer", known, by_ablations),
        ("supporting facts", own, by_evidence),
    ]
    print(f"{len(ids)} questions, {own[0].masks.shape[0]} ablations each, {FOLDS} folds, {len(layers)} layers\n")
    print(f"{'rows':<42}{'taught by':<26}{'recall@2':<22}{'recall@3':<22}recall@2, paired")
    for names in ROWS:
        base: list[float] = []
        for teacher, taught, fitted in teachers:
            two, three = recalls(own, taught, names, fitted)
            base = base or two
            gain = bootstrap_difference(two, base)
            print(f"{' '.join(names):<42}{teacher:<26}{bootstrap_mean(two)!s:<22}{bootstrap_mean(three)!s:<22}{gain}")


if __name__ == "__main__":
    main()
