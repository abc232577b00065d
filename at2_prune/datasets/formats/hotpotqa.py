"""The format that HotpotQA and 2WikiMultihopQA share, in the published files and on the Hub.

Yang et al., "HotpotQA" (EMNLP 2018), https://hotpotqa.github.io; Ho et al., "Constructing A Multi-hop QA Dataset for
Comprehensive Evaluation of Reasoning Steps" (COLING 2020), https://github.com/Alab-NII/2wikimultihop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from ...errors import InputError
from ...passages import Passage
from ..question import Question
from .row import Format, HubDataset, Row, RowError, identifier, kind, optional_string, string

__all__ = ["HOTPOTQA"]


def _parse(row: Row, where: str) -> Question:
    passages = _passages(row["context"], where)
    return Question(
        identifier(row, where),
        string(row, "question", where),
        passages,
        optional_string(row, "answer", where),
        _gold(row.get("supporting_facts"), passages, where),
        kind(row, where),
    )


def _passages(context: Any, where: str) -> tuple[Passage, ...]:
    try:
        if isinstance(context, Mapping):  # the Hub stores columns
            pairs = list(zip(context["title"], context["sentences"], strict=True))
        else:  # the official files store pairs
            pairs = [(title, sentences) for title, sentences in context]
        if any(isinstance(sentences, str) for _, sentences in pairs):
            raise TypeError("the sentences of a passage are given as one string")
        split = _with_spaces([tuple(sentences) for _, sentences in pairs])
        return tuple(
            Passage("".join(sentences), title=title, id=str(index), sentences=sentences)
            for index, ((title, _), sentences) in enumerate(zip(pairs, split, strict=True))
        )
    except (InputError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise RowError(where, "field 'context' must hold titles and lists of sentences", f" ({error})") from None


def _with_spaces(passages: Sequence[tuple[str, ...]]) -> Sequence[tuple[str, ...]]:
    """Return the sentences with spaces between them, so that joining the sentences gives the text of a passage.

    The sentences of HotpotQA include the spaces. The sentences of 2WikiMultihopQA do not, so spaces are added there.
    In HotpotQA, some sentences lack the space, because a text was split at a wrong place, for example between `Go!"`
    and `on Broadway`. Spaces are therefore added only if most neighbouring sentences of the row have no space between
    them.
    """
    pairs = [pair for sentences in passages for pair in pairwise(sentences)]
    spaced = sum(before[-1:].isspace() or after[:1].isspace() for before, after in pairs)
    if 2 * spaced >= len(pairs):
        return passages
    return [(*sentences[:1], *(f" {sentence}" for sentence in sentences[1:])) for sentences in passages]


def _gold(facts: Any, passages: Sequence[Passage], where: str) -> tuple[int, ...]:
    """Return the indices of the passages that hold a supporting fact. A fact is a title and a sentence number.

    Several passages may have the title of a fact. A passage is then gold if it has a sentence with this number, as in
    the official scripts. A few facts have a sentence number that no passage with the title has. Every passage with the
    title is then gold. If no title matches exactly, titles are compared without regard to case, as in the script of
    2WikiMultihopQA.
    """
    try:
        if facts is None:
            pairs = []
        elif isinstance(facts, Mapping):
            pairs = list(zip(facts["title"], facts["sent_id"], strict=True))
        else:
            pairs = [(title, sentence) for title, sentence in facts]
        if not all(isinstance(title, str) and type(sentence) is int for title, sentence in pairs):
            raise TypeError("a title must be a string, and a sentence id must be an integer")
    except (KeyError, TypeError, ValueError) as error:
        raise RowError(where, "field 'supporting_facts' must hold titles and sentence ids", f" ({error})") from None
    gold, missing = set(), set()
    for title, sentence in pairs:
        titled = [i for i, passage in enumerate(passages) if passage.title == title] or [
            i for i, passage in enumerate(passages) if (passage.title or "").lower() == title.lower()
        ]
        if not titled:
            missing.add(title)
        gold.update([i for i in titled if sentence < len(passages[i].sentences or ())] or titled)
    if missing:
        reason = "field 'supporting_facts' names titles that are not in field 'context'"
        raise RowError(where, reason, f": {sorted(missing)}")
    return tuple(sorted(gold))


HOTPOTQA = Format(
    ("question", "context"),
    "supporting_facts",
    _parse,
    gold="field 'supporting_facts' is missing or empty, so there are no gold passages",
    needs="question, context, answer and supporting_facts (HotpotQA, 2WikiMultihopQA)",
    hub=(
        HubDataset("hotpotqa/hotpot_qa", "validation", "distractor"),
        HubDataset("framolfese/2WikiMultihopQA", "validation"),
    ),
)
