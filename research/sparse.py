"""Compare an L1 penalty on coefficients with L2; recall of gold passages, cross-validated.

    $ python research/sparse.py runs/scout6

Takes a folder of `at2-prune train --learn-from evidence`, and uses every layer and the question's rows without links.
The loss is that of `fit_evidence` with an L1 penalty, fitted by proximal gradients with momentum (FISTA, Beck and
Teboulle 2009). Prints the number of coefficients that are left, averaged over folds; recall; and the paired difference
in recall@2 to the L2 penalty of the shipped coefficients. Intervals are 95 %, by bootstrap over questions.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from folds import FOLDS, cross_fitted, load

from at2_prune.attention.rows import RowGroup
from at2_prune.bootstrap import bootstrap_difference, bootstrap_mean
from at2_prune.training import Example, fit_evidence

GROUPS = [RowGroup("question"), RowGroup.from_name("question-max")]
PENALTIES = (0.001, 0.003, 0.01, 0.03, 0.1)
STEPS = 2000
Fit = Callable[[Sequence[Example]], torch.Tensor]


def fit_l1(examples: Sequence[Example], penalty: float) -> torch.Tensor:
    """Fit coefficients `(row groups, layers, heads)` with an L1 penalty, on features of unit variance."""
    usable = [example for example in examples if bool(example.gold.any()) and not bool(example.gold.all())]
    sources = max(len(example.gold) for example in usable)
    shape = (len(GROUPS), *usable[0].mass[GROUPS[0].name].shape[1:3])
    features = torch.zeros(len(usable), sources, int(torch.tensor(shape).prod()), dtype=torch.float64)
    right = torch.zeros(len(usable), sources, dtype=torch.float64)
    there = torch.zeros(len(usable), sources, dtype=torch.bool)
    for row, example in enumerate(usable):
        count = len(example.gold)
        mass = torch.cat([example.mass[group.name][0].flatten(0, 1) for group in GROUPS])
        features[row, :count], there[row, :count] = mass.T.double(), True
        right[row, :count] = example.gold.double() / example.gold.sum()
    scale = features[there].std(0).clamp_min(1e-12)
    features = torch.where(there[..., None], features / scale, 0.0)
    blocked = torch.zeros_like(right).masked_fill(~there, -torch.inf)
    middle = (features.sum(1) / there.sum(1, keepdim=True))[:, None]
    spread = torch.where(there[..., None], features - middle, 0.0)
    step = 1 / (spread**2).sum((1, 2)).mean()  # the inverse of a bound on the curvature
    weight = ahead = torch.zeros(features.shape[2], dtype=torch.float64)
    momentum = 1.0
    for _ in range(STEPS):
        p = (features @ ahead + blocked).softmax(1)
        slope = ((p - right)[..., None] * features).sum(1).mean(0)
        moved = ahead - step * slope
        new = moved.sign() * (moved.abs() - step * penalty).clamp_min(0)
        later = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead, weight, momentum = new + (momentum - 1) / later * (new - weight), new, later
    return (weight / scale).float().reshape(shape)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a folder of at2-prune train --learn-from evidence")
    examples = load(parser.parse_args().run)
    layers = range(len(examples[0].layers))
    fits: dict[str, Fit] = {"L2 0.01 (ships)": lambda some: fit_evidence(some, GROUPS, layers)}
    fits |= {f"L1 {penalty:g}": partial(fit_l1, penalty=penalty) for penalty in PENALTIES}
    print(f"{len(examples)} questions, {FOLDS} folds, {len(layers)} layers, rows question question-max\n")
    print(f"{'penalty':<18}{'coefficients':<14}{'recall@2':<22}{'recall@3':<22}recall@2, paired")
    base: list[float] = []
    for title, fitted in fits.items():
        left: list[int] = []

        def counted(some: list[Example], fold: int, fitted: Fit = fitted, left: list[int] = left) -> torch.Tensor:
            weight = fitted(some)
            left.append(int((weight != 0).sum()))
            return weight

        values = cross_fitted(examples, GROUPS, counted)
        found = [values["gold_recall@2"], values["gold_recall@3"]]
        base = base or found[0]
        gain = bootstrap_difference(found[0], base)
        means = "".join(f"{bootstrap_mean(recalls)!s:<22}" for recalls in found)
        print(f"{title:<18}{sum(left) / FOLDS:<14.1f}{means}{gain}", flush=True)


if __name__ == "__main__":
    main()
