"""Scoring: questions that fit the context are scored as one batch, the others in windows."""

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
from ..models.readouts import Readout, read_prompts
from ..passages import Granularity, Passage
from ..progress import progress
from ..scorers.base import Scorer, Task
from .given_drafts import check_draft, given_drafts, read_for
from .long_passages import Part, as_part, best_parts, join_scores, split_passage
from .loop import PruningLoop, Scored, check_max_new_tokens
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
    """The time that encoding the prompt took. It is added to the time of the first step, `draft` or `score`."""


class Scoring:
    """Drafts answers and scores sources, without checking passages. `Attributor` is the public subclass.

    The arguments are those of `Attributor`.
    """

    def __init__(
        self,
        language_model: LanguageModel,
        scorer: Scorer,
        *,
        granularity: Granularity = "passage",
        max_new_tokens: int = 48,
        overflow: Overflow = "windows",
    ) -> None:
        check_options(granularity, overflow)
        self.loop = PruningLoop(language_model, max_new_tokens)
        self.language_model = language_model
        self.scorer = scorer
        self.granularity: Granularity = granularity
        self.max_new_tokens = max_new_tokens
        self.overflow = overflow

    def encode(self, question: str, passages: Sequence[Passage]) -> EncodedPrompt:
        """Return the prompt from these passages, with the token span of every source. The passages are not checked."""
        return self.language_model.encode(question, passages, self.granularity)

    def fits(self, question: str, passages: Sequence[Passage], draft: str | Draft | None = None) -> bool:
        """Return whether the prompt and an answer fit the context. If the given draft is longer than an answer, it must
        fit in the answer's place."""
        return self._has_room(self.encode(question, passages), draft)

    def _in_one_pass(self, asked: _Asked) -> bool:
        """Return whether a question is scored without windows and without cutting passages."""
        if self.overflow == "error" or self._has_room(asked.prompt, asked.draft):
            return True
        return not self.scorer.reads_prompt and self._has_room_for_each(asked)

    def _has_room_for_each(self, asked: _Asked) -> bool:
        """Return whether every prompt with a single passage fits the context. Then an answer can always be written."""
        lengths = [stop - start for start, stop in asked.prompt.passages]
        around = len(asked.prompt) - sum(lengths)
        try:
            self.language_model.check_length(around + max(lengths), self._room_after(asked.draft))
        except ContextTooLongError:
            return False
        return True

    def _has_room(self, prompt: EncodedPrompt, draft: str | Draft | None) -> bool:
        try:
            self.language_model.check_length(len(prompt), self._room_after(draft))
        except ContextTooLongError:
            return False
        return True

    def _room_after(self, draft: str | Draft | None) -> int:
        """Return the number of tokens that must fit after the prompt, for an answer or a given draft."""
        text = draft.text if isinstance(draft, Draft) else draft
        return max(self.max_new_tokens, len(self.language_model.encode_draft(text)) if text else 0)

    def _score_all(
        self,
        questions: Sequence[str],
        passages: Sequence[list[Passage]],
        drafts: Sequence[str | Draft] | None = None,
        answers_follow: bool = False,
    ) -> list[Scored]:
        """Score several questions. Questions that fit the context are scored as one batch, the others in windows.

        Args:
            questions: any number of questions.
            passages: the passages of each question.
            drafts: the draft of each question. With `None`, the model writes drafts if the scorer reads drafts.
            answers_follow: whether answers are written next. Then the prefix of a single question's prompt is run once
                and kept for the answers.
        """
        _check_one_each(questions, passages, "lists of passages")
        given: Sequence[str | Draft | None] = [None] * len(questions)
        if drafts is not None:
            _check_one_each(questions, drafts, "drafts")
            for draft in drafts:
                check_draft(draft)
            given = drafts
        asked = [self._ask(*one) for one in zip(questions, passages, given, strict=True)]
        together = [i for i, one in enumerate(asked) if self._in_one_pass(one)]
        found: dict[int, Scored] = {}
        if together:
            try:
                batch = self._score_together([asked[i] for i in together], answers_follow and drafts is None)
            except ContextTooLongError as error:
                if self.overflow == "windows":
                    raise
                raise ContextTooLongError(f"{error}, or use overflow='windows'") from None
            found = dict(zip(together, batch, strict=True))
        return [found[i] if i in found else self._score_windows(one) for i, one in enumerate(asked)]

    def _ask(self, question: str, passages: list[Passage], draft: str | Draft | None) -> _Asked:
        started = time.perf_counter()
        prompt = self.encode(question, passages)
        return _Asked(question, passages, draft, prompt, time.perf_counter() - started)

    def _score_together(self, asked: Sequence[_Asked], share_prefix: bool) -> list[Scored]:
        """Score questions as one batch. With `share_prefix`, the prefix of a single prompt is run once and kept."""
        clock, model, count = time.perf_counter, self.language_model, len(asked)
        started = clock() - sum(one.seconds for one in asked)
        prompts = [one.prompt for one in asked]
        prefix = run_prefix(model, prompts[0]) if share_prefix and count == 1 else None
        given = [one.draft for one in asked if one.draft is not None]
        written = given_drafts(self.scorer, model, prompts, given) if given else self._drafts_if_needed(prompts, prefix)
        drafted = clock() if self.scorer.uses_draft else started
        readouts = self._read_prompts(prompts)
        found = []
        for one, draft, readout in zip(asked, written, readouts, strict=True):
            task = Task(model, one.question, one.passages, one.prompt, draft, readout, prefix)
            found.append(replace(self.loop.score(self.scorer, task), whole=not isinstance(one.draft, str)))
        seconds = {"draft": (drafted - started) / count, "score": (clock() - drafted) / count}
        return [replace(scored, seconds=seconds) for scored in found]

    def _score_windows(self, asked: _Asked) -> Scored:
        """Score passages in windows, which are runs that fit the context. All windows have the same draft.

        A passage that does not fit alone is cut into parts; see `at2_prune.pruning.long_passages`. If the scorer reads
        a draft and none is given, the model drafts from each window. All windows are then scored with the most
        confident draft.

        Raises:
            EmptyDraftError: the given draft is empty.
            ContextTooLongError: the question alone does not fit.
        """
        clock, model, scorer = time.perf_counter, self.language_model, self.scorer
        question, draft = asked.question, asked.draft
        if isinstance(draft, str) and not draft.strip():
            raise EmptyDraftError(f"the draft is empty ({draft!r}), so there is nothing to attribute; pass a text")
        started = clock() - asked.seconds
        parts = self._parts(asked)
        windows = [[part.passage for part in parts]]
        if scorer.reads_prompt:  # other scorers compare all passages at once
            windows = split_windows(windows[0], lambda window: self.fits(question, window, draft))
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
        for window in progress(windows, "scoring windows"):
            prompt = self.encode(question, window)
            read = read_for(self.scorer, self.language_model, [prompt], [text])[0]
            scores += scorer.score(Task(model, question, window, prompt, read)).tolist()
        whole = Draft(text, model.encode_draft(text))
        excerpts = best_parts(parts, scores) if self.granularity == "passage" else {}
        scores = join_scores(parts, scores, len(asked.prompt.sources))
        seconds = {"draft": drafted - started, "score": clock() - drafted}
        return Scored(asked.prompt, whole, scores, whole=False, excerpts=excerpts, seconds=seconds)

    def _parts(self, asked: _Asked) -> list[Part]:
        """Return each passage as one part, or as several parts if it does not fit alone.

        A part takes at most a quarter of a window. So a window compares several parts, and several kept parts fit into
        the prompt of an answer.
        """
        question, texts = asked.question, asked.prompt.source_texts
        room = self.language_model.context_length or 0
        room -= len(self.encode(question, [])) + self._room_after(asked.draft)
        parts: list[Part] = []
        for index, passage in enumerate(asked.passages):
            whole = as_part(asked.prompt, index, passage)
            if room < 4 or self.fits(question, [passage], asked.draft):
                parts.append(whole)
            else:
                logger.info("passage %d does not fit the model's context, so it is scored in parts", index)
                own = [texts[source] for source in whole.sources]
                parts += split_passage(whole, own, self.language_model.codec, room // 4)
        return parts

    def _drafts_if_needed(self, prompts: Sequence[EncodedPrompt], prefix: Prefix | None = None) -> list[Draft]:
        """Write the drafts as one batch. A scorer that reads no draft gets empty drafts."""
        if not self.scorer.uses_draft:
            return [Draft("", [], prompt_ids=prompt.ids) for prompt in prompts]
        return self._write_drafts(prompts, prefix)

    def _write_drafts(self, prompts: Sequence[EncodedPrompt], prefix: Prefix | None = None) -> list[Draft]:
        return self.loop.write_drafts(prompts, self.scorer.draft_groups, self.scorer.layers, prefix)

    def _read_prompts(self, prompts: Sequence[EncodedPrompt]) -> Sequence[Readout | None]:
        """Read the rows of several prompts as one batch on a GPU.

        Otherwise, each entry is None, and the scorer reads the prompt itself.
        """
        groups = self.scorer.prompt_groups
        if not groups or len(prompts) == 1 or not self.language_model.batching_pays:
            return [None] * len(prompts)
        return read_prompts(self.language_model, prompts, groups, self.scorer.layers)


def check_options(granularity: str, overflow: str, order: str = "original", max_new_tokens: int = 1) -> None:
    """Raise `InputError` if one of these options of an `Attributor` or an `AT2Pruner` has a wrong value."""
    if granularity not in ("passage", "sentence"):
        raise InputError(f"granularity must be 'passage' or 'sentence', got {granularity!r}")
    if overflow not in ("error", "windows"):
        raise InputError(f"overflow must be 'error' or 'windows', got {overflow!r}")
    if order not in ("original", "score"):
        raise InputError(f"order must be 'original' or 'score', got {order!r}")
    check_max_new_tokens(max_new_tokens)


def _check_one_each(questions: Sequence[str], others: Sequence[Any], what: str) -> None:
    """Raise `InputError` unless there is one of `others` for each question."""
    if len(questions) != len(others):
        raise InputError(f"{len(questions)} questions but {len(others)} {what}")
