"""Split passages into windows. A window is a sequence of consecutive passages that fits the model's context."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from ..passages import Passage

__all__ = ["Overflow", "split_windows"]

Overflow = Literal["windows", "error"]
"""The treatment of passages that do not fit the context: they are scored in windows, or an error is raised. A
scorer that does not read all passages in one prompt needs neither; see `Scorer.reads_prompt`."""


def split_windows(passages: Sequence[Passage], fits: Callable[[list[Passage]], bool]) -> list[list[Passage]]:
    """Split passages into sequences, each as long as the context allows.

    Args:
        passages: the passages, in the order in which they are shown.
        fits: a function that returns whether a sequence fits the context.

    Returns:
        The sequences, in order. A passage that does not fit alone is a sequence of its own.

    Example:
        >>> passages = [Passage("one"), Passage("two"), Passage("three")]
        >>> [len(window) for window in split_windows(passages, lambda window: len(window) <= 2)]
        [2, 1]
    """
    windows: list[list[Passage]] = []
    for passage in passages:
        if windows and fits([*windows[-1], passage]):
            windows[-1].append(passage)
        else:
            windows.append([passage])
    return windows
