"""This package's own format: `question`, `passages` and optionally `id`, `answer`, `aliases`, `gold`, `type`."""

from __future__ import annotations

from ...errors import InputError
from ...passages import as_passages
from ..question import Question
from .row import Format, Row, RowError, identifier, kind, optional_string, string, strings

__all__ = ["PLAIN"]


def _parse(row: Row, where: str) -> Question:
    if not isinstance(row["passages"], list):
        raise RowError(where, "field 'passages' must be a list", f", got {row['passages']!r:.80}")
    try:
        passages = tuple(as_passages(row["passages"]))
    except InputError as error:
        raise RowError(where, "field 'passages' must hold strings or {title, text}", f" ({error})") from None
    gold = row.get("gold", [])
    if not isinstance(gold, list) or not all(type(g) is int and 0 <= g < len(passages) for g in gold):
        detail = f" below {len(passages)}, got {gold!r:.80}"
        raise RowError(where, "field 'gold' must be a list of passage indices", detail)
    text, answer = string(row, "question", where), optional_string(row, "answer", where)
    aliases = strings(row, "aliases", where)
    return Question(identifier(row, where), text, passages, answer, tuple(sorted(set(gold))), kind(row, where), aliases)


PLAIN = Format(
    ("question", "passages"),
    "gold",
    _parse,
    gold="field 'gold' is missing or empty, so there are no gold passages",
    needs="question and passages",
)
