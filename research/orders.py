"""Do coefficients learn where evidence stands? Fitted to passages in one order, measured on another, cross-validated.

    $ at2-prune train --data hotpotqa/train.jsonl --learn-from evidence --layers 5 --dtype bfloat16 --out runs/scout
    $ at2-prune train --data hotpotqa/train.jsonl --learn-from evidence --layers 5 --dtype bfloat16 \\
          --shuffle-passages 0 --out runs/shuffled
    $ python research/orders.py runs/scout runs/shuffled

The same questions and folds for every line; the paired difference is to coefficients fitted to the data's own order,
measured on the same order. Intervals are 95 %, by bootstrap over questions.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from evidence import BEST, FOLDS, load, only

from at2_prune.coefficients import RowGroup
from at2_prune.intervals import bootstrap_mean
from at2_prune.training import fit_evidence
from at2_prune.training.evidence import gold_found

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
    both = [*read["own"].items(), *read["shuffled"].items()]
    print(f"{len(ids)} questions, {FOLDS} folds, layer {args.layer}; 95 % intervals over questions\n")
    print(f"{'fitted to':<18}{'measured on':<14}{'recall@2':<22}{'recall@3':<22}recall@2, paired")
    for measured in read:
        base: list[float] = []
        for fitted in ("own", "shuffled", "own and shuffled"):
            found: list[list[float]] = [[], []]
            for fold in range(FOLDS):
                test = [read[measured][key] for place, key in enumerate(ids) if place % FOLDS == fold]
                rest = {key for place, key in enumerate(ids) if place % FOLDS != fold}
                pool = both if fitted not in read else read[fitted].items()
                weight = fit_evidence([example for key, example in pool if key in rest], GROUPS, [0])
                for values, k in zip(found, (2, 3), strict=True):
                    values += gold_found(test, GROUPS, weight, k)["gold_recall"].tolist()
            base = base or found[0]
            gain = bootstrap_mean([new - old for new, old in zip(found[0], base, strict=True)])
            means = "".join(f"{bootstrap_mean(values)!s:<22}" for values in found)
            print(f"{fitted:<18}{measured:<14}{means}{gain}", flush=True)


if __name__ == "__main__":
    main()
