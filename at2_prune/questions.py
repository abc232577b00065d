"""Questions with their passages, from files and from the Hub."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from .errors import DataError, InputError, MissingExtraError
from .passages import Passage, as_passages

__all__ = ["Question", "load_questions", "parse_question", "sample_questions_path"]


@dataclass(frozen=True)
class Question:
    """A question, its retrieved passages and, where the data has them, its answer and the passages that support it."""

    id: str
    text: str
    passages: tuple[Passage, ...]
    answer: str | None = None
    gold: tuple[int, ...] = ()
    """Indices of the supporting passages."""
    kind: str | None = None
    """The data set's own type, `bridge` or `comparison` in HotpotQA."""


def sample_questions_path() -> Path:
    """The dozen multi-hop questions that ship with the package, in HotpotQA's shape."""
    return Path(str(files("at2_prune") / "data" / "sample_questions.jsonl"))


def load_questions(
    source: str | Path, *, split: str | None = None, limit: int | None = None, seed: int | None = None
) -> list[Question]:
    """Load questions.

    Args:
        source: a `.jsonl` or `.json` file in HotpotQA's shape (the Hub's or the official one) or with
            `question, passages[, answer]`; or a Hub id: `hotpotqa/hotpot_qa`, `databricks/databricks-dolly-15k`, or any
            data set whose rows have one of these shapes.
        split: of a Hub data set; by default `validation` for HotpotQA and `train` otherwise.
        limit: the first so many (after shuffling, if `seed` is given).
        seed: shuffle with it.

    Raises:
        DataError: the file cannot be read; the message names line and field.
        MissingExtraError: the Hub needs `datasets`.

    Example:
        >>> questions = load_questions(sample_questions_path())
        >>> len(questions), len(questions[0].passages), len(questions[0].gold)
        (12, 10, 2)
    """
    if limit is not None and limit < 1:
        raise InputError(f"limit must be at least 1, got {limit}")
    path = Path(source)
    if path.is_file():
        questions = list(_from_file(path))
    elif len(Path(str(source)).parts) == 2 and not path.suffix and not path.is_absolute():
        questions = list(_from_hub(str(source), split))
    else:
        raise DataError(f"{source}: no such file, and not a Hub id of the form owner/name")
    if not questions:
        raise DataError(f"{source}: holds no question")
    if seed is not None:
        random.Random(seed).shuffle(questions)
    return questions[:limit]


def parse_question(row: Any, where: str) -> Question:
    """One question from one parsed JSON object of any known shape; `where` goes into the error."""
    if not isinstance(row, Mapping):
        raise DataError(f"{where}: expected a JSON object, got {type(row).__name__}")
    if "context" in row and "question" in row:
        return _hotpot(row, where)
    if "instruction" in row and "context" in row:  # Dolly: one context to answer from
        text = _string(row, "instruction", where)
        context = (Passage(_string(row, "context", where)),)
        return Question(_id(row, where), text, context, _string(row, "response", where))
    if "question" in row and "passages" in row:
        if not isinstance(row["passages"], list):
            raise DataError(f"{where}: field 'passages' must be a list")
        try:
            passages = as_passages(row["passages"])
        except InputError as error:
            raise DataError(f"{where}: {error}") from None
        answer = row.get("answer")
        if answer is not None and not isinstance(answer, str):
            raise DataError(f"{where}: field 'answer' must be a string, got {answer!r:.80}")
        gold = row.get("gold", [])
        if not isinstance(gold, list) or not all(type(g) is int and 0 <= g < len(passages) for g in gold):
            raise DataError(f"{where}: field 'gold' must be a list of passage indices below {len(passages)}")
        return Question(_id(row, where), _string(row, "question", where), tuple(passages), answer, tuple(gold))
    raise DataError(
        f"{where}: has fields {sorted(map(str, row))[:8]}, but needs question and passages, or HotpotQA's question, "
        "context, answer and supporting_facts"
    )


def _hotpot(row: Mapping[str, Any], where: str) -> Question:
    context, facts = row["context"], row.get("supporting_facts")
    try:
        if isinstance(context, Mapping):  # the Hub's columns
            pairs = list(zip(context["title"], context["sentences"], strict=True))
        else:  # the official list of pairs
            pairs = [(title, sentences) for title, sentences in context]
        if any(isinstance(sentences, str) for _, sentences in pairs):
            raise TypeError("a passage's sentences are one string")
        passages = tuple(
            Passage("".join(sentences), title=title, id=str(index), sentences=tuple(sentences))
            for index, (title, sentences) in enumerate(pairs)
        )
    except (InputError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{where}: field 'context' must hold titles and lists of sentences ({error})") from None
    try:
        if facts is None:
            titles = set()
        elif isinstance(facts, Mapping):
            titles = set(facts["title"])
        else:
            titles = {title for title, _ in facts}
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{where}: field 'supporting_facts' must hold titles and sentence ids ({error})") from None
    missing = titles - {passage.title for passage in passages}
    if missing:
        names = sorted(map(str, missing))
        raise DataError(f"{where}: field 'supporting_facts' names titles that are not in its context: {names}")
    gold = tuple(index for index, passage in enumerate(passages) if passage.title in titles)
    answer = _string(row, "answer", where) if row.get("answer") is not None else None
    kind = row.get("type") if isinstance(row.get("type"), str) else None
    return Question(_id(row, where), _string(row, "question", where), passages, answer, gold, kind)


def _id(row: Mapping[str, Any], where: str) -> str:
    """The row's id, or where it stands: without the folders, for a split by id is to be the same everywhere."""
    return next((str(row[key]) for key in ("id", "_id") if row.get(key) is not None), Path(where).name)


def _string(row: Mapping[str, Any], field: str, where: str) -> str:
    value = row.get(field)
    if not isinstance(value, str):
        raise DataError(f"{where}: field {field!r} must be a string, got {value!r:.80}")
    return value


def _from_file(path: Path) -> Iterator[Question]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from None
    if text.lstrip().startswith("["):
        try:
            rows = json.loads(text)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}, line {error.lineno}: not valid JSON ({error.msg})") from None
        for index, row in enumerate(rows):
            yield parse_question(row, f"{path}, entry {index}")
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}, line {number}: not valid JSON ({error.msg})") from None
        yield parse_question(row, f"{path}, line {number}")


def _dolly(row: Mapping[str, Any]) -> bool:
    """The rows AT2's authors trained their published estimators on."""
    return row["category"] in ("summarization", "closed_qa", "information_extraction") and len(row["context"]) < 20_000


_HUB: dict[str, tuple[str | None, str, Callable[[Mapping[str, Any]], bool]]] = {
    # id: configuration, split, which rows
    "hotpotqa/hotpot_qa": ("distractor", "validation", lambda row: True),
    "databricks/databricks-dolly-15k": (None, "train", _dolly),
}


def _from_hub(name: str, split: str | None) -> Iterable[Question]:
    try:
        from datasets import load_dataset
    except ImportError:
        raise MissingExtraError("datasets", "train", f"Loading {name} from the Hub") from None
    configuration, usual_split, wanted = _HUB.get(name, (None, "train", lambda row: True))
    try:
        rows = load_dataset(name, configuration, split=split or usual_split)
    except Exception as error:  # the Hub's client raises many kinds
        reason = f"{type(error).__name__}: {error}"
        raise DataError(f"{name}: no such file, and the Hub does not give it ({reason})") from error
    for index, row in enumerate(rows):
        if wanted(row):
            yield parse_question(row, f"{name}, row {index}")
