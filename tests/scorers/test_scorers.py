from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from at2_prune.attention.rows import DRAFT_ROWS, RowGroup
from at2_prune.coefficients.head_coefficients import HeadCoefficients
from at2_prune.datasets import Question
from at2_prune.errors import CoefficientsError, EmptyDraftError
from at2_prune.models.drafts import Draft, read_drafts, write_drafts
from at2_prune.models.language_model import LanguageModel
from at2_prune.scorers import AttentionScorer, LearnedScorer, Task

QUESTION_ROWS = RowGroup("question", "max")


def task(lm: LanguageModel, question: Question, groups: tuple[RowGroup, ...], draft: str | None = None) -> Task:
    passages = question.passages[:4]
    prompt = lm.encode(question.text, passages)
    read = write_drafts(lm, [prompt], groups, 8)[0] if draft is None else read_drafts(lm, [prompt], [draft], groups)[0]
    return Task(lm, question.text, passages, prompt, read)


@pytest.mark.parametrize("draft", [None, "Canberra"])
@pytest.mark.parametrize("groups", [(DRAFT_ROWS,), (QUESTION_ROWS, DRAFT_ROWS, RowGroup("last"))])
def test_at2_is_the_weighted_sum(
    tiny_lm: LanguageModel, sample_questions: list[Question], groups: tuple[RowGroup, ...], draft: str | None
) -> None:
    weight = torch.randn(len(groups), 2, 4, generator=torch.Generator().manual_seed(0))
    scorer = LearnedScorer(HeadCoefficients(weight, groups, model_type="llama"))
    assert scorer.row_groups == groups
    todo = task(tiny_lm, sample_questions[0], scorer.row_groups, draft)
    mass = todo.draft.readout.mass
    expected = sum((weight[g, :, :, None] * mass[group]).sum((0, 1)) for g, group in enumerate(groups))
    assert isinstance(expected, torch.Tensor)
    torch.testing.assert_close(scorer.score(todo), expected, atol=1e-6, rtol=1e-5)
    assert scorer.score(todo).shape == (4,)


def test_average_attention_is_at2_with_equal_weights(tiny_lm: LanguageModel, sample_questions: list[Question]) -> None:
    scorer = AttentionScorer()
    todo = task(tiny_lm, sample_questions[0], scorer.row_groups)
    equal = LearnedScorer(HeadCoefficients.average(2, 4)).score(todo)
    torch.testing.assert_close(scorer.score(todo), equal)
    assert todo.draft.readout.row_mass is not None
    torch.testing.assert_close(scorer.score(todo), todo.draft.readout.row_mass.mean((0, 1, 2)))
    assert 0 < float(scorer.score(todo).sum()) < 1  # the instruction and the question get the rest


def test_without_a_draft(tiny_lm: LanguageModel, sample_questions: list[Question]) -> None:
    todo = task(tiny_lm, sample_questions[0], (DRAFT_ROWS, QUESTION_ROWS))
    mass = {QUESTION_ROWS: todo.draft.readout.mass[QUESTION_ROWS]}
    empty = replace(todo, draft=Draft("", [], readout=replace(todo.draft.readout, mass=mass)))
    for scorer in (AttentionScorer(), LearnedScorer(HeadCoefficients.average(2, 4))):
        with pytest.raises(EmptyDraftError, match="the draft is empty, so there is nothing to attribute"):
            scorer.score(empty)


def test_attention_that_was_not_read(tiny_lm: LanguageModel, sample_questions: list[Question]) -> None:
    todo = task(tiny_lm, sample_questions[0], (QUESTION_ROWS,))
    read = task(tiny_lm, sample_questions[0], (DRAFT_ROWS,)).draft
    assert todo.draft.ids
    with pytest.raises(CoefficientsError, match=r"row groups \['draft'\] was not read"):
        LearnedScorer(HeadCoefficients.average(2, 4)).score(todo)
    with pytest.raises(CoefficientsError, match=r"on layers \[0, 2\]"):
        LearnedScorer(HeadCoefficients(torch.ones(1, 2, 4), layers=[0, 2])).score(replace(todo, draft=read))


def test_ablate_measures_the_drafts_log_odds(tiny_lm: LanguageModel, sample_questions: list[Question]) -> None:
    todo = task(tiny_lm, sample_questions[0], (), "Canberra")
    masks = torch.tensor([[True, True, True, True], [False, True, False, True]])
    expected = []
    for kept in masks.tolist():
        out = [p for keep, span in zip(kept, todo.prompt.sources, strict=True) if not keep for p in range(*span)]
        ids = torch.tensor([[*todo.prompt.ids, *todo.draft.ids]])
        mask = torch.ones_like(ids)
        mask[0, out] = 0
        with torch.no_grad():
            log_p = tiny_lm.model(ids, attention_mask=mask, use_cache=False).logits[0].double().log_softmax(-1)
        rows = range(len(todo.prompt) - 1, ids.shape[1] - 1)
        total = sum(log_p[row, int(ids[0, row + 1])] for row in rows)
        expected.append(float(total - torch.log1p(-torch.exp(total))))  # type: ignore[arg-type]
    outcomes = todo.ablate(masks)
    assert outcomes.dtype == torch.float64
    torch.testing.assert_close(outcomes, torch.tensor(expected, dtype=torch.float64), atol=1e-4, rtol=0)
    assert abs(expected[0] - expected[1]) > 1e-2

    shared = replace(todo, outcomes=lambda masks: masks.sum(1).double())
    assert shared.ablate(masks).tolist() == [4, 2]
    with pytest.raises(EmptyDraftError, match="nothing to attribute"):
        replace(shared, draft=replace(todo.draft, ids=[])).ablate(masks)
