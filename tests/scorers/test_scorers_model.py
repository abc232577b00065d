from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch

from at2_prune.attention.rows import DRAFT_ROWS, RowGroup
from at2_prune.coefficients.head_coefficients import HeadCoefficients
from at2_prune.datasets import Question
from at2_prune.errors import EmptyDraftError, InputError, MissingExtraError
from at2_prune.models.drafts import Draft, read_drafts, write_drafts
from at2_prune.models.language_model import LanguageModel
from at2_prune.passages import Granularity
from at2_prune.scorers import (
    GradientXInputScorer,
    LearnedScorer,
    LeaveOneOutScorer,
    Scorer,
    SurrogateScorer,
    Task,
    make_scorer,
)

GROUPS = [DRAFT_ROWS, RowGroup("draft", measure="contribution"), RowGroup("draft", measure="effective")]


def task(lm: LanguageModel, question: Question, draft: str = "It is Canberra", by: Granularity = "passage") -> Task:
    passages = question.passages[:4]
    prompt = lm.encode(question.text, passages, by)
    return Task(lm, question.text, passages, prompt, read_drafts(lm, [prompt], [draft], GROUPS)[0])


def log_p(lm: LanguageModel, todo: Task, embeddings: torch.Tensor, out: list[int] | None = None) -> torch.Tensor:
    """The draft's log-probability, by one pass without a cache and with an attention mask over all tokens."""
    mask = torch.ones(embeddings.shape[:2], dtype=torch.long)
    mask[0, out or []] = 0
    logits = lm.model(inputs_embeds=embeddings, attention_mask=mask, use_cache=False).logits[0]
    rows = logits[len(todo.prompt) - 1 :].log_softmax(-1)
    return sum((row[token] for row, token in zip(rows, todo.draft.ids, strict=True)), torch.zeros(()))


def embed(lm: LanguageModel, todo: Task) -> torch.Tensor:
    return lm.model.get_input_embeddings()(torch.tensor([[*todo.prompt.ids, *todo.draft.ids[:-1]]])).detach()


def test_last_layer_attention(tiny_lm: LanguageModel, sample_questions: list[Question]) -> None:
    todo = task(tiny_lm, sample_questions[0])
    ids = torch.tensor([[*todo.prompt.ids, *todo.draft.ids[:-1]]])
    tiny_lm.model.set_attn_implementation("eager")
    try:
        with torch.no_grad():
            weights = tiny_lm.model(ids, output_attentions=True, use_cache=False).attentions[-1][0]
    finally:
        tiny_lm.model.set_attn_implementation("sdpa")
    rows = weights[:, len(todo.prompt) - 1 :].mean((0, 1))
    expected = torch.stack([rows[start:stop].sum() for start, stop in todo.prompt.sources])
    torch.testing.assert_close(make_scorer("last_layer_attention").score(todo), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("scorer", "group"), [(make_scorer("contribution"), GROUPS[1]), (make_scorer("effective_attention"), GROUPS[2])]
)
def test_measures_raw_and_learned(
    tiny_lm: LanguageModel, sample_questions: list[Question], scorer: Scorer, group: RowGroup
) -> None:
    todo = task(tiny_lm, sample_questions[0])
    assert scorer.row_groups == (group,)
    torch.testing.assert_close(scorer.score(todo), todo.draft.readout.mass[group].sum((0, 1)) / 8)
    weight = torch.randn(1, 2, 4, generator=torch.Generator().manual_seed(0))
    learned = LearnedScorer(HeadCoefficients(weight, [group]), "learned")
    assert (learned.name, learned.row_groups) == ("learned", (group,))
    expected = (weight[0, :, :, None] * todo.draft.readout.mass[group]).sum((0, 1))
    torch.testing.assert_close(learned.score(todo), expected)


@pytest.mark.parametrize("by", ["passage", "sentence"])
def test_gradient_x_input_by_finite_differences(
    tiny_lm: LanguageModel, sample_questions: list[Question], by: Granularity
) -> None:
    """Shrinking a source's embeddings by a part changes the log-probability by that part of the score."""
    todo = task(tiny_lm, sample_questions[0], by=by)
    with torch.inference_mode():  # as an evaluation may run it
        scores = GradientXInputScorer().score(todo)
    embeddings, part, differences = embed(tiny_lm, todo), 1e-2, []
    with torch.no_grad():
        for start, stop in todo.prompt.sources:
            values = []
            for sign in (1, -1):
                scaled = embeddings.clone()
                scaled[0, start:stop] *= 1 + sign * part
                values.append(log_p(tiny_lm, todo, scaled))
            differences.append((values[0] - values[1]) / (2 * part))
    torch.testing.assert_close(scores, torch.stack(differences), atol=2e-3, rtol=1e-3)
    assert scores.min() < -0.02 < 0.02 < scores.max()  # it keeps its sign
    assert all(parameter.grad is None for parameter in tiny_lm.model.parameters())


