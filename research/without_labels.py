"""Compare coefficients of scout that were learned from different questions, on the same test questions.

    $ at2-prune train-scout --data hotpotqa/train.jsonl --limit 300 --holdout 0 --out runs/labelled
    $ at2-prune train-scout --data hotpotqa/validation.jsonl --limit 100 --holdout 0 --out runs/hotpotqa
    $ at2-prune calibrate --passages corpus.jsonl --out runs/own
    $ python research/without_labels.py --fit labelled=runs/labelled written=runs/own:calibration- \\
          both=runs/own --test runs/hotpotqa --penalty 0.03 0.3
    $ at2-prune train --data hotpotqa/train.jsonl --limit 100 --ablations 8 --out runs/ablations
    $ python research/without_labels.py --fit labelled=runs/labelled:5 --ablations runs/ablations --test runs/hotpotqa

The examples of each folder are read; nothing else is read again. After a colon stands the beginning of the ids of the
questions to use. The differences are paired, to the first fit, with 95 % intervals by bootstrap over questions. Two
floors follow the fits:

- With --ablations, coefficients of the same features are fitted to the effects of ablations, as AT2's are, without
  links. The run has the ablations, and the first folder of the first fit has the features of the same questions.
- Equal weights of the best layer learn nothing but the layer.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch

from at2_prune.attention.rows import RowGroup
from at2_prune.bootstrap import bootstrap_difference, bootstrap_mean
from at2_prune.coefficients.scout_coefficients import ScoutCoefficients
from at2_prune.passage_index.features import QUESTION
from at2_prune.training import Example, ScoutSettings
from at2_prune.training.choices import recall_at
from at2_prune.training.examples import ExampleStore
from at2_prune.training.fit import fit
from at2_prune.training.scout_fit import fit_scout

KS = (1, 2, 3, 4)


def read(place: str) -> list[Example]:
    """Return the examples of a folder that have both evidence and others; `FOLDER:PREFIX` chooses ids."""
    folder, _, prefix = place.partition(":")
    found = [one for one in ExampleStore.open(folder).every() if one.question_id.startswith(prefix)]
    return [one for one in found if bool(one.gold.any()) and not bool(one.gold.all())]


def recalls(coefficients: ScoutCoefficients, examples: Sequence[Example]) -> list[list[float]]:
    found = []
    for example in examples:
        links = example.mass["links"]
        scores = coefficients.score(
            example.mass["question"],
            lambda chosen, links=links: links[chosen],  # type: ignore[misc]
            cosines=example.cosines,
        )
        found.append([recall_at(scores, example.gold, k) for k in KS])
    return found


def taught_by_ablations(features: Sequence[Example], ablated: Sequence[Example]) -> tuple[torch.Tensor, int]:
    """Fit coefficients of scout's features to the effects of ablations, without links.

    Returns:
        The weights `(features, layers, heads)`, and the number of questions.
    """
    by_id = {one.question_id: one.mass["question"] for one in features}
    shape = features[0].mass["question"].shape[:3]
    both = [
        # The fit takes (parts, layers, heads, sources): features and layers become one dimension.
        replace(one, mass={"question": by_id[one.question_id].flatten(0, 1)[None].float()})
        for one in ablated
        if one.question_id in by_id
    ]
    return fit(both, [RowGroup("question")])[0].reshape(shape), len(both)


def by_weights(weights: torch.Tensor, examples: Sequence[Example]) -> list[list[float]]:
    """Score by one sum of weighted features."""
    scores = [torch.einsum("flh,flhs->s", weights, one.mass["question"]) for one in examples]
    return [[recall_at(s, one.gold, k) for k in KS] for s, one in zip(scores, examples, strict=True)]


def equal_weights(layer: int, examples: Sequence[Example]) -> list[list[float]]:
    """Score by the mean share of the heads of one layer."""
    found = []
    for example in examples:
        scores = example.mass["question"][QUESTION.index("share"), layer].mean(0)
        found.append([recall_at(scores, example.gold, k) for k in KS])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fit", nargs="+", required=True, metavar="NAME=FOLDER[:PREFIX][+FOLDER...]")
    parser.add_argument("--test", nargs="+", required=True, metavar="FOLDER[:PREFIX]")
    parser.add_argument("--ablations", metavar="FOLDER", help="a run of at2-prune train")
    parser.add_argument("--penalty", nargs="+", type=float, default=[ScoutSettings.penalty])
    args = parser.parse_args()
    fits = {name: [read(one) for one in places.split("+")] for name, _, places in (x.partition("=") for x in args.fit)}
    tests = {place: read(place) for place in args.test}
    layers = tuple(next(iter(fits.values()))[0][0].layers)
    settings = ScoutSettings(layers=layers, link_layers=layers[-1:])
    ways: dict[str, Callable[[Sequence[Example]], list[list[float]]]] = {}
    for penalty in args.penalty:
        for name, some in fits.items():
            title = f"{name}, {sum(map(len, some))} questions, penalty {penalty:g}"
            ways[title] = partial(recalls, fit_scout(some, replace(settings, penalty=penalty)))
    features = next(iter(fits.values()))[0]
    if args.ablations:
        weights, count = taught_by_ablations(features, list(ExampleStore.open(args.ablations).every()))
        ways[f"ablations, {count} questions, no links"] = partial(by_weights, weights)
    best = max(range(len(layers)), key=lambda i: sum(row[1] for row in equal_weights(i, features)))
    ways[f"equal weights, layer {layers[best]}"] = partial(equal_weights, best)
    for place, examples in tests.items():
        print(f"{place}: {len(examples)} questions")
        first: list[list[float]] | None = None
        rows = {title: way(examples) for title, way in ways.items()}
        for title, found in rows.items():
            first = found if first is None else first
            cells = []
            for i, k in enumerate(KS):
                values, base = [row[i] for row in found], [row[i] for row in first]
                less = "" if found is first else f" ({bootstrap_difference(values, base)})"
                cells.append(f"@{k} {bootstrap_mean(values).mean:.3f}{less}")
            print(f"  {title:<46}" + "  ".join(cells), flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
