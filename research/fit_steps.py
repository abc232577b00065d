"""Compare numbers of steps of the fit to ablations, on the examples of a run; cross-validated.

    $ at2-prune train --model MODEL --data hotpotqa/train.jsonl --limit 60 --ablations 8 --out runs/at2
    $ python research/fit_steps.py runs/at2

Coefficients are fitted to four fifths of the questions, and LDS is measured on the remaining fifth, in turn. The first
line has equal weights, which is average attention. The differences to it are paired. Intervals are 95 %, by bootstrap
over questions.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch

from at2_prune.attention.rows import RowGroup
from at2_prune.bootstrap import bootstrap_difference, bootstrap_mean
from at2_prune.training import Example, ExampleStore, FitSettings, fidelity, fit

FOLDS = 5
STEPS = (10, 30, 100, 300, 1000)
GROUPS = [RowGroup("draft")]


def cross_validated(examples: Sequence[Example], steps: int) -> list[float]:
    """Return LDS of every question, by coefficients that were fitted without it. No step gives equal weights."""
    order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(0)).tolist()
    found: list[float] = []
    for fold in range(FOLDS):
        held_out = set(order[fold::FOLDS])
        shape = examples[0].mass["draft"].shape[1:3]
        weight = torch.ones(1, *shape)
        if steps:
            weight, _ = fit([examples[i] for i in order if i not in held_out], GROUPS, FitSettings(steps=steps))
        found += fidelity([examples[i] for i in sorted(held_out)], GROUPS, weight).lds.tolist()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="DIR", help="the --out folder of at2-prune train")
    args = parser.parse_args()
    examples = [one for one in ExampleStore.open(args.folder).every() if bool((one.outcomes.std(0) > 0).any())]
    base = cross_validated(examples, 0)
    print(f"{len(examples)} questions, {FOLDS} folds; LDS, and the difference to average attention")
    print(f"average attention  {bootstrap_mean(base)}")
    for steps in STEPS:
        values = cross_validated(examples, steps)
        print(f"{steps:>5} steps        {bootstrap_mean(values)}   {bootstrap_difference(values, base)}", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
