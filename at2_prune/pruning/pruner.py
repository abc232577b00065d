"""Draft -> score -> select -> regenerate; the first two are the attributor's."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from ..coefficients.head_coefficients import HeadCoefficients
from ..errors import EmptyDraftError, InputError
from ..models.drafts import Draft, write_drafts
from ..models.forward import run_prefix
from ..models.language_model import LanguageModel
from ..models.prompts import EncodedPrompt, PromptTemplate
from ..passages import Granularity, Passage, PassageLike, only_kept
from ..pipeline.config import DEFAULT_METHOD
from ..scorers import Scorer, Task
from ..scorers.loading import load_coefficients, load_scorer
from .attributor import Attributor, check_one_each
from .auto_k import Candidate, most_confident, write_candidates
from .results import PruneResult, ScoredSource, scored_sources
from .selection import K, Order, as_ks, top_k

__all__ = ["AT2Pruner", "PruneResult", "ScoredSource", "load_coefficients"]


class AT2Pruner(Attributor):
    """Prunes retrieved passages by what a model's attention points to.

    Safe to share between threads.

    Args:
        language_model: writes drafts and answers, and reads attention.
        scorer: scores the sources; usually by the model's head coefficients.
        granularity: what is scored and kept: passages, or their sentences.
        order: show kept passages in their original order, or best first.
        max_new_tokens: a draft or answer is cut there.
        overflow: passages that do not fit the model's context are an "error", or are scored in "windows": runs of
            passages that fit, each drafted; the draft the model is most confident of is then scored in every window.

    Example:
        >>> pruner = AT2Pruner.from_pretrained()  # doctest: +SKIP
        >>> result = pruner.answer("Which city ...?", passages, k=3)  # doctest: +SKIP
        >>> result.answer, result.kept  # doctest: +SKIP
    """

    def __init__(
        self,
        language_model: LanguageModel,
        scorer: Scorer,
        *,
        granularity: Granularity = "passage",
        order: Order = "original",
        max_new_tokens: int = 48,
        overflow: str = "error",
    ) -> None:
        super().__init__(
            language_model, scorer, granularity=granularity, max_new_tokens=max_new_tokens, overflow=overflow
        )
        if order not in ("original", "score"):
            raise InputError(f"order must be 'original' or 'score', got {order!r}")
        self.order: Order = order

    @classmethod
    def from_pretrained(
        cls,
        model: str | os.PathLike[str] | LanguageModel | None = None,
        coefficients: str | os.PathLike[str] | HeadCoefficients | None = None,
        *,
        method: str = DEFAULT_METHOD,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        template: PromptTemplate | None = None,
        granularity: Granularity = "passage",
        order: Order = "original",
        max_new_tokens: int = 48,
        overflow: str = "error",
        **model_options: Any,
    ) -> AT2Pruner:
        """A pruner for a model by Hub id or path; without one, the embedded Gemma 3 270M.

        Args:
            model: see `LanguageModel.load`, which also takes device, dtype, template and model_options.
            coefficients: see `load_coefficients`.
            method: what scores, see `load_scorer`: `at2`, `scout` or any other by name.
            granularity: see the class, as for the rest.
            order: see the class.
            max_new_tokens: see the class.
            overflow: see the class.

        Raises:
            InputError: no such model, an impossible option.
            CoefficientsError: no coefficients for this model, or another model's.
            ModelNotSupportedError: its attention cannot be read.
        """
        if isinstance(model, LanguageModel):
            given = {"device": device, "dtype": dtype, "template": template, **model_options}
            ignored = sorted(name for name, value in given.items() if value is not None)
            if ignored:
                raise InputError(f"{', '.join(ignored)}: these are for loading a model, but a loaded one was given")
            language_model = model
        else:
            language_model = LanguageModel.load(model, device=device, dtype=dtype, template=template, **model_options)
        return cls(
            language_model,
            load_scorer(language_model, method, coefficients),
            granularity=granularity,
            order=order,
            max_new_tokens=max_new_tokens,
            overflow=overflow,
        )

    def shown(self, passages: Sequence[Passage], kept: Sequence[int]) -> list[Passage]:
        """The passages to show if these sources are kept, in this order.

        Raises:
            InputError: indices that repeat, or of no source.
        """
        return only_kept(passages, kept, self.granularity)

    def select(self, scores: Sequence[float], k: int) -> list[int]:
        """Indices of the sources to keep, in the order they are to be shown."""
        return top_k(scores, k, self.order)

    def regenerate(self, question: str, passages: Iterable[PassageLike], kept: Sequence[int] | None = None) -> str:
        """The answer from the kept sources only.

        Args:
            question: the question.
            passages: all passages.
            kept: indices of sources in the order to show them; None keeps all.
        """
        items = self._passages(passages)
        shown = items if kept is None else self.shown(items, kept)
        prompt = self.encode(question, shown)
        return write_drafts(self.language_model, [prompt], max_new_tokens=self.max_new_tokens)[0].text

    def answer(
        self, question: str, passages: Iterable[PassageLike], k: K = 3, draft: str | Draft | None = None
    ) -> PruneResult:
        """Draft, score, keep the top k sources, and answer again from those.

        With k at least the number of sources the model's own draft is the answer, unless `order="score"` shows the
        sources in another order than it was written from. If the model writes nothing from all passages,
        the first k are kept, and `result.fallback` says so.

        Args:
            question: the question.
            passages: strings, `Passage` objects or mappings with `text` (and `title`, `id`, `score`); at least one.
            k: sources to keep, at least 1; with several, or "auto" for 1, 2, 3 and 5, an answer is written from each
                and the one the model is most confident of is taken (see `at2_prune.pruning.auto_k`).
            draft: as in `score`; a text given here is never replaced.

        Raises:
            InputError: an empty question, no passages, a passage that is not a text, k below 1.
            EmptyDraftError: the draft given is empty.
            ContextTooLongError: they do not fit the model's context.
        """
        ks = as_ks(k)
        items = self._passages(passages)
        if draft is None and (self.overflow == "error" or self.fits(question, items)):
            return self.answer_batch([question], [items], k)[0]
        clock = time.perf_counter
        started = clock()
        fallback = None
        try:
            prompt, written, scores = self._score(question, items, draft)
        except EmptyDraftError as error:
            if draft is not None:
                raise
            prompt, written = self.encode(question, items), Draft("", [])
            scores, fallback = [0.0] * len(prompt.sources), _fallback(error, ks)
        scored = clock()
        reusable = not isinstance(draft, str) and (self.overflow == "error" or self.fits(question, items))
        candidates = write_candidates(self, question, items, scores, ks, written if reusable else None)
        seconds = {"draft": 0.0, "score": scored - started, "regenerate": clock() - scored}
        return self._result(question, items, prompt, written, scores, candidates, seconds, fallback)

    def answer_batch(
        self, questions: Sequence[str], passages: Sequence[Iterable[PassageLike]], k: K = 3
    ) -> list[PruneResult]:
        """`answer` for several questions, drafted, scored and (with one k) answered as batches.

        Each question's `seconds` are its share of the batch's. Pays on a GPU; on a CPU it saves little.

        Raises:
            InputError: as `answer`, and if there are not as many lists of passages as questions.
        """
        ks = as_ks(k)
        check_one_each(questions, passages, "lists of passages")
        if not questions:
            return []
        items = [self._passages(some) for some in passages]
        if self.overflow == "windows" and not all(map(self.fits, questions, items)):
            return [self.answer(question, some, k) for question, some in zip(questions, items, strict=True)]
        clock, n = time.perf_counter, len(questions)
        started = clock()
        prompts = [self.encode(question, some) for question, some in zip(questions, items, strict=True)]
        prefix = run_prefix(self.language_model, prompts[0]) if n == 1 else None
        drafts = self._drafts(prompts, prefix)
        drafted = clock() if self.scorer.uses_draft else started
        reads = self._read_prompts(prompts)
        scores: list[list[float]] = []
        fallbacks: list[str | None] = []
        for question, some, prompt, draft, read in zip(questions, items, prompts, drafts, reads, strict=True):
            try:
                task = Task(self.language_model, question, some, prompt, draft, prefix=prefix, read=read)
                scores.append(self.scorer.score(task).tolist())
                fallbacks.append(None)
            except EmptyDraftError as error:
                scores.append([0.0] * len(prompt.sources))
                fallbacks.append(_fallback(error, ks))
        scored = clock()
        candidates: list[list[Candidate]] = []
        if n > 1 and len(ks) == 1:
            candidates = self._answer_all(questions, items, scores, ks[0], drafts)
        else:
            for question, some, values, draft in zip(questions, items, scores, drafts, strict=True):
                candidates.append(write_candidates(self, question, some, values, ks, draft, prefix))
        finished = clock()
        again = [  # where everything is kept, the draft is the answer
            i for i in range(n) if not drafts[i].text or any(len(new.kept) < len(scores[i]) for new in candidates[i])
        ]
        seconds = {"draft": (drafted - started) / n, "score": (scored - drafted) / n}
        regenerate = (finished - scored) / max(1, len(again))
        return [
            self._result(
                questions[i],
                items[i],
                prompts[i],
                drafts[i],
                scores[i],
                candidates[i],
                {**seconds, "regenerate": regenerate if i in again else 0.0},
                fallbacks[i],
            )
            for i in range(n)
        ]

    def _answer_all(
        self,
        questions: Sequence[str],
        passages: Sequence[list[Passage]],
        scores: Sequence[list[float]],
        k: int,
        drafts: Sequence[Draft],
    ) -> list[list[Candidate]]:
        """Every question's one candidate, written as one batch."""
        kept = [self.select(some, k) for some in scores]
        answers = [(draft.text, draft.log_probability) for draft in drafts]
        again = [i for i, indices in enumerate(kept) if indices != list(range(len(scores[i]))) or not drafts[i].text]
        if again:
            prompts = [self.encode(questions[i], self.shown(passages[i], kept[i])) for i in again]
            written = write_drafts(self.language_model, prompts, max_new_tokens=self.max_new_tokens)
            for i, new in zip(again, written, strict=True):
                answers[i] = new.text, new.log_probability
        return [[Candidate(k, *of)] for of in zip(kept, *zip(*answers, strict=True), strict=True)]

    def _result(
        self,
        question: str,
        passages: list[Passage],
        prompt: EncodedPrompt,
        draft: Draft,
        scores: list[float],
        candidates: list[Candidate],
        seconds: dict[str, float],
        fallback: str | None,
    ) -> PruneResult:
        best = most_confident(candidates)
        sources = scored_sources(prompt, scores, best.kept)
        by_passage = [0.0] * len(passages)
        for source in sources:
            by_passage[source.passage] += source.score
        order = list(dict.fromkeys(prompt.source_passage[i] for i in best.kept))
        text = draft.text if self.scorer.uses_draft else draft.text or None
        return PruneResult(
            question, passages, text, best.answer, best.k, order, by_passage, sources, seconds, fallback, candidates
        )


def _fallback(error: EmptyDraftError, ks: Sequence[int]) -> str:
    return f"{error}; the first {ks[0] if len(ks) == 1 else 'ones'} were kept"
