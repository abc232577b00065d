"""Passages, and the division of passages into the sources that get scores."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from .errors import DataError, InputError, MissingExtraError

__all__ = [
    "Granularity",
    "Passage",
    "PassageLike",
    "as_passages",
    "check_characters",
    "check_question",
    "check_some_text",
    "meant_key",
    "only_kept",
    "passages_from_json",
    "split_sentences",
]

Granularity = Literal["passage", "sentence", "token"]
"""The kind of source that gets a score: a whole passage, one of its sentences, or one of its tokens."""
_HALF = re.compile("[\ud800-\udfff]")
"""The pattern of half a surrogate pair, which is not a character."""
_KEYS = ("text", "title", "id", "score")
"""The keys that `as_passages` reads from a mapping."""


@dataclass(frozen=True)
class Passage:
    """One retrieved text.

    Faulty UTF-16 decoding can leave half a surrogate pair in a text. This half is replaced by U+FFFD, the replacement
    character.

    Example:
        >>> Passage("Canberra is the capital of Australia.", title="Canberra").text
        'Canberra is the capital of Australia.'
    """

    text: str
    title: str | None = None
    """The title, which the model reads before the text."""
    id: str | None = None
    score: float | None = None
    """The retrieval score."""
    sentences: tuple[str, ...] | None = None
    """The sentences of the text, if they are known. Their concatenation must be equal to the text."""
    metadata: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """Any other fields. at2-prune passes these fields on, but never reads them."""

    def __post_init__(self) -> None:
        for name, value, optional in (("text", self.text, False), ("title", self.title, True), ("id", self.id, True)):
            if not isinstance(value, str) and not (optional and value is None):
                raise InputError(f"a passage's {name} must be a string, got {type(value).__name__}: {value!r:.80}")
        for name in ("text", "title", "id"):  # no tokenizer and no file can hold half of a surrogate pair
            value = getattr(self, name)
            if value and _HALF.search(value):
                object.__setattr__(self, name, _HALF.sub("\ufffd", value))
        if self.sentences is not None:
            object.__setattr__(self, "sentences", tuple(_HALF.sub("\ufffd", sentence) for sentence in self.sentences))
        if self.sentences is not None and "".join(self.sentences) != self.text:
            raise InputError(f"the sentences of a passage do not join to the passage's text: {self.text!r:.80}")


PassageLike = Passage | str | Mapping[str, Any]
"""The types that a user may give for a passage; see `as_passages`."""


def as_passages(passages: Iterable[PassageLike]) -> list[Passage]:
    """Return passages as a list of `Passage`.

    Args:
        passages: strings, `Passage` objects, or mappings with a `text` and optionally a `title`, an `id` and a `score`.
            Other keys of a mapping become metadata.

    Raises:
        InputError: `passages` is a single string or mapping, or an entry is invalid. A mapping is invalid if it has a
            misspelt key and lacks the correct key. The message names the entry's index.

    Example:
        >>> as_passages(["Canberra is a city.", {"title": "Sydney", "text": "Sydney is a city."}])[1].title
        'Sydney'
    """
    if isinstance(passages, (str, bytes, Mapping)) or not isinstance(passages, Iterable):
        raise InputError(f"passages must be a list of passages, got one {type(passages).__name__}: {passages!r:.80}")
    result = []
    for index, passage in enumerate(passages):
        if isinstance(passage, Passage):
            result.append(passage)
        elif isinstance(passage, str):
            result.append(Passage(passage))
        elif isinstance(passage, Mapping) and "text" in passage:
            extra = {key: value for key, value in passage.items() if key not in _KEYS}
            for key in extra:
                if meant := meant_key(str(key), passage):
                    raise InputError(f"passage {index}: unknown key {key!r}, did you mean {meant!r}?")
            identifier, score = passage.get("id"), passage.get("score")
            if score is not None and (isinstance(score, bool) or not isinstance(score, (int, float))):
                raise InputError(f"passage {index}: score must be a number, got {score!r:.80}")
            try:
                result.append(
                    Passage(
                        passage["text"],
                        title=passage.get("title"),
                        id=None if identifier is None else str(identifier),
                        score=score,
                        metadata=extra,
                    )
                )
            except InputError as error:
                raise InputError(f"passage {index}: {error}") from None
        else:
            raise InputError(
                f"passage {index} must be a string or an object with a 'text' (and 'title', 'id', 'score'), got "
                f"{passage!r:.80}"
            )
    return result


def meant_key(key: str, known: Collection[str]) -> str | None:
    """Return the correct key if `key` is a misspelling, else None.

    A misspelling differs from the correct key in capitals or in the order of letters, or it has one letter more or one
    letter less. For `id`, only capitals may differ, because `_id` and `ids` may mean something else.

    Args:
        key: a key of the mapping.
        known: the keys of the mapping. If the correct key is among these keys, `key` is not a misspelling.
    """
    lower = key.lower()
    for right in _KEYS:
        short, long = sorted((lower, right), key=len)
        near = sorted(lower) == sorted(right) or short in {long[:i] + long[i + 1 :] for i in range(len(long))}
        if right not in known and (lower == right or (near and len(right) > 2)):
            return right
    return None


def check_question(question: Any) -> None:
    """Raise `InputError` unless the question is a text that is not blank and holds no half of a surrogate pair."""
    if not isinstance(question, str) or not question.strip():
        raise InputError(f"the question must be a text that is not blank, got {question!r:.80}")
    check_characters(question, "question")


def check_characters(text: str, name: str) -> None:
    """Raise `InputError` if a text holds half a surrogate pair. The error calls the text by `name`."""
    if half := _HALF.search(text):
        near = text[max(0, half.start() - 20) : half.end() + 20]
        raise InputError(f"the {name} holds half a surrogate pair, which is not a character: remove it from {near!r}")


def check_some_text(passages: Sequence[Passage]) -> None:
    """Raise `InputError` if there are no passages, or if all of them are blank."""
    if not passages:
        raise InputError("passages is empty: give at least one passage")
    if not any(passage.text.strip() for passage in passages):
        raise InputError(f"all of the {len(passages)} passages are blank: give at least one with text")


def passages_from_json(data: Any, where: str) -> list[Passage]:
    """Return the passages that parsed JSON holds.

    Args:
        data: a list of entries that `as_passages` accepts.
        where: the name of the file, for errors.

    Raises:
        DataError: the data is not a list, or `as_passages` refuses an entry.
    """
    if not isinstance(data, list):
        raise DataError(f"{where}: expected a JSON list of strings or of {{title, text}}, got {type(data).__name__}")
    try:
        return as_passages(data)
    except InputError as error:
        raise DataError(f"{where}: {error}") from None


def only_kept(passages: Sequence[Passage], kept: Sequence[int], granularity: Granularity) -> list[Passage]:
    """Return the passages that remain when only some sources are kept.

    Args:
        passages: all passages.
        kept: the indices of the kept sources, in the order in which they are shown. If the sources are sentences, one
            numbering runs across all passages. The kept sentences of a passage are always shown in the order of its
            text.
        granularity: whether the sources are passages or sentences.

    Raises:
        InputError: an index repeats or is out of range, or the granularity is `token`.

    Example:
        >>> only_kept([Passage("Dinant lies on the Meuse."), Passage("Ghent is a city.")], [1], "passage")[0].text
        'Ghent is a city.'
    """
    sentences: list[tuple[int, str]] = []
    if granularity == "sentence":
        sentences = [(i, text) for i, passage in enumerate(passages) for text in split_sentences(passage)]
    count = len(sentences) if granularity == "sentence" else len(passages)
    if granularity == "token":
        raise InputError("passages cannot be cut to tokens: granularity must be 'passage' or 'sentence'")
    if any(not 0 <= index < count for index in kept) or len(set(kept)) != len(kept):
        raise InputError(f"kept must be different indices below {count}, got {list(kept)}")
    if granularity == "passage":
        return [passages[index] for index in kept]
    chosen: dict[int, list[int]] = {}
    for index in kept:
        chosen.setdefault(sentences[index][0], []).append(index)
    shown = []
    for owner, indices in chosen.items():  # in the order in which `kept` first names the passages
        texts = tuple(sentences[index][1] for index in sorted(indices))
        shown.append(replace(passages[owner], text="".join(texts), sentences=texts))
    return shown


def split_sentences(passage: Passage) -> Sequence[str]:
    """Return the sentences of a passage. The sentences keep their white space, so they join to the passage's text.

    Raises:
        MissingExtraError: the passage has no `sentences`, and sentencex is not installed.

    Example:
        >>> split_sentences(Passage("Dr. Li paid $3.5 million. She left."))
        ['Dr. Li paid $3.5 million. ', 'She left.']
    """
    if passage.sentences is not None:
        return passage.sentences
    try:
        import sentencex
    except ImportError:
        raise MissingExtraError("sentencex", "sentences", "Splitting passages into sentences") from None
    sentences: list[str] = []
    for part in sentencex.segment("en", passage.text) if passage.text else ():
        if sentences and not (part.strip() and sentences[-1].strip()):
            sentences[-1] += part  # white space alone is not a sentence, so it is joined to text
        else:
            sentences.append(part)
    return sentences if "".join(sentences) == passage.text else [passage.text]