def test_leave_one_out_without_a_cache(tiny_lm: LanguageModel, sample_questions: list[Question]) -> None:
    todo = task(tiny_lm, sample_questions[0])
    embeddings = embed(tiny_lm, todo)
    spans = [[], *(list(range(*span)) for span in todo.prompt.sources)]
    with torch.no_grad():
        total = torch.stack([log_p(tiny_lm, todo, embeddings, out) for out in spans]).double()
    odds = total - torch.log1p(-total.exp())
    scores = LeaveOneOutScorer().score(todo)
    torch.testing.assert_close(scores, odds[0] - odds[1:], atol=1e-4, rtol=0)
    assert scores.abs().min() > 1e-3


@pytest.mark.parametrize("by", ["passage", "sentence"])
def test_surrogate_by_coordinate_descent(
    tiny_lm: LanguageModel, sample_questions: list[Question], by: Granularity
) -> None:
    todo = task(tiny_lm, sample_questions[0], by=by)
    asked: list[torch.Tensor] = []

    def outcomes(masks: torch.Tensor) -> torch.Tensor:
        asked.append(masks)
        return todo.ablate(masks)

    scores = SurrogateScorer(32, alpha=0.05).score(replace(todo, outcomes=outcomes))
    (masks,) = asked
    assert masks.shape == (32, len(todo.prompt.sources))
    x, tokens = masks.double(), len(todo.draft.ids)
    y = todo.ablate(masks) / tokens
    scale = x.std(0, correction=0)
    x, y = (x - x.mean(0)) / scale, y - y.mean()
    weight = torch.zeros(x.shape[1], dtype=torch.float64)
    for _ in range(2000):  # minimise |y - xw|^2 / 2m + alpha |w|_1, one weight at a time
        for s in range(len(weight)):
            rest = x[:, s] @ (y - x @ weight + x[:, s] * weight[s]) / len(x)
            weight[s] = rest.sign() * (rest.abs() - 0.05).clamp(min=0)
    torch.testing.assert_close(scores, weight / scale * tokens, atol=1e-2, rtol=1e-3)
    assert (scores != 0).any()


def test_surrogates_share_their_ablations(tiny_lm: LanguageModel, sample_questions: list[Question]) -> None:
    todo = task(tiny_lm, sample_questions[0])
    asked: list[torch.Tensor] = []

    def outcomes(masks: torch.Tensor) -> torch.Tensor:
        asked.append(masks)
        return masks.double() @ torch.tensor([3.0, -2, 0, 1], dtype=torch.float64)

    few, many, other = SurrogateScorer(32), SurrogateScorer(64), SurrogateScorer(32, seed=1)
    assert (few.name, many.name) == ("surrogate_32", "surrogate_64")
    scores = [scorer.score(replace(todo, outcomes=outcomes)) for scorer in (few, many, other)]
    assert torch.equal(asked[0], asked[1][:32])
    assert not torch.equal(asked[0], asked[2])
    assert 0.4 < asked[1].float().mean() < 0.6
    assert scores[1].argsort().tolist() == [1, 2, 3, 0]  # outcomes that are linear in the sources are found
    elsewhere = replace(todo, question="Another question?", outcomes=outcomes)
    few.score(elsewhere)
    assert not torch.equal(asked[0], asked[3])


def test_surrogate_of_outcomes_that_do_not_vary(tiny_lm: LanguageModel, sample_questions: list[Question]) -> None:
    todo = replace(task(tiny_lm, sample_questions[0]), outcomes=lambda masks: torch.full((len(masks),), 2.0))
    assert SurrogateScorer(32).score(todo).tolist() == [0, 0, 0, 0]
    with pytest.raises(InputError, match="at least 2 ablations, got 1"):
        SurrogateScorer(1)


def test_surrogate_without_scikit_learn(
    tiny_lm: LanguageModel, sample_questions: list[Question], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingExtraError, match="surrogate_32 needs scikit-learn"):
        SurrogateScorer(32).score(task(tiny_lm, sample_questions[0]))


@pytest.mark.parametrize(
    "scorer",
    [
        make_scorer("last_layer_attention"),
        make_scorer("contribution"),
        make_scorer("effective_attention"),
        GradientXInputScorer(),
        LeaveOneOutScorer(),
        SurrogateScorer(32),
    ],
)
def test_an_empty_draft(tiny_lm: LanguageModel, sample_questions: list[Question], scorer: Scorer) -> None:
    todo = task(tiny_lm, sample_questions[0])
    assert scorer.uses_draft
    with pytest.raises(EmptyDraftError, match="nothing to attribute"):
        scorer.score(replace(todo, draft=Draft("", [])))


def test_drafts_the_model_wrote_are_scored_alike(tiny_lm: LanguageModel, sample_questions: list[Question]) -> None:
    """Scores do not depend on whether the draft was written or read."""
    question = sample_questions[1]
    prompt = tiny_lm.encode(question.text, question.passages[:4])
    draft = write_drafts(tiny_lm, [prompt], [DRAFT_ROWS], 5)[0]
    written = Task(tiny_lm, question.text, question.passages[:4], prompt, draft)
    read = replace(written, draft=read_drafts(tiny_lm, [prompt], [draft.ids], [DRAFT_ROWS])[0])
    for scorer in (make_scorer("last_layer_attention"), GradientXInputScorer(), LeaveOneOutScorer()):
        torch.testing.assert_close(scorer.score(written), scorer.score(read), atol=1e-5, rtol=1e-5)
