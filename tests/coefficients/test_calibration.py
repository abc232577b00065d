"""Calibration: probabilities, and the promise of a recall."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from at2_prune.coefficients.calibration import LEVELS, Calibration, count_for_share
from at2_prune.coefficients.scout_coefficients import ScoutCoefficients
from at2_prune.errors import CoefficientsError

SIMPLE = Calibration((0.5, 2.0, 0.3), (-1.0, 0.5, 1.0), tuple(1 - level for level in LEVELS), 50)


def test_probabilities_follow_the_equation_and_keep_the_ranking() -> None:
    scores = torch.tensor([0.9, 0.02, 0.4, 0.0])
    found = SIMPLE.probabilities(scores, total=1.5)
    logits = 0.5 + 2.0 * scores[:3].double().log() + 0.3 * 1.5
    assert torch.allclose(found[:3], logits.sigmoid())
    assert found.argsort(descending=True).tolist() == [0, 2, 1, 3]
    assert float(found[3]) < 1e-12
    expected = torch.sigmoid(torch.tensor(-1.0 + 0.5 * 1.5).double() + torch.tensor(0.9).double().log())
    assert SIMPLE.probability_present(scores, 1.5) == pytest.approx(float(expected), abs=1e-6)


def test_short_lists_have_no_probability_of_any_evidence() -> None:
    some = dataclasses.replace(SIMPLE, fewest=3)
    assert some.probability_present(torch.tensor([0.9, 0.1]), 1.5) is None
    assert some.probability_present(torch.tensor([0.9, 0.1, 0.1]), 1.5) is not None
    assert Calibration.from_dict(some.to_dict()) == some


def test_no_probability_is_extrapolated_beyond_the_fitted_totals() -> None:
    some = dataclasses.replace(SIMPLE, totals=(1.0, 2.0))
    scores = torch.tensor([0.9, 0.1])
    for total, limited in ((-40.0, 1.0), (1.5, 1.5), (9.0, 2.0)):
        assert torch.equal(some.probabilities(scores, total), SIMPLE.probabilities(scores, limited))
        assert some.probability_present(scores, total) == SIMPLE.probability_present(scores, limited)
    assert Calibration.from_dict(some.to_dict()) == some
    with pytest.raises(CoefficientsError, match="2 limits of z or none, got 1"):
        dataclasses.replace(SIMPLE, totals=(1.0,))


def test_a_negative_slope_never_turns_the_ranking_around() -> None:
    turned = dataclasses.replace(SIMPLE, source=(0.0, -1.0, 0.0))
    assert turned.probabilities(torch.tensor([0.9, 0.1]), 0.0).tolist() == [0.5, 0.5]


@pytest.mark.parametrize(("recall", "level"), [(0.9, 0.92), (0.5, 0.51), (0.99, 1.0)])
def test_the_level_follows_conformal_risk_control(recall: float, level: float) -> None:
    """(50 misses + 1) / 51 <= 1 - recall, with misses of 1 - level."""
    assert SIMPLE.level(recall) == level
    assert dataclasses.replace(SIMPLE, misses=(), questions=0).level(recall) == 1.0


def test_the_promised_recall_holds_on_new_questions() -> None:
    """Many calibrations from 60 questions each: the mean recall on new questions is at least the promised one."""
    generator = torch.Generator().manual_seed(0)

    def question() -> tuple[list[float], list[bool]]:
        evidence = torch.rand(10, generator=generator) < 0.2
        evidence[0] = True
        signal = torch.randn(10, generator=generator) + 1.5 * evidence
        return torch.sigmoid(2 * signal - 2).tolist(), evidence.tolist()

    def recall(level: float, probabilities: list[float], evidence: list[bool]) -> float:
        count = count_for_share(probabilities, level)
        kept = sorted(range(10), key=lambda i: -probabilities[i])[:count]
        return sum(evidence[i] for i in kept) / sum(evidence)

    reached = []
    for _ in range(60):
        some = [question() for _ in range(60)]
        misses = tuple(1 - sum(recall(level, *one) for one in some) / len(some) for level in LEVELS)
        level = Calibration((0.0, 1.0, 0.0), (0.0, 0.0, 0.0), misses, 60).level(0.8)
        assert level < 1
        reached += [recall(level, *question()) for _ in range(20)]
    assert sum(reached) / len(reached) >= 0.8
    assert sum(reached) / len(reached) < 0.9  # and it does not simply keep everything


@pytest.mark.parametrize(
    ("probabilities", "share", "count"),
    [([0.1, 0.8, 0.1], 0.8, 1), ([0.1, 0.8, 0.1], 0.81, 2), ([0.5, 0.5], 1.0, 2), ([0.0, 0.0], 0.9, 0), ([], 0.5, 0)],
)
def test_the_fewest_sources_with_a_share(probabilities: list[float], share: float, count: int) -> None:
    assert count_for_share(probabilities, share) == count


def test_coefficients_keep_their_calibration(tmp_path: Path) -> None:
    first, following = torch.randn(2, 6, 2, 4)
    made = ScoutCoefficients(first, following, torch.randn(6, 1, 4), (0, 1), (1,), "m", "llama", 2, {}, SIMPLE)
    made.save_pretrained(tmp_path)
    assert ScoutCoefficients.from_pretrained(tmp_path).calibration == SIMPLE
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    for damage in ({"source": [1.0]}, {"misses": [0.1]}, {"present": "x"}):
        broken = {**config, "calibration": {**config["calibration"], **damage}}
        (tmp_path / "config.json").write_text(json.dumps(broken), encoding="utf-8")
        with pytest.raises(CoefficientsError):
            ScoutCoefficients.from_pretrained(tmp_path)
    del config["calibration"]  # coefficients of the version before
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert ScoutCoefficients.from_pretrained(tmp_path).calibration is None
