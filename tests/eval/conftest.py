from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from at2_prune.coefficients import HeadCoefficients
from at2_prune.draft import write_drafts
from at2_prune.model import LanguageModel
from at2_prune.questions import Question
from at2_prune.scorers import AT2Scorer, AverageAttentionScorer, Scorer

MAX_NEW_TOKENS = 6
KS = [1, 2, 4]


class Calls:
    """Counts what the model is asked to write, and can stop a run in the middle; the real method does the work."""

    def __init__(self, language_model: LanguageModel) -> None:
        self.prompts: list[tuple[int, ...]] = []
        self.readings = 0
        self.interrupt_at: int | None = None
        self._generate = language_model.generate
        language_model.generate = self  # type: ignore[method-assign, assignment]

    def __call__(self, prompts: Any, max_new_tokens: int = 48, readings: Any = None) -> Any:
        if len(self.prompts) == self.interrupt_at:
            raise KeyboardInterrupt
        self.prompts += [tuple(prompt.ids) for prompt in prompts]
        self.readings += readings is not None
        return self._generate(prompts, max_new_tokens, readings)


@pytest.fixture
def calls(tiny_lm: LanguageModel, questions: list[Question]) -> Calls:
    return Calls(tiny_lm)


@pytest.fixture
def coefficients(tiny_lm: LanguageModel) -> HeadCoefficients:
    weight = torch.randn(1, 2, 4, generator=torch.Generator().manual_seed(1))
    return HeadCoefficients(weight, model_name=tiny_lm.name, model_type="llama")


@pytest.fixture
def scorers(coefficients: HeadCoefficients) -> list[Scorer]:
    return [AT2Scorer(coefficients), AverageAttentionScorer()]


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
