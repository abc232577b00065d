"""Finds the statements of an answer, which are parts such as sentences, and reads the attention mass of each statement.

AT2 can score the sources for any part of an answer. The mass is then averaged over the rows that predict the tokens of
the part (arXiv 2504.13752, section 3). The rows of all parts are read in one forward pass.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise

from ..attention.rows import Reading, RowGroup, Rows, Span
from ..passages import Passage, split_sentences
from .language_model import LanguageModel
from .prompts import EncodedPrompt
from .readouts import Readout, prompt_rows

__all__ = ["decoded_offsets", "draft_parts", "read_parts", "sentence_spans", "split_readout", "token_parts"]


def sentence_spans(text: str) -> list[Span]:
    """Return the character spans of the sentences in a text. A sentence includes the white space after it.

    Raises:
        MissingExtraError: sentencex is not installed.

    Example:
        >>> sentence_spans("Dr. Li left. She did not say why.")
        [(0, 13), (13, 33)]
    """
    ends = [0]
    for sentence in split_sentences(Passage(text)):
        ends.append(ends[-1] + len(sentence))
    return list(pairwise(ends))


def decoded_offsets(language_model: LanguageModel, ids: Sequence[int]) -> list[Span]:
    """Return the character span of each token in the decoded text of all tokens."""
    ends = [len(language_model.codec.decode(ids[:count])) for count in range(len(ids) + 1)]
    return list(pairwise(ends))


def token_parts(offsets: Sequence[Span], spans: Sequence[Span]) -> list[Span]:
    """Return the token span of each character span. A token belongs to the span that holds its last character.

    Args:
        offsets: the character span of each token, in order.
        spans: character spans, in order and without overlap.

    Returns:
        One token span for each character span. A token span is empty if no token ends in the character span.

    Example:
        >>> token_parts([(0, 4), (4, 10), (10, 11)], [(0, 5), (5, 11)])
        [(0, 1), (1, 3)]
    """
    parts, token = [], 0
    for start, stop in spans:
        while token < len(offsets) and _last(offsets[token]) < start:
            token += 1
        first = token
        while token < len(offsets) and _last(offsets[token]) < stop:
            token += 1
        parts.append((first, token))
    return parts


def draft_parts(language_model: LanguageModel, ids: Sequence[int]) -> list[Span]:
    """Return the token spans of a draft's sentences."""
    ends = [stop for _, stop in decoded_offsets(language_model, ids)]
    parts, start = [], 0
    for _, characters in sentence_spans(language_model.codec.decode(ids)):
        # A token that crosses the end of a sentence belongs to the next sentence.
        stop = next((i for i in range(start, len(ids)) if ends[i] > characters), len(ids))
        if stop > start:
            parts.append((start, stop))
            start = stop
    if start < len(ids):
        parts.append((start, len(ids)))
    return parts


def read_parts(
    language_model: LanguageModel,
    prompt: EncodedPrompt,
    ids: Sequence[int],
    parts: Sequence[Span],
    groups: Sequence[RowGroup],
    layers: Collection[int] | None = None,
) -> list[Readout]:
    """Read the attention mass of every part of an answer, in one forward pass for all parts.

    The rows of each part are reduced to their mean or maximum while the pass runs. Otherwise, the attention mass of
    every single row would stay in memory.

    Args:
        language_model: the model that reads.
        prompt: the prompt.
        ids: the tokens of the whole answer.
        parts: spans of `ids`, each with at least one token.
        groups: the row groups to read. A group of draft rows is read for each part. Any other group is read once.
        layers: the layers to read. The pass ends after the last of these layers. `None` reads all layers.

    Returns:
        One readout for each part.

    Raises:
        ContextTooLongError: the prompt and the answer do not fit into the context.
    """
    language_model.check_length(len(prompt), len(ids))
    first = len(prompt) - 1  # this row predicts the answer's first token
    rows = prompt_rows(prompt, groups)
    for index, (start, stop) in enumerate(parts):
        for group in groups:
            if group.rows == "draft":
                rows.append(Rows(_name(group, index), first + start, first + stop, group.reduce, group.measure))
    reader = language_model.read([prompt], [ids], [Reading(prompt.sources, rows)], layers)
    shared = {group: reader.mass(group.name) for group in groups if group.rows != "draft"}
    return [
        Readout(
            {g: reader.mass(_name(g, index)) if g.rows == "draft" else shared[g] for g in groups},
            reader.layers,
            every_layer=layers is None,
        )
        for index in range(len(parts))
    ]


def split_readout(readout: Readout, parts: Sequence[Span], groups: Sequence[RowGroup]) -> list[Readout] | None:
    """Return the readout of every part of a draft, from the rows that were read while the model wrote the draft.

    Returns:
        One readout for each part. The result is None if the readout has no `row_mass`. It is also None if a group of
        draft rows has a measure other than attention.
    """
    rows = readout.row_mass
    draft_groups = [group for group in groups if group.rows == "draft"]
    if rows is None or any(group.measure != "attention" for group in draft_groups):
        return None
    shared = {group: readout.mass[group] for group in groups if group.rows != "draft"}
    found = []
    for start, stop in parts:
        own = rows[:, :, start:stop]
        mass = {group: own.mean(2) if group.reduce == "mean" else own.amax(2) for group in draft_groups}
        found.append(Readout(shared | mass, readout.layers, own, readout.every_layer))
    return found


def _name(group: RowGroup, part: int) -> str:
    return f"{group.name} of part {part}"


def _last(offset: Span) -> int:
    return max(offset[0], offset[1] - 1)
