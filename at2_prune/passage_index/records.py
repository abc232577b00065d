"""Defines records. A record holds the vectors that the index keeps for one piece, as integers or as float32."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from ..errors import CacheError

__all__ = ["DEFAULT_PRECISION", "Bits", "PieceRecord", "Precision", "Vectors", "pack", "unpack"]

Precision = Literal["int4", "int8", "float32"]
"""The format of kept vectors.

- `int4`: the keys of link layers are 8-bit integers. The keys of other layers, and all queries, are 4-bit integers. If
  the width of a head is not a multiple of 32, all vectors are 8-bit integers.
- `int8`: all vectors are 8-bit integers.
- `float32`: all vectors are float32.
"""
DEFAULT_PRECISION: Precision = "int4"
Bits = Literal[4, 8, 32]
"""The number of bits of each entry in a kept vector."""
GROUP = 32
"""The number of neighbouring entries of a 4-bit vector that share a scale."""


EMBEDDING = "embedding"
"""The name of the tensor that holds a record's embedding."""
LEAD_TOKENS = 6
"""If a passage has no title, this many tokens at the start of a piece count as the title."""


@dataclass(frozen=True)
class Vectors:
    """One vector for each token and head, `(heads, tokens, width)`."""

    values: torch.Tensor
    """The vectors as float32, as int8, or as uint8 with two 4-bit entries in each byte."""
    scale: torch.Tensor | None = None
    """The scales. An int8 vector has one scale, `(heads, tokens, 1)` float32. A 4-bit vector has one scale for each
    group of entries, `(heads, tokens, groups)` float16. If the values are float32, `scale` is None."""

    @classmethod
    def keep(cls, vectors: torch.Tensor, bits: Bits) -> Vectors:
        """Return the vectors with a given number of bits for each entry, on the CPU.

        If the width of the vectors is not a multiple of `GROUP`, an entry has at least 8 bits.
        """
        vectors = vectors.float().cpu().contiguous()
        if bits == 32:
            return cls(vectors)
        if bits == 8 or vectors.shape[-1] % GROUP:
            scale = (vectors.abs().amax(-1, keepdim=True) / 127).clamp(min=1e-12)
            return cls((vectors / scale).round().to(torch.int8), scale)
        groups = vectors.unflatten(-1, (-1, GROUP))
        scale = (groups.abs().amax(-1) / 7).clamp(min=1e-6).half()
        entries = (groups / scale.float()[..., None]).round().clamp(-8, 7).flatten(-2) + 8
        entries = entries.to(torch.uint8)
        return cls(entries[..., ::2] | entries[..., 1::2] << 4, scale)

    def restored(self) -> torch.Tensor:
        """Return the vectors in float32, `(heads, tokens, width)`."""
        if self.scale is None:
            return self.values
        if self.values.dtype == torch.int8:
            return self.values.float() * self.scale
        entries = torch.stack([self.values & 15, self.values >> 4], -1).flatten(-2).float() - 8
        return (entries.unflatten(-1, (-1, GROUP)) * self.scale.float()[..., None]).flatten(-2)


@dataclass(frozen=True)
class PieceRecord:
    """The kept vectors of one piece of a passage: its keys, and the queries of its rows in the link layers."""

    title: int
    """The number of title tokens."""
    keys: dict[int, Vectors]
    """The keys of each layer, `(key/value heads, tokens, width)`."""
    rows: dict[int, Vectors]
    """The scaled queries of each link layer, `(heads, tokens, width)`."""
    own: dict[int, torch.Tensor]
    """For each link layer and row, the log-sum-exp of the row's attention logits, `(heads, tokens)` float32. The sum is
    over the opening text `layout.HEAD`, the piece's own tokens up to the row, and the attention sink if the layer has
    one."""
    embedding: torch.Tensor | None = None
    """The embedding of the piece's text, `(width,)` float32, if the index has an embedder."""

    @property
    def tokens(self) -> int:
        return next(iter(self.keys.values())).values.shape[1]

    @property
    def lead(self) -> int:
        """The number of tokens that count as the title. Without a title, the first `LEAD_TOKENS` tokens count."""
        return self.title or min(LEAD_TOKENS, self.tokens)

    @property
    def nbytes(self) -> int:
        """The number of bytes of all tensors in the record."""
        return sum(tensor.nbytes for tensor in _tensors(self).values())

    @property
    def is_finite(self) -> bool:
        """True if all vectors and sums are finite.

        A vector that is kept as integers has a scale. If the original vector was not finite, its scale is not finite.
        """
        return all(bool(tensor.isfinite().all()) for tensor in _tensors(self).values() if tensor.is_floating_point())


def _tensors(record: PieceRecord) -> dict[str, torch.Tensor]:
    tensors = {}
    for name, group in (("keys", record.keys), ("rows", record.rows)):
        for layer, vectors in group.items():
            tensors[f"{name}.{layer}"] = vectors.values
            if vectors.scale is not None:
                tensors[f"{name}.{layer}.scale"] = vectors.scale
    tensors |= {f"own.{layer}": own for layer, own in record.own.items()}
    return tensors if record.embedding is None else {**tensors, EMBEDDING: record.embedding}


def pack(records: list[PieceRecord]) -> bytes:
    """Return the records of a passage as the bytes of a safetensors file."""
    tensors = {f"{i}.{name}": tensor for i, record in enumerate(records) for name, tensor in _tensors(record).items()}
    return save(tensors, {"titles": json.dumps([record.title for record in records])})


def unpack(data: bytes) -> list[PieceRecord]:
    """Return the records that `pack` wrote.

    Raises:
        CacheError: the bytes cannot be read, or a record holds numbers that are not finite.
    """
    try:
        length = int.from_bytes(data[:8], "little")
        titles = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["titles"])
        tensors = load(data)
        records = [_record(i, title, tensors) for i, title in enumerate(titles)]
        if not all(record.is_finite for record in records):  # an earlier version could store NaN and infinity
            raise ValueError("it holds numbers that are not finite")
        return records
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise CacheError(f"a record of the passage index cannot be read ({error})") from error


def _record(index: int, title: int, tensors: dict[str, torch.Tensor]) -> PieceRecord:
    mine = {name.split(".", 1)[1]: tensor for name, tensor in tensors.items() if name.split(".", 1)[0] == str(index)}

    def group(kind: str) -> dict[int, Vectors]:
        layers = [int(name.split(".")[1]) for name in mine if name.startswith(f"{kind}.") and name.count(".") == 1]
        return {layer: Vectors(mine[f"{kind}.{layer}"], mine.get(f"{kind}.{layer}.scale")) for layer in sorted(layers)}

    own = {int(name.split(".")[1]): tensor for name, tensor in mine.items() if name.startswith("own.")}
    return PieceRecord(title, group("keys"), group("rows"), own, mine.get(EMBEDDING))
