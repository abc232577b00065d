"""The attributor scores each source, by the source's influence on a draft or by its use for the question."""

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
    """Scores sources. If the scorer reads a draft and none is given, a draft is written first.

    The subclass `AT2Pruner` selects sources by these scores.

    Args:
        language_model: the scoring model, which reads attention.
        scorer: scores the sources, usually with coefficients that were learned for the scoring model.
        reader: the model that writes drafts; by default the scoring model. If the reader is another model, the scoring
            model reads the reader's drafts like drafts that were given.
        granularity: the kind of source that gets a score: passages, or the sentences of passages.
        max_new_tokens: the maximum number of tokens in a draft.
        overflow: the treatment of passages that do not fit the model's context together. With "error", an error is
            raised. With "windows", the passages are scored in windows. A window is a sequence of consecutive passages
            that fits the context. If the scorer reads a draft and none is given, the model drafts from each window. All
            windows are then scored with the most confident draft. A passage that does not fit by itself is cut into
            parts, and gets the largest score of its parts. A separate reader and the scoring model each have their own
            windows. A scorer that does not read all passages in one prompt, such as scout, needs no windows; see
            `Scorer.reads_prompt`. With "error", such a scorer raises no error for passages that do not fit together.
    """

    def draft(self, question: str, passages: Iterable[PassageLike]) -> Draft:
        """Write a draft from all passages. The attention that the scorer needs is read in the same forward passes.

        If a separate reader writes the draft and the scorer needs the draft's attention, the scoring model reads the
        draft in another forward pass.

        Raises:
            InputError: the question is empty, there are no passages, or a passage cannot be used.
            ContextTooLongError: question and passages do not fit the reader's context. The error is also raised if the
                scoring model must read them and they do not fit its context.
        """
        items = self._passages(passages)
        prompt = self.encode(question, items)
        if not self.loop.two_models:
            return self._write_drafts([prompt])[0]
        if self.scorer.draft_groups:  # the length is checked before the draft is written
            self.language_model.check_length(len(prompt), 1)
        written = reader_drafts(self.loop, self._reader_room, [question], [items], "error")[0]
        if not written.draft.text:
            return Draft("", [], prompt_ids=prompt.ids)
        read = read_for(self.scorer, self.language_model, [prompt], [written.draft.text])[0]
        return replace(written.on(read), prompt_ids=prompt.ids)

    def score(self, question: str, passages: Iterable[PassageLike], draft: str | Draft | None = None) -> list[float]:
        """Return one score for each source. The sources are passages or sentences; see the argument `granularity`.

        Args:
            question: the question.
            passages: at least one passage.
            draft: a text, for example one that an API wrote, or a `Draft` that `self.draft` wrote for the same question
                and passages. For a text, one forward pass reads the attention. A `Draft` holds its attention and needs
                no pass. If the passages are scored in windows, a text or a `Draft` is read once per window. With None,
                the reader writes a draft if the scorer reads drafts.

        Raises:
            EmptyDraftError: a given text is empty, or the scorer reads drafts and the given or written draft is empty.
            InputError: the question is empty, there are no passages, or a passage cannot be used. The error is also
                raised if the given draft is neither a text nor a `Draft`, or if it is a `Draft` for another prompt.
            ContextTooLongError: the question alone does not fit the model's context. With `overflow="error"`, and a
                scorer that reads all passages in one prompt, the error is also raised if the prompt does not fit.
        """
        return self.score_batch([question], [passages], None if draft is None else [draft])[0]

    def score_batch(
        self,
        questions: Sequence[str],
        passages: Sequence[Iterable[PassageLike]],
        drafts: Sequence[str | Draft] | None = None,
    ) -> list[list[float]]:
        """Score several questions, each as `score` does.

        Drafts are written as one batch. On a GPU, given drafts are read as one batch too. The memory that is needed
        grows with the number of questions. Questions that need windows are scored one at a time.

        Args:
            questions: any number of questions.
            passages: the passages of each question.
            drafts: the draft of each question, as in `score`. With None, the reader writes the drafts if the scorer
                reads drafts.

        Returns:
            The scores of each question's sources.

        Raises:
            InputError: as in `score`. The error is also raised if `questions`, `passages` and `drafts` differ in
                length.
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
        """Score sources as `score` does, and return each source with its score, text, passage, rank and probability.

        Nothing is selected, so `kept` is False for every source.

        With `statements`, the sources get separate scores for each statement of the answer. An attention method reads
        all statements in one forward pass. It needs no pass if it read the attention while the model wrote the answer.

        Args:
            question: the question.
            passages: at least one passage.
            draft: the draft or answer, as in `score`.
            statements: "sentence" for the sentences of the answer, or character spans `(start, stop)` of the answer.
                The spans must be in order and must not overlap.
            ablations: with `statements`, the number of ablations to run: 0, or at least 3. With ablations,
                `Statement.fit` holds the effect of each source: the log-odds, in nats, that the statement is expected
                to lose without the source. If the passages are scored in windows, no ablations are run.

        Returns:
            A `ScoredSource` for each source. With `statements`, the `Citations` of the answer instead.

        Raises:
            InputError, EmptyDraftError, ContextTooLongError: as in `score`. `InputError` is also raised if there are
                ablations without `statements`. With `statements`, it is also raised if the method reads no draft, or if
                a span is out of range, overlaps another span or holds no token.

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
        """Attribute several questions as one batch; see `score_batch`.

        Each question is attributed as `attribute` does it without `statements`.
        """
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
        """Attribute the final answer to the sentences of the thoughts that the model wrote before the answer.

        Args:
            question: the question.
            passages: at least one passage. The passages are part of the prompt, but only the sentences of the thoughts
                are sources.
            draft: a draft that this model wrote for this question and these passages. With None, the model writes one.
                The pruner's `max_new_tokens` limits the thoughts and the answer together.
            statements: as in `attribute`. With None, the whole answer is one statement.
            ablations: as in `attribute`. The ablations leave out sentences of the thoughts.

        Raises:
            EmptyDraftError: the model wrote no thoughts, or it wrote thoughts but no answer.
            InputError: the method reads no draft, the draft was written elsewhere, or the pruner has a separate reader.
            ContextTooLongError: question, passages, thoughts and answer together do not fit the model's context.
        """
        return self._cite_thoughts(question, self._passages(passages), draft, statements, ablations)

    def try_score(self, question: str, passages: Iterable[PassageLike], draft: str | Draft | None = None) -> Scored:
        """Score the sources as `score` does, but raise no error if the draft is empty.

        If the draft is empty, all scores are 0 and `error` gives the reason. An empty `Draft` has no effect if the
        scorer reads no draft.

        Raises:
            InputError, ContextTooLongError: as in `score`.
        """
        items = self._passages(passages)
        try:
            return self._score_all([question], [items], None if draft is None else [draft])[0]
        except EmptyDraftError as error:  # only for a given draft; if the model writes nothing, no error is raised
            prompt = self.encode(question, items)
            return Scored(prompt, Draft("", []), [0.0] * len(prompt.sources), error, whole=False)

    def token_scores(
        self, question: str, passages: Iterable[PassageLike], draft: str | Draft
    ) -> list[list[tuple[str, float]]]:
        """Score every token of every passage. An attention method needs one forward pass.

        Args:
            question: the question.
            passages: at least one passage.
            draft: a text, or a `Draft` that `self.draft` wrote.

        Returns:
            The tokens of each passage as `(text, score)`. If these texts are joined, they give the passage's part of
            the prompt, which includes the title.

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
