"""Fit a calibration, which turns scores into probabilities of evidence and estimates the recall of evidence.

The questions are divided into five folds. `fit_calibration` scores each question with coefficients that were fitted to
the other folds. For `calibration_of_scores`, the questions were scored before, with given coefficients. A question is
scored twice: with all its passages, and without its supporting passages. Two logistic regressions are then fitted to
these scores; see `at2_prune.coefficients.calibration`. One regression gives the probability that at least one
passage is evidence. Its negative examples are the questions without their supporting passages.

The recall is measured for each level in `LEVELS`. A level is a share of the summed probabilities. The most probable
sources are kept until together they have this share, and the recall of the kept sources is measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import mean
from typing import Any

import torch

from ..coefficients.calibration import LEAST_SCORE, LEVELS, Calibration, count_for_share
from ..coefficients.scout_coefficients import ScoutCoefficients
from .choices import recall_at
from .examples import Example
from .scout_fit import ScoutSettings, fit_scout

__all__ = ["ScoredQuestion", "calibration_of_scores", "fit_calibration", "measure_calibration", "score_examples"]

FOLDS = 5
BINS = 10
"""The number of bins of the reliability curve, all of equal width."""
ABSENT = 0.1
"""The assumed share of questions without evidence. In the regression for sources, a question with its evidence has the
weight 1 - ABSENT. The same question without its evidence has the weight ABSENT."""
TAIL = 0.01
"""The level of the lower quantile of z, the log-sum-exp of the first scores of a question's sources. A calibration
clips z to two limits before it computes a probability. The limits are the quantiles of z at the levels TAIL and
1 - TAIL, over the fitted questions. Each fitted question has one z with its evidence. It has another z without its
evidence, unless `ScoredQuestion.absent` is None. `Calibration.totals` holds the limits."""


@dataclass(frozen=True)
class ScoredQuestion:
    """The scores of one question's sources, computed with coefficients that were fitted to other questions."""

    scores: torch.Tensor
    total: float
    """The log-sum-exp of the first scores. `Calibration` calls this number z."""
    gold: torch.Tensor
    absent: tuple[torch.Tensor, float] | None
    """The scores and the total of the question without its supporting sources. It is None if the example lacks the
    features for them, or if every source is a supporting source."""
    weight: float = 1.0


def score_examples(coefficients: ScoutCoefficients, examples: Sequence[Example]) -> list[ScoredQuestion]:
    """Score examples, with and without their supporting sources."""
    found = []
    for example in examples:
        others = (~example.gold).nonzero()[:, 0]
        absent = None
        if "absent" in example.mass and len(others):
            links = example.mass["links"][others][..., others]
            cosines = None if example.cosines is None else example.cosines[others]
            absent = _scores(coefficients, example.mass["absent"], links, cosines)
        whole = _scores(coefficients, example.mass["question"], example.mass["links"], example.cosines)
        found.append(ScoredQuestion(*whole, example.gold, absent))
    return found


def fit_calibration(data: Sequence[Sequence[Example]], settings: ScoutSettings) -> Calibration | None:
    """Fit the calibration of the coefficients that `fit_scout` gives for the same data and settings.

    Args:
        data: the examples of each data set.
        settings: the settings of the fit.

    Returns:
        The calibration. It is None if there are too few examples: fewer than two for each fold.
    """
    usable = [[e for e in some if bool(e.gold.any()) and not bool(e.gold.all())] for some in data]
    if sum(map(len, usable)) < 2 * FOLDS:
        return None
    folds: list[list[ScoredQuestion]] = []
    for fold in range(FOLDS):
        rest = [[e for i, e in enumerate(some) if i % FOLDS != fold] for some in usable]
        coefficients = fit_scout(rest, settings)
        folds.append([])
        for some in usable:
            mine = [e for i, e in enumerate(some) if i % FOLDS == fold]
            weight = len(some) ** (settings.balance - 1) if some else 1.0
            folds[-1] += [replace(one, weight=weight) for one in score_examples(coefficients, mine)]
    return _calibration(folds)


def calibration_of_scores(questions: Sequence[ScoredQuestion]) -> Calibration:
    """Fit a calibration to scores of questions that the coefficients were not fitted to.

    There must be at least two questions for each fold.
    """
    return _calibration([[one for i, one in enumerate(questions) if i % FOLDS == fold] for fold in range(FOLDS)])


def measure_calibration(calibration: Calibration, questions: Sequence[ScoredQuestion]) -> dict[str, Any]:
    """Measure a calibration on questions that it was not fitted to.

    Returns:
        - `questions`: the number of questions for which `probability_present` is known.
        - `ece`: the expected calibration error.
        - `reliability`: one entry for each bin that is not empty, with the bin's number of sources, mean probability
          and share of evidence.
        - `auroc`: the area under the ROC curve with which `probability_present` separates questions with evidence from
          the same questions without evidence.
    """
    return _summary(**_predictions(calibration, questions))


