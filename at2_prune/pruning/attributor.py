"""A draft, and a score of every source for what the draft owes to it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from ..errors import ContextTooLongError, EmptyDraftError, InputError
from ..models.drafts import Draft, read_draft, read_drafts, read_prompts, write_drafts
from ..models.kv_cache import Prefix
from ..models.language_model import LanguageModel
from ..models.prompts import EncodedPrompt
from ..passages import Granularity, Passage, PassageLike, as_passages
from ..scorers import Scorer, Task, prompt_groups, read_layers
from .results import ScoredSource, scored_sources
from .windows import score_windows

__all__ = ["Attributor", "check_one_each"]

logger = logging.getLogger(__name__)


class Attributor:
    """Drafts an answer and scores the sources it was written from: what `AT2Pruner` selects by.

    Args:
        language_model: writes drafts, and reads attention.
        scorer: scores the sources; usually by the model's head coefficients.
        granularity: what is scored: passages, or their sentences.
        max_new_tokens: a draft is cut there.
        overflow: passages that do not fit the model's context are an "error", or are scored in "windows": runs of
            passages that fit, each drafted; the draft the model is most confident of is then scored in every window.
    """

    def __init__(
        self,
        language_model: LanguageModel,
        scorer: Scorer,
        *,
        granularity: Granularity = "passage",
        max_new_tokens: int = 48,
        overflow: str = "error",
    ) -> None:
        if granularity not in ("passage", "sentence"):
            raise InputError(f"granularity must be 'passage' or 'sentence', got {granularity!r}")
        if overflow not in ("error", "windows"):
            raise InputError(f"overflow must be 'error' or 'windows', got {overflow!r}")
        if isinstance(max_new_tokens, bool) or not isinstance(max_new_tokens, int) or max_new_tokens < 1:
            raise InputError(f"max_new_tokens must be an integer of at least 1, got {max_new_tokens!r}")
        self.language_model = language_model
        self.scorer = scorer
        self.granularity: Granularity = granularity
        self.max_new_tokens = max_new_tokens
        self.overflow = overflow

    def draft(self, question: str, passages: Iterable[PassageLike]) -> Draft:
        """The model's answer from all passages, with the attention the scorer needs, read as it was written.

        Raises:
            InputError: an empty question, no passages, a passage that is not a text.
            ContextTooLongError: they do not fit the model's context.
        """
        prompt = self.encode(question, self._passages(passages))
        return self._write([prompt])[0]

    def score(self, question: str, passages: Iterable[PassageLike], draft: str | Draft | None = None) -> list[float]:
        """One score per source: per passage, or per sentence if these are the sources.

        Args:
            question: the question.
            passages: at least one.
            draft: a text written elsewhere (an API's answer, say) is read in one forward pass; a `Draft` of
                `self.draft` for the same question and passages costs nothing; None drafts first.

        Raises:
            EmptyDraftError: there is no draft to attribute.
            InputError, ContextTooLongError: see `draft`.
        """
        return self._score(question, self._passages(passages), draft)[2]

    def score_batch(
        self,
        questions: Sequence[str],
        passages: Sequence[Iterable[PassageLike]],
        drafts: Sequence[str | Draft] | None = None,
    ) -> list[list[float]]:
        """`score` for several questions: drafted as one batch, or their drafts read as one where that pays, on a GPU.

        Args:
            questions: any number.
            passages: of each question.
            drafts: of each question, as in `score`; None drafts first.

        Returns:
            As `score` for each. Memory grows with the batch; if one question needs windows, none is batched.

        Raises:
            InputError: as `score`, and if there are not as many lists of passages, or drafts, as questions.
            EmptyDraftError, ContextTooLongError: as `score`, of any one.
        """
        check_one_each(questions, passages, "lists of passages")
        if drafts is not None:
            check_one_each(questions, drafts, "drafts")
            for draft in drafts:
                _check(draft)
        if not questions:
            return []
        items = [self._passages(some) for some in passages]
        given = [None] * len(questions) if drafts is None else drafts
        if self.overflow == "windows" and not all(map(self.fits, questions, items, given)):
            return [self._score(*one)[2] for one in zip(questions, items, given, strict=True)]
        return self._score_all(questions, items, drafts)[2]

    def attribute(
        self, question: str, passages: Iterable[PassageLike], draft: str | Draft | None = None
    ) -> list[ScoredSource]:
        """`score`, with each source's text, passage and rank; nothing is kept or dropped."""
        return self.attribute_draft(question, passages, draft)[1]

    def attribute_draft(
        self, question: str, passages: Iterable[PassageLike], draft: str | Draft | None = None
    ) -> tuple[Draft, list[ScoredSource]]:
        """`attribute`, with the draft that was attributed."""
        prompt, written, scores = self._score(question, self._passages(passages), draft)
        return written, scored_sources(prompt, scores, ())

    def token_scores(
        self, question: str, passages: Iterable[PassageLike], draft: str | Draft
    ) -> list[list[tuple[str, float]]]:
        """Influence of every token of every passage on the draft, in one forward pass.

        Args:
            question: the question.
            passages: at least one.
            draft: its text, or what `self.draft` returned.

        Returns:
            For each passage its tokens' `(text, score)`; the texts join to what the model was shown of the passage.
        """
        items = self._passages(passages)
        prompt = self.language_model.encode(question, items, "token")
        read = self.read(prompt, draft if isinstance(draft, str) else draft.ids)
        scores = self.scorer.score(Task(self.language_model, question, items, prompt, read)).tolist()
        tokens: list[list[tuple[str, float]]] = [[] for _ in items]
        for text, score, owner in zip(prompt.source_texts, scores, prompt.source_passage, strict=True):
            tokens[owner].append((text, score))
        return tokens

    def encode(self, question: str, passages: Sequence[Passage]) -> EncodedPrompt:
        """The prompt from these passages, which are not checked, with the token span of every source."""
        return self.language_model.encode(question, passages, self.granularity)

    def read(self, prompt: EncodedPrompt, draft: str | Sequence[int]) -> Draft:
        """A draft written elsewhere, text or token ids, with what the scorer reads of it."""
        return read_draft(self.language_model, prompt, draft, self.scorer.row_groups, read_layers(self.scorer))

    def fits(self, question: str, passages: Sequence[Passage], draft: str | Draft | None = None) -> bool:
        """Whether the context holds the passages and the longer of the draft given and an answer."""
        text = draft.text if isinstance(draft, Draft) else draft
        room = max(self.max_new_tokens, len(self.language_model.encode_draft(text)) if text else 0)
        try:
            self.language_model.check_length(len(self.encode(question, passages)), room)
        except ContextTooLongError:
            return False
        return True

    def _passages(self, passages: Iterable[PassageLike]) -> list[Passage]:
        items = as_passages(passages)
        if not items:
            raise InputError("passages is empty: give at least one passage")
        return items

    def _drafts(self, prompts: Sequence[EncodedPrompt], prefix: Prefix | None = None) -> list[Draft]:
        """The drafts, written as one batch; empty ones for a method that looks at none."""
        if not self.scorer.uses_draft:
            return [Draft("", [], prompt_ids=prompt.ids) for prompt in prompts]
        return self._write(prompts, prefix)

    def _write(self, prompts: Sequence[EncodedPrompt], prefix: Prefix | None = None) -> list[Draft]:
        """Drafts with what the scorer reads of them."""
        groups, layers = self.scorer.row_groups, read_layers(self.scorer)
        return write_drafts(self.language_model, prompts, groups, self.max_new_tokens, layers, prefix)

    def _read_prompts(self, prompts: Sequence[EncodedPrompt]) -> Sequence[Draft | None]:
        """What a scorer wants of prompts without a draft, read as one batch where that pays; else it reads itself."""
        groups = prompt_groups(self.scorer)
        if not groups or len(prompts) == 1 or not self.language_model.batching_pays:
            return [None] * len(prompts)
        return read_prompts(self.language_model, prompts, groups, read_layers(self.scorer))

    def _score(
        self, question: str, passages: list[Passage], draft: str | Draft | None
    ) -> tuple[EncodedPrompt, Draft, list[float]]:
        if draft is not None:
            _check(draft)
        if self.overflow == "windows" and not self.fits(question, passages, draft):
            return score_windows(self, question, passages, draft)
        (prompt,), (draft,), (scores,) = self._score_all([question], [passages], None if draft is None else [draft])
        return prompt, draft, scores

    def _score_all(
        self, questions: Sequence[str], passages: Sequence[list[Passage]], drafts: Sequence[str | Draft] | None
    ) -> tuple[list[EncodedPrompt], list[Draft], list[list[float]]]:
        """Prompts, drafts and scores of questions that fit the context."""
        prompts = [self.encode(question, some) for question, some in zip(questions, passages, strict=True)]
        written = self._drafts(prompts) if drafts is None else self._given(prompts, drafts)
        reads = self._read_prompts(prompts)
        scores = [
            self.scorer.score(Task(self.language_model, question, some, prompt, draft, read=read)).tolist()
            for question, some, prompt, draft, read in zip(questions, passages, prompts, written, reads, strict=True)
        ]
        return prompts, written, scores

    def _given(self, prompts: Sequence[EncodedPrompt], drafts: Sequence[str | Draft]) -> list[Draft]:
        """Drafts from elsewhere, with what the scorer reads of those that are texts."""
        model = self.language_model
        known: dict[int, Draft] = {}
        texts: dict[int, str] = {}
        for index, (prompt, draft) in enumerate(zip(prompts, drafts, strict=True)):
            if isinstance(draft, str):
                if not draft.strip():
                    which = f" of question {index}" if len(prompts) > 1 else ""
                    raise EmptyDraftError(
                        f"the draft{which} is empty ({draft!r}), so there is nothing to attribute; pass a text"
                    )
                texts[index] = draft
            elif draft.prompt_ids not in ((), prompt.ids) or any(
                mass.shape[-1] != len(prompt.sources) for mass in draft.mass.values()
            ):
                raise InputError("this draft was written for another question or from other passages than these")
            else:
                known[index] = draft
        if texts and not self.scorer.uses_draft:
            logger.warning('the method %s does not read the draft given; method="at2" does', self.scorer.name)
        if not self.scorer.row_groups:
            known |= {index: Draft(text.strip(), model.encode_draft(text)) for index, text in texts.items()}
        elif texts and model.batching_pays:
            of, layers = [prompts[index] for index in texts], read_layers(self.scorer)
            read = read_drafts(model, of, [*texts.values()], self.scorer.row_groups, layers)
            known |= dict(zip(texts, read, strict=True))
        else:
            known |= {index: self.read(prompts[index], text) for index, text in texts.items()}
        return [known[index] for index in range(len(prompts))]


def check_one_each(questions: Sequence[str], others: Sequence[Any], what: str) -> None:
    """Refuses lists that do not go with the questions one to one."""
    if len(questions) != len(others):
        raise InputError(f"{len(questions)} questions but {len(others)} {what}")


def _check(draft: Any) -> None:
    if not isinstance(draft, (str, Draft)):
        raise InputError(f"a draft must be a text or a Draft, got {type(draft).__name__}: {draft!r:.80}")
