"""Random masks that choose which sources an ablation leaves out."""

from __future__ import annotations

import hashlib

import torch

__all__ = ["random_masks", "seeded_generator"]


def random_masks(sources: int, count: int, generator: torch.Generator, keep: float = 0.5) -> torch.Tensor:
    """Draw random ablations (AT2, arXiv 2504.13752, section 3).

    Returns:
        Masks `(count, sources)` bool, True where a source is kept. Each source is kept with probability `keep`.
    """
    return torch.rand(count, sources, generator=generator) < keep


def seeded_generator(seed: int, question: str) -> torch.Generator:
    """Return a generator that depends only on the seed and on `question`, the text or the id of a question."""
    digest = hashlib.sha256(f"{seed} {question}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:6], "big"))
