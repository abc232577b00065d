"""Measure a calibration of scout on questions that neither it nor the coefficients were fitted to.

    $ at2-prune train-scout --data hotpotqa/second.jsonl --holdout 0 --out runs/hotpotqa
    $ python research/probabilities.py COEFFICIENTS --test runs/hotpotqa runs/nq

For each test set: the calibration error and the reliability curve of the probabilities; how well the probability that
the passages hold evidence separates questions with their evidence from the same questions without it; the share of both
that is confident; and, for each
wanted recall, the recall that is reached and the mean number of kept passages, beside the best fixed number of
passages that is not smaller. 95 % intervals by bootstrap over questions.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from math import ceil

import torch
from without_labels import read

from at2_prune.bootstrap import bootstrap_mean
from at2_prune.coefficients.calibration import count_for_share
from at2_prune.coefficients.scout_coefficients import ScoutCoefficients
from at2_prune.pruning.certainty import CONFIDENT
from at2_prune.training.choices import recall_at
from at2_prune.training.probabilities import measure_calibration, score_examples

WANTED = (0.8, 0.9, 0.95)


def confident(values: Sequence[float | None]) -> list[float]:
    return [float(value >= CONFIDENT) for value in values if value is not None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("coefficients", help="a folder with calibrated coefficients")
    parser.add_argument("--test", nargs="+", required=True, metavar="FOLDER[:PREFIX]")
    args = parser.parse_args()
    coefficients = ScoutCoefficients.from_pretrained(args.coefficients)
    calibration = coefficients.calibration
    assert calibration is not None, "these coefficients have no calibration"
    for place in args.test:
        questions = score_examples(coefficients, read(place))
        measured = measure_calibration(calibration, questions)
        print(f"{place}: {len(questions)} questions, ECE {measured['ece']:.3f}, AUROC {measured.get('auroc', 0):.3f}")
        curve = "  ".join(
            f"{b['probability']:.2f}->{b['evidence']:.2f} ({b['sources']})" for b in measured["reliability"]
        )
        present = [calibration.probability_present(one.scores, one.total) for one in questions]
        absent = [calibration.probability_present(*one.absent) for one in questions if one.absent is not None]
        rates = [bootstrap_mean(confident(some)) for some in (present, absent)]
        print(f"  confident: {rates[0]}, without the evidence {rates[1]}")
        print(f"  probability -> share of evidence (sources): {curve}")
        for wanted in WANTED:
            level = calibration.level(wanted)
            reached, kept = [], []
            for one in questions:
                probabilities = calibration.probabilities(one.scores, one.total).tolist()
                count = count_for_share(probabilities, level)
                kept.append(float(count))
                reached.append(recall_at(one.scores, one.gold, max(1, count)))
            fixed = ceil(sum(kept) / len(kept))
            beside = [recall_at(one.scores, one.gold, fixed) for one in questions]
            print(
                f"  recall>={wanted}: level {level:g}, recall {bootstrap_mean(reached)}, kept {bootstrap_mean(kept)}; "
                f"fixed k={fixed}: recall {bootstrap_mean(beside)}",
                flush=True,
            )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
