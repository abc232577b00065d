"""Progress bars, and the environment variable that shows or hides all of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TypeVar

from .errors import InputError

__all__ = ["progress", "shown"]

VARIABLE = "AT2_PRUNE_PROGRESS"
"""The environment variable. `on` shows every bar, even in a log file; `off` hides every bar."""
AFTER = 3.0
"""The number of seconds before a bar appears. If `AT2_PRUNE_PROGRESS` is `on`, a bar appears at once."""
T = TypeVar("T")


def progress(items: Sequence[T], what: str) -> Iterator[T]:
    """Yield the items. If the work takes long, a bar on stderr shows how many items are done.

    If stderr is not a terminal, a bar appears only if `AT2_PRUNE_PROGRESS` is `on`.

    Args:
        items: the items to work on.
        what: a few words that name the work.
    """
    if len(items) < 2:
        yield from items
        return
    from tqdm import tqdm

    asked = shown()
    delay = 0.0 if asked else AFTER
    yield from tqdm(items, desc=what, delay=delay, leave=False, disable=None if asked is None else not asked)


def shown() -> bool | None:
    """Return True if `AT2_PRUNE_PROGRESS` is `on`, False if it is `off`, and None if it is not set or blank.

    Raises:
        InputError: the variable has a value other than `on` and `off`.
    """
    text = os.environ.get(VARIABLE, "").strip().lower()
    if text not in ("", "on", "off"):
        raise InputError(f"environment variable {VARIABLE} must be on or off, got {text!r:.80}")
    return {"on": True, "off": False}.get(text)
