from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from at2_prune.coefficients.head_coefficients import HeadCoefficients
from at2_prune.datasets import Question
from at2_prune.models.drafts import write_drafts
from at2_prune.models.language_model import LanguageModel
from at2_prune.scorers import AttentionScorer, LearnedScorer, RandomScorer, Scorer, Task
from at2_prune_eval import CachedLoop

MAX_NEW_TOKENS = 6
KS = [1, 2, 4]


class Calls:
    """Counts the model's forward passes and their tokens, and can stop a run in the middle."""

    def __init__(self, language_model: LanguageModel) -> None:
        self.passes = 0
        self.tokens = 0
        self.interrupt_at: int | None = None
        self._hook = language_model.model.get_decoder().register_forward_pre_hook(self, with_kwargs=True)

    def __call__(self, module: Any, args: Any, kwargs: Any) -> None:
        if self.passes == self.interrupt_at:
            raise KeyboardInterrupt
        self.passes += 1
        given = kwargs["input_ids"] if kwargs.get("inputs_embeds") is None else kwargs["inputs_embeds"][..., 0]
        self.tokens += given.numel()

    def remove(self) -> None:
        self._hook.remove()


@pytest.fixture
def calls(tiny_lm: LanguageModel, questions: list[Question]) -> Iterator[Calls]:
    calls = Calls(tiny_lm)
    yield calls
    calls.remove()


@pytest.fixture
def loop(tiny_lm: LanguageModel) -> CachedLoop:
    return CachedLoop(tiny_lm, max_new_tokens=MAX_NEW_TOKENS)


@pytest.fixture
def coefficients(tiny_lm: LanguageModel) -> HeadCoefficients:
    weight = torch.randn(1, 2, 4, generator=torch.Generator().manual_seed(1))
    return HeadCoefficients(weight, model_name=tiny_lm.name, model_type="llama")


@pytest.fixture
def scorers(coefficients: HeadCoefficients) -> list[Scorer]:
    return [LearnedScorer(coefficients), AttentionScorer()]


@pytest.fixture
def questions(tiny_lm: LanguageModel, sample_questions: list[Question]) -> list[Question]:
    """Six questions; the random model's draft answers the even ones, its answer from the gold passages the odd ones."""
    result = []
    for index, question in enumerate(sample_questions[:6]):
        shown = question.passages if index % 2 == 0 else [question.passages[i] for i in question.gold]
        prompt = tiny_lm.encode(question.text, shown)
        answer = write_drafts(tiny_lm, [prompt], max_new_tokens=MAX_NEW_TOKENS)[0].text
        result.append(replace(question, answer=answer))
    return result


class Counted(RandomScorer):
    """Counts how often it is asked."""

    def __init__(self, setting: Any = 1) -> None:
        super().__init__()
        self.name = "counted"
        self.setting = setting
        self._asked = 0

    def score(self, task: Task) -> torch.Tensor:
        self._asked += 1
        return super().score(task)
