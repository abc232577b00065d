"""A parsed JSON object of any known shape -> a question."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

from ..question import Question
from .hotpotqa import HOTPOTQA
from .musique import MUSIQUE
from .plain import DOLLY, PLAIN
from .row import RowError

__all__ = ["Required", "parse_question"]

FORMATS = (HOTPOTQA, MUSIQUE, PLAIN, DOLLY)
Required = Literal["answer", "gold"]


def parse_question(row: Any, where: str, require: Collection[Required] = ()) -> Question:
    """One question from one parsed JSON object of any known shape.

    Args:
        row: the object.
        where: the file and line; goes into the error.
        require: what it must have, of `answer` and `gold`.

    Raises:
        DataError: another shape, a field of the wrong type, or one that is required and missing.
    """
    if not isinstance(row, Mapping):
        raise RowError(where, "expected a JSON object", f", got {type(row).__name__}")
    shape = next((shape for shape in FORMATS if all(field in row for field in shape.fields)), None)
    if shape is None:
        raise RowError(where, _missing(row), f"; but has fields {sorted(map(str, row))[:8]}")
    question = shape.parse(row, where)
    if "answer" in require and not (question.answer or "").strip():
        raise RowError(where, shape.answer)
    if "gold" in require and not question.gold:
        raise RowError(where, shape.gold)
    return question


def _missing(row: Mapping[str, Any]) -> str:
    """Which field a row lacks that would make it one of a known shape; all the shapes if it looks like none."""
    near = [shape for shape in FORMATS if sum(field in row for field in shape.fields) == 1]
    near = [shape for shape in near if shape.telling in row] or near
    absent = list(dict.fromkeys(repr(field) for shape in near for field in shape.fields if field not in row))
    if not absent:
        return (
            "needs question and passages; or HotpotQA's and 2WikiMultihopQA's question, context, answer and "
            "supporting_facts; or MuSiQue's question, paragraphs and answer"
        )
    return f"field {' or '.join([', '.join(absent[:-1]), absent[-1]] if absent[1:] else absent)} is missing"
