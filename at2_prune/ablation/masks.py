"""Which sources are left out."""

from __future__ import annotations

import hashlib

import torch

__all__ = ["random_masks", "seeded_generator"]


def random_masks(sources: int, count: int, generator: torch.Generator, keep: float = 0.5) -> torch.Tensor:
    """Random ablations: each source kept with probability `keep`, `(count, sources)` bool (AT2, section 3)."""
    return torch.rand(count, sources, generator=generator) < keep


def seeded_generator(seed: int, question: str) -> torch.Generator:
    """A generator that is the same for a question, by its text or id, whatever ran before it."""
    digest = hashlib.sha256(f"{seed} {question}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:6], "big"))
