"""Parse a row of any known format into a question."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

from ..question import Question
from .dolly import DOLLY
from .hotpotqa import HOTPOTQA
from .musique import MUSIQUE
from .plain import PLAIN
from .row import RowError

__all__ = ["FORMATS", "Required", "parse_question"]

FORMATS = (HOTPOTQA, MUSIQUE, PLAIN, DOLLY)
"""Every known format. The format of a row is the first one whose `fields` the row has."""
Required = Literal["answer", "gold"]


def parse_question(row: Any, where: str, require: Collection[Required] = ()) -> Question:
    """Parse one row of any known format.

    Args:
        row: a parsed JSON object.
        where: the file and line, for error messages.
        require: the fields that the question must have: `answer`, `gold` or both.

    Raises:
        DataError: the row has no known format, a field has the wrong type, or a required field is missing.
    """
    if not isinstance(row, Mapping):
        raise RowError(where, "expected a JSON object", f", got {type(row).__name__}")
    found = next((known for known in FORMATS if all(field in row for field in known.fields)), None)
    if found is None:
        raise RowError(where, _missing(row), f"; the row has the fields {sorted(map(str, row))[:8]}")
    question = found.parse(row, where)
    if "answer" in require and not (question.answer or "").strip():
        raise RowError(where, found.answer)
    if "gold" in require and not question.gold:
        raise RowError(where, found.gold)
    return question


def _missing(row: Mapping[str, Any]) -> str:
    """Return the error for a row of no known format.

    If the row has one of the two `fields` of a format, the error names the other field, which is missing. If the row
    has none of these fields, the error lists the `needs` of all formats.
    """
    near = [known for known in FORMATS if sum(field in row for field in known.fields) == 1]
    near = [known for known in near if known.telling in row] or near
    absent = list(dict.fromkeys(repr(field) for known in near for field in known.fields if field not in row))
    if not absent:
        return "a row needs " + "; or ".join(sorted((known.needs for known in FORMATS if known.needs), key=len))
    return f"field {' or '.join([', '.join(absent[:-1]), absent[-1]] if absent[1:] else absent)} is missing"
