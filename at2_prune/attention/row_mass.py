"""Sums attention weights over the tokens of each source, and reduces these sums over the rows of a group."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..errors import InputError
from .rows import Reading, Rows

__all__ = ["GroupMass", "SourceSums"]


class GroupMass:
    """Collects the attention mass of one row group in one sequence, for each layer.

    Args:
        rows: the row group.
        padding: the number of padding tokens to the left of the sequence.
    """

    def __init__(self, rows: Rows, padding: int) -> None:
        self.rows = rows
        self.start = rows.start + padding
        """The first row, as a position in the padded sequence."""
        self.stop = None if rows.stop is None else rows.stop + padding
        self.mass: dict[int, list[torch.Tensor]] = {}
        """For each layer, a list of tensors. For a mean, the list has one tensor, the sum so far. For a maximum, it has
        one tensor, the maximum so far. If rows are not reduced, the list has one tensor for each call of `add`."""
        self.seen: dict[int, int] = {}
        """For each layer, the number of rows that were added."""

    def has(self, position: int) -> bool:
        """Return whether a position of the padded sequence is one of the group's rows."""
        return self.start <= position and (self.stop is None or position < self.stop)

    def add(self, layer: int, mass: torch.Tensor) -> None:
        """Add the attention mass of the next rows, `(heads, rows, sources)`."""
        self.seen[layer] = self.seen.get(layer, 0) + mass.shape[1]
        parts = self.mass.setdefault(layer, [])
        if self.rows.reduce == "none":
            parts.append(mass.contiguous())  # a view would keep the rows of other groups in memory
        elif self.rows.reduce == "mean":
            total = mass.sum(dim=1)
            parts[:] = [parts[0] + total if parts else total]
        else:
            peak = mass.amax(dim=1)
            parts[:] = [torch.maximum(parts[0], peak) if parts else peak]

    def result(self, layer: int) -> torch.Tensor:
        """Return the attention mass of the group in one layer.

        Returns:
            `(heads, sources)`, or `(heads, rows, sources)` if rows are not reduced.

        Raises:
            InputError: the model did not run all rows of the group.
        """
        expected = None if self.stop is None else self.stop - self.start
        seen = self.seen.get(layer, 0)
        if seen == 0 or (expected is not None and seen != expected):
            raise InputError(
                f"row group {self.rows.name!r} asked for rows [{self.rows.start}, {self.rows.stop}) but the model ran "
                f"{seen} of these rows in layer {layer}"
            )
        if self.rows.reduce == "none":
            return torch.cat(self.mass[layer], dim=1)
        return self.mass[layer][0] / seen if self.rows.reduce == "mean" else self.mass[layer][0]


class SourceSums:
    """Sums attention weights over the tokens of each source.

    Args:
        readings: one reading for each sequence of the batch.
    """

    def __init__(self, readings: Sequence[Reading]) -> None:
        self._readings = readings
        self._segments: dict[tuple[int, torch.device], torch.Tensor] = {}

    def of(self, item: int, weights: torch.Tensor, dropped: int) -> torch.Tensor:
        """Return the attention mass of each source in one sequence, `(heads, rows, sources)`.

        Args:
            item: the index of the sequence.
            weights: the attention weights of the sequence, `(heads, rows, keys)`.
            dropped: the position of the first key in the padded sequence. It is not 0 if a cache has dropped keys.
        """
        reading = self._readings[item]
        heads, rows, keys = weights.shape
        mass = weights.new_zeros(heads, rows, len(reading.sources) + 1)
        if not reading.sources:
            return mass[..., :-1]
        begin = reading.sources[0][0] + reading.padding
        end = reading.sources[-1][1] + reading.padding
        low, high = max(begin, dropped), min(end, dropped + keys)
        if low < high:
            segments = self._segment_ids(item, weights.device)[low - begin : high - begin]
            mass.index_add_(2, segments, weights[..., low - dropped : high - dropped])
        return mass[..., :-1]

    def indicators(self, item: int, key: torch.Tensor, dropped: int) -> torch.Tensor:
        """Return the indicators that `fused_sums` takes, `(parts, keys, width)`.

        Each source has one column in one of the parts. An entry is 1 if the key is a token of the source, and 0
        otherwise.

        Args:
            item: the index of the sequence.
            key: the keys of a layer, `(batch, key/value heads, keys, head dim)`. The number of columns of a
                part is the head dimension.
            dropped: see `of`.
        """
        keys, width = key.shape[2:]
        reading = self._readings[item]
        parts = -(-len(reading.sources) // width)
        found = torch.zeros(keys, parts * width, dtype=key.dtype, device=key.device)
        for index, (start, stop) in enumerate(reading.sources):
            low, high = (max(0, place + reading.padding - dropped) for place in (start, stop))
            found[low:high, index] = 1
        return found.reshape(keys, parts, width).transpose(0, 1).contiguous()

    def _segment_ids(self, item: int, device: torch.device) -> torch.Tensor:
        """Return the index of each token's source, from the start of the first source to the end of the last source.

        A token between two sources has the index `len(sources)`.
        """
        if (item, device) not in self._segments:
            sources = self._readings[item].sources
            begin = sources[0][0]
            segments = torch.full((sources[-1][1] - begin,), len(sources), dtype=torch.long)
            for index, (start, stop) in enumerate(sources):
                segments[start - begin : stop - begin] = index
            self._segments[item, device] = segments.to(device)
        return self._segments[item, device]
