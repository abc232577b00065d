"""`min_score`, `keep` and `allow_empty`: the number of passages follows from probabilities."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from at2_prune import AT2Pruner, Passage
from at2_prune.coefficients.calibration import LEVELS, Calibration
from at2_prune.errors import CoefficientsError, InputError
from at2_prune.models.language_model import LanguageModel
from at2_prune.pipeline.config import PruneConfig
from at2_prune.pipeline.step import PruneStep
from at2_prune.pruning.certainty import Bounds

from ..passage_index.cases import PASSAGES, QUESTION, tiny_coefficients

SURE = Calibration((3.0, 1.0, 0.0), (5.0, 0.0, 0.0), tuple(0.3 if x < 0.6 else 0.05 for x in LEVELS), 99)
EMPTY = dataclasses.replace(SURE, present=(-5.0, 0.0, 0.0))


def pruner(lm: LanguageModel, calibration: Calibration | None = SURE) -> AT2Pruner:
    coefficients = dataclasses.replace(tiny_coefficients(), model_name=lm.name, calibration=calibration)
    return AT2Pruner.from_pretrained(lm, coefficients, max_new_tokens=4)


def step(lm: LanguageModel, calibration: Calibration | None = SURE, **settings: Any) -> PruneStep:
    return PruneStep(PruneConfig(max_new_tokens=4, **settings), pruner(lm, calibration))


def test_min_score_is_a_bound_below_top_n(tiny_lm: LanguageModel) -> None:
    every = step(tiny_lm, top_n=4).run(QUESTION, PASSAGES)
    chances = [p for p in every.probabilities if p is not None]
    assert len(chances) == 4
    third = sorted(chances)[1]
    pruned = step(tiny_lm, top_n=4, min_score=third).run(QUESTION, PASSAGES)
    assert {one.index for one in pruned.kept} == {i for i, p in enumerate(chances) if p >= third}
    assert f"3 sources reach min_score={third}" in pruned.dropped[0].reason
    assert len(step(tiny_lm, top_n=2, min_score=third).run(QUESTION, PASSAGES).kept) == 2
    assert len(step(tiny_lm, min_score=1.0).run(QUESTION, PASSAGES).kept) == 1  # min_documents
    assert len(step(tiny_lm, min_score=1.0, min_documents=2).run(QUESTION, PASSAGES).kept) == 2
    budget = step(tiny_lm, min_score=third, max_tokens=1000).run(QUESTION, PASSAGES)
    assert len(budget.kept) == 3


def test_keep_follows_the_level_of_the_calibration(tiny_lm: LanguageModel) -> None:
    pruned = step(tiny_lm, keep="recall>=0.9").run(QUESTION, PASSAGES)  # level 0.6
    chances = sorted((p for p in pruned.probabilities if p is not None), reverse=True)
    kept = sum(one.probability for one in pruned.kept if one.probability is not None)
    assert kept >= 0.6 * sum(chances) > kept - chances[len(pruned.kept) - 1]
    assert len(step(tiny_lm, keep="recall>=0.99").run(QUESTION, PASSAGES).kept) == 4  # no level promises so much


def test_nothing_may_be_kept(tiny_lm: LanguageModel) -> None:
    pruned = step(tiny_lm, EMPTY, allow_empty=True).run(QUESTION, PASSAGES)
    assert pruned.kept == ()
    assert "the passages hold evidence is 0.01, below 0.5" in pruned.dropped[0].reason
    assert len(step(tiny_lm, EMPTY).run(QUESTION, PASSAGES).kept) == 3
    none = step(tiny_lm, allow_empty=True, min_score=1.0).run(QUESTION, PASSAGES)
    assert none.kept == ()
    assert len(step(tiny_lm, allow_empty=True).run(QUESTION, PASSAGES).kept) == 3
    assert step(tiny_lm, EMPTY, allow_empty=True).run(QUESTION, PASSAGES[:1]).kept == ()  # one passage is scored too
    assert len(step(tiny_lm, EMPTY, min_score=0.5).run(QUESTION, PASSAGES[:1]).kept) == 1


def test_the_pruner_has_the_same_bounds(tiny_lm: LanguageModel) -> None:
    one = pruner(tiny_lm)
    result = one.answer(QUESTION, PASSAGES, k=4)
    assert result.probabilities is not None
    assert result.confident is True
    assert pruner(tiny_lm, EMPTY).answer(QUESTION, PASSAGES).confident is False
    third = sorted(result.probabilities)[1]
    few = one.answer(QUESTION, PASSAGES, 4, None, Bounds(min_score=third))
    assert few.k == len(few.kept) == 3
    assert len(one.answer(QUESTION, PASSAGES, 4, None, Bounds(min_score=1.0)).kept) == 1
    both = one.answer_batch([QUESTION] * 2, [PASSAGES, PASSAGES[:2]], 4, None, Bounds(keep="recall>=0.9"))
    step_kept = [k.index for k in step(tiny_lm, keep="recall>=0.9").run(QUESTION, PASSAGES).kept]
    assert both[0].kept == step_kept
    assert result.to_dict()["confident"] is True


def test_sentences_share_the_probability_of_their_passage(tiny_lm: LanguageModel) -> None:
    whole = step(tiny_lm, top_n=4).run(QUESTION, PASSAGES)
    parts = step(tiny_lm, top_n=4, granularity="sentence").run(QUESTION, PASSAGES)
    assert parts.probabilities == pytest.approx(whole.probabilities)


def test_a_blank_passage_is_no_evidence(tiny_lm: LanguageModel) -> None:
    result = pruner(tiny_lm).answer(QUESTION, [*PASSAGES, Passage(" ")])
    assert result.probabilities is not None
    assert result.probabilities[4] == 0.0


def test_without_a_calibration_bounds_are_refused(tiny_lm: LanguageModel) -> None:
    for settings in ({"min_score": 0.3}, {"keep": "recall>=0.9"}, {"allow_empty": True}):
        with pytest.raises(CoefficientsError, match=f"{next(iter(settings))} needs probabilities"):
            step(tiny_lm, None, **settings).run(QUESTION, PASSAGES)
    with pytest.raises(CoefficientsError, match="have no calibration"):
        pruner(tiny_lm, None).answer(QUESTION, PASSAGES, 2, None, Bounds(min_score=0.3))
    with pytest.raises(CoefficientsError, match=r"^min_score and keep need probabilities, but these"):
        pruner(tiny_lm, None).answer(QUESTION, PASSAGES, 2, None, Bounds(0.3, "recall>=0.9"))
    for bounds in (0.3, 0, {"min_score": 0.3}):
        with pytest.raises(InputError, match="bounds must be Bounds, such as"):
            pruner(tiny_lm).answer(QUESTION, PASSAGES, 2, None, bounds)  # type: ignore[arg-type]
    assert pruner(tiny_lm, None).answer(QUESTION, PASSAGES).confident is None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"min_score": 1.5}, "min_score must be a number from 0 to 1, got 1.5"),
        ({"min_score": True}, "min_score must be a number from 0 to 1"),
        ({"keep": "recall>0.9"}, r"keep must be 'recall>=R' with R between 0 and 1"),
        ({"keep": "recall>=1.5"}, r"keep must be 'recall>=R' with R between 0 and 1"),
        ({"keep": "recall>=0.9", "max_tokens": 100}, "both say how much is kept"),
        ({"min_score": 0.3, "method": "bm25"}, "which the method bm25 does not give"),
        ({"allow_empty": True, "method": "cross_encoder", "cross_encoder": "m"}, "does not give: use scout"),
    ],
)
def test_wrong_bounds_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        PruneConfig(**settings)


def test_bounds_come_from_the_environment() -> None:
    environ = {"AT2_PRUNE_MIN_SCORE": "0.3", "AT2_PRUNE_ALLOW_EMPTY": "on", "AT2_PRUNE_CALIBRATE": "off"}
    config = PruneConfig.load(environ=environ)
    assert (config.min_score, config.allow_empty, config.calibrate) == (0.3, True, False)
    assert PruneConfig.load(environ={"AT2_PRUNE_KEEP": "recall>=0.95"}).keep == "recall>=0.95"
