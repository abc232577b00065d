"""The prune step of a pipeline. It returns the passages to keep, and the dropped passages with the reasons.

Every adapter runs this step. For the same list of passages, all frameworks therefore keep the same passages. The model
is loaded when a question first needs the model. If pruning is off, the model is never loaded. A question with only one
passage needs the model only if a setting, such as `min_score`, needs probabilities.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import ContextTooLongError
from ..models.default_model import EMBEDDED_MODEL_ID
from ..passages import Passage, PassageLike, as_passages
from ..pruning.auto_k import most_confident
from ..pruning.selection import AUTO, AUTO_KS, K, check_k, first_of_each
from .choice import Choice, Limits, choose, nothing_kept
from .config import PruneConfig
from .pruners import MODEL_SETTINGS, check_given, load_pruner
from .results import DroppedPassage, KeptPassage, Pruned

if TYPE_CHECKING:
    from ..models.drafts import Draft
    from ..pruning.loop import Scored
    from ..pruning.pruner import AT2Pruner
    from ..pruning.results import ScoredSource

__all__ = ["PruneStep"]

logger = logging.getLogger(__name__)


class PruneStep:
    """Prunes lists of passages as the config says. Several threads may use the same step.

    Steps can be copied and pickled. A copy shares the model. If a `pruner` was given, the pruner is pickled with the
    step. Otherwise, an unpickled step loads the config's model on first use.

    Args:
        config: the settings. With None, the settings are read from the environment.
        pruner: a pruner that is loaded already. The step takes models, scorer and `max_new_tokens` from the pruner.
            `at2_prune.pipeline.pruners.check_given` lists the settings that must not contradict the pruner. With None,
            the config's model is loaded when it is first needed.

    Raises:
        InputError: `pruner` is not an `AT2Pruner`, or the config gives a method, model or other setting that
            contradicts the pruner.

    Example:
        >>> step = PruneStep(PruneConfig(enabled=False))
        >>> step.run("Which river?", [Passage("Dinant lies on the Meuse."), Passage("Ghent is a city.")]).unchanged
        True
    """

    def __init__(self, config: PruneConfig | None = None, pruner: AT2Pruner | None = None) -> None:
        self.config = PruneConfig.load() if config is None else config
        if pruner is not None:
            check_given(pruner, self.config)
        self.given = pruner
        self._loaded = pruner
        self._pruner: AT2Pruner | None = None
        self._told = False

    def __reduce__(self) -> tuple[Any, ...]:
        return PruneStep, (self.config, self.given)

    def __deepcopy__(self, memo: dict[int, Any]) -> PruneStep:
        return self  # the config of a step never changes, and a second copy of the model would be a waste

    def with_config(self, config: PruneConfig) -> PruneStep:
        """Return a step for another config.

        The new step shares the loaded pruner if both configs have the same values of `MODEL_SETTINGS`.
        """
        if config == self.config:
            return self
        other = PruneStep(config, self.given)
        if all(getattr(config, name) == getattr(self.config, name) for name in MODEL_SETTINGS):
            other._loaded = self._loaded
        return other

    @property
    def pruner(self) -> AT2Pruner:
        """The pruner, which is loaded on first use."""
        if self._pruner is None:
            self._pruner = self._load()
        return self._pruner

    @property
    def model_name(self) -> str:
        """The name of the scoring model, without loading it."""
        if self.given is not None:
            return self.given.language_model.name
        return self.config.model or EMBEDDED_MODEL_ID

    def to_draft(self, passages: Iterable[PassageLike], offered: bool = False) -> list[int]:
        """Return the indices of the passages to write a draft from. The list is empty if no draft is needed.

        Duplicates are left out, unless `drop_duplicates` is False. Passages without text are included. Such a passage
        may hold an image, which the model that writes the draft may be able to read.

        If at least two passages with text are left, this loads the scoring model, because only the scorer knows whether
        the method reads a draft.

        Args:
            passages: the retrieved passages.
            offered: whether the user set a model that writes drafts. If the method reads no draft, the step logs once
                that this model is unused.
        """
        if not self.config.enabled:
            return []
        items = as_passages(passages)
        indices, _ = self._distinct(items)
        if len(indices) < 2:
            return []
        scorer = self.pruner.scorer
        if offered and not scorer.uses_draft and not self._told:
            self._told = True
            logger.warning('the method %s reads no draft, so draft_llm is unused; method="at2" reads one', scorer.name)
        return sorted([*indices, *_without_text(items)]) if scorer.uses_draft else []

    def draft(self, question: str, passages: Iterable[PassageLike]) -> Draft | None:
        """Write a draft with the reader. Pass the draft to `run` with the same passages.

        Return None if `run` needs no draft. With `overflow="windows"`, also return None if the passages together do not
        fit the context: `run` then writes a draft for each window.

        Raises:
            ContextTooLongError: `overflow` is "error", and the question and the passages together do not fit.
        """
        items = as_passages(passages)
        if not self.to_draft(items):
            return None
        indices, _ = self._distinct(items)
        try:
            return self.pruner.draft(question, [items[index] for index in indices])
        except ContextTooLongError:
            if self.config.overflow == "error":
                raise
            return None  # `run` writes a draft for each window

    def run(
        self, question: str, passages: Iterable[PassageLike], draft: str | Draft | None = None, k: K | None = None
    ) -> Pruned:
        """Choose the passages to keep.

        A passage without text is always handed on, without a score. Such a passage does not count towards `k`: the step
        keeps up to `k` passages with text, and adds the passages without text. With `order="original"`, a passage
        without text stays in its place. With `order="score"`, it comes after all passages with text.

        Args:
            question: the question.
            passages: the retrieved passages, best first, in a form that `at2_prune.passages.as_passages` takes.
            draft: a draft that any model wrote from the passages whose indices `to_draft` returns. The scoring model
                reads the draft in one forward pass. With None, the reader writes a draft if the method reads drafts. If
                this argument is a blank text, the first passages are kept. The first passages are also kept if the
                method reads drafts and the reader's draft is empty.
            k: the number of sources to keep. If given, `k` replaces the config's `top_n` and `max_tokens`. The settings
                `min_score` and `keep` can still lower the number.

        Raises:
            InputError: a passage or `k` is invalid, or the question is blank. The question is checked only if passages
                are scored.
            ContextTooLongError: the question does not fit the scoring model's context. With `overflow="error"`, and a
                method that reads all passages in one prompt, this error is also raised if the prompt does not fit.
        """
        if k not in (None, AUTO):
            check_k(k)  # type: ignore[arg-type]
        items = tuple(as_passages(passages))
        if not self.config.enabled:
            return Pruned(question, items, tuple(KeptPassage(i, p.text) for i, p in enumerate(items)))
        indices, repeated = self._distinct(items)
        if not indices or (len(indices) == 1 and not self.config.needing_probabilities):
            kept = [KeptPassage(index, items[index].text) for index in indices]
            return self._log(Pruned(question, items, self._with_blank(items, kept), tuple(repeated)))
        scored = self.pruner.try_score(question, [items[index] for index in indices], draft)
        return self._log(self._pruned(question, items, indices, repeated, scored, k))

    def _pruned(
        self,
        question: str,
        passages: tuple[Passage, ...],
        indices: Sequence[int],
        repeated: Sequence[DroppedPassage],
        scored: Scored,
        k: K | None,
    ) -> Pruned:
        """Return the result for a question. Only the passages at `indices` were scored."""
        from ..pruning.results import probabilities_by_passage, scored_sources  # this imports torch

        distinct = [passages[index] for index in indices]
        sources = scored_sources(scored.prompt, scored.scores, (), scored.probabilities)
        totals: list[float | None] = [sum(s.score for s in sources if s.passage == i) for i in range(len(distinct))]
        chances: list[float | None] = [None] * len(distinct)
        if scored.probabilities is not None:
            chances = list(probabilities_by_passage(sources, len(distinct)))
        text: str | None = scored.draft.text or None
        fallback = None
        if scored.error is not None:  # the first passages are kept whole
            text, fallback = "", f"{scored.error}; the first passages were kept"
            logger.warning("%s", fallback)
            totals = [None] * len(distinct)
        choice = self._choice(question, distinct, scored, None if fallback else sources, k)
        kept = [KeptPassage(indices[i], shown, totals[i], chances[i]) for i, shown in choice.texts.items()]
        dropped = [DroppedPassage(indices[i], reason, totals[i], chances[i]) for i, reason in choice.reasons.items()]
        ordered = sorted([*repeated, *dropped], key=lambda item: item.index)
        every = self._with_blank(passages, kept)
        return Pruned(question, passages, every, tuple(ordered), text, fallback, scored.present)

    def _choice(
        self,
        question: str,
        passages: list[Passage],
        scored: Scored,
        sources: Sequence[ScoredSource] | None,
        k: K | None,
    ) -> Choice:
        """Choose among the scored passages. If `sources` is None, the first passages are kept."""
        from ..pruning.certainty import CONFIDENT, Bounds  # this imports torch

        config, bound = self.config, None
        bounds = Bounds(config.min_score, config.keep)
        if bounds.given and scored.probabilities is not None:
            bound = bounds.count(scored.probabilities, None, self.pruner.scorer.calibration)
        if config.allow_empty and scored.present is not None and scored.present < CONFIDENT:
            reason = f"the probability that the passages hold evidence is {scored.present:.2f}, below {CONFIDENT}"
            return nothing_kept(passages, reason)
        if config.allow_empty and bound == 0:
            return nothing_kept(passages, f"no source reaches min_score={config.min_score}")
        count = None
        if k is None and config.keep is not None:
            count = len(scored.scores)
        elif k is not None or config.max_tokens is None:
            count = self._count(question, passages, scored, k or config.top_n)
        return choose(config, passages, sources, Limits(count, bound), self._tokens)

    def _with_blank(self, passages: Sequence[Passage], kept: Sequence[KeptPassage]) -> tuple[KeptPassage, ...]:
        """Return the kept passages and the passages without text, in the order in which they are handed on."""
        every = [*kept, *(KeptPassage(index, passages[index].text) for index in _without_text(passages))]
        return tuple(sorted(every, key=lambda item: item.index) if self.config.order == "original" else every)

    def _count(self, question: str, passages: list[Passage], scored: Scored, k: K) -> int:
        """Return the number of sources to keep. With "auto", it is the number that gives the most confident answer."""
        if k != AUTO:
            return k
        if scored.error is not None:  # there are no scores to choose by
            return AUTO_KS[-1]
        return most_confident(self.pruner.candidates(question, passages, scored, AUTO_KS)).k

    def _tokens(self, text: str) -> int:
        return len(self.pruner.reader.codec.plain(text)[0])

    def _distinct(self, passages: Sequence[Passage]) -> tuple[list[int], list[DroppedPassage]]:
        """Return the indices of the passages to score, and the duplicates to drop.

        Only passages with text are scored. A duplicate has the same title and text as an earlier passage. With
        `drop_duplicates=False`, duplicates are scored too, and the second list is empty.
        """
        indices = [index for index, passage in enumerate(passages) if passage.text.strip()]
        if not self.config.drop_duplicates:
            return indices, []
        texts = [(" ".join((passages[i].title or "").split()), " ".join(passages[i].text.split())) for i in indices]
        firsts = {index: indices[first] for index, first in zip(indices, first_of_each(texts), strict=True)}
        repeated = [DroppedPassage(i, f"repeats passage {first}") for i, first in firsts.items() if i != first]
        return [index for index, first in firsts.items() if index == first], repeated

    def _load(self) -> AT2Pruner:
        from ..pruning.certainty import calibration_of, check_probabilities  # this imports torch
        from ..pruning.pruner import AT2Pruner
        from ..scorers.base import ScorerOptions

        config = self.config
        if self._loaded is None:
            if config.needing_probabilities:
                options = {name: getattr(config, name) for name in ("embedder", "cross_encoder", "index", "calibrate")}
                check_probabilities(
                    config.needing_probabilities,
                    config.model,
                    config.method,
                    config.coefficients,
                    ScorerOptions(**options),
                )
            self._loaded = load_pruner(config)
        if config.needing_probabilities:
            calibration_of(self._loaded.scorer, *config.needing_probabilities)
        return AT2Pruner(
            self._loaded.language_model,
            self._loaded.scorer,
            reader=self._loaded.reader,
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


def _without_text(passages: Sequence[Passage]) -> list[int]:
    return [index for index, passage in enumerate(passages) if not passage.text.strip()]
