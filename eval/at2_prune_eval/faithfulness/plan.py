"""Choose the ablations and the sets of kept sources on which the scores of one question are measured."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from at2_prune.ablation import seeded_generator
from at2_prune.pruning.selection import top_k

from ..k_values import check_ks
from .ablations import Mask, held_out_masks, mask_of
from .permutation import kept_sets, random_rankings
from .settings import FaithfulnessSettings

__all__ = ["Plan", "make_plan"]


@dataclass(frozen=True)
class Plan:
    """The ablations and the sets of kept sources of one question."""

    everything: Mask
    """The mask that keeps all sources."""
    held_out: list[Mask]
    """Random ablations that no method has seen, for LDS."""
    without: dict[str, dict[int, Mask]]
    """The masks for the top-k drop, by method and k. Such a mask keeps all sources except the k best."""
    kept: dict[str, list[tuple[int, ...]]]
    """The sets of sources for the permutation test, by method: first the best sources by the method's scores, and then
    the best sources by its permuted scores."""

    @property
    def different(self) -> list[tuple[int, ...]]:
        """The sets in `kept` of all methods, without repetitions."""
        return sorted({one for sets in self.kept.values() for one in sets})

    @property
    def masks(self) -> list[Mask]:
        """All ablations, without repetitions."""
        count = len(self.everything)
        without = [mask for by_k in self.without.values() for mask in by_k.values()]
        only = [mask_of(count, one) for one in self.different]
        return list(dict.fromkeys([self.everything, *self.held_out, *without, *only]))


def make_plan(
    count: int,
    scores: Mapping[str, Sequence[float]],
    seen: Collection[Mask],
    question: str,
    settings: FaithfulnessSettings,
) -> Plan:
    """Choose the ablations and the sets of kept sources.

    Args:
        count: the number of sources.
        scores: one score for each source, by method.
        seen: the ablations that methods have run.
        question: the text of the question. Each random choice has its own generator, seeded with this text and the
            settings' `seed`. A change of the number of ablations therefore does not change the other tests.
        settings: the settings of the measures.
    """
    ablations = seeded_generator(settings.seed, f"faithfulness ablations {question}")
    permutations = seeded_generator(settings.seed, f"faithfulness permutations {question}")
    rankings = random_rankings(count, settings.permutations, permutations)
    ks = [k for k in check_ks(settings.ks) if isinstance(k, int)]
    return Plan(
        everything=mask_of(count, range(count)),
        held_out=held_out_masks(count, settings.ablations, seen, ablations),
        without={name: {k: mask_of(count, top_k(own, k), keep=False) for k in ks} for name, own in scores.items()},
        kept={name: kept_sets(own, rankings, settings.permutation_k) for name, own in scores.items()},
    )
