"""Passages that do not fit the model's context alone: they are cut into parts that fit, and their scores are joined.

A source that was cut gets the largest score of its parts. The scores of its parts must not be summed: the attention
mass of a row sums to 1 over a window, and a source that is cut into n parts would collect it in up to n windows. They
must not be averaged either: one part of a long document answers the question, and the rest of it is beside the point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from ..models.prompts import EncodedPrompt
from ..models.text_codec import TextCodec
from ..passages import Passage

__all__ = ["Part", "as_part", "best_parts", "join_scores", "split_passage"]

BOUNDARIES = (". ", "! ", "? ", "\n", " ")
"""The ends of sentences, and white space, at which a text is cut if there is one in the second half of a part."""


@dataclass(frozen=True)
class Part:
    """A passage, or a part of one, with the indices of its sources among the sources of all passages."""

    passage: Passage
    sources: tuple[int, ...]
    is_cut: bool = False


def as_part(prompt: EncodedPrompt, index: int, passage: Passage) -> Part:
    """Return a whole passage as a part; `prompt` holds all passages."""
    return Part(passage, tuple(i for i, owner in enumerate(prompt.source_passage) if owner == index))


def split_passage(whole: Part, texts: Sequence[str], codec: TextCodec, tokens: int) -> list[Part]:
    """Cut a passage into parts.

    Args:
        whole: the passage.
        texts: the texts of its sources, which join to its text.
        codec: counts the tokens.
        tokens: the most tokens of a part's text, at least 1.

    Returns:
        Parts whose texts join to the passage's. Each holds some neighbouring sources, or a piece of one source.
    """
    groups: list[list[tuple[int, str]]] = []
    room = 0
    for source, text in zip(whole.sources, texts, strict=True):
        for piece in _cut(text, codec, tokens):
            length = len(codec.plain(piece)[0])
            if length > room:
                groups.append([])
                room = tokens
            groups[-1].append((source, piece))
            room -= length
    return [
        Part(
            replace(whole.passage, text="".join(text for _, text in group), sentences=tuple(text for _, text in group)),
            tuple(source for source, _ in group),
            is_cut=True,
        )
        for group in groups
    ]


def join_scores(parts: Sequence[Part], scores: Sequence[float], sources: int) -> list[float]:
    """Return the score of every source: the largest one of its parts.

    Args:
        parts: of all passages.
        scores: a score for every source of every part, one part after the other.
        sources: the number of sources of all passages.
    """
    joined: list[float | None] = [None] * sources
    for source, score in zip([source for part in parts for source in part.sources], scores, strict=True):
        known = joined[source]
        joined[source] = score if known is None else max(known, score)
    return [0.0 if score is None else score for score in joined]


def best_parts(parts: Sequence[Part], scores: Sequence[float]) -> dict[int, Passage]:
    """Return the part of each cut passage that has the largest score, by the passage's index.

    Args:
        parts: of all passages, where each passage is a source.
        scores: a score for each part.
    """
    best: dict[int, tuple[float, Passage]] = {}
    for part, score in zip(parts, scores, strict=True):
        index = part.sources[0]
        if part.is_cut and (index not in best or score > best[index][0]):
            best[index] = score, part.passage
    return {index: passage for index, (_, passage) in best.items()}


def _cut(text: str, codec: TextCodec, tokens: int) -> list[str]:
    """Cut a text into pieces of at most so many tokens, at the end of a sentence or between words if possible."""
    ends = [stop for _, stop in codec.plain(text)[1]]
    cuts, start, done = [0], 0, 0
    while len(ends) - done > tokens:
        stop = ends[done + tokens - 1]
        half = (start + stop) // 2
        found = (text.rfind(mark, half, stop) + len(mark) for mark in BOUNDARIES if text.rfind(mark, half, stop) >= 0)
        start = max(next(found, stop), start + 1)
        cuts.append(start)
        done = next((i for i, end in enumerate(ends) if end > start), len(ends))
    return [text[a:b] for a, b in pairwise([*cuts, len(text)]) if b > a] or [text]
