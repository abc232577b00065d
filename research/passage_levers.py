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
from dataclasses import replace
from pathlib import Path

import torch

from at2_prune import load_questions
from at2_prune.bootstrap import bootstrap_difference, bootstrap_mean
from at2_prune.coefficients.scout_coefficients import ScoutCoefficients
from at2_prune.passage_index.features import QUESTION
from at2_prune.pruning.selection import top_k
from at2_prune.training import Example, ExampleStore
from at2_prune.training.scout import ScoutSettings, fit_scout

FOLDS = 5
KS = (1, 2, 3, 4)
Change = Callable[[Example], Example]


def without(*names: str) -> Change:
    """Return the example with these features of the question set to zero; they then get no weight."""
    rows = [QUESTION.index(name) for name in names]

    def change(example: Example) -> Example:
        features = example.mass["question"].clone()
        features[rows] = 0
        return replace(example, mass={**example.mass, "question": features})

    return change


def without_links(example: Example) -> Example:
    return replace(example, mass={**example.mass, "links": torch.zeros_like(example.mass["links"])})


def only_layer(place: int) -> Change:
    def change(example: Example) -> Example:
        features = torch.zeros_like(example.mass["question"])
        features[:, place] = example.mass["question"][:, place]
        return replace(example, mass={**example.mass, "question": features})

    return change


def first_choice_alone(found: ScoutCoefficients) -> ScoutCoefficients:
    """Return the coefficients with the first choice's in the place of those of later choices, and no links."""
    return replace(found, following=found.first, links=torch.zeros_like(found.links))


def first_choice_again(found: ScoutCoefficients) -> ScoutCoefficients:
    """Return the coefficients with the first choice's in the place of those of later choices, and links as learned."""
    return replace(found, following=found.first)


def recall(found: ScoutCoefficients, example: Example) -> list[float]:
    links = example.mass["links"]
    scores = found.score(example.mass["question"], lambda chosen: links[chosen]).tolist()
    return [float(example.gold[top_k(scores, k)].sum() / example.gold.sum()) for k in KS]


def measured(
    data: Sequence[Sequence[Example]],
    settings: ScoutSettings,
    fitted_to: Sequence[int],
    after: Callable[[ScoutCoefficients], ScoutCoefficients] = lambda found: found,
) -> list[list[list[float]]]:
    """Return the recall of every example at `KS`, by data set."""
    values: list[dict[int, list[float]]] = [{} for _ in data]
    for fold in range(FOLDS):
        some = [[e for i, e in enumerate(data[place]) if i % FOLDS != fold] for place in fitted_to]
        found = after(fit_scout(some, settings))
        for place, examples in enumerate(data):
            for i in range(fold, len(examples), FOLDS):
                values[place][i] = recall(found, examples[i])
    return [[by[i] for i in range(len(by))] for by in values]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a folder of at2-prune train-scout")
    parser.add_argument("--data", nargs="+", required=True, help="the data sets of that run, in its order")
    args = parser.parse_args()
    store = ExampleStore(args.run, json.loads((args.run / "settings.json").read_text(encoding="utf-8")))
    data = [
        [e for e in store.load([q.id for q in load_questions(name)]) if e.gold.any() and not e.gold.all()]
        for name in args.data
    ]
    config = json.loads((args.run / "config.json").read_text(encoding="utf-8"))
    settings = ScoutSettings(tuple(config["layers"]), tuple(config["link_layers"]))
    every = list(range(len(data)))
    sets = dict(zip(args.data, data, strict=True))
    print(f"{', '.join(f'{name}: {len(some)} questions' for name, some in sets.items())}; {FOLDS} folds")
    lines: list[tuple[str, Change, Sequence[int], Callable[[ScoutCoefficients], ScoutCoefficients]]] = [
        ("the whole method", lambda e: e, every, lambda found: found),
        ("without titles", without("title", "title-max"), every, lambda found: found),
        ("without joint", without("joint", "joint-max"), every, lambda found: found),
        ("without share", without("share", "share-max"), every, lambda found: found),
        ("without maxima", without("joint-max", "share-max", "title-max"), every, lambda found: found),
        *(
            (f"layer {layer} alone, links of the whole", only_layer(place), every, lambda found: found)
            for place, layer in enumerate(settings.layers)
        ),
        ("without links", without_links, every, lambda found: found),
        ("one choice, no links", lambda e: e, every, first_choice_alone),
        ("links, but no coefficients of later choices", lambda e: e, every, first_choice_again),
        (f"fitted to {args.data[0]} alone", lambda e: e, [0], lambda found: found),
    ]
    base: list[list[list[float]]] = []
    for title, change, fitted_to, after in lines:
        values = measured([[change(e) for e in some] for some in data], settings, fitted_to, after)
        base = base or values
        print(f"\n{title}")
        for place, name in enumerate(args.data):
            cells = []
            for i, k in enumerate(KS):
                mine, whole = [v[i] for v in values[place]], [v[i] for v in base[place]]
                cells.append(f"@{k} {bootstrap_mean(mine)} ({bootstrap_difference(mine, whole)})")
            print(f"  {name:<28}" + "  ".join(cells), flush=True)


if __name__ == "__main__":
    main()
