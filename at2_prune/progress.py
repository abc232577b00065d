"""A progress bar for work that takes more than a few seconds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

__all__ = ["progress"]

AFTER = 3.0
"""Seconds after which a bar appears."""
T = TypeVar("T")


def progress(items: Sequence[T], what: str) -> Iterator[T]:
    """Yield the items. If they take long, a bar on stderr says how many are done; it needs a terminal.

    Args:
        items: the pieces of the work.
        what: the work, in a word or two.
    """
    if len(items) < 2:
        yield from items
        return
    from tqdm import tqdm

    yield from tqdm(items, desc=what, delay=AFTER, leave=False, disable=None)
