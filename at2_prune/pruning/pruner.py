"""`AT2Pruner` scores the sources, selects the best sources, and answers from the selected sources."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from ..coefficients.loading import AnyCoefficients
from ..errors import InputError, OnlyThoughtsError
from ..models.drafts import Draft
from ..models.language_model import LanguageModel
from ..models.prompts import EncodedPrompt, PromptTemplate
from ..passages import Granularity, Passage, PassageLike, only_kept
from ..scorers.base import Scorer, ScorerOptions
from ..scorers.registry import check_scorer, load_scorer
from .attributor import Attributor
from .auto_k import Candidate, most_confident
from .certainty import Bounds, calibration_of
from .loop import Scored
from .readers import ReaderLike, check_reader, load_reader, load_scoring_model
from .results import PruneResult, prune_result
from .scoring import check_options
from .selection import Ks, Order, as_ks, top_k
from .windows import Overflow

__all__ = ["AT2Pruner"]

logger = logging.getLogger(__name__)


class AT2Pruner(Attributor):
    """Prunes retrieved passages by the attention of a language model.

    Threads may share a pruner.

    Args:
        language_model: the scoring model, which reads attention.
        scorer: scores the sources, usually with coefficients that were learned for the scoring model.
        reader: the model that writes drafts and answers; by default the scoring model. Any causal language model can be
            a reader.
        granularity: the kind of source that is scored and kept: passages, or the sentences of passages.
        order: the order in which kept passages are shown: "original" for their original order, or "score" for the best
            passage first.
        max_new_tokens: the maximum number of tokens in a draft or an answer.
        overflow: see `Attributor`.

    Example:
        >>> pruner = AT2Pruner.from_pretrained()  # doctest: +SKIP
        >>> question = "On which river is the town where the inventor of the saxophone was born?"
        >>> passages = [
        ...     Passage("Adolphe Sax, the inventor of the saxophone, was born in Dinant.", "Adolphe Sax"),
        ...     Passage("Ghent is a city in Flanders, where the Scheldt and the Leie meet.", "Ghent"),
        ...     Passage("Dinant is a town in the province of Namur, on the river Meuse.", "Dinant"),
        ...     Passage("The clarinet is a woodwind instrument with a single reed."),
        ... ]
        >>> result = pruner.answer(question, passages, k=2)  # doctest: +SKIP
        >>> result.answer, result.kept  # doctest: +SKIP
        ('the Meuse', [0, 2])
    """

    def __init__(
        self,
        language_model: LanguageModel,
        scorer: Scorer,
        *,
        reader: LanguageModel | None = None,
        granularity: Granularity = "passage",
        order: Order = "original",
        max_new_tokens: int = 48,
        overflow: Overflow = "windows",
    ) -> None:
        super().__init__(
            language_model,
            scorer,
            reader=reader,
            granularity=granularity,
            max_new_tokens=max_new_tokens,
            overflow=overflow,
        )
        check_options(granularity, overflow, order)
        self.order: Order = order

    @classmethod
    def from_pretrained(
        cls,
        model: str | os.PathLike[str] | LanguageModel | None = None,
        coefficients: str | os.PathLike[str] | AnyCoefficients | None = None,
        *,
        method: str | None = None,
        index: str | None = None,
        cross_encoder: str | os.PathLike[str] | None = None,
        embedder: str | os.PathLike[str] | None = None,
        reader: ReaderLike = None,
        calibrate: bool = True,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        template: PromptTemplate | None = None,
        granularity: Granularity = "passage",
        order: Order = "original",
        max_new_tokens: int = 48,
        overflow: Overflow = "windows",
        **model_options: Any,
    ) -> AT2Pruner:
        """Make a pruner for a model. The default model is the embedded Gemma 3 270M.

        A model that is given by name, without template and model_options, is loaded once for each process, device and
        dtype.

        Args:
            model: the scoring model; see `LanguageModel.load`. The arguments device, dtype, template and model_options
                are passed to `LanguageModel.load`.
            coefficients: see `at2_prune.coefficients.loading.load_coefficients`.
            method: the name of the method that scores; see `at2_prune.catalogue`. With None, the other arguments decide
                the method. Coefficients select the method that they belong to, `cross_encoder` selects cross_encoder,
                and `embedder` selects dense. If none of these is given, the method is scout.
            index: the folder of scout's passage index. The command at2-prune index makes such a folder. By default, the
                index is kept in memory.
            cross_encoder: the reranker for the method cross_encoder; see `at2_prune.scorers.CrossEncoderScorer`.
            embedder: the sentence embedder for the methods dense, fusion and scout_dense; see
                `at2_prune.encoders.embedder.Embedder`.
            reader: the model that writes drafts and answers: a Hub id, a path, or a loaded model. By default, it is the
                scoring model. If the reader is given by name, device and dtype apply to the reader too, but template
                and model_options do not.
            calibrate: whether scout's coefficients are learned if at2-prune comes without coefficients for the model.
                This happens once for each model and takes some minutes; see `at2_prune.calibration`. The environment
                variable AT2_PRUNE_CALIBRATE=off switches this off too.
            granularity: see the class.
            order: see the class.
            max_new_tokens: see the class.
            overflow: see the class.

        Raises:
            InputError: there is no such model or reader, an option has a value that cannot be used, or the coefficients
                belong to a method other than `method`.
            CoefficientsError: there are no coefficients for this model, or the given coefficients belong to another
                model.
            ModelNotSupportedError: the model's attention cannot be read, or the reader's chat template cannot be used.
            CacheError: the coefficients must be learned, and the cache cannot be written.
        """
        check_options(granularity, overflow, order, max_new_tokens)  # before the model is loaded
        options = ScorerOptions(embedder=embedder, cross_encoder=cross_encoder, index=index, calibrate=calibrate)
        check_scorer(model, method, coefficients, options, model_options)
        check_reader(reader, model)
        language_model = load_scoring_model(model, reader, device, dtype, template, model_options)
        scorer = load_scorer(language_model, method, coefficients, index, cross_encoder, embedder, calibrate)
        return cls(
            language_model,
            scorer,
            reader=load_reader(reader, language_model, device, dtype),
            granularity=granularity,
            order=order,
            max_new_tokens=max_new_tokens,
            overflow=overflow,
        )

    def shown(self, passages: Sequence[Passage], kept: Sequence[int]) -> list[Passage]:
        """Return the passages that the reader sees if these sources are kept, in this order.

        Raises:
            InputError: an index repeats or is out of range.
        """
        return only_kept(passages, kept, self.granularity)

    def select(self, scores: Sequence[float], k: int) -> list[int]:
        """Return the indices of the k best sources, in the order in which they are shown."""
        return top_k(scores, k, self.order)

    def answer_from(self, question: str, passages: Iterable[PassageLike], kept: Sequence[int] | None = None) -> str:
        """Answer the question from the kept sources only.

        Args:
            question: the question.
            passages: all passages.
            kept: the indices of the kept sources, in the order in which the sources are shown. None keeps all sources.
        """
        items = self._passages(passages)
        shown = items if kept is None else self.shown(items, kept)
        return self._answers([self._reader_room.encode(question, shown)])[0].text

    def _answers(self, prompts: Sequence[EncodedPrompt]) -> list[Draft]:
        """Write an answer to every prompt.

        Raises:
            OnlyThoughtsError: the reader wrote only thoughts for a prompt.
        """
        written = self.loop.write_drafts(prompts)
        if any(one.only_thoughts for one in written):
            raise self._only_thoughts()
        return written

    def _only_thoughts(self) -> OnlyThoughtsError:
        return OnlyThoughtsError(
            f"{self.reader.name} wrote only thoughts and no answer within {self.max_new_tokens} tokens: raise "
            "max_new_tokens, or use a reader that does not think first"
        )

    def regenerate(self, question: str, passages: Iterable[PassageLike], kept: Sequence[int] | None = None) -> str:
        """Do the same as `answer_from`. The old name `regenerate` will be removed in 0.3."""
        message = "regenerate is now called answer_from; the old name will be removed in 0.3"
        warnings.warn(message, FutureWarning, stacklevel=2)
        return self.answer_from(question, passages, kept)

    def answer(
        self,
        question: str,
        passages: Iterable[PassageLike],
        k: Ks = 3,
        draft: str | Draft | None = None,
        bounds: Bounds | None = None,
    ) -> PruneResult:
        """Score the sources, keep the top k sources, and answer from the kept sources.

        If k is at least the number of sources and the reader drafted from all sources, the draft is the answer. The
        exception is `order="score"`: a new answer is written if the ranking differs from the original order.

        If the method needs a draft and the reader writes nothing, the first k sources are kept. `result.fallback` then
        gives the reason.

        Args:
            question: the question.
            passages: strings, `Passage` objects or mappings with `text` (and `title`, `id`, `score`); at least one.
            k: the number of sources to keep, at least 1. Several numbers can be given, and "auto" stands for 1, 2, 3
                and 5. The reader then answers once for each number, and the most confident answer is returned (see
                `at2_prune.pruning.auto_k`).
            draft: as in `score`. If the text is empty, an error is raised, and the reader does not write a draft.
            bounds: the minimum probability of a kept source, or the wanted recall. The best source is always kept.

        Raises:
            InputError: the question is empty, there are no passages, a passage cannot be used, or k is below 1. The
                error is also raised if `bounds` is not a `Bounds` object, or if bounds are given and the method gives
                no probabilities.
            CoefficientsError: there are bounds, and the coefficients have no calibration.
            OnlyThoughtsError: a reasoning model wrote only thoughts. If several k are given, the error is raised
                only if the answers for all k are like this.
            EmptyDraftError: a given text is empty, or the method reads drafts and the given draft is empty.
            ContextTooLongError: the question does not fit the model's context, or the kept passages do not fit the
                reader's context. With `overflow="error"`, and a scorer that reads all passages in one prompt, the error
                is also raised if the prompt does not fit.
        """
        return self.answer_batch([question], [passages], k, None if draft is None else [draft], bounds)[0]

    def answer_batch(
        self,
        questions: Sequence[str],
        passages: Sequence[Iterable[PassageLike]],
        k: Ks = 3,
        drafts: Sequence[str | Draft] | None = None,
        bounds: Bounds | None = None,
    ) -> list[PruneResult]:
        """Answer several questions, each as `answer` does. Drafts and scores are computed in batches.

        If one k is given, the answers are written in a batch too. Batches save much time on a GPU, but little on a CPU.

        The results give the time of each step in `seconds`. The times of the steps `draft` and `score` of a batch are
        divided equally among its questions. The time of the step `answer` is divided equally among the questions that
        needed a new answer.

        Args:
            questions: any number of questions.
            passages: the passages of each question.
            k: as in `answer`.
            drafts: the draft of each question, as in `answer`.
            bounds: as in `answer`.

        Returns:
            One result for each question.

        Raises:
            InputError: as in `answer`. The error is also raised if `questions`, `passages` and `drafts` differ in
                length.
        """
        ks = as_ks(k)
        bounds = Bounds() if bounds is None else bounds
        if not isinstance(bounds, Bounds):
            raise InputError(f"bounds must be Bounds, such as Bounds(min_score=0.3), got {bounds!r:.80}")
        if bounds.given:
            calibration_of(self.scorer, *bounds.names)
        items = [self._passages(some) for some in passages]
        found = self._score_all(questions, items, drafts, answers_follow=True)
        for scored in found:
            if drafts is not None and scored.error is not None:
                raise scored.error
        started = time.perf_counter()
        numbers = [self.bounded(scored, ks, bounds) for scored in found]
        if len(found) > 1 and all(len(one) == 1 for one in numbers):
            candidates = self._answer_together(questions, items, found, [one[0] for one in numbers])
        else:
            every = zip(questions, items, found, numbers, strict=True)
            candidates = [self.candidates(question, some, scored, few) for question, some, scored, few in every]
        elapsed = time.perf_counter() - started
        written = [_was_written(scored, some) for scored, some in zip(found, candidates, strict=True)]
        share = elapsed / max(1, sum(written))
        return [
            self._result(question, some, scored, tried, share if new else 0.0)
            for question, some, scored, tried, new in zip(questions, items, found, candidates, written, strict=True)
        ]

    def bounded(self, scored: Scored, ks: Sequence[int], bounds: Bounds) -> list[int]:
        """Apply the bounds to the numbers of sources to keep.

        Args:
            scored: the scores of one question's sources, with probabilities if the scorer is calibrated.
            ks: the numbers of sources to keep that the user asked for.
            bounds: the bounds. A minimum probability can lower the numbers. A wanted recall replaces all of them.

        Returns:
            The numbers in ascending order without repeats. Each number is at least 1.
        """
        if not bounds.given or scored.probabilities is None:
            return list(ks)
        found = {bounds.count(scored.probabilities, k, self.scorer.calibration) for k in ks}
        return sorted({max(1, count) for count in found})

    def candidates(
        self, question: str, passages: Sequence[Passage], scored: Scored, ks: Sequence[int]
    ) -> list[Candidate]:
        """Write an answer from the top k sources, for each k.

        Args:
            question: the question.
            passages: all passages.
            scored: the scores of the passages' sources.
            ks: the numbers of sources to keep, in ascending order. If several numbers keep all sources, only the first
                of these numbers is used.

        Returns:
            The candidates whose sources fit the reader's context, in ascending order of k.

        Raises:
            ContextTooLongError: the sources of no candidate fit the reader's context.
        """
        passages = scored.shown(passages)
        all_kept = [k for k in ks if k >= len(scored.scores)]
        kept = {k: tuple(self.select(scored.scores, k)) for k in ks if k not in all_kept[1:]}
        fitting = [
            k
            for k, some in kept.items()
            if (scored.draft_answers and some == scored.everything) or self.fits(question, self.shown(passages, some))
        ] or list(kept)[:1]
        sets = list(dict.fromkeys(kept[k] for k in fitting))
        answers = self.loop.answer_kept(question, passages, scored, sets, self.granularity)
        if all(one.only_thoughts for one in answers.values()):
            raise self._only_thoughts()
        return [Candidate(k, list(kept[k]), answers[kept[k]].text, answers[kept[k]].log_probability) for k in fitting]

    def _answer_together(
        self, questions: Sequence[str], passages: Sequence[list[Passage]], found: Sequence[Scored], ks: Sequence[int]
    ) -> list[list[Candidate]]:
        """Answer each question from its own k best sources. All new answers are written as one batch."""
        kept = [self.select(scored.scores, k) for scored, k in zip(found, ks, strict=True)]
        answers = [(scored.draft.text, scored.draft.log_probability) for scored in found]
        again = [
            i for i, scored in enumerate(found) if not (scored.draft_answers and tuple(kept[i]) == scored.everything)
        ]
        if again:
            shown = [self.shown(found[i].shown(passages[i]), kept[i]) for i in again]
            prompts = [self._reader_room.encode(questions[i], some) for i, some in zip(again, shown, strict=True)]
            for i, new in zip(again, self._answers(prompts), strict=True):
                answers[i] = new.text, new.log_probability
        return [[Candidate(k, *rest)] for k, *rest in zip(ks, kept, *zip(*answers, strict=True), strict=True)]

    def _result(
        self,
        question: str,
        passages: list[Passage],
        scored: Scored,
        candidates: list[Candidate],
        seconds: float,
    ) -> PruneResult:
        best = most_confident(candidates)
        if not best.answer:
            logger.warning("%s wrote an empty answer from %d sources", self.reader.name, len(best.kept))
        return prune_result(question, passages, scored, candidates, seconds, self.scorer.uses_draft)


def _was_written(scored: Scored, candidates: Sequence[Candidate]) -> bool:
    """Return whether a new answer was written. If all sources are kept in order, the reader's draft is the answer."""
    return not scored.draft_answers or any(tuple(one.kept) != scored.everything for one in candidates)
