"""Compare rules that choose k by the scores or by the draft with fixed k that keep as many passages on average.

    $ at2-prune eval --data hotpotqa/validation.jsonl --limit 200 --k 1 2 3 5 auto --dtype bfloat16 \\
          --out runs/hotpotqa200
    $ python research/adaptive.py runs/hotpotqa200

Reads the records of an evaluation, so that no model runs. A rule chooses k = 1, 2, 3 or 5 for each question. Its free
parameter (a threshold) is chosen from a grid by F1 on the first half of the questions. Prints for each half: F1, the
number of passages kept, and the paired difference in F1 to fixed k at the same average. This reference mixes the
F1 of the two nearest fixed k in proportion. Intervals are 95 % bootstrap intervals over questions.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from at2_prune.bootstrap import bootstrap_difference, bootstrap_mean
from at2_prune_eval.metrics import normalize_answer

KS = (1, 2, 3, 5)
Rule = Callable[[dict[str, Any], dict[str, Any]], int]
"""A function from a question's record, and the method's part of it, to k."""


def ordered(entry: dict[str, Any]) -> list[float]:
    return sorted(entry["scores"], reverse=True)


def nearest(count: int) -> int:
    """Return the smallest k of `KS` that keeps at least `count` passages, or the largest k."""
    return next((k for k in KS if k >= count), KS[-1])


def gap(line: dict[str, Any], entry: dict[str, Any]) -> int:
    """Keep the passages before the largest fall of the score."""
    scores = ordered(entry)
    return max((k for k in KS if k < len(scores)), key=lambda k: scores[k - 1] - scores[k], default=KS[-1])


def above(share: float) -> Rule:
    """Keep passages with at least a share of the best score. Scores are counted from the worst score."""

    def rule(line: dict[str, Any], entry: dict[str, Any]) -> int:
        scores = ordered(entry)
        least = scores[-1] + share * (scores[0] - scores[-1])
        return nearest(sum(score >= least for score in scores))

    return rule


def mass(share: float) -> Rule:
    """Keep the fewest passages that hold a share of the softmax of z-scores."""

    def rule(line: dict[str, Any], entry: dict[str, Any]) -> int:
        scores = ordered(entry)
        mean = sum(scores) / len(scores)
        spread = math.sqrt(sum((score - mean) ** 2 for score in scores) / len(scores)) or 1.0
        weights = [math.exp((score - mean) / spread) for score in scores]
        held = [sum(weights[:k]) / sum(weights) for k in range(1, len(weights) + 1)]
        return nearest(next((k for k, part in enumerate(held, start=1) if part >= share), len(held)))

    return rule


def supports(line: dict[str, Any], entry: dict[str, Any]) -> int:
    """Keep the fewest passages that still give the draft's answer; 3 if none do."""
    draft = normalize_answer(line["draft"])
    return next((k for k in KS if normalize_answer(entry["at"][str(k)]["answer"]) == draft), 3)


def settles(line: dict[str, Any], entry: dict[str, Any]) -> int:
    """Keep the fewest passages whose answer the next larger set repeats; 3 if none do."""
    texts = [normalize_answer(entry["at"][str(k)]["answer"]) for k in KS]
    return next((k for k, one, more in zip(KS, texts, texts[1:], strict=False) if one == more), 3)


def f1_at(entry: dict[str, Any], k: int) -> float:
    return float(entry["at"][str(k)]["f1"])


def same_size(entries: Sequence[dict[str, Any]], average: float) -> list[float]:
    """Return the F1 of each question at fixed k that keep `average` passages on average."""
    low = max((k for k in KS if k <= average), default=KS[0])
    high = min((k for k in KS if k >= average), default=KS[-1])
    part = 0.0 if high == low else (average - low) / (high - low)
    return [(1 - part) * f1_at(entry, low) + part * f1_at(entry, high) for entry in entries]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of an evaluation, with k = 1 2 3 5 and auto")
    parser.add_argument("--method", default="scout")
    args = parser.parse_args()
    lines = [json.loads(text) for text in (args.run / "questions.jsonl").read_text(encoding="utf-8").splitlines()]
    lines = [line for line in lines if "methods" in line]
    pairs = [(line, line["methods"][args.method]) for line in lines]
    half = len(pairs) // 2
    first, second = pairs[:half], pairs[half:]

    def tuned(family: Callable[[float], Rule]) -> tuple[float, Rule]:
        grid = [step / 20 for step in range(1, 20)]
        best = max(grid, key=lambda share: sum(f1_at(entry, family(share)(line, entry)) for line, entry in first))
        return best, family(best)

    share, by_score = tuned(above)
    held, by_mass = tuned(mass)
    rules: dict[str, Rule] = {
        "largest fall of the score": gap,
        f"at least {share:.2f} of the best score": by_score,
        f"{held:.2f} of the scores' softmax": by_mass,
        "fewest that give the draft's answer": supports,
        "fewest whose answer stays with more": settles,
    }
    print(f"{args.run.name}, {args.method}; thresholds chosen on the first {len(first)} questions")
    for title, part in (("the first half", first), ("the second half", second)):
        entries = [entry for _, entry in part]
        print(f"\n{f'{title}, {len(part)} questions':<40}{'F1':<24}{'passages':<10}to fixed k of that average")
        for k in KS:
            print(f"{f'k = {k}':<40}{bootstrap_mean([f1_at(entry, k) for entry in entries])!s:<24}{k:<10}")
        chosen = {name: [rule(line, entry) for line, entry in part] for name, rule in rules.items()}
        values = {
            name: ([f1_at(entry, k) for entry, k in zip(entries, ks, strict=True)], sum(ks) / len(ks))
            for name, ks in chosen.items()
        }
        auto = [entry["at"]["auto"] for entry in entries]
        values["auto: the most confident answer"] = (
            [one["f1"] for one in auto],
            sum(one["passages"] for one in auto) / len(auto),
        )
        for name, (f1, average) in values.items():
            fixed = same_size(entries, average)
            gain = bootstrap_difference(f1, fixed)
            print(f"{name:<40}{bootstrap_mean(f1)!s:<24}{average:<10.2f}{gain}")


if __name__ == "__main__":
    main()
