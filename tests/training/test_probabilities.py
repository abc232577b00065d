"""The fit of a calibration."""

from __future__ import annotations

import torch

from at2_prune.training import Example, ScoutSettings
from at2_prune.training.probabilities import (
    ScoredQuestion,
    calibration_of_scores,
    fit_calibration,
    measure_calibration,
)
from at2_prune.training.scout_examples import NO_ABLATIONS

SETTINGS = ScoutSettings(layers=(0, 1), link_layers=(1,))


def scored(count: int, seed: int) -> list[ScoredQuestion]:
    """Questions whose scores say with a known probability which sources are evidence."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(count):
        gold = torch.zeros(10, dtype=torch.bool)
        gold[:2] = True
        logs = torch.randn(10, generator=generator) - 4.0 + 3.0 * gold
        absent = torch.randn(8, generator=generator) - 4.0
        total, without = 3.0 + torch.randn(1, generator=generator), 1.0 + torch.randn(1, generator=generator)
        found.append(ScoredQuestion(logs.exp().clamp(max=1), float(total), gold, (absent.exp(), float(without))))
    return found


def test_probabilities_are_calibrated_on_new_questions() -> None:
    calibration = calibration_of_scores(scored(300, 0))
    measured = measure_calibration(calibration, scored(500, 1))
    assert measured["questions"] == 500
    assert measured["ece"] < 0.06
    assert measured["auroc"] > 0.85
    assert sum(one["sources"] for one in measured["reliability"]) == 5000
    mean = sum(one["sources"] * one["probability"] for one in measured["reliability"]) / 5000
    assert abs(mean - 0.2) < 0.04  # the share of evidence


def examples(count: int, seed: int = 0) -> list[Example]:
    generator = torch.Generator().manual_seed(seed)
    found = []
    for i in range(count):
        gold = torch.tensor([True, True, False, False, False, False])
        features = torch.rand(6, 2, 4, 6, generator=generator) + gold
        links = torch.rand(6, 6, 1, 4, 6, generator=generator)
        mass = {"question": features, "links": links, "absent": features[..., 2:]}
        found.append(Example(str(i), "", mass, [0, 1], *NO_ABLATIONS, gold))
    return found


def test_a_calibration_is_cross_validated() -> None:
    calibration = fit_calibration([examples(40)], SETTINGS)
    assert calibration is not None
    assert calibration.questions == 40
    assert calibration.fewest == 3  # half of six sources
    assert calibration.measured["recall@2"] > 0.9
    assert list(calibration.misses) == sorted(calibration.misses, reverse=True)  # more kept, less missed
    assert fit_calibration([examples(9)], SETTINGS) is None  # too few for five folds
    assert fit_calibration([examples(9), examples(1, seed=1)], SETTINGS) is not None
