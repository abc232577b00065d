"""A progress bar for work that takes more than a few seconds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

__all__ = ["progress"]

AFTER = 3.0
"""The number of seconds after which a bar appears."""
T = TypeVar("T")


def progress(items: Sequence[T], what: str) -> Iterator[T]:
    """Yield the items. If the work takes long and stderr is a terminal, a bar shows how many items are done.

    Args:
        items: the pieces of the work.
        what: one or two words that name the work.
    """
    if len(items) < 2:
        yield from items
        return
    from tqdm import tqdm

    yield from tqdm(items, desc=what, delay=AFTER, leave=False, disable=None)
