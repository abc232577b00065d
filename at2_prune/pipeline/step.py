"""The prune step of a pipeline: retrieved passages in; those to keep out, and why each of the others was dropped.

Every adapter runs this one, so that LangChain and LlamaIndex keep the same passages of the same list. The model is
loaded when the first question needs it, and never where pruning is off or there is nothing to choose from.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import ContextTooLongError
from ..models.default_model import EMBEDDED_MODEL_ID
from ..passages import Passage
from ..pruning.auto_k import most_confident
from ..pruning.selection import AUTO, AUTO_KS, K, check_k, first_of_each, neighborhood, token_budget, top_k
from .config import PruneConfig

if TYPE_CHECKING:
    from ..models.drafts import Draft
    from ..pruning.loop import Scored
    from ..pruning.pruner import AT2Pruner
    from ..pruning.results import ScoredSource

__all__ = ["DroppedPassage", "KeptPassage", "PruneStep", "Pruned"]

logger = logging.getLogger(__name__)

_OF_THE_MODEL = ("method", "model", "coefficients", "device", "dtype", "max_new_tokens")


@dataclass(frozen=True)
class KeptPassage:
    """A passage to hand on."""

    index: int
    """In the list that was given."""
    text: str
    """What is kept of it: all, or its kept sentences."""
    score: float | None = None
    """Its own, or the sum of its sentences'; None where nothing was scored."""


@dataclass(frozen=True)
class DroppedPassage:
    """A passage to leave out."""

    index: int
    reason: str
    score: float | None = None


@dataclass(frozen=True)
class Pruned:
    """What happened to one question's passages."""

    question: str
    passages: tuple[Passage, ...]
    kept: tuple[KeptPassage, ...]
    """In the order to show them."""
    dropped: tuple[DroppedPassage, ...] = ()
    draft: str | None = None
    """What the scores are of; None where none was needed."""
    fallback: str | None = None
    """Why scores could not be used, if they could not: then the first passages were kept."""

    @property
    def scores(self) -> list[float | None]:
        """One a passage, in input order; None where it was not scored."""
        scores = {item.index: item.score for item in self.kept} | {item.index: item.score for item in self.dropped}
        return [scores.get(index) for index in range(len(self.passages))]

    @property
    def unchanged(self) -> bool:
        """Whether every passage is kept, whole and in its place."""
        return [(item.index, item.text) for item in self.kept] == [
            (index, passage.text) for index, passage in enumerate(self.passages)
        ]

    def explain(self) -> str:
        """A line a passage: kept or dropped, its score, and why.

        Example:
            >>> passages = (Passage("Dinant lies on the Meuse.", title="Dinant"), Passage("Ghent is a city."))
            >>> print(Pruned("Which river?", passages, (KeptPassage(0, passages[0].text, 0.5),),
            ...              (DroppedPassage(1, "rank 2 of 2, the top 1 are kept", 0.1),), draft="Meuse").explain())
            kept 1 of 2 passages for 'Which river?', draft 'Meuse'
              kept     0  +0.5000  Dinant: Dinant lies on the Meuse.
              dropped  1  +0.1000  Ghent is a city.  (rank 2 of 2, the top 1 are kept)
        """
        lines = [f"kept {len(self.kept)} of {len(self.passages)} passages for {self.question!r}"]
        if self.draft is not None:
            lines[0] += f", draft {self.draft!r}"
        if self.fallback:
            lines[0] += f" ({self.fallback})"
        reasons = {item.index: item.reason for item in self.dropped}
        for index, (passage, score) in enumerate(zip(self.passages, self.scores, strict=True)):
            shown = f"{passage.title}: {passage.text}" if passage.title else passage.text
            number = "      -" if score is None else f"{score:+7.4f}"
            line = f"{'dropped' if index in reasons else 'kept':7}  {index}  {number}  {' '.join(shown.split())[:60]}"
            lines.append(f"  {line}  ({reasons[index]})" if index in reasons else f"  {line}")
        return "\n".join(lines)


