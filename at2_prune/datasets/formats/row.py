"""Define the parts of a data format, and the functions with which the parsers of all formats read fields of a row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import DataError
from ..question import Question

__all__ = ["Format", "HubDataset", "Row", "RowError", "identifier", "kind", "optional_string", "string", "strings"]

Row = Mapping[str, Any]


class RowError(DataError):
    """The error for a row that cannot be used.

    Args:
        where: the file and line, for the message.
        reason: the field and its fault, without the value. Skipped rows are counted by this text.
        detail: further text for the message, such as the value.
    """

    def __init__(self, where: str, reason: str, detail: str = "") -> None:
        super().__init__(f"{where}: {reason}{detail}")
        self.reason = reason


def _every(row: Row) -> bool:
    return True


@dataclass(frozen=True)
class HubDataset:
    """A data set on the Hub, and how to load it."""

    name: str
    """The id on the Hub, `owner/name`."""
    split: str = "train"
    """The split to load by default."""
    configuration: str | None = None
    """The configuration to load, if the data set has several."""
    wanted: Callable[[Row], bool] = _every
    """Returns whether a row is used. By default every row is used."""


@dataclass(frozen=True)
class Format:
    """A data format: the fields that its rows have, and the function that parses them."""

    fields: tuple[str, str]
    """A row with both of these fields has this format."""
    telling: str
    """A field that only rows of this format have. If a row lacks one of `fields` but has this field, the error assumes
    this format."""
    parse: Callable[[Row, str], Question]
    """The function that makes a question from a row. Its second argument is the row's place (file and line)."""
    gold: str
    """The error for a row without gold passages."""
    answer: str = "field 'answer' is missing or empty"
    """The error for a row without an answer."""
    needs: str = ""
    """The fields and the name of the format, for the error about a row of no known format."""
    hub: tuple[HubDataset, ...] = ()
    """The known data sets on the Hub that have this format. The format of a row does not depend on this list: the
    fields of the row decide the format."""


def identifier(row: Row, where: str) -> str:
    """Return the row's id. For a row without an id, return the row's place: the name of the file, and the line.

    The place does not include the folders of the file. The id decides whether training holds out a question, and a
    file that is moved to another folder must give the same ids.
    """
    return next((str(row[key]) for key in ("id", "_id") if row.get(key) is not None), Path(where).name)


def string(row: Row, field: str, where: str) -> str:
    """Return a field that must be a string."""
    value = row.get(field)
    if not isinstance(value, str):
        raise RowError(where, f"field {field!r} must be a string", f", got {value!r:.80}")
    return value


def optional_string(row: Row, field: str, where: str) -> str | None:
    """Return a field that may be a string, null or missing."""
    return None if row.get(field) is None else string(row, field, where)


def strings(row: Row, field: str, where: str) -> tuple[str, ...]:
    """Return a field that may be a list of strings, null or missing."""
    value = row.get(field)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise RowError(where, f"field {field!r} must be a list of strings", f", got {value!r:.80}")
    return tuple(value)


def kind(row: Row, where: str) -> str | None:
    """Return the type of question that the data set gives in the field `type`."""
    return optional_string(row, "type", where)
