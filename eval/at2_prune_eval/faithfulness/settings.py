"""The settings with which faithfulness is measured."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from at2_prune.errors import InputError
from at2_prune.passages import Granularity
from at2_prune.pruning.selection import check_k

from ..k_values import check_ks

__all__ = ["FaithfulnessSettings"]


@dataclass(frozen=True)
class FaithfulnessSettings:
    """The settings with which faithfulness is measured on each question.

    Raises:
        InputError: a k, the granularity, or the number of ablations or permutations is wrong.

    Example:
        >>> FaithfulnessSettings(ks=[3, 1]).as_json()["ks"]
        [1, 3]
    """

    granularity: Granularity = "passage"
    """The kind of source that is scored: passages, or sentences of passages."""
    ablations: int = 32
    """The number of ablations for LDS."""
    ks: Sequence[int] = (1, 3, 5)
    """The values of k for the top-k drop."""
    permutation_k: int = 2
    """The number of sources that the permutation test keeps."""
    permutations: int = 3
    """The number of permutations over which the permutation test averages."""
    order_for: Collection[str] = ()
    """The methods that take the order test although they would be left out, for example because they run ablations. The
    test runs such a method again, with its ablations."""
    seed: int = 0
    """The seed of the ablations, the permutations and the new order. Each random choice depends on this seed and on the
    question's text."""

    def __post_init__(self) -> None:
        check_ks(self.ks)
        check_k(self.permutation_k)
        if self.granularity not in ("passage", "sentence"):
            raise InputError(f"granularity must be 'passage' or 'sentence', got {self.granularity!r}")
        if self.ablations < 2 or self.permutations < 1:
            raise InputError(
                f"faithfulness needs at least 2 ablations and 1 permutation, got {self.ablations} and "
                f"{self.permutations}"
            )

    def as_json(self) -> dict[str, Any]:
        """Return the settings as JSON values, for the config of a run."""
        return {
            "granularity": self.granularity,
            "ablations": self.ablations,
            "ks": check_ks(self.ks),
            "permutation_k": self.permutation_k,
            "permutations": self.permutations,
            "order_for": sorted(self.order_for),
            "seed": self.seed,
        }
