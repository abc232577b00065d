"""Finds the units of sources. A unit is the part of a source that lies in one piece of its passage."""

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
    """Return the units of all sources.

    Args:
        index: the passage index. It reads the passages that have no records yet.
        passages: all passages.
        owners: for each source, the position of its passage in `passages`. The positions are in ascending order.
        texts: the text of each source. Sources of the same passage are in the order of the passage's text.

    Returns:
        The units, and the source of each unit as a position in `texts`. A source has one unit for each piece that holds
        some of its tokens. A source without text has no unit.
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
    """Return the character span of each part in a text. The span is None for a part that is blank or not found.

    The parts are in the order of the text.
    """
    spans: list[Span | None] = []
    end = 0
    for part in parts:
        start = text.find(part, end) if part.strip() else -1
        spans.append(None if start < 0 else (start, start + len(part)))
        end = end if start < 0 else start + len(part)
    return spans
