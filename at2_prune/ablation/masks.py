"""Draws random masks. A mask says which sources an ablation keeps, and which sources it leaves out."""

from __future__ import annotations

import hashlib

import torch

__all__ = ["random_masks", "seeded_generator"]


def random_masks(sources: int, count: int, generator: torch.Generator, keep: float = 0.5) -> torch.Tensor:
    """Draw the masks of random ablations (AT2, arXiv 2504.13752, section 3).

    Returns:
        The masks, `(count, sources)` bool, True where a source is kept. Each source is kept with probability `keep`.
    """
    return torch.rand(count, sources, generator=generator) < keep


def seeded_generator(seed: int, question: str) -> torch.Generator:
    """Return a random generator that depends on the seed and on `question` only.

    Args:
        seed: the seed.
        question: the text or the id of a question.
    """
    digest = hashlib.sha256(f"{seed} {question}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:6], "big"))
