"""Format an answer and its citations, as text for the terminal and as an HTML page.

A report shows the numbers of the cited sources after each statement. It also lists the cited sources.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..catalogue import METHODS
from .page import template
from .terminal import Lines
from .text import name_of, number, ranking, visible

if TYPE_CHECKING:
    from ..pruning.citations import Citations, Statement

__all__ = ["html_citations", "terminal_citations"]

SHOWN = 5
"""The maximum number of sources that the page shows for a statement."""


@dataclass(frozen=True)
class Cited:
    """A source, with its share in the scores of one statement."""

    source: int
    number: int
    """The source's number in the citations. It is 0 if the statement does not cite the source."""
    name: str
    percent: int
    effect: str
    """The log-odds that the statement is expected to lose without the source. It is empty if no ablations were run."""


@dataclass(frozen=True)
class Piece:
    """A statement, or the text between two statements."""

    text: str
    sources: list[Cited]
    """The sources with the largest shares. The sources that the statement cites come first."""
    index: int = -1
    """The index of the statement. It is -1 for text between statements."""
    note: str = ""
    """A note with the correlation of scores and ablations. It is empty if no ablations were run."""

    @property
    def cited(self) -> list[Cited]:
        """The sources that the statement cites."""
        return [one for one in self.sources if one.number]


def pieces_of(citations: Citations) -> list[Piece]:
    """Cut the answer into pieces. The joined texts of the pieces are the answer."""
    pieces, end = [], 0
    for index, statement in enumerate(citations.statements):
        if statement.start > end:
            pieces.append(Piece(citations.answer[end : statement.start], []))
        pieces.append(Piece(statement.text, list(_sources(citations, statement)), index, _agreement(statement)))
        end = statement.stop
    if end < len(citations.answer):
        pieces.append(Piece(citations.answer[end:], []))
    return pieces


def terminal_citations(
    citations: Citations, *, width: int | None = None, color: bool | None = None, encoding: str | None = None
) -> str:
    """Format an answer with numbered citations as text to print.

    Args:
        citations: the result of `AT2Pruner.attribute` with `statements`.
        width: the number of columns, as in `terminal_report`.
        color: whether to use ANSI colours. With None, `wants_color` decides.
        encoding: the encoding of the stream. With None, it is the encoding of stdout.
    """
    lines = Lines.of(width, color, encoding)
    lines.section("Question", citations.question)
    pieces = pieces_of(citations)
    marked = "".join(piece.text + "".join(f"[{one.number}]" for one in piece.cited) for piece in pieces)
    lines.section("Answer", marked.strip())
    rows = []
    for piece in pieces:
        if piece.index >= 0:
            rows.append(f"{' '.join(piece.text.split())}{f'  ({piece.note})' if piece.note else ''}")
            rows += [_line(one) for one in piece.cited] or ["   no source"]
    lines.section(
        "Statements", "\n".join(rows), f"the share of each {citations.kind} in the scores of {citations.method}"
    )
    cited = [f"[{number}] {_source(citations, source)}" for source, number in citations.numbers.items()]
    lines.section("Sources", "\n".join(cited) or "(no source has a positive score)")
    return lines.text()


def html_citations(citations: Citations, *, model: str) -> str:
    """Render the HTML page of an answer with citations.

    A statement shows its sources when the user points at it or selects it. The page needs no other file and no script.
    It is as safe to open as the page of `html_report`.

    Args:
        citations: the result of `AT2Pruner.attribute` with `statements`.
        model: the name of the scoring model.
    """
    pieces = pieces_of(citations)
    numbers = citations.numbers
    cards = [
        {
            "number": numbers[source],
            "name": name_of(citations.passages[citations.source_passage[source]], 80),
            "title": (citations.passages[citations.source_passage[source]].title or "").strip(),
            "text": citations.sources[source],
            "statements": [
                (piece.index, one.percent) for piece in pieces for one in piece.cited if one.source == source
            ],
        }
        for source in numbers
    ]
    return template("citations.html", "page.css", "citations.css").render(
        citations=citations,
        pieces=pieces,
        cards=cards,
        model=model,
        noun=citations.kind,
        meaning=METHODS[citations.method].score if citations.method in METHODS else "",
        fitted=any(statement.fit for statement in citations.statements),
    )


def _sources(citations: Citations, statement: Statement) -> Iterator[Cited]:
    shares, numbers, known = statement.shares, citations.numbers, statement.fit
    cited = statement.cited()
    for source in ranking(statement.scores)[: max(SHOWN, len(cited))]:
        percent = round(100 * shares[source])
        if not (percent or source in cited):
            continue
        effect = "" if known is None else f"{number(known.effects[source], 1)} nats"
        name = name_of(citations.passages[citations.source_passage[source]], 60)
        if citations.kind != "passage":
            text = " ".join(citations.sources[source].split())
            name = visible(text if len(text) <= 60 else text[:59].rstrip() + "…")
        yield Cited(source, numbers[source] if source in cited else 0, name, percent, effect)


def _agreement(statement: Statement) -> str:
    known = statement.fit
    return "" if known is None else f"correlation with {known.ablations} ablations {number(known.correlation, 2)}"


def _line(one: Cited) -> str:
    return f"   {one.percent:>3} %  [{one.number}] {one.name}{f'  {one.effect}' if one.effect else ''}"


def _source(citations: Citations, source: int) -> str:
    title = citations.passages[citations.source_passage[source]].title
    text = " ".join(citations.sources[source].split())
    return f"{title}: {text}" if title and citations.kind != "thought" else text
