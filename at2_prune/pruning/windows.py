"""Scoring passages that do not fit the model's context together: in runs that do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import EmptyDraftError
from ..models.drafts import Draft
from ..models.prompts import EncodedPrompt
from ..passages import Passage
from ..scorers import Task

if TYPE_CHECKING:
    from .attributor import Attributor

__all__ = ["score_windows"]


def score_windows(
    attributor: Attributor, question: str, passages: Sequence[Passage], draft: str | Draft | None
) -> tuple[EncodedPrompt, Draft, list[float]]:
    """Scores by runs of passages that fit the context, all against one draft.

    Args:
        attributor: drafts and scores a window.
        question: the question.
        passages: too many for one prompt.
        draft: given, or None: each window is drafted, and the most confident draft is scored in every window.

    Returns:
        The prompt of all passages, the draft, and the scores of all sources.

    Raises:
        EmptyDraftError: the model wrote nothing from any window.
        ContextTooLongError: a passage alone does not fit.
    """
    model, scorer = attributor.language_model, attributor.scorer
    windows: list[list[Passage]] = []
    for passage in passages:
        if windows and attributor.fits(question, [*windows[-1], passage], draft):
            windows[-1].append(passage)
        else:
            windows.append([passage])
    if isinstance(draft, Draft):
        draft = draft.text
    if draft is None and scorer.uses_draft:
        best = -float("inf")
        for window in windows:
            candidate = attributor.draft(question, window)
            if candidate.log_probability > best:
                best, draft = candidate.log_probability, candidate.text
        if draft is None:
            raise EmptyDraftError("the model wrote nothing from any window of the passages")
    text = draft or ""
    ids = model.encode_draft(text)
    scores: list[float] = []
    for window in windows:
        prompt = attributor.encode(question, window)
        read = attributor.read(prompt, text) if scorer.row_groups else Draft(text, ids)
        scores += scorer.score(Task(model, question, window, prompt, read)).tolist()
    return attributor.encode(question, passages), Draft(text, ids), scores
