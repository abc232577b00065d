"""Draft -> score -> select -> regenerate."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from .coefficients import HeadCoefficients
from .config import DEFAULT_METHOD
from .draft import Draft, read_draft, read_drafts, read_prompts, write_drafts
from .errors import ContextTooLongError, EmptyDraftError, InputError
from .forward import Beginning, begin, bound_by_passes
from .methods import load_coefficients, load_scorer
from .model import LanguageModel
from .passages import Granularity, Passage, as_passages, only_kept
from .prompt import EncodedPrompt, PromptTemplate
from .result import PruneResult, ScoredSource, scored_sources
from .scorers import Scorer, Task, prompt_groups, read_layers
from .selection import K, Order, as_ks, top_k
from .surest import Candidate, surest, write_candidates
from .windows import score_windows

__all__ = ["AT2Pruner", "PassageLike", "PruneResult", "ScoredSource", "load_coefficients"]

logger = logging.getLogger(__name__)

PassageLike = str | Passage | Mapping[str, Any]


class AT2Pruner:
    """Prunes retrieved passages by what a model's attention points to.

    Safe to share between threads.

    Args:
        language_model: writes drafts and answers, and reads attention.
        scorer: scores the sources; usually by the model's head coefficients.
        granularity: what is scored and kept: passages, or their sentences.
        order: show kept passages in their original order, or best first.
        max_new_tokens: a draft or answer is cut there.
        overflow: passages that do not fit the model's context are an "error", or are scored in "windows": runs of
            passages that fit, each drafted; the draft the model is surest of is then scored in every window.

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
        if granularity not in ("passage", "sentence"):
            raise InputError(f"granularity must be 'passage' or 'sentence', got {granularity!r}")
        if order not in ("original", "score"):
            raise InputError(f"order must be 'original' or 'score', got {order!r}")
        if overflow not in ("error", "windows"):
            raise InputError(f"overflow must be 'error' or 'windows', got {overflow!r}")
        if isinstance(max_new_tokens, bool) or not isinstance(max_new_tokens, int) or max_new_tokens < 1:
            raise InputError(f"max_new_tokens must be an integer of at least 1, got {max_new_tokens!r}")
        self.language_model = language_model
        self.scorer = scorer
        self.granularity: Granularity = granularity
        self.order: Order = order
        self.max_new_tokens = max_new_tokens
        self.overflow = overflow

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

    def draft(self, question: str, passages: Iterable[PassageLike]) -> Draft:
        """The model's answer from all passages, with the attention the scorer needs, read as it was written.

        Raises:
            InputError: an empty question, no passages, a passage that is not a text.
            ContextTooLongError: they do not fit the model's context.
        """
        prompt = self._encode(question, self._passages(passages))
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
        _as_many(questions, passages, "lists of passages")
        if drafts is not None:
            _as_many(questions, drafts, "drafts")
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
        return write_drafts(self.language_model, [self._encode(question, shown)], max_new_tokens=self.max_new_tokens)[
            0
        ].text

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
                and the one the model is surest of is taken (see `at2_prune.surest`).
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
            prompt, written = self._encode(question, items), Draft("", [])
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
        _as_many(questions, passages, "lists of passages")
        if not questions:
            return []
        items = [self._passages(some) for some in passages]
        if self.overflow == "windows" and not all(map(self.fits, questions, items)):
            return [self.answer(question, some, k) for question, some in zip(questions, items, strict=True)]
        clock, n = time.perf_counter, len(questions)
        started = clock()
        prompts = [self._encode(question, some) for question, some in zip(questions, items, strict=True)]
        begun = begin(self.language_model, prompts[0]) if n == 1 else None
        drafts = self._drafts(prompts, begun)
        drafted = clock() if self.scorer.uses_draft else started
        reads = self._read_prompts(prompts)
        scores: list[list[float]] = []
        fallbacks: list[str | None] = []
        for question, some, prompt, draft, read in zip(questions, items, prompts, drafts, reads, strict=True):
            try:
                task = Task(self.language_model, question, some, prompt, draft, begun=begun, read=read)
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
                candidates.append(write_candidates(self, question, some, values, ks, draft, begun))
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
            prompts = [self._encode(questions[i], self.shown(passages[i], kept[i])) for i in again]
            written = write_drafts(self.language_model, prompts, max_new_tokens=self.max_new_tokens)
            for i, new in zip(again, written, strict=True):
                answers[i] = new.text, new.log_probability
        return [[Candidate(k, *of)] for of in zip(kept, *zip(*answers, strict=True), strict=True)]

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
        read = self._read(prompt, draft if isinstance(draft, str) else draft.ids)
        scores = self.scorer.score(Task(self.language_model, question, items, prompt, read)).tolist()
        tokens: list[list[tuple[str, float]]] = [[] for _ in items]
        for text, score, owner in zip(prompt.source_texts, scores, prompt.source_passage, strict=True):
            tokens[owner].append((text, score))
        return tokens

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
        best = surest(candidates)
        sources = scored_sources(prompt, scores, best.kept)
        by_passage = [0.0] * len(passages)
        for source in sources:
            by_passage[source.passage] += source.score
        order = list(dict.fromkeys(prompt.source_passage[i] for i in best.kept))
        text = draft.text if self.scorer.uses_draft else draft.text or None
        return PruneResult(
            question, passages, text, best.answer, best.k, order, by_passage, sources, seconds, fallback, candidates
        )

    def _passages(self, passages: Iterable[PassageLike]) -> list[Passage]:
        items = as_passages(passages)
        if not items:
            raise InputError("passages is empty: give at least one passage")
        return items

    def _encode(self, question: str, passages: Sequence[Passage]) -> EncodedPrompt:
        return self.language_model.encode(question, passages, self.granularity)

    def _drafts(self, prompts: Sequence[EncodedPrompt], begun: Beginning | None = None) -> list[Draft]:
        """The drafts, written as one batch; empty ones for a method that looks at none."""
        if not self.scorer.uses_draft:
            return [Draft("", [], prompt_ids=prompt.ids) for prompt in prompts]
        return self._write(prompts, begun)

    def _write(self, prompts: Sequence[EncodedPrompt], begun: Beginning | None = None) -> list[Draft]:
        """Drafts with what the scorer reads of them."""
        groups, layers = self.scorer.row_groups, read_layers(self.scorer)
        return write_drafts(self.language_model, prompts, groups, self.max_new_tokens, layers, begun)

    def _read(self, prompt: EncodedPrompt, draft: str | Sequence[int]) -> Draft:
        """A draft written elsewhere, with what the scorer reads of it."""
        return read_draft(self.language_model, prompt, draft, self.scorer.row_groups, read_layers(self.scorer))

    def _read_prompts(self, prompts: Sequence[EncodedPrompt]) -> Sequence[Draft | None]:
        """What a scorer wants of prompts without a draft, read as one batch where that pays; else it reads itself."""
        groups = prompt_groups(self.scorer)
        if not groups or len(prompts) == 1 or not bound_by_passes(self.language_model):
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
        prompts = [self._encode(question, some) for question, some in zip(questions, passages, strict=True)]
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
        elif texts and bound_by_passes(model):
            of, layers = [prompts[index] for index in texts], read_layers(self.scorer)
            read = read_drafts(model, of, [*texts.values()], self.scorer.row_groups, layers)
            known |= dict(zip(texts, read, strict=True))
        else:
            known |= {index: self._read(prompts[index], text) for index, text in texts.items()}
        return [known[index] for index in range(len(prompts))]

    def fits(self, question: str, passages: Sequence[Passage], draft: str | Draft | None = None) -> bool:
        """Whether the context holds the passages and the longer of the draft given and an answer."""
        text = draft.text if isinstance(draft, Draft) else draft
        room = max(self.max_new_tokens, len(self.language_model.encode_draft(text)) if text else 0)
        try:
            self.language_model.check_length(len(self._encode(question, passages)), room)
        except ContextTooLongError:
            return False
        return True


def _as_many(questions: Sequence[str], others: Sequence[Any], what: str) -> None:
    if len(questions) != len(others):
        raise InputError(f"{len(questions)} questions but {len(others)} {what}")


def _check(draft: Any) -> None:
    if not isinstance(draft, (str, Draft)):
        raise InputError(f"a draft must be a text or a Draft, got {type(draft).__name__}: {draft!r:.80}")


def _fallback(error: EmptyDraftError, ks: Sequence[int]) -> str:
    return f"{error}; the first {ks[0] if len(ks) == 1 else 'ones'} were kept"
