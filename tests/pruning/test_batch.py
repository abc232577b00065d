from __future__ import annotations

import pytest

from at2_prune.datasets import Question
from at2_prune.errors import ContextTooLongError, EmptyDraftError, InputError
from at2_prune.models.language_model import LanguageModel
from at2_prune.models.prompts import TextTemplate
from at2_prune.passages import Passage
from at2_prune.pruning.pruner import AT2Pruner

from .cases import PASSAGES, QUESTION, small


def test_an_answer_of_a_batch_is_the_answer_alone(tiny_pruner: AT2Pruner, sample_questions: list[Question]) -> None:
    questions = [question.text for question in sample_questions[:4]]
    passages = [list(question.passages[: 1 + 2 * i]) for i, question in enumerate(sample_questions[:4])]
    together = tiny_pruner.answer_batch(questions, passages, 3)
    assert len(together) == 4
    for question, some, result in zip(questions, passages, together, strict=True):
        alone = tiny_pruner.answer(question, some, 3)
        assert (result.question, result.passages, result.k) == (question, some, 3)
        assert (result.draft, result.answer, result.kept) == (alone.draft, alone.answer, alone.kept)
        assert result.scores == pytest.approx(alone.scores, abs=1e-5)
    assert tiny_pruner.answer_batch([], []) == []
    with pytest.raises(InputError, match="2 questions but 1 lists of passages"):
        tiny_pruner.answer_batch(questions[:2], passages[:1])


def several(sample_questions: list[Question]) -> tuple[list[str], list[list[Passage]]]:
    """Questions with 1, 3, 5 and 7 passages."""
    some = sample_questions[:4]
    return [question.text for question in some], [list(q.passages[: 1 + 2 * i]) for i, q in enumerate(some)]


@pytest.mark.parametrize("pays", [False, True])
def test_scores_of_a_batch_are_those_alone(
    tiny_pruner: AT2Pruner,
    sample_questions: list[Question],
    calls: dict[str, int],
    monkeypatch: pytest.MonkeyPatch,
    pays: bool,
) -> None:
    monkeypatch.setattr(LanguageModel, "batching_pays", pays)
    questions, passages = several(sample_questions)
    texts = ["the Meuse", "It is Canberra.", "Dinant, in the south", "no"]
    drafted = tiny_pruner.draft(questions[1], passages[1])
    for drafts in (None, texts, [texts[0], drafted, *texts[2:]]):
        calls.update(generate=0, read=0)
        together = tiny_pruner.score_batch(questions, passages, drafts)
        given = 0 if drafts is None else sum(isinstance(draft, str) for draft in drafts)
        assert calls == {"generate": int(drafts is None), "read": min(given, 1) if pays else given}
        for one in zip(questions, passages, drafts or [None] * 4, together, strict=True):
            assert one[3] == pytest.approx(tiny_pruner.score(*one[:3]), abs=1e-5)
    assert tiny_pruner.score_batch([], []) == []
    with pytest.raises(InputError, match="4 questions but 1 drafts"):
        tiny_pruner.score_batch(questions, passages, texts[:1])
    with pytest.raises(InputError, match="a draft must be a text or a Draft, got NoneType"):
        tiny_pruner.score_batch(questions, passages, [*texts[:3], None])  # type: ignore[list-item]
    with pytest.raises(EmptyDraftError, match=r"the draft of question 3 is empty \(' '\)"):
        tiny_pruner.score_batch(questions, passages, [*texts[:3], " "])
    with pytest.raises(InputError, match="this draft was written for another question"):
        tiny_pruner.score_batch(questions, passages, [drafted, *texts[1:]])


def test_scores_of_a_batch_where_one_does_not_fit(tiny_pruner: AT2Pruner, sample_questions: list[Question]) -> None:
    questions, passages = several(sample_questions)
    model = tiny_pruner.language_model
    lengths = sorted(len(model.encode(q, some)) for q, some in zip(questions, passages, strict=True))
    windowed = small(tiny_pruner, lengths[-1] - 1, overflow="windows")
    drafts = ["the Meuse"] * 4
    expected = [windowed.score(*one) for one in zip(questions, passages, drafts, strict=True)]
    for values, want in zip(windowed.score_batch(questions, passages, drafts), expected, strict=True):
        assert values == pytest.approx(want, abs=1e-6)
    with pytest.raises(InputError, match="a draft must be a text or a Draft, got NoneType"):
        windowed.score_batch(questions, passages, [*drafts[:3], None])  # type: ignore[list-item]
    with pytest.raises(ContextTooLongError, match="overflow='windows'"):
        small(tiny_pruner, lengths[-1] - 1, overflow="error").score_batch(questions, passages, drafts)


def test_one_silent_question_does_not_spoil_a_batch(tiny_pruner: AT2Pruner, monkeypatch: pytest.MonkeyPatch) -> None:
    """The template's stop is what the model writes first for one of the questions, so its draft is empty there."""
    lm = tiny_pruner.language_model
    questions = [QUESTION, "Who left?"]
    first = [lm.generate([lm.encode(q, PASSAGES)], 1)[0][0].text for q in questions]
    assert first[0] != first[1] != ""
    assert first[1] not in lm.generate([lm.encode(questions[0], PASSAGES)], 8)[0][0].text
    monkeypatch.setattr(lm, "template", TextTemplate(stop=(first[1],)))
    results = tiny_pruner.answer_batch(questions, [PASSAGES, PASSAGES], 2)
    assert results[0].fallback is None
    assert results[0].scores == pytest.approx(tiny_pruner.answer(questions[0], PASSAGES, 2).scores, abs=1e-5)
    assert (results[1].draft, results[1].kept) == ("", [0, 1])
    assert results[1].fallback is not None
