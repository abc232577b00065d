"""The prune step of a pipeline: it takes the retrieved passages and returns those to keep, with reasons for the rest.

Every adapter runs this step, so that all frameworks keep the same passages of the same list. The model is loaded when
the first question needs it, and never if pruning is off or there are fewer than two passages to choose from.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..errors import ContextTooLongError
from ..models.default_model import EMBEDDED_MODEL_ID
from ..passages import Passage
from ..pruning.auto_k import most_confident
from ..pruning.selection import AUTO, AUTO_KS, K, check_k, first_of_each
from .choice import choose
from .config import PruneConfig
from .results import DroppedPassage, KeptPassage, Pruned

if TYPE_CHECKING:
    from ..models.drafts import Draft
    from ..pruning.loop import Scored
    from ..pruning.pruner import AT2Pruner

__all__ = ["PruneStep"]

logger = logging.getLogger(__name__)

_MODEL_SETTINGS = ("method", "model", "coefficients", "device", "dtype", "max_new_tokens")
"""The settings that decide which model is loaded, and how."""


class PruneStep:
    """Prunes lists of passages as a config says. Safe to share between threads.

    Args:
        config: the settings.
        pruner: a pruner that is loaded already; its model, scorer and `max_new_tokens` are used in place of the
            config's. Without one, the config's model is loaded when it is first needed.

    Example:
        >>> step = PruneStep(PruneConfig(enabled=False))
        >>> step.run("Which river?", [Passage("Dinant lies on the Meuse."), Passage("Ghent is a city.")]).unchanged
        True
    """

    def __init__(self, config: PruneConfig | None = None, pruner: AT2Pruner | None = None) -> None:
        self.config = config or PruneConfig()
        self._given = pruner
        self._loaded = pruner
        self._pruner: AT2Pruner | None = None
        self._loading = threading.Lock()
        self._told = False

    @staticmethod
    def options_of(pruner: AT2Pruner) -> dict[str, Any]:
        """Return the settings that an adapter takes from a loaded pruner."""
        return {"granularity": pruner.granularity, "order": pruner.order, "overflow": pruner.overflow}

    def with_config(self, config: PruneConfig) -> PruneStep:
        """A step for another config; it shares the model if the config names the same one."""
        if config == self.config:
            return self
        other = PruneStep(config, self._given)
        if all(getattr(config, name) == getattr(self.config, name) for name in _MODEL_SETTINGS):
            other._loaded = self._loaded
        return other

    @property
    def pruner(self) -> AT2Pruner:
        """The pruner. It is loaded on first use."""
        with self._loading:
            if self._pruner is None:
                self._pruner = self._load()
            return self._pruner

    @property
    def model_name(self) -> str:
        """The name of the scoring model, without loading it."""
        if self._given is not None:
            return self._given.language_model.name
        return self.config.model or EMBEDDED_MODEL_ID

    def to_draft(self, passages: Sequence[Passage], offered: bool = False) -> list[int]:
        """Indices of the passages to write a draft from, each text once; none if the method reads no draft.

        This loads the scoring model if there are passages to choose from, because only the scorer tells what it reads.

        Args:
            passages: the retrieved passages.
            offered: whether the user set a model to draft with; if it is not needed, one warning says so.
        """
        if not self.config.enabled:
            return []
        indices = [index for index, first in enumerate(self._firsts(passages)) if index == first]
        if len(indices) < 2:
            return []
        scorer = self.pruner.scorer
        if offered and not scorer.uses_draft and not self._told:
            self._told = True
            logger.warning('the method %s reads no draft, so draft_llm is unused; method="at2" reads one', scorer.name)
        return indices if scorer.uses_draft else []

    def draft(self, question: str, passages: Sequence[Passage]) -> Draft | None:
        """Write the scoring model's draft, for `run` with the same passages. Return None if `run` needs no draft.

        None is also returned if the passages do not fit the context together: `run` then drafts window by window.
        """
        indices = self.to_draft(passages)
        if not indices:
            return None
        try:
            return self.pruner.draft(question, [passages[index] for index in indices])
        except ContextTooLongError:
            if self.config.overflow == "error":
                raise
            return None  # `run` drafts window by window

    def run(
        self, question: str, passages: Sequence[Passage], draft: str | Draft | None = None, k: K | None = None
    ) -> Pruned:
        """Choose the passages to keep.

        Args:
            question: the question.
            passages: the retrieved passages, best first.
            draft: an answer written from the passages that `to_draft` names, by any model; the scoring model reads it
                in one forward pass. With None, the scoring model writes one if the method reads one. If it is empty,
                the first passages are kept.
            k: how many sources to keep, in place of the config's `top_n` and `max_tokens`.

        Raises:
            InputError: the question is empty, or a passage is not a text.
            ContextTooLongError: the question does not fit the scoring model's context. With `overflow="error"`: the
                question and the passages together do not fit.
        """
        if k not in (None, AUTO):
            check_k(k)  # type: ignore[arg-type]
        passages = tuple(passages)
        if not self.config.enabled:
            return Pruned(question, passages, tuple(KeptPassage(i, p.text) for i, p in enumerate(passages)))
        firsts = self._firsts(passages)
        indices = [index for index, first in enumerate(firsts) if index == first]
        repeated = tuple(
            DroppedPassage(index, f"repeats passage {first}") for index, first in enumerate(firsts) if index != first
        )
        if len(indices) < 2:
            kept = tuple(KeptPassage(index, passages[index].text) for index in indices)
            return self._log(Pruned(question, passages, kept, repeated))
        scored = self.pruner.try_score(question, [passages[index] for index in indices], draft)
        return self._log(self._pruned(question, passages, indices, repeated, scored, k))

    def _pruned(
        self,
        question: str,
        passages: tuple[Passage, ...],
        indices: Sequence[int],
        repeated: Sequence[DroppedPassage],
        scored: Scored,
        k: K | None,
    ) -> Pruned:
        """The result of a question whose passages at `indices` were scored."""
        from ..pruning.results import scored_sources  # imports torch

        distinct = [passages[index] for index in indices]
        sources = scored_sources(scored.prompt, scored.scores, ())
        totals: list[float | None] = [sum(s.score for s in sources if s.passage == i) for i in range(len(distinct))]
        text: str | None = scored.draft.text or None
        fallback = None
        if scored.error is not None:  # the first passages are kept, whole
            text, fallback = "", f"{scored.error}; the first passages were kept"
            logger.warning("%s", fallback)
            totals = [None] * len(distinct)
        count = None
        if k is not None or self.config.max_tokens is None:
            count = self._count(question, distinct, scored, k or self.config.top_n)
        choice = choose(self.config, distinct, None if fallback else sources, count, self._tokens)
        kept = [KeptPassage(indices[i], shown, totals[i]) for i, shown in choice.texts.items()]
        dropped = [DroppedPassage(indices[i], reason, totals[i]) for i, reason in choice.reasons.items()]
        ordered = sorted([*repeated, *dropped], key=lambda item: item.index)
        return Pruned(question, passages, tuple(kept), tuple(ordered), text, fallback)

    def _count(self, question: str, passages: list[Passage], scored: Scored, k: K) -> int:
        """Return the number of sources to keep: k, or with "auto" the number that gives the most confident answer."""
        if k != AUTO:
            return k
        if scored.error is not None:  # there are no scores to choose by
            return AUTO_KS[-1]
        return most_confident(self.pruner.candidates(question, passages, scored, AUTO_KS)).k

    def _tokens(self, text: str) -> int:
        return len(self.pruner.language_model.codec.plain(text)[0])

    def _firsts(self, passages: Sequence[Passage]) -> list[int]:
        """Return, for each passage, the index of the first one with the same title and text.

        If duplicates are not dropped, this is the passage's own index."""
        if not self.config.drop_duplicates:
            return list(range(len(passages)))
        return first_of_each([(" ".join((p.title or "").split()), " ".join(p.text.split())) for p in passages])

    def _load(self) -> AT2Pruner:
        from ..pruning.pruner import AT2Pruner  # imports torch

        config = self.config
        if self._loaded is None:
            self._loaded = AT2Pruner.from_pretrained(
                config.model,
                config.coefficients,
                method=config.method,
                device=config.device,
                dtype=config.dtype,
                max_new_tokens=config.max_new_tokens,
            )
        return AT2Pruner(
            self._loaded.language_model,
            self._loaded.scorer,
            granularity=config.granularity,
            order=config.order,
            max_new_tokens=self._loaded.max_new_tokens,
            overflow=config.overflow,
        )

    def _log(self, pruned: Pruned) -> Pruned:
        logger.info("kept %d of %d passages", len(pruned.kept), len(pruned.passages))
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("%s", pruned.explain())
        return pruned
