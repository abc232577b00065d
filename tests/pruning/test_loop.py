"""The one path from scores to answers: what it reuses, what it falls back to, and that its methods are hooks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from at2_prune import AT2Pruner, LanguageModel, Question
from at2_prune.errors import EmptyDraftError, InputError
from at2_prune.models.drafts import Draft
from at2_prune.pruning.loop import Answer, PruningLoop, Scored
from at2_prune.scorers import AttentionScorer, BM25Scorer, Scorer, Task


class Watched(PruningLoop):
    """Notes every call, as the evaluator's loop does."""

    def __init__(self, language_model: LanguageModel, max_new_tokens: int = 48) -> None:
        super().__init__(language_model, max_new_tokens)
        self.calls: list[str] = []

    def write_drafts(self, prompts: Any, *options: Any) -> list[Draft]:
        self.calls.append(f"draft {len(prompts)}")
        return super().write_drafts(prompts, *options)

    def score(self, scorer: Scorer, task: Task) -> Scored:
        self.calls.append(f"score {scorer.name}")
        return super().score(scorer, task)

    def write_answers(self, prompts: Sequence[Any], *options: Any) -> list[Answer]:
        self.calls.append(f"answer {len(prompts)}")
        return super().write_answers(prompts, *options)


@pytest.fixture
def question(sample_questions: list[Question]) -> Question:
    return sample_questions[0]


def test_a_pruner_runs_through_the_hooks(tiny_pruner: AT2Pruner, question: Question) -> None:
    plain = tiny_pruner.answer(question.text, question.passages, [1, 2])
    tiny_pruner.loop = watched = Watched(tiny_pruner.language_model, tiny_pruner.max_new_tokens)
    result = tiny_pruner.answer(question.text, question.passages, [1, 2])
    assert watched.calls == ["draft 1", "score at2", "answer 2"]
    assert (result.answer, result.kept, result.draft) == (plain.answer, plain.kept, plain.draft)
    watched.calls.clear()
    tiny_pruner.answer(question.text, question.passages, 10)  # the draft is the answer
    assert watched.calls == ["draft 1", "score at2"]


def test_without_a_draft_the_first_sources_rank_highest(silent_lm: LanguageModel, question: Question) -> None:
    prompt = silent_lm.encode(question.text, question.passages)
    loop = PruningLoop(silent_lm)
    draft = loop.write_drafts([prompt])[0]
    task = Task(silent_lm, question.text, question.passages, prompt, draft)
    scored = loop.score(AttentionScorer(), task)
    assert isinstance(scored.error, EmptyDraftError)
    assert scored.scores == [0.0] * 10
    assert loop.score(BM25Scorer(), task).error is None


def test_answers_reuse_the_draft_where_everything_is_kept(tiny_lm: LanguageModel, question: Question) -> None:
    prompt = tiny_lm.encode(question.text, question.passages)
    loop = Watched(tiny_lm, 6)
    draft = loop.write_drafts([prompt])[0]
    scored = Scored(prompt, draft, [0.0] * 10)
    loop.calls.clear()
    answers = loop.answer_kept(question.text, question.passages, scored, [scored.everything, (3, 1), (1,)])
    assert loop.calls == ["answer 2"]
    assert (answers[scored.everything].text, answers[scored.everything].prompt) == (draft.text, prompt)
    for kept in ((3, 1), (1,)):
        shown = [question.passages[index] for index in kept]
        alone = tiny_lm.generate([tiny_lm.encode(question.text, shown)], 6)[0][0]
        assert (answers[kept].text, answers[kept].prompt) == (alone.text, tiny_lm.encode(question.text, shown))
        assert answers[kept].log_probability == pytest.approx(alone.log_probability, abs=1e-4)
    given = Scored(prompt, draft, [0.0] * 10, whole=False)  # written elsewhere: it answers nothing
    loop.calls.clear()
    loop.answer_kept(question.text, question.passages, given, [given.everything])
    assert loop.calls == ["answer 1"]


@pytest.mark.parametrize("bad", [0, -1, True, 2.5, "8"])
def test_bad_lengths(tiny_lm: LanguageModel, bad: Any) -> None:
    with pytest.raises(InputError, match="max_new_tokens must be an integer of at least 1"):
        PruningLoop(tiny_lm, bad)
