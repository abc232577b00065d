"""The format of MuSiQue, in the published files and on the Hub.

Trivedi et al., "MuSiQue: Multihop Questions via Single-hop Question Composition" (TACL 2022),
https://github.com/StonyBrookNLP/musique.
"""

from __future__ import annotations

import re
from typing import Any

from ...errors import InputError
from ...passages import Passage
from ..question import Question
from .row import Format, HubDataset, Row, RowError, identifier, optional_string, string, strings

__all__ = ["MUSIQUE"]

_HOPS = re.compile(r"(\dhop\d?)__")


def _parse(row: Row, where: str) -> Question:
    paragraphs, answerable = row["paragraphs"], row.get("answerable", True)
    if not isinstance(paragraphs, list):
        raise RowError(where, "field 'paragraphs' must be a list", f", got {paragraphs!r:.80}")
    if not isinstance(answerable, bool):
        raise RowError(where, "field 'answerable' must be true or false", f", got {answerable!r:.80}")
    passages = tuple(_passage(entry, index, where) for index, entry in enumerate(paragraphs))
    gold = tuple(index for index, entry in enumerate(paragraphs) if entry.get("is_supporting"))
    text, answer = string(row, "question", where), optional_string(row, "answer", where)
    aliases = strings(row, "answer_aliases", where)
    if not answerable:  # MuSiQue-Full has such questions, and its official script does not score their answers
        answer, gold, aliases = None, (), ()
    name = identifier(row, where)
    hops = _HOPS.match(name)
    return Question(name, text, passages, answer, gold, hops[1] if hops else None, aliases)


def _passage(entry: Any, index: int, where: str) -> Passage:
    try:
        if not isinstance(entry.get("is_supporting", False), bool):
            raise TypeError(f"is_supporting must be true or false, got {entry['is_supporting']!r:.80}")
        return Passage(entry["paragraph_text"], title=entry["title"], id=str(entry.get("idx", index)))
    except (AttributeError, InputError, KeyError, TypeError) as error:
        reason = "field 'paragraphs' must hold objects with title and paragraph_text"
        raise RowError(where, reason, f" (paragraph {index}: {error})") from None


MUSIQUE = Format(
    ("question", "paragraphs"),
    "answerable",
    _parse,
    answer="field 'answer' is missing or empty, or field 'answerable' is false",
    gold="no entry of field 'paragraphs' has is_supporting true, or field 'answerable' is false, "
    "so there are no gold passages",
    needs="question, paragraphs and answer (MuSiQue)",
    hub=(HubDataset("dgslibisey/MuSiQue", "validation"),),
)
