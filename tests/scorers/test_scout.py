"""Scoring without a draft: the prompt's own rows, in one pass that ends early."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from at2_prune.attention.rows import Reading, RowGroup, Rows
from at2_prune.coefficients.head_coefficients import HeadCoefficients
from at2_prune.datasets import Question
from at2_prune.errors import EmptyDraftError
from at2_prune.models.drafts import write_drafts
from at2_prune.models.language_model import LanguageModel
from at2_prune.models.readouts import read_prompts
from at2_prune.pipeline.config import PruneConfig
from at2_prune.pipeline.step import PruneStep
from at2_prune.pruning.pruner import AT2Pruner
from at2_prune.report import html_report, terminal_report
from at2_prune.scorers import BM25Scorer, FusionScorer, LearnedScorer, Task

GROUPS = (RowGroup("question"), RowGroup("question", "max"), RowGroup("sources"), RowGroup("sources", "max"))


@pytest.fixture
def coefficients() -> HeadCoefficients:
    weight = torch.randn(4, 1, 4, generator=torch.Generator().manual_seed(2))
    return HeadCoefficients(weight, GROUPS, layers=[0], model_type="llama", model_layers=2)


@pytest.fixture
def scout(tiny_lm: LanguageModel, coefficients: HeadCoefficients) -> AT2Pruner:
    return AT2Pruner(tiny_lm, LearnedScorer(coefficients, "scout"), max_new_tokens=6)


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


def eager_weights(lm: LanguageModel, ids: list[int]) -> torch.Tensor:  # (layers, heads, rows, keys)
    implementation = lm.model.config._attn_implementation
    lm.model.set_attn_implementation("eager")
    with torch.no_grad():
        weights = lm.model(torch.tensor([ids]), output_attentions=True).attentions
    lm.model.set_attn_implementation(implementation)
    return torch.stack(weights)[:, 0]


def test_rows_of_the_sources_equal_eager_attention(tiny_lm: LanguageModel, sample_questions: list[Question]) -> None:
    question = sample_questions[0]
    prompt = tiny_lm.encode(question.text, question.passages)
    weights = eager_weights(tiny_lm, prompt.ids)
    read = read_prompts(tiny_lm, [prompt], GROUPS)[0]
    n = len(prompt.sources)
    for group in GROUPS[2:]:
        assert read.mass[group].shape == (2, 4, n, n)
        for i, (start, stop) in enumerate(prompt.sources):
            for j, (first, last) in enumerate(prompt.sources):
                rows = weights[:, :, start:stop, first:last].sum(-1)
                expected = rows.mean(-1) if group.reduce == "mean" else rows.amax(-1)
                torch.testing.assert_close(read.mass[group][:, :, i, j], expected, atol=1e-5, rtol=1e-4)
    drafted = write_drafts(tiny_lm, [prompt], GROUPS, 4)[0]
    for group in GROUPS:
        torch.testing.assert_close(drafted.readout.mass[group], read.mass[group], atol=1e-5, rtol=1e-4)


def test_the_pass_ends_with_the_last_layer_wanted(
    tiny_lm: LanguageModel, sample_questions: list[Question], layers_run: list[tuple[int, int]]
) -> None:
    prompt = tiny_lm.encode(sample_questions[0].text, sample_questions[0].passages)
    first = read_prompts(tiny_lm, [prompt], GROUPS, [0])[0]
    assert layers_run == [(0, len(prompt))]
    both = read_prompts(tiny_lm, [prompt], GROUPS)[0]
    assert first.layers == [0]
    for group in GROUPS:
        assert torch.equal(first.mass[group], both.mass[group][:1])
    with pytest.raises(EmptyDraftError, match="there is no draft"):
        read_prompts(tiny_lm, [prompt], [RowGroup("draft")])[0]


def test_a_model_that_was_stopped_runs_on_as_before(tiny_lm: LanguageModel, sample_questions: list[Question]) -> None:
    prompt = tiny_lm.encode(sample_questions[0].text, sample_questions[0].passages)
    before = tiny_lm.model(torch.tensor([prompt.ids])).logits
    tiny_lm.read([prompt], [[]], [Reading(prompt.sources, [Rows("question", *prompt.question)])], [0])
    assert torch.equal(tiny_lm.model(torch.tensor([prompt.ids])).logits, before)


def test_one_early_pass_and_one_short_answer(
    scout: AT2Pruner, sample_questions: list[Question], layers_run: list[tuple[int, int]]
) -> None:
    question = sample_questions[0]
    result = scout.answer(question.text, question.passages, 2)
    lm = scout.language_model
    prompt = lm.encode(question.text, question.passages)
    head = prompt.sources[0][0]
    whole = len(prompt)
    short = len(lm.encode(question.text, [question.passages[i] for i in result.kept]))
    assert layers_run[:5] == [(0, head), (1, head), (0, whole - head), (0, short - head), (1, short - head)]
    assert all(tokens == 1 for _, tokens in layers_run[5:])
    assert result.draft is None
    assert result.answer == scout.answer_from(question.text, question.passages, result.kept)
    assert result.scores == pytest.approx(scout.score(question.text, question.passages))
    batch = scout.answer_batch([q.text for q in sample_questions[:2]], [q.passages for q in sample_questions[:2]], 2)
    assert next((r.kept, r.answer, r.draft) for r in batch) == (result.kept, result.answer, None)
    everything = scout.answer(question.text, question.passages, 10)
    assert everything.answer == scout.answer_from(question.text, question.passages)


@pytest.mark.parametrize("method", ["scout", "fusion"])
def test_a_batch_is_scouted_in_one_early_pass_where_that_pays(
    scout: AT2Pruner,
    sample_questions: list[Question],
    layers_run: list[tuple[int, int]],
    monkeypatch: pytest.MonkeyPatch,
    method: str,
) -> None:
    lm = scout.language_model
    pruner = scout if method == "scout" else AT2Pruner(lm, FusionScorer(scout.scorer, BM25Scorer()), max_new_tokens=8)
    questions, passages = zip(*[(q.text, q.passages[: 2 + i]) for i, q in enumerate(sample_questions[:3])], strict=True)
    alone = [pruner.answer(*one, 2) for one in zip(questions, passages, strict=True)]
    monkeypatch.setattr(LanguageModel, "batching_pays", True)
    longest = max(len(lm.encode(*one)) for one in zip(questions, passages, strict=True))
    layers_run.clear()
    scores = pruner.score_batch(questions, passages)
    assert layers_run == [(0, longest)]
    for values, result in zip(scores, alone, strict=True):
        assert values == pytest.approx(result.scores, abs=1e-5)
    together = pruner.answer_batch(questions, passages, 2)
    assert layers_run[1] == (0, longest)
    assert [(r.kept, r.answer) for r in together] == [(r.kept, r.answer) for r in alone]


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


def test_windows_without_a_draft(
    tiny_lm: LanguageModel, coefficients: HeadCoefficients, sample_questions: list[Question]
) -> None:
    pruner = AT2Pruner(tiny_lm, LearnedScorer(coefficients, "scout"), max_new_tokens=4, overflow="windows")
    passages = [*sample_questions[0].passages, *sample_questions[1].passages, *sample_questions[2].passages] * 2
    result = pruner.answer(sample_questions[0].text, passages, 2)
    assert len(result.scores) == len(passages)
    assert len(result.kept) == 2


def test_scorer_reads_the_draft_where_it_weighs_it(tiny_lm: LanguageModel, sample_questions: list[Question]) -> None:
    groups = (RowGroup("draft"), RowGroup("sources"))
    made = HeadCoefficients(torch.ones(2, 2, 4), groups, model_type="llama")
    scorer = LearnedScorer(made, "both")
    assert (scorer.uses_draft, scorer.row_groups) == (True, groups)
    question = sample_questions[0]
    prompt = tiny_lm.encode(question.text, question.passages)
    draft = write_drafts(tiny_lm, [prompt], groups, 4)[0]
    scores = scorer.score(Task(tiny_lm, question.text, question.passages, prompt, draft))
    direct = draft.readout.mass[groups[0]].sum((0, 1))
    best = int(direct.argmax())
    linked = draft.readout.mass[groups[1]].sum((0, 1))
    bonus = linked[best] + linked[:, best]
    others = [i for i in range(len(direct)) if i != best]
    torch.testing.assert_close(scores[others], (direct + bonus)[others])
    assert int(scores.argmax()) == best


def test_a_draft_that_nothing_reads_is_spoken_of(
    scout: AT2Pruner, sample_questions: list[Question], caplog: pytest.LogCaptureFixture
) -> None:
    question = sample_questions[0]
    passages = question.passages[:4]
    scores = scout.score(question.text, passages, "a draft")
    assert "the method scout does not read the draft given" in caplog.text
    caplog.clear()
    assert scores == scout.score(question.text, passages)
    assert PruneStep(PruneConfig(), scout).to_draft(passages) == []
    assert not caplog.text
    step = PruneStep(PruneConfig(), scout)
    assert step.to_draft(passages, offered=True) == step.to_draft(passages, offered=True) == []
    assert caplog.text.count("draft_llm is unused") == 1
