"""Decide which prompts fit a model's context, and cut passages that are too long for the context into parts."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ..errors import ContextTooLongError
from ..models.drafts import Draft
from ..models.language_model import LanguageModel
from ..models.prompts import EncodedPrompt
from ..passages import Granularity, Passage
from .long_passages import Part, as_part, split_passage

__all__ = ["Room"]

logger = logging.getLogger(__name__)


class Room:
    """Decides which prompts fit the context of a model.

    Args:
        language_model: the model.
        granularity: the kind of sources in the model's prompts.
        answer_tokens: the number of tokens that must fit after a prompt. It is 0 for a model that writes no answers.
    """

    def __init__(self, language_model: LanguageModel, granularity: Granularity, answer_tokens: int) -> None:
        self.language_model = language_model
        self.granularity = granularity
        self.answer_tokens = answer_tokens

    def encode(self, question: str, passages: Sequence[Passage]) -> EncodedPrompt:
        """Return the model's prompt with these passages."""
        return self.language_model.encode(question, passages, self.granularity)

    def fits(self, question: str, passages: Sequence[Passage], draft: str | Draft | None = None) -> bool:
        """Return whether the prompt with these passages fits the context; see `has`."""
        return self.has(len(self.encode(question, passages)), draft)

    def has(self, tokens: int, draft: str | Draft | None = None) -> bool:
        """Return whether the context can hold a prompt of this length and an answer.

        If the draft has more than `answer_tokens` tokens, the draft must fit instead of the answer.

        Args:
            tokens: the number of tokens in the prompt.
            draft: the given draft, if there is one.
        """
        try:
            self.language_model.check_length(tokens, self.after(draft))
        except ContextTooLongError:
            return False
        return True

    def has_for_each(self, prompt: EncodedPrompt, draft: str | Draft | None = None) -> bool:
        """Return whether every passage fits the context if it is the only passage in the prompt.

        Args:
            prompt: this model's prompt with all passages.
            draft: the given draft, if there is one.
        """
        lengths = [stop - start for start, stop in prompt.passages]
        return self.has(len(prompt) - sum(lengths) + max(lengths), draft)

    def after(self, draft: str | Draft | None = None) -> int:
        """Return the number of tokens that must fit after the prompt."""
        text = draft.text if isinstance(draft, Draft) else draft
        return max(self.answer_tokens, len(self.language_model.encode_draft(text)) if text else 0)

    def parts(
        self, question: str, passages: Sequence[Passage], prompt: EncodedPrompt, draft: str | Draft | None = None
    ) -> list[Part]:
        """Return the passages as parts. A passage that does not fit by itself is cut into several parts.

        The text of each of these parts takes at most a quarter of the room that the context has for passages. A window
        can then hold several parts to compare, and the prompt of an answer can hold several kept parts. If the room has
        fewer than 4 tokens, no passage is cut.

        Args:
            question: the question.
            passages: all passages.
            prompt: a prompt with all passages, encoded for any model. Only the sources of the prompt are used.
            draft: the given draft, if there is one.
        """
        room = self.language_model.context_length or 0
        room -= len(self.encode(question, [])) + self.after(draft)
        parts: list[Part] = []
        for index, passage in enumerate(passages):
            whole = as_part(prompt, index, passage)
            if room < 4 or self.fits(question, [passage], draft):
                parts.append(whole)
            else:
                logger.info("passage %d does not fit the model's context, so it is scored in parts", index)
                own = [prompt.source_texts[source] for source in whole.sources]
                parts += split_passage(whole, own, self.language_model.codec, room // 4)
        return parts
