"""Drafts, scores and answers are computed once, those of an earlier version too; bad scores are refused."""

from __future__ import annotations

import json
from dataclasses import replace
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
    Scorer,
    SurrogateScorer,
    Task,
)
from at2_prune_eval import CachedLoop, Experiment, answer_question, evaluate
from at2_prune_eval.loop.digests import digest
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


def test_answers_remembered_without_a_probability_are_written_again(
    loop: CachedLoop, questions: list[Question], calls: Calls
) -> None:
    prompt = loop.language_model.encode(questions[0].text, questions[0].passages[:2])
    first = loop.write_answers([prompt])[0]
    assert first.log_probability > -100
    key = digest("answer", loop._writing, prompt.ids)
    for early in ({"text": first.text}, {"text": first.text, "log_probability": None}):
        loop.cache.put(key, json.dumps(early).encode())  # as the first versions did
        before = calls.passes
        assert loop.write_answers([prompt])[0] == first
        assert calls.passes > before
        before = calls.passes
        assert loop.write_answers([prompt])[0] == first
        assert calls.passes == before


def test_drafts_of_version_0_1_0_are_used(
    loop: CachedLoop, scorers: list[Scorer], questions: list[Question], calls: Calls
) -> None:
    """They have no probability: the answer from all passages is written where `auto` compares it, and only there."""
    short = replace(questions[0], passages=questions[0].passages[:2], gold=(0,))
    for question, ks in ((questions[0], [1, "auto"]), (short, [1, 2]), (short, ["auto"])):
        loop = CachedLoop(loop.language_model, None, loop.max_new_tokens)
        first = answer_question(loop, as_methods(scorers), question, ks)
        prompt = loop.language_model.encode(question.text, question.passages)
        key = digest("draft", loop._writing, prompt.ids, prompt.sources)
        draft = json.loads(loop.cache.get(key) or b"")
        assert draft.pop("log_probability") > -100
        loop.cache.put(key, json.dumps(draft).encode())
        before = calls.passes
        assert answer_question(loop, as_methods(scorers), question, ks) == first
        compared = question is short and "auto" in ks
        assert (calls.passes > before) == compared


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
