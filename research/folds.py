"""The parts that the scripts on evidence share: a run's examples, in five folds to fit to and to measure on."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from at2_prune.attention.rows import RowGroup
from at2_prune.training import ExampleStore
from at2_prune.training.evidence import gold_found
from at2_prune.training.examples import Example

BEST = ("question", "question-max", "sources", "sources-max")
"""The row groups of scout."""
FOLDS = 5


def examples(folder: Path) -> list[Example]:
    """Return all examples of a run of at2-prune train, in an order that depends only on their ids."""
    store = ExampleStore(folder, json.loads((folder / "settings.json").read_text(encoding="utf-8")))
    files = sorted((folder / "examples").glob("*.safetensors"))
    return [example for file in files for example in store.read(file)]


def load(folder: Path) -> list[Example]:
    """Return the examples that have both gold sources and other sources."""
    return [example for example in examples(folder) if bool(example.gold.any()) and not bool(example.gold.all())]


def only(example: Example, layers: Sequence[int]) -> Example:
    """Return the example as if only these layers had been read."""
    mass = {name: value[:, list(layers)] for name, value in example.mass.items()}
    return replace(example, mass=mass, layers=[example.layers[layer] for layer in layers])


def measured(test: Sequence[Example], groups: Sequence[RowGroup], weight: torch.Tensor) -> dict[str, list[float]]:
    """Return a value of each measure for each example."""
    found = {k: gold_found(test, groups, weight, k) for k in (1, 2, 3, 5)}
    return {f"{name}@{k}": values.tolist() for k, some in found.items() for name, values in some.items()}


def cross_fitted(
    examples: Sequence[Example],
    groups: Sequence[RowGroup],
    fitted: Callable[[list[Example], int], torch.Tensor],
    taught: Sequence[Sequence[Example]] = (),
) -> dict[str, list[float]]:
    """Return a value of each measure for each example, from coefficients fitted to the other folds.

    Args:
        examples: the examples to measure on.
        groups: the row groups of the coefficients.
        fitted: takes the examples of the other folds and the fold's number, and returns coefficients.
        taught: other readings of the same questions, in the same order, to fit to in place of the examples.
    """
    values: dict[str, list[float]] = {}
    for fold in range(FOLDS):
        train = [e for some in taught or [examples] for place, e in enumerate(some) if place % FOLDS != fold]
        test = [example for place, example in enumerate(examples) if place % FOLDS == fold]
        for name, found in measured(test, groups, fitted(train, fold)).items():
            values.setdefault(name, []).extend(found)
    return values
