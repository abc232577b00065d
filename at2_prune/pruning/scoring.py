"""Score questions as one batch. A question that cannot be scored in one pass is scored in windows."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import ContextTooLongError, EmptyDraftError, InputError
from ..models.drafts import Draft
from ..models.forward import run_prefix
from ..models.kv_cache import Prefix
from ..models.language_model import LanguageModel
from ..models.prompts import EncodedPrompt
from ..passages import Granularity, Passage
from ..progress import progress
from ..scorers.base import Scorer, Task
from .given_drafts import check_draft, given_drafts, read_for
from .long_passages import best_parts, join_scores
from .loop import PruningLoop, Scored, check_max_new_tokens
from .reader_drafts import reader_drafts
from .room import Room
from .windows import Overflow, split_windows

__all__ = ["Scoring", "check_options"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Asked:
    """One question to score."""

    question: str
    passages: list[Passage]
    draft: str | Draft | None
    """The given draft, if there is one."""
    prompt: EncodedPrompt
    seconds: float
    """The time that it took to encode the prompt. It is added to the time of the first step, `draft` or `score`."""


class Scoring:
    """Drafts answers and scores sources. The passages are not checked. `Attributor` is the public subclass.

    The arguments are the same as those of `Attributor`.
    """

    def __init__(
        self,
        language_model: LanguageModel,
        scorer: Scorer,
        *,
        reader: LanguageModel | None = None,
        granularity: Granularity = "passage",
        max_new_tokens: int = 48,
        overflow: Overflow = "windows",
    ) -> None:
        check_options(granularity, overflow)
        self.loop = PruningLoop(language_model, max_new_tokens, reader)
        self.language_model = language_model
        self.scorer = scorer
        self.granularity: Granularity = granularity
        self.max_new_tokens = max_new_tokens
        self.overflow = overflow
        self._reader_room = Room(self.reader, granularity, max_new_tokens)
        """Tells which prompts fit the context of the model that writes."""
        self._scoring_room = Room(language_model, granularity, 0) if self.loop.two_models else self._reader_room
        """Tells which prompts fit the context of the model that scores."""

    @property
    def reader(self) -> LanguageModel:
        """The model that writes drafts and answers."""
        return self.loop.reader

    def encode(self, question: str, passages: Sequence[Passage]) -> EncodedPrompt:
        """Return the scoring model's prompt with these passages, and with the token span of every source.

        The passages are not checked.
        """
        return self._scoring_room.encode(question, passages)

    def fits(self, question: str, passages: Sequence[Passage]) -> bool:
        """Return whether the reader's context can hold a prompt with these passages and an answer."""
        return self._reader_room.fits(question, passages)

    def _room_of(self, asked: _Asked) -> tuple[Room, str | Draft | None]:
        """Return a `Room` and a draft. The `Room` belongs to the model whose context must hold the passages.

        The `Room` belongs to the scoring model if the scorer reads the prompt, or if the scoring model is also the
        reader. The context of the scoring model must hold the given draft too, so this draft is returned. Otherwise,
        the `Room` belongs to the reader. The returned draft is then None, because the reader does not read a given
        draft.
        """
        if self.scorer.reads_prompt or not self.loop.two_models:
            return self._scoring_room, asked.draft
        return self._reader_room, None

    def _in_one_pass(self, asked: _Asked) -> bool:
        """Return whether a question is scored without windows and without cutting a passage.

        With `overflow="error"`, the result is always True. If the scorer reads a prompt that is too long, an
        error is raised later.
        """
        if self.overflow == "error":
            return True
        room, draft = self._room_of(asked)
        prompt = asked.prompt if room is self._scoring_room else room.encode(asked.question, asked.passages)
        return room.has(len(prompt), draft) or (not self.scorer.reads_prompt and room.has_for_each(prompt, draft))

    def _score_all(
        self,
        questions: Sequence[str],
        passages: Sequence[list[Passage]],
        drafts: Sequence[str | Draft] | None = None,
        answers_follow: bool = False,
    ) -> list[Scored]:
        """Score several questions.

        Questions for which `_in_one_pass` is true are scored as one batch. All other questions are scored in windows.

        Args:
            questions: any number of questions.
            passages: the passages of each question.
            drafts: the draft of each question. With None, drafts are written if the scorer reads drafts.
            answers_follow: True if the questions are answered next. If the batch has only one question, the prompt's
                prefix may then be run separately, and kept for the answers; see `run_prefix`. If drafts are given or
                the reader is a separate model, no prefix is kept.
        """
        _check_one_each(questions, passages, "lists of passages")
        given: Sequence[str | Draft | None] = [None] * len(questions)
        if drafts is not None:
            _check_one_each(questions, drafts, "drafts")
            for draft in drafts:
                check_draft(draft)
            given = drafts
        elif self.scorer.uses_draft and self.loop.two_models:
            return self._score_reader_drafts(questions, passages)
        asked = [self._ask(*one) for one in zip(questions, passages, given, strict=True)]
        together = [i for i, one in enumerate(asked) if self._in_one_pass(one)]
        shares_prefix = answers_follow and drafts is None and not self.loop.two_models
        found: dict[int, Scored] = {}
        if together:
            try:
                batch = self._score_together([asked[i] for i in together], shares_prefix)
            except ContextTooLongError as error:
                if self.overflow == "windows":
                    raise
                raise ContextTooLongError(f"{error}, or use overflow='windows'") from None
            found = dict(zip(together, batch, strict=True))
        return [found[i] if i in found else self._score_windows(one) for i, one in enumerate(asked)]

    def _score_reader_drafts(self, questions: Sequence[str], passages: Sequence[list[Passage]]) -> list[Scored]:
        """Let the separate reader write drafts, and score the sources as for drafts that were given.

        In `seconds` of a result, `draft` is the time of the reader, and `score` is the time of the scoring model. If
        the reader writes nothing, all scores are 0 and `error` is set.
        """
        started = time.perf_counter()
        drafts = reader_drafts(self.loop, self._reader_room, questions, passages, self.overflow)
        share = (time.perf_counter() - started) / max(1, len(questions))
        written = [index for index, one in enumerate(drafts) if one.draft.text]
        texts = [drafts[index].draft.text for index in written]
        read = self._score_all([questions[i] for i in written], [passages[i] for i in written], texts)
        found: dict[int, Scored] = {}
        for index, scored in zip(written, read, strict=True):
            seconds = {"draft": share, "score": sum(scored.seconds.values())}
            draft = drafts[index].on(scored.draft)
            found[index] = replace(scored, draft=draft, whole=drafts[index].whole, seconds=seconds)
        return [
            found[i] if i in found else self._unscored(question, some, share)
            for i, (question, some) in enumerate(zip(questions, passages, strict=True))
        ]

    def _unscored(self, question: str, passages: Sequence[Passage], seconds: float) -> Scored:
        """Return scores of 0 and an error for a question for which the separate reader wrote no draft."""
        prompt = self.encode(question, passages)
        error = EmptyDraftError(
            f"the reader {self.reader.name} wrote an empty draft, so there is nothing to attribute; give a draft, or "
            "use another reader"
        )
        zeros, times = [0.0] * len(prompt.sources), {"draft": seconds, "score": 0.0}
        return Scored(prompt, Draft("", [], prompt_ids=prompt.ids), zeros, error, whole=False, seconds=times)

    def _ask(self, question: str, passages: list[Passage], draft: str | Draft | None) -> _Asked:
        started = time.perf_counter()
        prompt = self.encode(question, passages)
        return _Asked(question, passages, draft, prompt, time.perf_counter() - started)

    def _score_together(self, asked: Sequence[_Asked], share_prefix: bool) -> list[Scored]:
        """Score questions as one batch.

        With `share_prefix` and only one question, the prompt's prefix may be run separately, and kept for the answers;
        see `run_prefix`.
        """
        clock, model, count = time.perf_counter, self.language_model, len(asked)
        started = clock() - sum(one.seconds for one in asked)
        prompts = [one.prompt for one in asked]
        prefix = run_prefix(model, prompts[0]) if share_prefix and count == 1 else None
        given = [one.draft for one in asked if one.draft is not None]
        written = given_drafts(self.scorer, model, prompts, given) if given else self._drafts_if_needed(prompts, prefix)
        drafted = clock() if self.scorer.uses_draft else started
        found = []
        for one, draft in zip(asked, written, strict=True):
            task = Task(model, one.question, one.passages, one.prompt, draft, prefix)
            found.append(replace(self.loop.score(self.scorer, task), whole=not isinstance(one.draft, str)))
        seconds = {"draft": (drafted - started) / count, "score": (clock() - drafted) / count}
        return [replace(scored, seconds=seconds) for scored in found]

    def _score_windows(self, asked: _Asked) -> Scored:
        """Score passages in windows. A window is a sequence of passages that fits the context.

        A passage that does not fit by itself is cut into parts; see `at2_prune.pruning.long_passages`. All windows are
        scored with the same draft. If the scorer reads drafts and none is given, the model drafts from each window, and
        the most confident draft is used. The draft of a separate reader was written earlier, so it is a given draft
        here.

        Raises:
            EmptyDraftError: a given text is empty, or the scorer reads drafts and the given draft is empty.
            ContextTooLongError: the question alone does not fit.
        """
        clock, model, scorer = time.perf_counter, self.language_model, self.scorer
        question, draft = asked.question, asked.draft
        if isinstance(draft, str) and not draft.strip():
            raise EmptyDraftError(f"the draft is empty ({draft!r}), so there is nothing to attribute; pass a text")
        started = clock() - asked.seconds
        room, to_fit = self._room_of(asked)
        parts = room.parts(question, asked.passages, asked.prompt, to_fit)
        windows = [[part.passage for part in parts]]
        if scorer.reads_prompt:  # a scorer that reads no prompt compares all passages at once
            windows = split_windows(windows[0], lambda window: room.fits(question, window, to_fit))
        text = draft.text if isinstance(draft, Draft) else draft
        if text is None and scorer.uses_draft:
            drafts = [
                self._write_drafts([self.encode(question, window)])[0]
                for window in progress(windows, "drafting from windows")
            ]
            text = max(drafts, key=lambda one: one.log_probability).text
            if not text:
                error = EmptyDraftError("the model wrote an empty draft for every window of the passages")
                seconds = {"draft": clock() - started, "score": 0.0}
                zeros = [0.0] * len(asked.prompt.sources)
                return Scored(asked.prompt, Draft("", []), zeros, error, whole=False, seconds=seconds)
        drafted = clock() if scorer.uses_draft else started
        text = text or ""
        scores: list[float] = []
        known: list[float] = []
        present = None
        for window in progress(windows, "scoring windows"):
            prompt = self.encode(question, window)
            read = read_for(self.scorer, self.language_model, [prompt], [text])[0]
            judged = scorer.judge(Task(model, question, window, prompt, read))
            scores += judged.scores.tolist()
            if judged.probabilities is not None:  # a calibrated scorer reads no prompt, so there is only one window
                known, present = judged.probabilities.tolist(), judged.present
        whole = Draft(text, model.encode_draft(text))
        excerpts = best_parts(parts, scores) if self.granularity == "passage" else {}
        if self.loop.two_models:  # a passage that is too long for the scoring model may fit the reader's context
            excerpts = {i: part for i, part in excerpts.items() if not self.fits(question, [asked.passages[i]])}
        count = len(asked.prompt.sources)
        scores = join_scores(parts, scores, count)
        probabilities = join_scores(parts, known, count) if known else None
        seconds = {"draft": drafted - started, "score": clock() - drafted}
        found = Scored(asked.prompt, whole, scores, whole=False, excerpts=excerpts, seconds=seconds)
        return replace(found, probabilities=probabilities, present=present)

    def _drafts_if_needed(self, prompts: Sequence[EncodedPrompt], prefix: Prefix | None = None) -> list[Draft]:
        """Write the drafts as one batch. If the scorer reads no drafts, return empty drafts."""
        if not self.scorer.uses_draft:
            return [Draft("", [], prompt_ids=prompt.ids) for prompt in prompts]
        return self._write_drafts(prompts, prefix)

    def _write_drafts(self, prompts: Sequence[EncodedPrompt], prefix: Prefix | None = None) -> list[Draft]:
        return self.loop.write_drafts(prompts, self.scorer.draft_groups, self.scorer.layers, prefix)


def check_options(granularity: str, overflow: str, order: str = "original", max_new_tokens: int = 1) -> None:
    """Raise `InputError` if an option of `Attributor` or `AT2Pruner` has a wrong value."""
    if granularity not in ("passage", "sentence"):
        raise InputError(f"granularity must be 'passage' or 'sentence', got {granularity!r}")
    if overflow not in ("error", "windows"):
        raise InputError(f"overflow must be 'error' or 'windows', got {overflow!r}")
    if order not in ("original", "score"):
        raise InputError(f"order must be 'original' or 'score', got {order!r}")
    check_max_new_tokens(max_new_tokens)


def _check_one_each(questions: Sequence[str], others: Sequence[Any], what: str) -> None:
    """Raise `InputError` unless `others` has one entry for each question."""
    if len(questions) != len(others):
        raise InputError(f"there are {len(questions)} questions but {len(others)} {what}: give one for each question")
