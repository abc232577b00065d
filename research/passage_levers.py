"""Measure what each part of scout adds, on the examples of a training run; cross-validated.

    $ at2-prune train-scout --data hotpotqa/train.jsonl nq/dev.jsonl musique/dev.jsonl --limit 300 100 25 \\
          --holdout 0 --out runs/scout
    $ python research/passage_levers.py runs/scout --data hotpotqa/train.jsonl nq/dev.jsonl musique/dev.jsonl

Coefficients are fitted to four fifths of each data set's examples and measured on the remaining fifth, in turn. Nothing
is read again. Intervals are 95 %, by bootstrap over questions; the differences to the whole method are paired.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from at2_prune import load_questions
from at2_prune.bootstrap import bootstrap_difference, bootstrap_mean
from at2_prune.coefficients.scout_coefficients import FOLLOWED, ScoutCoefficients
from at2_prune.passage_index.features import QUESTION
from at2_prune.pruning.selection import top_k
from at2_prune.training import Example, ExampleStore
from at2_prune.training.scout_fit import ScoutSettings, fit_scout

FOLDS = 5
KS = (1, 2, 3, 4)
Change = Callable[[Example], Example]


def without(*names: str) -> Change:
    """Return a change that sets these features of the question to zero. They then get no weight."""
    rows = [QUESTION.index(name) for name in names]

    def change(example: Example) -> Example:
        features = example.mass["question"].clone()
        features[rows] = 0
        return replace(example, mass={**example.mass, "question": features})

    return change


def without_links(example: Example) -> Example:
    return replace(example, mass={**example.mass, "links": torch.zeros_like(example.mass["links"])})


def without_layers(*places: int) -> Change:
    def change(example: Example) -> Example:
        features = example.mass["question"].clone()
        features[:, list(places)] = 0
        return replace(example, mass={**example.mass, "question": features})

    return change


def as_they_are(example: Example) -> Example:
    return example


@dataclass(frozen=True)
class Lever:
    """One change of the method, or of the fit."""

    title: str
    change: Change = as_they_are
    fitted_to: tuple[int, ...] = ()
    """The data sets that coefficients are fitted to; by default all."""
    balance: float = 0.5
    followed: int = FOLLOWED
    one_choice: bool = False
    """True if only the coefficients of the first choice score."""


def recall(found: ScoutCoefficients, example: Example, lever: Lever) -> list[float]:
    links = example.mass["links"]
    if lever.one_choice:
        scores = found.first_scores(example.mass["question"]).tolist()
    else:
        scores = found.score(example.mass["question"], lambda chosen: links[chosen], lever.followed).tolist()
    return [float(example.gold[top_k(scores, k)].sum() / example.gold.sum()) for k in KS]


def measured(data: Sequence[Sequence[Example]], settings: ScoutSettings, lever: Lever) -> list[list[list[float]]]:
    """Return the recall of every example at `KS`, by data set."""
    data = [[lever.change(example) for example in some] for some in data]
    fitted_to = lever.fitted_to or range(len(data))
    values: list[dict[int, list[float]]] = [{} for _ in data]
    for fold in range(FOLDS):
        some = [[e for i, e in enumerate(data[place]) if i % FOLDS != fold] for place in fitted_to]
        found = fit_scout(some, replace(settings, balance=lever.balance))
        for place, examples in enumerate(data):
            for i in range(fold, len(examples), FOLDS):
                values[place][i] = recall(found, examples[i], lever)
    return [[by[i] for i in range(len(by))] for by in values]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a folder of at2-prune train-scout")
    parser.add_argument("--data", nargs="+", required=True, help="the data sets of that run, in its order")
    args = parser.parse_args()
    store = ExampleStore.open(args.run)
    data = [
        [e for e in store.load([q.id for q in load_questions(name)]) if e.gold.any() and not e.gold.all()]
        for name in args.data
    ]
    config = json.loads((args.run / "config.json").read_text(encoding="utf-8"))
    settings = ScoutSettings(tuple(config["layers"]), tuple(config["link_layers"]))
    sets = dict(zip(args.data, data, strict=True))
    print(f"{', '.join(f'{name}: {len(some)} questions' for name, some in sets.items())}; {FOLDS} folds")
    places = range(len(settings.layers))
    levers = [
        Lever("the whole method"),
        Lever("without titles", without("title", "title-max")),
        Lever("without joint", without("joint", "joint-max")),
        Lever("without share", without("share", "share-max")),
        Lever("without maxima", without("joint-max", "share-max", "title-max")),
        *(Lever(f"without layer {settings.layers[place]}", without_layers(place)) for place in places),
        Lever(f"layer {settings.layers[-1]} alone", without_layers(*places[:-1])),
        Lever("without links", without_links),
        Lever("one choice, no links", one_choice=True),
        Lever("links of the best source alone", followed=1),
        Lever("equal weights of the data sets", balance=0),
        Lever("weights by the number of questions", balance=1),
        Lever(f"fitted to {args.data[0]} alone", fitted_to=(0,)),
    ]
    base: list[list[list[float]]] = []
    for lever in levers:
        values = measured(data, settings, lever)
        base = base or values
        print(f"\n{lever.title}")
        for place, name in enumerate(args.data):
            cells = []
            for i, k in enumerate(KS):
                mine, whole = [v[i] for v in values[place]], [v[i] for v in base[place]]
                cells.append(f"@{k} {bootstrap_mean(mine)} ({bootstrap_difference(mine, whole)})")
            print(f"  {name:<28}" + "  ".join(cells), flush=True)


if __name__ == "__main__":
    main()
