"""Drafts, scores and answers are computed once; bad scores are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from at2_prune.datasets import Question
from at2_prune.errors import InputError
from at2_prune.scorers import (
    AttentionScorer,
    FusionScorer,
    GradientXInputScorer,
    RandomScorer,
    SurrogateScorer,
    Task,
)
from at2_prune_eval import CachedLoop, Experiment, answer_question, evaluate
from at2_prune_eval.run.methods import as_methods

from ..conftest import Calls, Counted


def test_scores_are_remembered(loop: CachedLoop, questions: list[Question], calls: Calls) -> None:
    """Another run with one more method pays for that method only; a changed setting or file is another method."""
    scorers = [GradientXInputScorer(), SurrogateScorer(8), AttentionScorer()]
    first = answer_question(loop, as_methods(scorers), questions[0], [1])
    before = calls.passes
    again = answer_question(loop, as_methods([RandomScorer(), *scorers]), questions[0], [10])  # nothing to answer
    assert calls.passes == before
    for name in ("gradient_x_input", "surrogate_8", "average_attention"):
        assert again["methods"][name]["scores"] == first["methods"][name]["scores"]
        assert again["methods"][name]["cost"] == first["methods"][name]["cost"]
    others = answer_question(loop, as_methods([SurrogateScorer(8, alpha=10.0)]), questions[0], [10])
    assert others["methods"]["surrogate_8"]["scores"] != first["methods"]["surrogate_8"]["scores"]


def test_what_another_kernel_rounded_is_asked_again(
    loop: CachedLoop, questions: list[Question], calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = answer_question(loop, as_methods([SurrogateScorer(8)]), questions[0], [1])
    before = calls.passes
    monkeypatch.setenv("TRANSFORMERS_SDPA_FORCE_GQA", "1")
    for again in (True, False):  # asked again once
        other = CachedLoop(loop.language_model, loop.cache, loop.max_new_tokens)
        found = answer_question(other, as_methods([SurrogateScorer(8)]), questions[0], [1])
        assert (calls.passes > before) == again
        before = calls.passes
        scores = [record["methods"]["surrogate_8"]["scores"] for record in (first, found)]
        assert scores[0] == pytest.approx(scores[1], abs=1e-4)


def test_what_a_method_loads_is_loaded_before_the_first_question(
    loop: CachedLoop, questions: list[Question], tmp_path: Path
) -> None:
    happened: list[str] = []

    class Loading(Counted):
        def prepare(self, device: torch.device) -> None:
            happened.append(device.type)

        def score(self, task: Task) -> torch.Tensor:
            happened.append("score")
            return super().score(task)

    evaluate(loop, Experiment([FusionScorer(Loading(), Loading(2))], questions[:2], [1, 2, 4]), tmp_path)
    assert happened == ["cpu", "cpu", *["score"] * 4]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_scores_that_are_no_numbers_are_refused_by_name(
    loop: CachedLoop, questions: list[Question], bad: float
) -> None:
    class Broken(Counted):
        def score(self, task: Task) -> torch.Tensor:
            return super().score(task) * bad

    for _ in range(2):  # and not remembered
        with pytest.raises(InputError, match=r"the method counted gives scores that are not finite.*for the question"):
            answer_question(loop, as_methods([Broken()]), questions[0], [1])