def _calibration(folds: Sequence[Sequence[ScoredQuestion]]) -> Calibration:
    """Fit a calibration to all folds, and measure each fold with a calibration that is fitted to the other folds."""
    questions = [one for fold in folds for one in fold]
    calibration = _fit(questions)
    measured: dict[str, list[Any]] = {"pairs": [], "present": []}
    for fold in range(len(folds)):
        others = _fit([one for i, some in enumerate(folds) if i != fold for one in some])
        for name, values in _predictions(others, folds[fold]).items():
            measured[name] += values
    recall = {f"recall@{k}": mean([recall_at(one.scores, one.gold, k) for one in questions]) for k in (1, 2, 3)}
    summary = {**_summary(**measured), **{name: round(value, 4) for name, value in recall.items()}}
    sizes = sorted(len(one.scores) for one in questions)
    return replace(
        calibration,
        misses=_misses(calibration, questions),
        questions=len(questions),
        fewest=sizes[len(sizes) // 20] // 2,
        measured=summary,
    )


def _scores(
    coefficients: ScoutCoefficients, features: torch.Tensor, links: torch.Tensor, cosines: torch.Tensor | None
) -> tuple[torch.Tensor, float]:
    total = float(coefficients.first_scores(features, cosines).logsumexp(0))
    return coefficients.score(features, lambda chosen: links[chosen], cosines=cosines), total


def _fit(questions: Sequence[ScoredQuestion]) -> Calibration:
    """Fit the two logistic regressions of a calibration."""
    rows, labels, weights = [], [], []
    several, present, shares = [], [], []
    for one in questions:
        rows.append(_design(one.scores, one.total))
        labels.append(one.gold.double())
        weights.append(torch.full((len(one.gold),), one.weight * (1 - ABSENT), dtype=torch.float64))
        several.append(_question_row(one.scores, one.total))
        present.append(1.0)
        shares.append(one.weight)
        if one.absent is not None:
            scores, total = one.absent
            rows.append(_design(scores, total))
            labels.append(torch.zeros(len(scores), dtype=torch.float64))
            weights.append(torch.full((len(scores),), one.weight * ABSENT, dtype=torch.float64))
            several.append(_question_row(scores, total))
            present.append(0.0)
            shares.append(one.weight)
    source = _logistic(torch.cat(rows), torch.cat(labels), torch.cat(weights))
    whole = _logistic(torch.stack(several), torch.tensor(present).double(), torch.tensor(shares).double())
    totals = torch.stack(several)[:, 1].quantile(torch.tensor([TAIL, 1 - TAIL], dtype=torch.float64))
    return Calibration(tuple(source.tolist()), tuple(whole.tolist()), totals=tuple(totals.tolist()))


def _design(scores: torch.Tensor, total: float) -> torch.Tensor:
    logs = scores.double().clamp(min=LEAST_SCORE).log()
    return torch.stack([torch.ones_like(logs), logs, torch.full_like(logs, total)], 1)


def _question_row(scores: torch.Tensor, total: float) -> torch.Tensor:
    best = float(scores.double().clamp(min=LEAST_SCORE).max().log())
    return torch.tensor([1.0, total, best], dtype=torch.float64)


def _logistic(features: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return the weights of a logistic regression.

    The first feature is the constant. The weights of the other features have a small L2 penalty. It applies to features
    that are scaled to unit variance.
    """
    scale = features.std(0)
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    found = torch.zeros(features.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([found], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = torch.nn.functional.binary_cross_entropy_with_logits(
            features @ (found / scale), labels, weight=weights / weights.sum(), reduction="sum"
        )
        value = value + 1e-3 * (found[1:] ** 2).sum()
        value.backward()
        return value

    optimizer.step(loss)
    return (found / scale).detach()


def _misses(calibration: Calibration, questions: Sequence[ScoredQuestion]) -> tuple[float, ...]:
    """Return, for each level in `LEVELS`, the mean share of evidence that is not kept."""
    missed = torch.zeros(len(LEVELS), dtype=torch.float64)
    for one in questions:
        probabilities = calibration.probabilities(one.scores, one.total)
        ranking = probabilities.argsort(descending=True, stable=True)
        for place, level in enumerate(LEVELS):
            kept = ranking[: count_for_share(probabilities.tolist(), level)]
            missed[place] += 1 - float(one.gold[kept].sum() / one.gold.sum())
    return tuple((missed / len(questions)).tolist())


def _predictions(calibration: Calibration, questions: Sequence[ScoredQuestion]) -> dict[str, list[Any]]:
    """Return the predicted probabilities with the truth, as two lists of pairs.

    `pairs` has one pair for each source: its probability, and whether it is evidence. A pair in `present` belongs to a
    whole question, or to a question without its supporting sources. The pair holds the probability that evidence is
    present, and whether it is present. A pair is left out if its probability is unknown.
    """
    pairs: list[tuple[float, bool]] = []
    present: list[tuple[float, bool]] = []
    for one in questions:
        values = calibration.probabilities(one.scores, one.total).tolist()
        pairs += zip(values, one.gold.tolist(), strict=True)
        found = [(calibration.probability_present(one.scores, one.total), True)]
        if one.absent is not None:
            found.append((calibration.probability_present(*one.absent), False))
        present += [(value, truth) for value, truth in found if value is not None]
    return {"pairs": pairs, "present": present}


def _summary(pairs: Sequence[tuple[float, bool]], present: Sequence[tuple[float, bool]]) -> dict[str, Any]:
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(BINS)]
    for probability, truth in pairs:
        bins[min(BINS - 1, int(probability * BINS))].append((probability, truth))
    curve = [
        {
            "sources": len(some),
            "probability": round(sum(p for p, _ in some) / len(some), 4),
            "evidence": round(sum(t for _, t in some) / len(some), 4),
        }
        for some in bins
        if some
    ]
    error = sum(b["sources"] * abs(b["probability"] - b["evidence"]) for b in curve) / max(1, len(pairs))
    yes = [p for p, truth in present if truth]
    no = [p for p, truth in present if not truth]
    wins = sum((a > b) + (a == b) / 2 for a in yes for b in no)
    summary: dict[str, Any] = {"questions": len(yes), "ece": round(error, 4), "reliability": curve}
    return {**summary, "auroc": round(wins / (len(yes) * len(no)), 4)} if no else summary
