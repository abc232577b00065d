"""Loading, filtering and shuffling questions."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection
from importlib.resources import files
from pathlib import Path
from typing import get_args

from ..errors import DataError, InputError
from ..files import read_text
from .formats.parse import Required, parse_question
from .formats.row import RowError
from .question import Question
from .readers import file_rows, hub_rows

__all__ = ["load_questions", "sample_questions_path"]


def sample_questions_path() -> Path:
    """The dozen multi-hop questions that ship with the package, in HotpotQA's shape."""
    return Path(str(files("at2_prune") / "data" / "sample_questions.jsonl"))


def load_questions(
    source: str | Path,
    *,
    split: str | None = None,
    ids: str | Path | None = None,
    limit: int | None = None,
    offset: int = 0,
    seed: int | None = None,
    kinds: Collection[str] | None = None,
    shuffle_passages: int | None = None,
    require: Collection[Required] = (),
    skipped: Counter[str] | None = None,
) -> list[Question]:
    """Load questions.

    Args:
        source: a `.jsonl` or `.json` file of HotpotQA or 2WikiMultihopQA (the official shape or the Hub's), of MuSiQue,
            or with `question, passages[, answer, aliases, gold, type]`; or a Hub id: `hotpotqa/hotpot_qa`,
            `framolfese/2WikiMultihopQA`, `dgslibisey/MuSiQue`, `databricks/databricks-dolly-15k`, or any data set whose
            rows have one of these shapes.
        split: of a Hub data set; by default `validation` for the multi-hop three and `train` otherwise.
        ids: a text file with an id a line: these questions alone, in its order.
        limit: the first so many (of those that `kinds` leaves, after shuffling, if `seed` is given).
        offset: leave out so many before them.
        seed: shuffle the questions with it.
        kinds: the types of question to keep, such as `bridge` or `comparison`; by default all.
        shuffle_passages: shuffle each question's passages with this seed and the question's id.
        require: what every question must have, of `answer` and `gold`.
        skipped: rows that cannot be used are left out and counted here by reason, over the whole source; by default
            the first is an error.

    Raises:
        DataError: the source cannot be read, a row cannot be used, or none is left; the message names line and field.
        InputError: no question is of one of the `kinds`; the message names the types there are. Or one of `ids` is
            missing.
        MissingExtraError: the Hub needs `datasets`.

    Example:
        >>> questions = load_questions(sample_questions_path())
        >>> len(questions), len(questions[0].passages), len(questions[0].gold)
        (12, 10, 2)
        >>> len(load_questions(sample_questions_path(), kinds=["comparison"]))
        4
    """
    if limit is not None and limit < 1:
        raise InputError(f"limit must be at least 1, got {limit}")
    if offset < 0:
        raise InputError(f"offset must be at least 0, got {offset}")
    if unknown := set(require) - set(get_args(Required)):
        raise InputError(f"require can hold answer and gold, got {sorted(map(str, unknown))}")
    path = Path(source)
    if path.is_file():
        rows = file_rows(path)
    elif len(Path(str(source)).parts) == 2 and not path.suffix and not path.is_absolute():
        rows = hub_rows(str(source), split)
    else:
        raise DataError(f"{source}: no such file, and not a Hub id of the form owner/name")
    questions = []
    for where, row in rows:
        try:
            if isinstance(row, RowError):
                raise row
            questions.append(parse_question(row, where, require))
        except RowError as error:
            if skipped is None:
                raise
            skipped[error.reason] += 1
    if not questions:
        reasons = "".join(f"; {count} rows left out: {reason}" for reason, count in (skipped or {}).items())
        raise DataError(f"{source}: holds no question{reasons}")
    if ids is not None:
        questions = _of_ids(questions, Path(ids), source)
    if kinds:
        questions = _of_kinds(questions, kinds, source)
    if seed is not None:
        random.Random(seed).shuffle(questions)
    if offset >= len(questions):
        raise InputError(f"offset {offset} leaves none of the {len(questions)} questions")
    questions = questions[offset:][:limit]
    return questions if shuffle_passages is None else [question.shuffled(shuffle_passages) for question in questions]


def _of_ids(questions: list[Question], file: Path, source: str | Path) -> list[Question]:
    ids = [line.strip() for line in read_text(file).splitlines() if line.strip()]
    known = {question.id: question for question in questions}
    missing = [wanted for wanted in ids if wanted not in known]
    if missing or not ids:
        what = f"{len(missing)} of the {len(ids)} ids are not there ({missing[0]!r}, ...)" if ids else "no ids"
        raise InputError(f"{source}: {what} (from {file})")
    return [known[wanted] for wanted in ids]


def _of_kinds(questions: list[Question], kinds: Collection[str], source: str | Path) -> list[Question]:
    known = Counter(question.kind for question in questions if question.kind is not None)
    for kind in kinds:
        if kind not in known:
            types = ", ".join(f"{name} ({count})" for name, count in sorted(known.items()))
            raise InputError(
                f"{source}: no question of type {kind!r}; " + (f"there are {types}" if types else "no types")
            )
    return [question for question in questions if question.kind in kinds]
