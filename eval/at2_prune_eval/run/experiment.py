"""Define an experiment: the methods, questions and values of k to compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from at2_prune.datasets import Question
from at2_prune.errors import ContextTooLongError, DataError, InputError
from at2_prune.models.language_model import LanguageModel
from at2_prune.pruning.selection import K
from at2_prune.scorers import Scorer

__all__ = ["Experiment", "check_questions", "models_to_fit", "too_long"]


@dataclass(frozen=True)
class Experiment:
    """The settings that decide what a run measures."""

    scorers: Sequence[Scorer]
    """The scorers of the methods, with different names. No pruning and the oracle are always compared too."""
    questions: Sequence[Question]
    """Questions with an answer and gold passages, and with different ids."""
    ks: Sequence[K] = (1, 2, 3, 5)
    """The numbers of passages to keep. If a question has at most k passages, all passages are kept. With `auto`, the
    reader answers from the best 1, 2, 3 and 5 passages, and the most confident answer is taken."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """The origin of the questions, as JSON values, which become part of the run's config. Error messages show the value
    of the key `name`."""
    skipped: Mapping[str, int] = field(default_factory=dict)
    """The number of rows of the data that were left out, by reason. The results repeat these numbers."""

    def __post_init__(self) -> None:
        for scorer in self.scorers:
            if not isinstance(scorer, Scorer):
                raise InputError(f"scorers must be objects of at2_prune.scorers.Scorer, got {scorer!r:.200}")


def check_questions(experiment: Experiment) -> None:
    """Check that the answer and the kept passages can be scored for every question.

    Raises:
        DataError: there is no question, two questions have the same id, or a question has no answer or no gold
            passages.
    """
    data_name = str(experiment.data.get("name", "the data"))
    if not experiment.questions:
        raise DataError(f"{data_name}: there is no question to evaluate on")
    seen: set[str] = set()
    for question in experiment.questions:
        if question.id in seen:
            raise DataError(f"{data_name}: question id {question.id!r} repeats")
        seen.add(question.id)
        if question.answer is None:
            raise DataError(f"{data_name}: question {question.id!r} has no answer, so F1 and EM cannot be computed")
        if not question.gold:
            raise DataError(
                f"{data_name}: question {question.id!r} names no gold passages (supporting_facts), so recall and the "
                "oracle cannot be computed"
            )


def models_to_fit(
    language_model: LanguageModel, reader: LanguageModel, scorers: Sequence[Scorer]
) -> list[LanguageModel]:
    """Return the models whose contexts must hold all passages of a question.

    These are the reader and, if a method reads the scoring model's prompt, the scoring model.
    """
    reads = any(scorer.reads_prompt for scorer in scorers)
    return [reader, language_model] if reads and language_model is not reader else [reader]


def too_long(language_model: LanguageModel, question: Question, max_new_tokens: int = 48) -> str | None:
    """Return the reason why a question and its passages do not fit the model's context, or None if they fit."""
    tokens = len(language_model.encode(question.text, question.passages))
    try:
        language_model.check_length(tokens, max_new_tokens)
    except ContextTooLongError:  # the message of this error gives advice for pipelines, which does not help here
        limit = language_model.context_length
        return (
            f"question {question.id!r} and its passages take {tokens} tokens and the answer may take {max_new_tokens}, "
            f"but {language_model.name} has a context of {limit} tokens: leave out the question "
            "(--skip-invalid), or take a model with a longer context"
        )
    return None
