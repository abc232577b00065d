"""Lay out each passage of the page as a card. The card shows the passage's facts and its shaded text."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .marks import Bar, Scale, Shade
from .text import by_sentences, decimals_for, name_of, number, ranking

if TYPE_CHECKING:
    from ..passages import Passage
    from ..pruning.results import PruneResult

__all__ = ["Block", "Card", "Tokens", "cards_of"]

Tokens = list[tuple[str, float]]
"""The tokens of a passage. Each token is a pair of its text and its score."""
LONG = 1500
"""A text with more characters than this may have to be scrolled, so the keyboard can focus it."""


@dataclass(frozen=True)
class Block:
    """A part of a passage's text."""

    kind: str
    """`lead` (the part before the passage's text, such as a title), `text`, or `sentence`."""
    shades: list[Shade]
    kept: bool = True
    note: str = ""
    """The rank and the score of a sentence."""


@dataclass(frozen=True)
class Card:
    """A passage as the page shows it."""

    index: int
    name: str
    """The title, or the first words of a passage without a title. The page shows this name as the link to the card."""
    title: str
    """The title. It is empty for a passage without a title, because the card shows the passage's text anyway."""
    facts: list[str]
    rank: int
    score: str
    bar: Bar
    kept: bool
    blocks: list[Block]
    long: bool


def cards_of(result: PruneResult, tokens: Sequence[Tokens] | None, scale: Scale | None) -> list[Card]:
    """Lay out every passage of a result, in input order.

    Args:
        result: the result to show.
        tokens: the tokens of each passage. With None, the text has no shades.
        scale: the scale of the tokens' scores, or None if `tokens` is None.
    """
    ranks = {index: rank for rank, index in enumerate(ranking(result.scores), start=1)}
    decimals = decimals_for(result.scores)
    notes = _notes(result)
    cards = []
    for index, passage in enumerate(result.passages):
        if tokens is None or scale is None:
            shades = [Shade(passage.text, "", "")]
        else:
            shades = [scale.shade(text, score) for text, score in _whole_characters(tokens[index])]
        cards.append(
            Card(
                index=index,
                name=name_of(passage, 80),
                title=name_of(passage, 80) if (passage.title or "").strip() else "",
                facts=_facts(passage),
                rank=ranks[index],
                score=number(result.scores[index], decimals),
                bar=Bar.of(result.scores[index], result.scores),
                kept=index in result.kept,
                blocks=list(_blocks(passage, shades, notes[index])),
                long=len(passage.text) > LONG,
            )
        )
    return cards


def _facts(passage: Passage) -> list[str]:
    facts = [] if passage.id is None else [f"id {passage.id}"]
    return facts if passage.score is None else [*facts, f"retrieval score {passage.score:.4g}"]


def _notes(result: PruneResult) -> list[list[tuple[str, bool, str]]]:
    """Return a list for each passage, with one entry for each sentence.

    An entry holds the sentence's text, whether the sentence is kept, and a note with its rank and score. The lists are
    empty if whole passages were scored.
    """
    notes: list[list[tuple[str, bool, str]]] = [[] for _ in result.passages]
    if by_sentences(result):
        decimals = decimals_for([source.score for source in result.sources])
        for source in result.sources:
            note = f"#{source.rank}  {number(source.score, decimals)}"
            notes[source.passage].append((source.text, source.kept, note))
    return notes


def _whole_characters(tokens: Tokens) -> Iterator[tuple[str, float]]:
    """Join tokens that together form one character, and add up their scores.

    Only the first of these tokens has a text that is not empty.
    """
    text, total = "", 0.0
    for piece, score in tokens:
        if piece and text:
            yield text, total
            text, total = "", 0.0
        text, total = text + piece, total + score
    if text:
        yield text, total


def _blocks(passage: Passage, shades: list[Shade], notes: list[tuple[str, bool, str]]) -> Iterator[Block]:
    """Divide the shown text into blocks.

    The text before the passage's text, such as a title, is a block of its own. If sentences were scored, each sentence
    is a block.
    """
    shown = "".join(shade.text for shade in shades)
    start = shown.find(passage.text, len(passage.title or ""))
    start = shown.find(passage.text) if start < 0 else start
    if start < 0:  # the prompt template changed the text
        yield Block("text", shades)
        return
    rest = deque(shades)
    if start:
        yield Block("lead", _cut(rest, start))
    for number_, (text, kept, note) in enumerate(notes, start=1):
        last = number_ == len(notes)
        yield Block("sentence", _cut(rest, len(shown) if last else len(text)), kept, note)
    if rest or not (start or notes):
        yield Block("text", list(rest))


def _cut(shades: deque[Shade], length: int) -> list[Shade]:
    """Remove `length` characters from the front, and return them. A token at the cut is split into two tokens."""
    taken = []
    while shades and length > 0:
        shade = shades.popleft()
        taken.append(Shade(shade.text[:length], shade.css, shade.number))
        if len(shade.text) > length:
            shades.appendleft(Shade(shade.text[length:], shade.css, shade.number))
        length -= len(shade.text)
    return taken
