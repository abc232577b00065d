"""The attributor scores every source, by its influence on a draft or by its use for the question."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import overload

from ..errors import EmptyDraftError, InputError
from ..models.drafts import Draft
from ..passages import Passage, PassageLike, as_passages, check_some_text
from ..scorers.base import Task
from .citations import Citations
from .citing import Citing
from .given_drafts import check_draft, read_for
from .loop import Scored
from .reader_drafts import reader_drafts
from .results import ScoredSource, scored_sources
from .statements import Statements

__all__ = ["Attributor"]


class Attributor(Citing):
    """Scores sources, after drafting an answer if the scorer needs a draft. `AT2Pruner` selects by these scores.

    Args:
        language_model: the scoring model, which reads attention.
        scorer: scores the sources, usually by learned coefficients for the scoring model.
        reader: writes drafts; by default the scoring model. If the reader is another model, the scoring model reads its
            drafts as it reads given drafts.
        granularity: the sources that are scored: passages, or their sentences.
        max_new_tokens: the maximum number of tokens in a draft.
        overflow: whether passages that do not fit the model's context are scored in "windows" or raise an "error".
            A window is a sequence of consecutive passages that fits. If the scorer reads a draft, the model drafts from
            each window. All windows are then scored with the most confident draft. A passage that does not fit alone is
            cut into parts, and gets the largest of their scores. The reader and the scoring model have windows of their
            own.
    """

    def draft(self, question: str, passages: Iterable[PassageLike]) -> Draft:
        """Write a draft from all passages. The attention that the scorer needs is read in the same passes.

        The scoring model reads the draft of a separate reader in one forward pass.

        Raises:
            InputError: the question is empty, there are no passages, or a passage is not a text.
            ContextTooLongError: question and passages do not fit the reader's context. It is also raised if the scoring
                model must read the question and the passages, and the scoring model's context is too short.
        """
        items = self._passages(passages)
        prompt = self.encode(question, items)
        if not self.loop.two_models:
            return self._write_drafts([prompt])[0]
        if self.scorer.draft_groups:  # before the draft is written
            self.language_model.check_length(len(prompt), 1)
        written = reader_drafts(self.loop, self._reader_room, [question], [items], "error")[0]
        if not written.draft.text:
            return Draft("", [], prompt_ids=prompt.ids)
        read = read_for(self.scorer, self.language_model, [prompt], [written.draft.text])[0]
        return replace(written.on(read), prompt_ids=prompt.ids)

    def score(self, question: str, passages: Iterable[PassageLike], draft: str | Draft | None = None) -> list[float]:
        """Return one score per source: per passage, or per sentence if sentences are the sources.

        Args:
            question: the question.
            passages: at least one.
            draft: a text written elsewhere, for example by an API, or a `Draft` of `self.draft` for the same question
                and passages. The attention of a text is read in one forward pass; a `Draft` needs no pass. If passages
                are scored in windows, the draft is read once per window, whether it is a text or a `Draft`. With None,
                the reader writes a draft if the scorer reads one.

        Raises:
            EmptyDraftError: there is no draft to attribute.
            InputError: the question is empty, there are no passages, or a passage is not a text. It is also raised if
                the given draft is neither a text nor a `Draft`, or is a `Draft` of another prompt.
            ContextTooLongError: the question does not fit the model's context. With `overflow="error"`: question and
                passages together do not fit.
        """
        return self.score_batch([question], [passages], None if draft is None else [draft])[0]

    def score_batch(
        self,
        questions: Sequence[str],
        passages: Sequence[Iterable[PassageLike]],
        drafts: Sequence[str | Draft] | None = None,
    ) -> list[list[float]]:
        """Score several questions as `score` does. Drafts are written as one batch. On a GPU, given drafts are read as
        one batch too.

        Args:
            questions: any number of questions.
            passages: the passages of each question.
            drafts: the draft of each question, as in `score`. With None, the reader writes drafts if the scorer reads
                them.

        Returns:
            The scores of each question. Memory grows with the batch; questions that need windows are not batched.

        Raises:
            InputError: as in `score`, or the numbers of questions, lists of passages and drafts differ.
            EmptyDraftError, ContextTooLongError: as in `score`, for any question.
        """
        return [[source.score for source in found] for found in self.attribute_batch(questions, passages, drafts)]

    @overload
    def attribute(
        self, question: str, passages: Iterable[PassageLike], draft: str | Draft | None = None
    ) -> list[ScoredSource]: ...

    @overload
    def attribute(
        self,
        question: str,
        passages: Iterable[PassageLike],
        draft: str | Draft | None = None,
        *,
        statements: Statements,
        ablations: int = 0,
    ) -> Citations: ...

    def attribute(
        self,
        question: str,
        passages: Iterable[PassageLike],
        draft: str | Draft | None = None,
        *,
        statements: Statements | None = None,
        ablations: int = 0,
    ) -> list[ScoredSource] | Citations:
        """Score as `score` does, and return each source's text, passage, rank and probability too.

        No source is marked as kept.

        With `statements`, every statement of the answer gets scores of its own. An attention method reads all
        statements in one forward pass. If the model wrote the answer, the attention was read while it wrote.

        Args:
            question: the question.
            passages: at least one.
            draft: the draft or answer, as in `score`.
            statements: "sentence" for the sentences of the answer, or character spans `(start, stop)` of it, in order
                and without overlap.
            ablations: with `statements`, the number of ablations to run: 0, or at least 3. From these, `Statement.fit`
                estimates the effect of each source: the log-odds, in nats, that the statement is expected to lose
                without the source. If the passages are scored in windows, no ablations are run.

        Returns:
            A `ScoredSource` for each source, or with `statements` the `Citations` of the answer.

        Raises:
            InputError, EmptyDraftError, ContextTooLongError: as in `score`. `InputError` is also raised if the method
                reads no draft, or a span is out of range, overlaps another or holds no token.

        Example:
            >>> cited = pruner.attribute(question, passages, answer, statements="sentence")  # doctest: +SKIP
            >>> [statement.cited() for statement in cited.statements]  # doctest: +SKIP
        """
        if statements is not None:
            if draft is not None:
                check_draft(draft)
            return self._cite(question, self._passages(passages), draft, statements, ablations)
        if ablations:
            raise InputError("ablations are for statements: pass statements='sentence' or spans too")
        return self.attribute_batch([question], [passages], None if draft is None else [draft])[0]

    def attribute_batch(
        self,
        questions: Sequence[str],
        passages: Sequence[Iterable[PassageLike]],
        drafts: Sequence[str | Draft] | None = None,
    ) -> list[list[ScoredSource]]:
        """Do the same as `attribute` for several questions, as one batch; see `score_batch`."""
        found = self._score_all(questions, [self._passages(some) for some in passages], drafts)
        for scored in found:
            if scored.error is not None:
                raise scored.error
        return [scored_sources(one.prompt, one.scores, (), one.probabilities) for one in found]

    def attribute_thoughts(
        self,
        question: str,
        passages: Iterable[PassageLike],
        draft: Draft | None = None,
        *,
        statements: Statements | None = None,
        ablations: int = 0,
    ) -> Citations:
        """Attribute the final answer to the sentences of the thoughts that the model wrote before it.

        Args:
            question: the question.
            passages: at least one. They are part of the prompt, but they are not the sources here.
            draft: a draft that this model wrote for this question and these passages. With None, the model writes one.
                The pruner's `max_new_tokens` limits the thoughts and the answer together.
            statements: as in `attribute`. With None, the whole answer is one statement.
            ablations: as in `attribute`. The ablations leave out sentences of the thoughts.

        Raises:
            EmptyDraftError: the model wrote no thoughts, or no answer after them.
            InputError: the method reads no draft, the draft was written elsewhere, or a separate reader answers.
            ContextTooLongError: question, passages, thoughts and answer do not fit the model's context.
        """
        return self._cite_thoughts(question, self._passages(passages), draft, statements, ablations)

    def try_score(self, question: str, passages: Iterable[PassageLike], draft: str | Draft | None = None) -> Scored:
        """Score as `score` does, but raise no error if the draft is empty.

        With an empty draft, all scores are 0, and `error` gives the reason.

        Raises:
            InputError, ContextTooLongError: as in `score`.
        """
        items = self._passages(passages)
        try:
            return self._score_all([question], [items], None if draft is None else [draft])[0]
        except EmptyDraftError as error:  # only an empty given draft raises here; an empty written draft sets `error`
            prompt = self.encode(question, items)
            return Scored(prompt, Draft("", []), [0.0] * len(prompt.sources), error, whole=False)

    def token_scores(
        self, question: str, passages: Iterable[PassageLike], draft: str | Draft
    ) -> list[list[tuple[str, float]]]:
        """Score every token of every passage with the scorer. An attention method needs one forward pass.

        Args:
            question: the question.
            passages: at least one.
            draft: a text, or a `Draft` that `self.draft` wrote.

        Returns:
            The tokens of each passage as `(text, score)`. Joined, the texts of a passage give the
            passage as it stands in the prompt.

        Raises:
            InputError, EmptyDraftError, ContextTooLongError: as in `score`.
        """
        check_draft(draft)
        items = self._passages(passages)
        prompt = self.language_model.encode(question, items, "token")
        read = read_for(self.scorer, self.language_model, [prompt], [draft if isinstance(draft, str) else draft.ids])[0]
        scores = self.scorer.score(Task(self.language_model, question, items, prompt, read)).tolist()
        tokens: list[list[tuple[str, float]]] = [[] for _ in items]
        for text, score, owner in zip(prompt.source_texts, scores, prompt.source_passage, strict=True):
            tokens[owner].append((text, score))
        return tokens

    def _passages(self, passages: Iterable[PassageLike]) -> list[Passage]:
        items = as_passages(passages)
        check_some_text(items)
        return items
