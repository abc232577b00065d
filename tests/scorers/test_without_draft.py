"""Methods that read no draft: what runs, and what is said of a draft."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from at2_prune.attention.rows import Reading, Rows
from at2_prune.coefficients.scout_coefficients import ScoutCoefficients
from at2_prune.datasets import Question
from at2_prune.models.language_model import LanguageModel
from at2_prune.pipeline.config import PruneConfig
from at2_prune.pipeline.step import PruneStep
from at2_prune.pruning.pruner import AT2Pruner
from at2_prune.report import html_report, terminal_report
from at2_prune.scorers import BM25Scorer
from at2_prune.scorers.scout import ScoutScorer


@pytest.fixture
def scout(tiny_lm: LanguageModel) -> AT2Pruner:
    """Scout with random coefficients for the first of two layers."""
    generator = torch.Generator().manual_seed(2)
    first, following = torch.randn(2, 6, 1, 4, generator=generator)
    links = torch.randn(6, 1, 4, generator=generator)
    made = ScoutCoefficients(first, following, links, (0,), (0,), "tiny", "llama", 2)
    return AT2Pruner(tiny_lm, ScoutScorer(made), max_new_tokens=6)


@pytest.fixture
def layers_run(tiny_lm: LanguageModel) -> Iterator[list[tuple[int, int]]]:
    """(layer, tokens) of every decoder layer that runs."""
    ran: list[tuple[int, int]] = []

    def hook_of(index: int) -> Any:
        return lambda module, args, kwargs: ran.append((index, args[0].shape[1]))

    layers = tiny_lm.model.get_decoder().layers
    hooks = [layer.register_forward_pre_hook(hook_of(i), with_kwargs=True) for i, layer in enumerate(layers)]
    yield ran
    for hook in hooks:
        hook.remove()


def test_a_model_that_was_stopped_runs_on_as_before(tiny_lm: LanguageModel, sample_questions: list[Question]) -> None:
    prompt = tiny_lm.encode(sample_questions[0].text, sample_questions[0].passages)
    before = tiny_lm.model(torch.tensor([prompt.ids])).logits
    tiny_lm.read([prompt], [[]], [Reading(prompt.sources, [Rows("question", *prompt.question)])], [0])
    assert torch.equal(tiny_lm.model(torch.tensor([prompt.ids])).logits, before)


def test_the_question_is_read_in_the_first_layers_and_one_short_answer_is_written(
    scout: AT2Pruner, sample_questions: list[Question], layers_run: list[tuple[int, int]]
) -> None:
    question = sample_questions[0]
    lm = scout.language_model
    expected = scout.score(question.text, question.passages)  # the passages are kept now
    layers_run.clear()
    result = scout.answer(question.text, question.passages, 2)
    short = len(lm.encode(question.text, [question.passages[i] for i in result.kept]))
    written = [tokens for layer, tokens in layers_run if layer == 1 and tokens > 1]
    assert sum(written) <= short  # the text before the passages may have run alone
    assert result.draft is None
    assert result.answer == scout.answer_from(question.text, question.passages, result.kept)
    assert result.scores == pytest.approx(expected)
    batch = scout.answer_batch([q.text for q in sample_questions[:2]], [q.passages for q in sample_questions[:2]], 2)
    assert next((r.kept, r.answer, r.draft) for r in batch) == (result.kept, result.answer, None)
    everything = scout.answer(question.text, question.passages, 10)
    assert everything.answer == scout.answer_from(question.text, question.passages)


def test_a_draft_given_is_not_needed_but_kept(scout: AT2Pruner, sample_questions: list[Question]) -> None:
    question = sample_questions[0]
    result = scout.answer(question.text, question.passages, 2, draft="the Meuse")
    assert result.draft == "the Meuse"
    assert result.scores == pytest.approx(scout.score(question.text, question.passages))


def test_reports_say_that_there_was_no_draft(scout: AT2Pruner, sample_questions: list[Question]) -> None:
    result = scout.answer(sample_questions[0].text, sample_questions[0].passages, 2)
    text = terminal_report(result, width=100)
    assert "Draft" not in text
    assert "the same as the draft" not in text
    page = html_report(result, model="tiny", scorer="scout")
    assert "No draft was written" in page
    assert "<h2>Draft" not in page


def test_a_ranker_needs_no_draft_either(
    tiny_lm: LanguageModel, sample_questions: list[Question], monkeypatch: pytest.MonkeyPatch
) -> None:
    pruner = AT2Pruner(tiny_lm, BM25Scorer(), max_new_tokens=4)
    question = sample_questions[0]
    prompts: list[int] = []
    generate = tiny_lm.generate
    monkeypatch.setattr(
        tiny_lm, "generate", lambda some, *a, **k: prompts.extend(map(len, some)) or generate(some, *a, **k)
    )
    result = pruner.answer(question.text, question.passages, 3)
    assert len(prompts) == 1
    assert len(result.kept) == 3
    assert pruner.draft(question.text, question.passages).ids  # whoever asks for a draft gets one


def test_a_draft_that_nothing_reads_is_spoken_of(
    scout: AT2Pruner, sample_questions: list[Question], caplog: pytest.LogCaptureFixture
) -> None:
    question = sample_questions[0]
    passages = question.passages[:4]
    scores = scout.score(question.text, passages, "a draft")
    assert "the method scout does not read the given draft" in caplog.text
    caplog.clear()
    assert scores == scout.score(question.text, passages)
    assert PruneStep(PruneConfig(), scout).to_draft(passages) == []
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    step = PruneStep(PruneConfig(), scout)
    assert step.to_draft(passages, offered=True) == step.to_draft(passages, offered=True) == []
    assert caplog.text.count("draft_llm is unused") == 1
