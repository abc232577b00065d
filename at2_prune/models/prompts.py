"""Encodes a question and its passages as token ids, and finds the token span of every source.

A template gives a list of pieces; see `at2_prune.models.templates`. Neighbouring pieces of plain text are tokenised
together. A token belongs to the piece that holds the token's last character. A token that crosses the end of a piece
therefore belongs to the later piece. An example is a token of two line breaks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile

from ..attention.rows import Span
from ..errors import InputError, ModelNotSupportedError
from ..passages import Granularity, Passage, check_question, split_sentences
from .templates import ChatTemplate, Piece, PromptTemplate, TextTemplate, default_template
from .text_codec import TextCodec

__all__ = [
    "ChatTemplate",
    "EncodedPrompt",
    "Piece",
    "PromptTemplate",
    "TextCodec",
    "TextTemplate",
    "default_template",
    "encode_prompt",
]


@dataclass(frozen=True)
class EncodedPrompt:
    """A prompt as token ids. A span is a pair of token positions, `(start, stop)`."""

    ids: list[int]
    sources: list[Span]
    """The span of each source, in order and without overlap."""
    source_passage: list[int]
    """For each source, the index of its passage."""
    source_texts: list[str]
    """The text of each source. With granularity `token`, a source is a token. Joining the texts of a passage's tokens
    gives the passage as the template shows it, unless a token crosses the start or the end of the passage."""
    passages: list[Span]
    question: Span

    def __len__(self) -> int:
        return len(self.ids)


def encode_prompt(
    codec: TextCodec,
    template: PromptTemplate,
    question: str,
    passages: Sequence[Passage],
    granularity: Granularity = "passage",
) -> EncodedPrompt:
    """Return the prompt for a question and its passages, with the token spans of its parts.

    Args:
        codec: the model's tokenizer.
        template: the template that shows the question and the passages.
        question: a text that is not blank.
        passages: the passages, in the order in which they are shown. The list may be empty.
        granularity: the kind of source. The span of a passage includes everything that the template shows for it, such
            as the title and the line break. The span of a sentence includes neither. A token that crosses the end of a
            span is not in this span.

    Raises:
        InputError: the question is blank or holds half a surrogate pair. The error is also raised if the template does
            not show the question exactly once, or if its `passage` does not contain `{text}` exactly once.
        ModelNotSupportedError: the tokenizer's character offsets are not in order.
    """
    check_question(question)
    before, after = template.around(question)
    shown_passages: list[Piece] = []
    texts: list[str] = []
    owner: list[int] = []
    for index, passage in enumerate(passages):
        lead, trail = _passage_frame(template, passage)
        if granularity == "sentence":
            shown_passages.append(Piece(lead, passage=index))
            for sentence in split_sentences(passage):
                shown_passages.append(Piece(sentence, source=len(texts), passage=index))
                texts.append(sentence)
                owner.append(index)
            shown_passages.append(Piece(trail, passage=index))
        else:
            shown_passages.append(Piece(lead + passage.text + trail, source=len(texts), passage=index))
            texts.append(passage.text)
            owner.append(index)
    pieces = [*before, *shown_passages, *after]
    ids, places, shown = _encode_pieces(codec, pieces)
    sources = _spans([piece.source for piece in pieces], places, len(texts))
    passage_spans = _spans([piece.passage for piece in pieces], places, len(passages))
    questions = [place for piece, place in zip(pieces, places, strict=True) if piece.kind == "question"]
    if len(questions) != 1:
        raise InputError(f"template {template.name!r} shows the question {len(questions)} times; show it exactly once")
    if granularity == "token":
        tokens = [(i, position) for i, span in enumerate(passage_spans) for position in range(*span)]
        owner = [i for i, _ in tokens]
        sources = [(position, position + 1) for _, position in tokens]
        texts = [shown[position] for _, position in tokens]
    return EncodedPrompt(ids, sources, owner, texts, passage_spans, questions[0])


def _passage_frame(template: PromptTemplate, passage: Passage) -> tuple[str, str]:
    """Return the parts of the template's `passage` before and after the text, with the passage's title filled in."""
    if template.passage.count("{text}") != 1:
        raise InputError(f"template {template.name!r}: passage must contain {{text}} once, got {template.passage!r}")
    lead, trail = template.passage.split("{text}")
    if not passage.title:  # if the part before the text has a place for a title, the whole part is left out
        lead = "" if "{title}" in lead else lead
    return lead.replace("{title}", passage.title or ""), trail.replace("{title}", passage.title or "")


def _encode_pieces(codec: TextCodec, pieces: Sequence[Piece]) -> tuple[list[int], list[Span], list[str]]:
    """Return the ids of all pieces, the token span of each piece, and the text that each token shows."""
    ids: list[int] = []
    shown: list[str] = []
    places: list[Span] = []
    if not (pieces and pieces[0].kind == "control"):
        ids += codec.begin
        shown += [""] * len(codec.begin)
    while len(places) < len(pieces):
        piece = pieces[len(places)]
        start = len(ids)
        if piece.kind == "control":
            ids += codec.control(piece.text)
            shown += [""] * (len(ids) - start)
            places.append((start, len(ids)))
            continue
        run = list(takewhile(lambda piece: piece.kind != "control", pieces[len(places) :]))
        run_ids, run_places, run_shown = _encode_text(codec, [piece.text for piece in run])
        ids += run_ids
        shown += run_shown
        places += [(start + first, start + last) for first, last in run_places]
    return ids, places, shown


def _encode_text(codec: TextCodec, texts: Sequence[str]) -> tuple[list[int], list[Span], list[str]]:
    """Tokenise several texts as one text. Return the token ids, the token span of each text, and each token's text."""
    text = "".join(texts)
    ids, offsets = codec.plain(text)
    places: list[Span] = []
    token = end = 0
    for each in texts:
        start = token
        end += len(each)
        while token < len(offsets) and max(offsets[token][0], offsets[token][1] - 1) < end:
            token += 1
        places.append((start, token))
    if token != len(offsets) or any(b[1] < a[1] for a, b in pairwise(offsets)):
        raise ModelNotSupportedError("the tokenizer's character offsets are not in order; use another tokenizer")
    ends = [0, *(stop for _, stop in offsets)]
    return ids, places, [text[start:stop] for start, stop in pairwise(ends)]


def _spans(labels: Sequence[int | None], places: Sequence[Span], count: int) -> list[Span]:
    """Return the token span of each source or passage.

    Args:
        labels: for each piece, the index of its source or passage, or None. Pieces with the same index are adjacent.
        places: the token span of each piece.
        count: the number of sources or passages.
    """
    spans: list[Span | None] = [None] * count
    for label, (start, stop) in zip(labels, places, strict=True):
        if label is not None:
            known = spans[label]
            spans[label] = (start, stop) if known is None else (known[0], stop)
    return [span or (0, 0) for span in spans]
