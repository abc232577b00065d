"""The pruning loop: drafting, scoring and answering. The pruner, the pipeline step and the evaluator share this code.

A subclass of `PruningLoop` can override its methods to time and cache every draft, score and answer. The evaluator has
such a subclass. The evaluator therefore measures the same code that users run.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..attention.rows import RowGroup
from ..errors import ContextTooLongError, EmptyDraftError, InputError
from ..models.drafts import Draft, write_drafts
from ..models.kv_cache import Prefix
from ..models.language_model import LanguageModel
from ..models.prompts import EncodedPrompt
from ..models.shared_prefix import write_answers
from ..passages import Granularity, Passage, only_kept
from ..scorers.base import Scorer, Task
from .selection import blank_last

__all__ = ["Answer", "PruningLoop", "Scored", "check_max_new_tokens"]


@dataclass(frozen=True)
class Scored:
    """The scores of one question's sources."""

    prompt: EncodedPrompt
    draft: Draft
    scores: list[float]
    """One score per source. If the scorer needed a draft and the draft was empty, all scores are 0. The first sources
    then rank highest. Sources without text score below all other sources; see
    `at2_prune.pruning.selection.blank_last`."""
    error: EmptyDraftError | None = None
    """The error that prevented the scoring of the sources, else None."""
    whole: bool = True
    """True if the draft is the reader's answer from all sources. False if the draft was given as a text, or was written
    from a window of the sources. If the draft is empty, this value has no effect."""
    prefix: Prefix | None = field(default=None, repr=False)
    """The prompt's tokens before the first source, with their keys and values. It is None if the model has not run
    these tokens separately."""
    excerpts: Mapping[int, Passage] = field(default_factory=dict, repr=False)
    """The best part of each passage that was cut into parts, by the passage's index. With a separate reader, only
    passages that do not fit the reader's context are included. If such a passage is kept, the answer is written from
    its best part. The mapping is empty if the sources are sentences."""
    seconds: dict[str, float] = field(default_factory=dict, repr=False)
    """The time of each of the steps `draft` and `score`, in seconds."""
    probabilities: list[float] | None = None
    """For each source, the probability that the source is evidence. It is None if the scorer is not calibrated."""
    present: float | None = None
    """The probability that at least one source is evidence. It is None if the scorer is not calibrated, or if there are
    too few passages (see `Calibration.fewest`)."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "scores", blank_last(self.scores, self.prompt.source_texts))

    @property
    def draft_answers(self) -> bool:
        """Return whether the draft is the reader's answer from all sources in their original order."""
        return self.whole and bool(self.draft.text)

    def shown(self, passages: Sequence[Passage]) -> list[Passage]:
        """Return the passages for an answer's prompt. A passage that is too long is replaced by its excerpt."""
        return [self.excerpts.get(index, passage) for index, passage in enumerate(passages)]

    @property
    def everything(self) -> tuple[int, ...]:
        """The indices of all sources, in ascending order."""
        return tuple(range(len(self.scores)))


@dataclass(frozen=True)
class Answer:
    """An answer from some sources."""

    text: str
    log_probability: float = -math.inf
    """The log-probability of the answer and its end token. It is minus infinity if the log-probability is not known or
    the answer is empty."""
    prompt: EncodedPrompt | None = field(default=None, repr=False)
    """The prompt that was answered. It may be None if the answer is the draft of a separate reader."""
    only_thoughts: bool = False
    """True if a reasoning model wrote only thoughts and no answer."""


