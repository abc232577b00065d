"""Test whether coefficients learn positions: fit to passages in one order, measure on another; cross-validated.

    $ at2-prune train --data hotpotqa/train.jsonl --learn-from evidence --layers 5 --dtype bfloat16 --out runs/scout
    $ at2-prune train --data hotpotqa/train.jsonl --learn-from evidence --layers 5 --dtype bfloat16 \\
          --shuffle-passages 0 --out runs/shuffled
    $ python research/orders.py runs/scout runs/shuffled

Every line has the same questions and folds. The paired difference is to coefficients that are fitted to the data's own
order and measured on the same passages as the line. Intervals are 95 %, by bootstrap over questions.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from folds import BEST, FOLDS, cross_fitted, load, only

from at2_prune.attention.rows import RowGroup
from at2_prune.bootstrap import bootstrap_difference, bootstrap_mean
from at2_prune.training import fit_evidence

GROUPS = [RowGroup.from_name(name) for name in BEST]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("own", type=Path, help="a folder of at2-prune train --learn-from evidence")
    parser.add_argument("shuffled", type=Path, help="the same with --shuffle-passages")
    parser.add_argument("--layer", type=int, default=5, help="the layer to use (default: 5)")
    args = parser.parse_args()
    read = {
        order: {e.question_id: only(e, [e.layers.index(args.layer)]) for e in load(folder)}
        for order, folder in (("own", args.own), ("shuffled", args.shuffled))
    }
    ids = sorted(set(read["own"]) & set(read["shuffled"]))
    own, shuffled = ([some[key] for key in ids] for some in read.values())
    print(f"{len(ids)} questions, {FOLDS} folds, layer {args.layer}; 95 % intervals over questions\n")
    print(f"{'fitted to':<18}{'measured on':<14}{'recall@2':<22}{'recall@3':<22}recall@2, paired")
    for measured, test in (("own", own), ("shuffled", shuffled)):
        base: list[float] = []
        for fitted, taught in (("own", [own]), ("shuffled", [shuffled]), ("own and shuffled", [own, shuffled])):
            values = cross_fitted(test, GROUPS, lambda some, fold: fit_evidence(some, GROUPS, [0]), taught)
            found = [values["gold_recall@2"], values["gold_recall@3"]]
            base = base or found[0]
            gain = bootstrap_difference(found[0], base)
            means = "".join(f"{bootstrap_mean(recalls)!s:<22}" for recalls in found)
            print(f"{fitted:<18}{measured:<14}{means}{gain}", flush=True)


if __name__ == "__main__":
    main()
