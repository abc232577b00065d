"""Decoding steps whose attention is read later, many in one product."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .measures import Measure

__all__ = ["STEPS_AT_ONCE", "CurrentStep", "DecodingSteps"]

STEPS_AT_ONCE = 32


class CurrentStep:
    """What all layers of a decoding step have in common, found out once.

    Args:
        position: of its row.
        measures: what is read of it, by row group.
    """

    def __init__(self, position: int, measures: Sequence[Measure]) -> None:
        self.position = position
        self.due = bool(measures)
        """Whether it is read at all."""
        self.plain = all(measure == "attention" for measure in measures)
        """Whether nothing but attention itself is."""
        self._masks: dict[int, tuple[torch.Tensor, bool]] = {}

    def sees_all(self, mask: torch.Tensor | None) -> bool:
        """Whether the row attends to every key of its layer, so far as that can be told without waiting for a GPU."""
        if mask is None:
            return True
        if id(mask) not in self._masks:  # no other mask gets this id while this one is held
            self._masks[id(mask)] = mask, mask.dtype == torch.bool and mask.device.type == "cpu" and bool(mask.all())
        return self._masks[id(mask)][1]


class DecodingSteps:
    """Decoding steps of one layer, one row each, that are still to be computed.

    A row's query is kept, and the keys of the last step, which the cache holds anyway; of a sliding cache those of the
    first step too, whose beginning it drops. A growing one drops nothing, and its first keys would be a second cache.
    """

    def __init__(self, key: torch.Tensor, position: int) -> None:
        self.position = position
        """Of the first row, which is the last key of its step."""
        self.begin = position + 1 - key.shape[2]
        """Position of its first key."""
        self.first_key: torch.Tensor | None = key
        self.key = key
        self.queries: list[torch.Tensor] = []
        self.widths: list[int] = []
        """How many keys each row attends to: up to its own."""

    def continues(self, key: torch.Tensor, position: int) -> bool:
        """Whether a step can join these: the next one, while no key between the first and the last is lost."""
        begin = position + 1 - key.shape[2]
        kept = begin == self.begin if self.first_key is None else begin <= self.position + 1
        return position == self.position + len(self.queries) and kept and len(self.queries) < STEPS_AT_ONCE

    def add(self, query: torch.Tensor, key: torch.Tensor) -> None:
        if self.queries and self.position + len(self.queries) + 1 - key.shape[2] == self.begin:
            self.first_key = None  # it grows
        self.queries.append(query)
        self.key = key
        self.widths.append(key.shape[2])

    def joined(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, int]:
        """Queries, keys, which keys each row attends to `(1, rows, keys)`, and the position of the first key."""
        rows, key = len(self.queries), self.key
        dropped = self.position + rows - key.shape[2] - self.begin
        if dropped:
            assert self.first_key is not None  # see `continues`
            key = torch.cat([self.first_key[:, :, :dropped], key], dim=2)
        row = torch.arange(self.position, self.position + rows, device=key.device)[:, None]
        at = torch.arange(self.begin, self.position + rows, device=key.device)
        allowed = (at <= row) & (at > row - torch.tensor(self.widths, device=key.device)[:, None])
        return torch.cat(self.queries, dim=2), key, allowed[None], self.begin
