"""Makes the token sequences that the index reads. A sequence is the opening text `HEAD`, then a passage or a question.

A passage and a question both follow directly after the opening text, so they start at the same position.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..attention.rows import Span
from ..errors import InputError
from ..models.text_codec import TextCodec
from ..passages import Passage

__all__ = ["HEAD", "Piece", "encode_head", "encode_question", "piece_text", "split_passage", "units_of"]

HEAD = "Documents:\n"
"""The opening text, which the model reads before every passage and every question."""
BEFORE_QUESTION = "\nQuestion: "
PIECE_TOKENS = 384
"""The maximum number of tokens of a piece. The tokens of the title are included."""
TITLE_TOKENS = 96
"""The maximum number of tokens of a title. A longer title is cut."""


@dataclass(frozen=True)
class Piece:
    """The text that the model reads at once. It is a whole passage, or a part of a passage that is too long."""

    ids: list[int]
    """The tokens of the title, then the tokens of the text."""
    title: int
    """The number of title tokens."""
    offsets: list[Span]
    """For each token after the title, its character span in the passage's text."""


def encode_head(codec: TextCodec) -> list[int]:
    """Return the token ids of the opening text `HEAD`.

    If the tokenizer adds a beginning-of-sequence token, this token comes first.
    """
    return [*codec.begin, *codec.plain(HEAD)[0]]


def encode_question(codec: TextCodec, question: str) -> tuple[list[int], Span]:
    """Return the token ids of `BEFORE_QUESTION` and a question, and the token span of the question.

    Raises:
        InputError: the question is empty.
    """
    if not isinstance(question, str) or not question.strip():
        raise InputError(f"the question must be a text that is not blank, got {question!r:.80}")
    ids, offsets = codec.plain(BEFORE_QUESTION + question)
    start = next((i for i, (_, stop) in enumerate(offsets) if stop > len(BEFORE_QUESTION)), len(ids) - 1)
    return ids, (start, len(ids))


def split_passage(codec: TextCodec, passage: Passage) -> list[Piece]:
    """Return the pieces of a passage, each of at most `PIECE_TOKENS` tokens. Every piece begins with the title.

    Example:
        >>> from at2_prune.models.default_model import embedded_model_path, embedded_tokenizer
        >>> codec = TextCodec(embedded_tokenizer(embedded_model_path()))
        >>> [(len(piece.ids), piece.title) for piece in split_passage(codec, Passage("It is a city.", title="Oslo"))]
        [(9, 3)]
    """
    title = f"{passage.title}: " if passage.title else ""
    ids, offsets = codec.plain(f"{title}{passage.text}\n")
    count = next((i for i, (_, stop) in enumerate(offsets) if stop > len(title)), len(ids)) if title else 0
    head, body = ids[: min(count, TITLE_TOKENS)], ids[count:]
    places = [(max(0, start - len(title)), stop - len(title)) for start, stop in offsets[count:]]
    step = PIECE_TOKENS - len(head)
    return [
        Piece([*head, *body[start : start + step]], len(head), places[start : start + step])
        for start in range(0, max(1, len(body)), step)
    ]


def piece_text(passage: Passage, piece: Piece) -> str:
    """Return the title of a piece's passage, if it has one, and then the text of the piece.

    Example:
        >>> piece_text(Passage("It is a city. It has trams.", title="Oslo"), Piece([], 0, [(0, 2), (2, 5)]))
        'Oslo It is'
    """
    spans = piece.offsets or [(0, 0)]
    text = passage.text[spans[0][0] : spans[-1][1]]
    if not text.strip():  # a piece may hold only the line break at the end
        text = passage.text
    return f"{passage.title} {text}" if passage.title else text


def units_of(pieces: Sequence[Piece], span: Span | None) -> list[tuple[int, int, int]]:
    """Return the token spans of a source in the pieces of its passage.

    Args:
        pieces: the pieces of the passage.
        span: the character span of the source in the passage's text. `None` means the whole passage with its title.

    Returns:
        One entry `(piece, start, stop)` for each piece that holds a token of the source. The first number is the index
        of the piece.
    """
    if span is None:
        return [(index, 0, len(piece.ids)) for index, piece in enumerate(pieces)]
    found = []
    for index, piece in enumerate(pieces):
        inside = [i for i, (start, stop) in enumerate(piece.offsets) if start < span[1] and stop > span[0]]
        if inside:
            found.append((index, piece.title + inside[0], piece.title + inside[-1] + 1))
    return found