class PruneStep:
    """Prunes lists of passages as a config says. Safe to share between threads.

    Args:
        config: how to prune.
        pruner: a pruner that is loaded already; its model, scorer and `max_new_tokens` then take the place of the
            config's. Without one the config's model is loaded when it is first needed.

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
        """The fields of a config that a pruner has a say in."""
        return {"granularity": pruner.granularity, "order": pruner.order, "overflow": pruner.overflow}

    def with_config(self, config: PruneConfig) -> PruneStep:
        """A step for another config, which shares the model if that is the same."""
        if config == self.config:
            return self
        other = PruneStep(config, self._given)
        if all(getattr(config, name) == getattr(self.config, name) for name in _OF_THE_MODEL):
            other._loaded = self._loaded
        return other

    @property
    def pruner(self) -> AT2Pruner:
        """The pruner, loaded if it is not yet."""
        with self._loading:
            if self._pruner is None:
                self._pruner = self._load()
            return self._pruner

    @property
    def model_name(self) -> str:
        """The scoring model's, without loading it."""
        if self._given is not None:
            return self._given.language_model.name
        return self.config.model or EMBEDDED_MODEL_ID

    def to_draft(self, passages: Sequence[Passage], offered: bool = False) -> list[int]:
        """Indices of the passages to write a draft from: each once; none if the choice takes no draft.

        Loads the scoring model if there is something to choose from, as only the method knows what it reads.

        Args:
            passages: what was retrieved.
            offered: somebody set a model to draft with; if it is not needed they are told, once.
        """
        if not self.config.enabled:
            return []
        indices = [index for index, first in enumerate(self._firsts(passages)) if index == first]
        if len(indices) < 2:
            return []
        scorer = self.pruner.scorer
        if offered and not scorer.uses_draft and not self._told:
            self._told = True
            logger.warning('the method %s reads no draft: draft_llm is not asked; method="at2" reads one', scorer.name)
        return indices if scorer.uses_draft else []

    def draft(self, question: str, passages: Sequence[Passage]) -> Draft | None:
        """The scoring model's own draft, to be given to `run` for the same passages; None if it takes none."""
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
        self,
        question: str,
        passages: Sequence[Passage],
        draft: str | Draft | None = None,
        top_n: K | None = None,
    ) -> Pruned:
        """Choose what to keep.

        Args:
            question: the question.
            passages: what was retrieved, best first.
            draft: an answer written from the passages that `to_draft` names, by any model; the scoring model reads it
                in one forward pass. Without one it drafts itself. If it is empty, the first passages are kept.
            top_n: instead of the config's.

        Raises:
            InputError: an empty question, a passage that is not a text.
            ContextTooLongError: a passage does not fit the scoring model's context; with `overflow="error"`, all of
                them together do not.
        """
        if top_n not in (None, AUTO):
            check_k(top_n)  # type: ignore[arg-type]
        passages = tuple(passages)
        if not self.config.enabled:
            return Pruned(question, passages, tuple(KeptPassage(i, p.text) for i, p in enumerate(passages)))
        firsts = self._firsts(passages)
        indices = [index for index, first in enumerate(firsts) if index == first]
        repeated = [
            DroppedPassage(index, f"repeats passage {first}") for index, first in enumerate(firsts) if index != first
        ]
        if len(indices) < 2:
            kept = [KeptPassage(index, passages[index].text) for index in indices]
            return self._log(Pruned(question, passages, tuple(kept), tuple(repeated)))
        distinct = [passages[index] for index in indices]
        from ..pruning.results import scored_sources  # imports torch

        scored = self.pruner.try_score(question, distinct, draft)
        text: str | None = scored.draft.text or None
        fallback = None
        sources: list[ScoredSource] | None = scored_sources(scored.prompt, scored.scores, ())
        if scored.error is not None:  # the first passages are kept, whole
            text, fallback = "", f"{scored.error}; the first were kept"
            logger.warning("%s", fallback)
            sources = None
        k = None
        if top_n is not None or self.config.max_tokens is None:
            k = self._how_many(question, distinct, scored, top_n or self.config.top_n)
        chosen, why = self._choose(distinct, sources, k)
        totals: list[float | None] = [None] * len(distinct)
        if sources is not None:
            for owner in range(len(distinct)):
                totals[owner] = sum(source.score for source in sources if source.passage == owner)
        kept = [KeptPassage(indices[owner], text, totals[owner]) for owner, text in chosen.items()]
        dropped = [DroppedPassage(indices[owner], reason, totals[owner]) for owner, reason in why.items()]
        everything = sorted([*repeated, *dropped], key=lambda item: item.index)
        return self._log(Pruned(question, passages, tuple(kept), tuple(everything), text, fallback))

    def _how_many(self, question: str, passages: list[Passage], scored: Scored, k: K) -> int:
        """The number of sources to keep: k, or as many as give the scoring model's most confident answer."""
        if k != AUTO:
            return k
        if scored.error is not None:  # there was nothing to score by
            return AUTO_KS[-1]
        return most_confident(self.pruner.candidates(question, passages, scored, AUTO_KS)).k

    def _firsts(self, passages: Sequence[Passage]) -> list[int]:
        """For each passage the first that says the same: itself, unless duplicates are to be dropped."""
        if not self.config.drop_duplicates:
            return list(range(len(passages)))
        return first_of_each([(" ".join((p.title or "").split()), " ".join(p.text.split())) for p in passages])

    def _choose(
        self, passages: list[Passage], sources: list[ScoredSource] | None, k: int | None
    ) -> tuple[dict[int, str], dict[int, str]]:
        """Text of every passage to keep, in the order to show them, and the reason to drop each other one.

        Without sources the passages are taken in their order, whole.
        """
        config = self.config
        whole = sources is None or config.granularity == "passage"
        owners = list(range(len(passages))) if sources is None else [source.passage for source in sources]
        groups = [neighborhood(i, owners, 0 if whole else config.neighbors) for i in range(len(owners))]
        scores = [0.0] * len(passages) if sources is None else [source.score for source in sources]
        ranking = top_k(scores, len(scores) or 1, "score")
        rank = {source: place for place, source in enumerate(ranking, start=1)}
        texts = [passage.text for passage in passages] if sources is None else [source.text for source in sources]
        if k is None:
            assert config.max_tokens is not None
            count = self.pruner.language_model.codec.plain
            seeds = token_budget(ranking, groups, [len(count(text)[0]) for text in texts], config.max_tokens)
            rule = f"what ranks higher fills the {config.max_tokens} tokens"
        else:
            seeds = ranking[:k]
            rule = f"the top {k} are kept"
        for source in ranking:
            if len({owners[i] for i in seeds}) >= config.min_documents:
                break
            if owners[source] not in {owners[i] for i in seeds}:
                seeds.append(source)
        seeds.sort(key=rank.__getitem__)
        shown = list(dict.fromkeys(owners[i] for i in seeds))
        if config.order == "original":
            shown.sort()
        kept = sorted({i for seed in seeds for i in groups[seed]})
        chosen = {
            owner: passages[owner].text if whole else "".join(texts[i] for i in kept if owners[i] == owner).strip()
            for owner in shown
        }
        why = {}
        for owner in set(range(len(passages))) - set(shown):
            best = min((rank[i] for i in range(len(owners)) if owners[i] == owner), default=None)
            what = "rank" if whole else "its best sentence is rank"
            why[owner] = "it holds no sentence" if best is None else f"{what} {best} of {len(ranking)}, {rule}"
        return chosen, why

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
