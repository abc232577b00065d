"""Long passages: a passage that does not fit the model's context alone is cut into parts that fit.

A source that was cut gets the largest score of its parts. The scores of the parts are not summed, because the attention
mass of a row sums to 1 in each window. A source in n parts could collect mass from n windows. The scores are not
averaged either, because often only one part of a long document answers the question.
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
"""The marks after which a text is cut, the preferred mark first. A mark counts only in the second half of a part."""


@dataclass(frozen=True)
class Part:
    """A passage, or a part of a passage."""

    passage: Passage
    sources: tuple[int, ...]
    """The indices of this part's sources among the sources of all passages."""
    is_cut: bool = False


def as_part(prompt: EncodedPrompt, index: int, passage: Passage) -> Part:
    """Return a whole passage as a part; `prompt` holds all passages."""
    return Part(passage, tuple(i for i, owner in enumerate(prompt.source_passage) if owner == index))


def split_passage(whole: Part, texts: Sequence[str], codec: TextCodec, tokens: int) -> list[Part]:
    """Cut a passage into parts.

    Args:
        whole: the passage.
        texts: the texts of the passage's sources. Joined, they are the passage's text.
        codec: the model's tokenizer, which counts tokens.
        tokens: the maximum number of tokens in a part's text, at least 1.

    Returns:
        The parts. Joined, their texts are the passage's text. Each part holds neighbouring sources or pieces of them.
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
    """Return the score of every source, which is the largest score of its parts.

    Args:
        parts: the parts of all passages.
        scores: a score for every source of every part, one part after the other.
        sources: the number of sources of all passages.
    """
    joined: list[float | None] = [None] * sources
    for source, score in zip([source for part in parts for source in part.sources], scores, strict=True):
        known = joined[source]
        joined[source] = score if known is None else max(known, score)
    return [0.0 if score is None else score for score in joined]


def best_parts(parts: Sequence[Part], scores: Sequence[float]) -> dict[int, Passage]:
    """Return the best part of each cut passage, by the index of the passage. It is the part with the largest score.

    Args:
        parts: the parts of all passages. Each passage is one source.
        scores: a score for each part.
    """
    best: dict[int, tuple[float, Passage]] = {}
    for part, score in zip(parts, scores, strict=True):
        index = part.sources[0]
        if part.is_cut and (index not in best or score > best[index][0]):
            best[index] = score, part.passage
    return {index: passage for index, (_, passage) in best.items()}


def _cut(text: str, codec: TextCodec, tokens: int) -> list[str]:
    """Cut a text into pieces of at most `tokens` tokens, at the end of a sentence or between words if possible."""
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
