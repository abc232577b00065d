"""Drafts that a separate reader writes. The scoring model then reads these drafts like drafts that were given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..errors import ContextTooLongError
from ..models.drafts import Draft
from ..models.prompts import EncodedPrompt
from ..passages import Passage
from ..progress import progress
from .loop import PruningLoop
from .room import Room
from .windows import Overflow, split_windows

__all__ = ["ReaderDraft", "reader_drafts"]


@dataclass(frozen=True)
class ReaderDraft:
    """A draft that the reader wrote. Its token ids come from the reader's tokenizer."""

    draft: Draft
    whole: bool
    """True if the draft was written from all passages at once."""

    def on(self, read: Draft) -> Draft:
        """Return the draft that the scoring model read, with the log-probability and the thoughts of the reader."""
        return replace(read, log_probability=self.draft.log_probability, thoughts=self.draft.thoughts)


def reader_drafts(
    loop: PruningLoop,
    room: Room,
    questions: Sequence[str],
    passages: Sequence[Sequence[Passage]],
    overflow: Overflow,
) -> list[ReaderDraft]:
    """Let the reader draft an answer to each question. All prompts that fit the reader's context form one batch.

    If the passages of a question do not fit together and `overflow` is "windows", the reader drafts from each window.
    The most confident of these drafts is returned.

    Args:
        loop: the pruning loop, which holds the reader.
        room: decides which prompts fit the reader's context.
        questions: any number of questions.
        passages: the passages of each question.
        overflow: see `Overflow`.

    Raises:
        ContextTooLongError: the question alone does not fit. If `overflow` is "error", the error is also raised if
            question and passages together do not fit.
    """
    prompts = [room.encode(*one) for one in zip(questions, passages, strict=True)]
    together = [i for i, prompt in enumerate(prompts) if overflow == "error" or room.has(len(prompt))]
    found: dict[int, ReaderDraft] = {}
    if together:
        try:
            drafts = loop.write_drafts([prompts[i] for i in together])
        except ContextTooLongError as error:
            raise ContextTooLongError(f"{error}, or use overflow='windows'") from None
        found = {i: ReaderDraft(draft, True) for i, draft in zip(together, drafts, strict=True)}
    return [
        found[i] if i in found else _from_windows(loop, room, questions[i], passages[i], prompt)
        for i, prompt in enumerate(prompts)
    ]


def _from_windows(
    loop: PruningLoop, room: Room, question: str, passages: Sequence[Passage], prompt: EncodedPrompt
) -> ReaderDraft:
    parts = room.parts(question, passages, prompt)
    windows = split_windows([part.passage for part in parts], lambda window: room.fits(question, window))
    drafts = [
        loop.write_drafts([room.encode(question, window)])[0] for window in progress(windows, "drafting from windows")
    ]
    return ReaderDraft(max(drafts, key=lambda one: one.log_probability), False)
