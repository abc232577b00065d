"""One row of data: what a format is, and what every format's parser uses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import DataError
from ..question import Question

__all__ = ["Format", "Row", "RowError", "identifier", "kind", "optional_string", "string", "strings"]

Row = Mapping[str, Any]


class RowError(DataError):
    """A row that cannot be used.

    Args:
        where: the file and line; part of the message.
        reason: what is wrong with which field, without the value, so that rows can be counted by reason.
        detail: the value; part of the message.
    """

    def __init__(self, where: str, reason: str, detail: str = "") -> None:
        super().__init__(f"{where}: {reason}{detail}")
        self.reason = reason


class Format(NamedTuple):
    """A shape that rows come in."""

    fields: tuple[str, str]
    """What makes a row one of this shape."""
    telling: str
    """A field that only rows of this shape have, so that it says which field is missing."""
    parse: Callable[[Row, str], Question]
    """From a row and where it stands."""
    gold: str
    """Why a row of this shape may have no gold passages; part of an error."""
    answer: str = "field 'answer' is missing or empty"
    """Why a row of this shape may have no answer; part of an error."""


def identifier(row: Row, where: str) -> str:
    """The row's id, or where it stands: without the folders, for a split by id is to be the same everywhere."""
    return next((str(row[key]) for key in ("id", "_id") if row.get(key) is not None), Path(where).name)


def string(row: Row, field: str, where: str) -> str:
    value = row.get(field)
    if not isinstance(value, str):
        raise RowError(where, f"field {field!r} must be a string", f", got {value!r:.80}")
    return value


def optional_string(row: Row, field: str, where: str) -> str | None:
    return None if row.get(field) is None else string(row, field, where)


def strings(row: Row, field: str, where: str) -> tuple[str, ...]:
    """A field that is missing, null or a list of strings."""
    value = row.get(field)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise RowError(where, f"field {field!r} must be a list of strings", f", got {value!r:.80}")
    return tuple(value)


def kind(row: Row, where: str) -> str | None:
    return optional_string(row, "type", where)
