"""The units of a prompt's sources in the index: whole passages, their sentences, or their tokens."""

from __future__ import annotations

from collections.abc import Sequence

from ..attention.rows import Span
from ..passages import Passage
from .features import Unit
from .index import PassageIndex
from .layout import Piece, units_of

__all__ = ["source_units"]


def source_units(
    index: PassageIndex, passages: Sequence[Passage], owners: Sequence[int], texts: Sequence[str]
) -> tuple[list[Unit], list[int]]:
    """Return the units of sources.

    Args:
        index: the index; passages that it does not have are read.
        passages: all passages.
        owners: the passage of each source, ascending.
        texts: the text of each source. Sources of one passage stand in the order of its text.

    Returns:
        The units, and the source of each unit. A source has one unit for each piece that holds tokens of it, and none
        if it has no text.
    """
    units: list[Unit] = []
    sources: list[int] = []
    mine: dict[int, list[int]] = {}
    for source, owner in enumerate(owners):
        mine.setdefault(owner, []).append(source)
    for place, records in enumerate(index.records(passages)):
        some = mine.get(place, [])
        if not records or not some:
            continue
        text = passages[place].text
        if [texts[source] for source in some] == [text]:
            pieces: list[Piece] | None = None
            spans: list[Span | None] = [None]
        else:
            pieces = index.pieces(passages[place])
            spans = _spans(text, [texts[source] for source in some])
        for source, span in zip(some, spans, strict=True):
            if pieces is None:
                found = [(i, 0, record.tokens) for i, record in enumerate(records)]
            else:
                found = units_of(pieces, span) if span else []
            units += [Unit(records[i], start, stop) for i, start, stop in found]
            sources += [source] * len(found)
    return units, sources


def _spans(text: str, parts: Sequence[str]) -> list[Span | None]:
    """Return the characters of each part, which follow each other in the text; None for a part without text."""
    spans: list[Span | None] = []
    end = 0
    for part in parts:
        start = text.find(part, end) if part.strip() else -1
        spans.append(None if start < 0 else (start, start + len(part)))
        end = end if start < 0 else start + len(part)
    return spans
