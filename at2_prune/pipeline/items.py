"""Check the documents or nodes that a framework hands to its adapter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from ..errors import InputError

__all__ = ["as_items"]

T = TypeVar("T")


def as_items(items: Any, kind: type[T], name: str, hint: str, single: tuple[type, ...] = ()) -> list[T]:
    """Return the items of a list, a generator or another iterable as a list. A list is returned without a copy.

    Args:
        items: the items.
        kind: the class that every item must have.
        name: the word that error messages use for one item, such as "document".
        hint: the end of the error message about one item. The hint says how to make an item.
        single: the classes of objects that count as one item, even if they are iterable. `items` must not be an object
            of such a class.

    Raises:
        InputError: `items` is not iterable, or it is a text, a mapping or one item. The error is also raised if an item
            has another class than `kind`. The message then names the index of the item.

    Example:
        >>> as_items((number for number in (1, 2)), int, "number", "call int()")
        [1, 2]
    """
    if isinstance(items, (str, bytes, Mapping, kind, *single)) or not isinstance(items, Iterable):
        raise InputError(f"{name}s must be a list of {kind.__name__} objects, got {type(items).__name__}")
    listed = items if isinstance(items, list) else list(items)
    for index, item in enumerate(listed):
        if not isinstance(item, kind):
            raise InputError(
                f"{name} {index} must be a {kind.__name__}, got {type(item).__name__}: {item!r:.80}; {hint}"
            )
    return listed
