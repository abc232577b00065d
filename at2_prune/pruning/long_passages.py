"""Cut passages that are too long for the model's context into parts that fit.

A source that was cut gets the largest score of its parts. The scores of the parts are not summed. In each window, the
attention weights of a row sum to 1, so a source in n parts could collect attention mass from n windows. The scores are
not averaged either, because often only one part of a long document answers the question.
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
"""The marks after which a text is cut. An earlier mark in the list is preferred to a later mark. Only marks in the
second half of a part are used."""


@dataclass(frozen=True)
class Part:
    """A passage, or a part of a passage."""

    passage: Passage
    sources: tuple[int, ...]
    """The indices of this part's sources among the sources of all passages."""
    is_cut: bool = False


def as_part(prompt: EncodedPrompt, index: int, passage: Passage) -> Part:
    """Return a whole passage as one part.

    Args:
        prompt: a prompt with all passages.
        index: the index of the passage.
        passage: the passage.
    """
    return Part(passage, tuple(i for i, owner in enumerate(prompt.source_passage) if owner == index))


def split_passage(whole: Part, texts: Sequence[str], codec: TextCodec, tokens: int) -> list[Part]:
    """Cut a passage into parts.

    Args:
        whole: the passage.
        texts: the texts of the passage's sources. The joined texts are the passage's text.
        codec: the model's tokenizer, which counts tokens.
        tokens: the maximum number of tokens in a part's text, at least 1.

    Returns:
        The parts. Their joined texts are the passage's text. Each part holds consecutive sources or pieces of sources.
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
    """Return one score for each source: the largest score that the source has in any part.

    Args:
        parts: the parts of all passages.
        scores: a score for every source of every part, in the order of the parts.
        sources: the number of sources of all passages.
    """
    joined: list[float | None] = [None] * sources
    for source, score in zip([source for part in parts for source in part.sources], scores, strict=True):
        known = joined[source]
        joined[source] = score if known is None else max(known, score)
    return [0.0 if score is None else score for score in joined]


def best_parts(parts: Sequence[Part], scores: Sequence[float]) -> dict[int, Passage]:
    """Return, for each passage that was cut, the part with the largest score. The keys are indices of passages.

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
