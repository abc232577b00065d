"""Collects decoding steps, so that the attention weights of many steps are computed in one matrix product."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .measures import Measure

__all__ = ["STEPS_AT_ONCE", "CurrentStep", "DecodingSteps"]

STEPS_AT_ONCE = 32
"""The maximum number of decoding steps that wait to be computed in one layer."""


class CurrentStep:
    """Holds the facts about one decoding step that are the same in all layers.

    Args:
        position: the position of the step's row.
        measures: the measure of each row group that contains this row.
    """

    def __init__(self, position: int, measures: Sequence[Measure]) -> None:
        self.position = position
        self.due = bool(measures)
        """True if at least one row group contains the step's row."""
        self.plain = all(measure == "attention" for measure in measures)
        """True if every row group that contains the row has the measure `attention`."""
        self._masks: dict[int, tuple[torch.Tensor, bool]] = {}

    def sees_all(self, mask: torch.Tensor | None) -> bool:
        """Return whether the step's row is known to attend to every key of a layer.

        The result is True without a mask. It is False for a mask that is not boolean. It is also False for a mask on a
        GPU, because reading the mask would make the program wait for the GPU.
        """
        if mask is None:
            return True
        if id(mask) not in self._masks:  # the mask is kept, so that no later mask gets the same id
            self._masks[id(mask)] = mask, mask.dtype == torch.bool and mask.device.type == "cpu" and bool(mask.all())
        return self._masks[id(mask)][1]


class DecodingSteps:
    """Holds the waiting decoding steps of one layer. Each step has one row.

    Three things are kept: the query of each row, the keys of the newest step, and the keys of the first step. The
    model's cache holds the keys of the newest step anyway, so they take no extra memory. The keys of the first step are
    needed because a sliding cache drops old keys. If a later step shows that the cache drops no keys, the keys of the
    first step are released.

    Args:
        key: the keys of the first step, `(batch, key/value heads, keys, head dim)`.
        position: the position of the first step's row.
    """

    def __init__(self, key: torch.Tensor, position: int) -> None:
        self.position = position
        """The position of the first step's row. The last key of the first step has the same position."""
        self.begin = position + 1 - key.shape[2]
        """The position of the first key of the first step."""
        self.first_key: torch.Tensor | None = key
        self.key = key
        self.queries: list[torch.Tensor] = []
        self.widths: list[int] = []
        """For each row, the number of keys that the row attends to. The last of these keys has the row's position."""

    def continues(self, key: torch.Tensor, position: int) -> bool:
        """Return whether a step can be added to the waiting steps.

        A step can be added if three conditions hold. It directly follows the newest step. Fewer than `STEPS_AT_ONCE`
        steps are waiting. Every key that the waiting steps need is in `key` or in `first_key`.

        Args:
            key: the keys of the new step.
            position: the position of the new step's row.
        """
        begin = position + 1 - key.shape[2]
        kept = begin == self.begin if self.first_key is None else begin <= self.position + 1
        return position == self.position + len(self.queries) and kept and len(self.queries) < STEPS_AT_ONCE

    def add(self, query: torch.Tensor, key: torch.Tensor) -> None:
        """Add the first step, or a step for which `continues` returns True."""
        if self.queries and self.position + len(self.queries) + 1 - key.shape[2] == self.begin:
            self.first_key = None  # the cache grows and has dropped no keys
        self.queries.append(query)
        self.key = key
        self.widths.append(key.shape[2])

    def joined(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, int]:
        """Join the waiting steps. Return their queries, all keys, a mask, and the position of the first key.

        The mask has the shape `(1, rows, keys)`. It is True where a row attends to a key.
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