class PruningLoop:
    """Drafts, scores and answers with one or two language models.

    Args:
        language_model: the scoring model, which reads attention.
        max_new_tokens: the maximum number of tokens in a draft or an answer.
        reader: the model that writes drafts and answers; by default the scoring model.

    Raises:
        InputError: `max_new_tokens` is below 1.
    """

    def __init__(
        self, language_model: LanguageModel, max_new_tokens: int = 48, reader: LanguageModel | None = None
    ) -> None:
        check_max_new_tokens(max_new_tokens)
        self.language_model = language_model
        self.max_new_tokens = max_new_tokens
        self.reader = language_model if reader is None else reader

    @property
    def two_models(self) -> bool:
        """Return whether the reader is another model than the scoring model."""
        return self.reader is not self.language_model

    def write_drafts(
        self,
        prompts: Sequence[EncodedPrompt],
        groups: Sequence[RowGroup] = (),
        layers: Collection[int] | None = None,
        prefix: Prefix | None = None,
    ) -> list[Draft]:
        """Draft an answer to every prompt, and read the attention of the row groups in the same forward passes.

        The reader writes the drafts, so the prompts and the prefix must belong to the reader. See
        `at2_prune.models.drafts`.

        Raises:
            ContextTooLongError: a prompt does not fit the reader's context.
        """
        self._check_lengths(prompts)
        return write_drafts(self.reader, prompts, groups, self.max_new_tokens, layers, prefix)

    def score(self, scorer: Scorer, task: Task) -> Scored:
        """Score the sources of a task. If the scorer needs a draft and it is empty, scores are 0 and `error` is set."""
        scored = Scored(task.prompt, task.draft, [0.0] * len(task.prompt.sources), prefix=task.prefix)
        try:
            judged = scorer.judge(task)
        except EmptyDraftError as error:
            return replace(scored, error=error)
        known = None if judged.probabilities is None else judged.probabilities.tolist()
        return replace(scored, scores=judged.scores.tolist(), probabilities=known, present=judged.present)

    def write_answers(
        self, prompts: Sequence[EncodedPrompt], guess: Sequence[int] = (), prefix: Prefix | None = None
    ) -> list[Answer]:
        """Answer every prompt.

        Args:
            prompts: at least one prompt, encoded for the reader. A prefix that several prompts share is run once.
            guess: the tokens of a likely answer, from the reader's tokenizer. A correct guess saves time, and a wrong
                guess costs a little time.
            prefix: a prefix that all prompts share, with keys and values, if the reader has run this prefix.

        Raises:
            ContextTooLongError: a prompt does not fit the reader's context.
        """
        self._check_lengths(prompts)
        model = self.reader
        if len(prompts) == 1:
            written, _ = model.generate(prompts, self.max_new_tokens, prefix=prefix)
        else:
            written = write_answers(model, prompts, guess, self.max_new_tokens, prefix)
        return [
            Answer(one.text, one.log_probability, prompt, one.only_thoughts)
            for one, prompt in zip(written, prompts, strict=True)
        ]

    def answer_kept(
        self,
        question: str,
        passages: Sequence[Passage],
        scored: Scored,
        kept: Collection[tuple[int, ...]],
        granularity: Granularity = "passage",
    ) -> dict[tuple[int, ...], Answer]:
        """Answer a question from several sets of kept sources.

        Args:
            question: the question.
            passages: all passages.
            scored: the scores and the draft. If a set holds all sources in their original order, and the reader wrote
                the draft from all sources, then the draft is the answer for this set.
            kept: the sets of kept sources, without repeats. A set holds indices of sources, in the order in which the
                sources are shown.
            granularity: whether the sources are passages or sentences.

        Returns:
            The answer for each set.
        """
        answers: dict[tuple[int, ...], Answer] = {}
        draft, everything = scored.draft, scored.everything
        if scored.draft_answers and everything in kept:
            answers[everything] = Answer(draft.text, draft.log_probability, None if self.two_models else scored.prompt)
        waiting = [some for some in kept if some not in answers]
        if waiting:
            shown = [only_kept(passages, some, granularity) for some in waiting]
            prompts = [self.reader.encode(question, some) for some in shown]
            guess = draft.ids if scored.whole else []
            if guess and self.two_models:  # the draft holds the scoring model's tokens
                guess = self.reader.encode_draft(draft.text)
            written = self.write_answers(prompts, guess, scored.prefix)
            answers |= dict(zip(waiting, written, strict=True))
        return answers

    def _check_lengths(self, prompts: Sequence[EncodedPrompt]) -> None:
        """Raise `ContextTooLongError` if a prompt and an answer do not fit the context of a separate reader.

        If there is no separate reader, nothing is checked here. The error of `LanguageModel.check_length` is then clear
        enough.
        """
        limit, longest = self.reader.context_length, max(map(len, prompts))
        if self.two_models and limit is not None and longest + self.max_new_tokens > limit:
            raise ContextTooLongError(
                f"the context of the reader {self.reader.name} holds {limit} tokens, but the question and its passages "
                f"take {longest} tokens and the answer may take {self.max_new_tokens} more: keep fewer or shorter "
                "passages, or use a reader with a longer context"
            )


def check_max_new_tokens(value: Any) -> None:
    """Raise `InputError` unless the value is an integer of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"max_new_tokens must be an integer of at least 1, got {value!r}")
