"""Decoding steps that wait, so that the attention weights of many steps are computed in one matrix product."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .measures import Measure

__all__ = ["STEPS_AT_ONCE", "CurrentStep", "DecodingSteps"]

STEPS_AT_ONCE = 32
"""The maximum number of decoding steps that wait in one layer."""


class CurrentStep:
    """The facts about one decoding step that are the same in all layers.

    Args:
        position: the position of the step's row.
        measures: the measure of each row group that contains this row.
    """

    def __init__(self, position: int, measures: Sequence[Measure]) -> None:
        self.position = position
        self.due = bool(measures)
        """True if any row group contains the row."""
        self.plain = all(measure == "attention" for measure in measures)
        """True if attention itself is the only measure."""
        self._masks: dict[int, tuple[torch.Tensor, bool]] = {}

    def sees_all(self, mask: torch.Tensor | None) -> bool:
        """Return whether the row attends to every key of a layer.

        The result is False for a mask that is not boolean. It is also False for a mask on a GPU, because reading the
        mask would wait for the GPU.
        """
        if mask is None:
            return True
        if id(mask) not in self._masks:  # the mask is kept, so that no other mask gets its id
            self._masks[id(mask)] = mask, mask.dtype == torch.bool and mask.device.type == "cpu" and bool(mask.all())
        return self._masks[id(mask)][1]


class DecodingSteps:
    """The waiting decoding steps of one layer, with one row each.

    The query of each row is kept. The keys of the newest step are kept too. The cache holds these keys anyway, so they
    take no extra memory. A sliding cache drops old keys, so the keys of the first step are kept as well. These keys are
    released once a later step shows that the cache drops no keys.

    Args:
        key: the keys of the first step, `(batch, key/value heads, keys, head dim)`.
        position: the position of the first step's row.
    """

    def __init__(self, key: torch.Tensor, position: int) -> None:
        self.position = position
        """The position of the first step's row. The first step's last key has the same position."""
        self.begin = position + 1 - key.shape[2]
        """The position of the first step's first key."""
        self.first_key: torch.Tensor | None = key
        self.key = key
        self.queries: list[torch.Tensor] = []
        self.widths: list[int] = []
        """For each row, the number of keys that it attends to. The last of these keys is the row's own key."""

    def continues(self, key: torch.Tensor, position: int) -> bool:
        """Return whether a step can be added.

        A step can be added if it directly follows the newest step, if fewer than `STEPS_AT_ONCE` steps wait, and if no
        key is missing between the kept keys and `key`.
        """
        begin = position + 1 - key.shape[2]
        kept = begin == self.begin if self.first_key is None else begin <= self.position + 1
        return position == self.position + len(self.queries) and kept and len(self.queries) < STEPS_AT_ONCE

    def add(self, query: torch.Tensor, key: torch.Tensor) -> None:
        """Add the first step, or a step for which `continues` returns True."""
        if self.queries and self.position + len(self.queries) + 1 - key.shape[2] == self.begin:
            self.first_key = None  # the cache grows and drops no keys
        self.queries.append(query)
        self.key = key
        self.widths.append(key.shape[2])

    def joined(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, int]:
        """Return the queries, the keys, a mask `(1, rows, keys)`, and the position of the first key.

        The mask is true for the keys that a row attends to.
        """
        rows, key = len(self.queries), self.key
        dropped = self.position + rows - key.shape[2] - self.begin
        if dropped:
            assert self.first_key is not None  # `continues` has checked this
            key = torch.cat([self.first_key[:, :, :dropped], key], dim=2)
        row = torch.arange(self.position, self.position + rows, device=key.device)[:, None]
        at = torch.arange(self.begin, self.position + rows, device=key.device)
        allowed = (at <= row) & (at > row - torch.tensor(self.widths, device=key.device)[:, None])
        return torch.cat(self.queries, dim=2), key, allowed[None], self.begin
