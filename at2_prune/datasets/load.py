"""Loading questions from a file or from the Hub."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import fields
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from ..errors import DataError, InputError
from .formats.parse import Required, parse_question
from .formats.row import RowError
from .question import Question
from .readers import read_rows
from .selection import Selection, SelectionOptions

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["calibration_questions_path", "load_questions", "sample_questions_path"]


def calibration_questions_path() -> Path:
    """Return the path of the 170 questions from which scout's coefficients are learned for any model.

    The passages of the questions were written for this package. The file has the package's own format.
    """
    return Path(str(files("at2_prune") / "data" / "calibration_questions.jsonl"))


def sample_questions_path() -> Path:
    """Return the path of the twelve multi-hop questions that come with the package, in HotpotQA's format.

    Example:
        >>> load_questions(sample_questions_path(), limit=1)[0].text
        'The inventor of the saxophone was born in a town that stands on which river?'
    """
    return Path(str(files("at2_prune") / "data" / "sample_questions.jsonl"))


def load_questions(
    source: str | Path,
    *,
    split: str | None = None,
    require: Collection[Required] = (),
    skipped: Counter[str] | None = None,
    **selection: Unpack[SelectionOptions],
) -> list[Question]:
    """Load questions with their passages.

    A file is JSON or JSON lines. It has the format of HotpotQA or 2WikiMultihopQA (as published or as on the Hub), of
    MuSiQue, of Dolly, or this package's own format. The package's own format has the fields `question` and `passages`,
    and optionally `answer`, `aliases`, `gold` and `type`. On the Hub, these data sets are known: `hotpotqa/hotpot_qa`,
    `framolfese/2WikiMultihopQA`, `dgslibisey/MuSiQue` and `databricks/databricks-dolly-15k`. Any other data set whose
    rows have one of these formats works too.

    Args:
        source: a file, or the id of a data set on the Hub.
        split: the split of a Hub data set. The default is `validation` for the three multi-hop data sets and `train`
            for all others.
        require: the fields that every question must have: `answer`, `gold` or both.
        skipped: a counter. Rows of the source that cannot be used are left out and counted here by reason.
            Without a counter, the first such row raises an error.
        **selection: options that choose the questions to use:

            - `ids`: a text file with an id on each line. Only the questions with these ids are used, in this order.
            - `kinds`: the types of question to keep, such as `bridge` or `comparison`; by default all.
            - `seed`: shuffle the questions with this seed.
            - `offset`: leave out this many questions at the start.
            - `limit`: use at most this many questions.
            - `shuffle_passages`: shuffle each question's passages with this seed and the question's id.

            The options apply in this order.

    Raises:
        DataError: the source cannot be read, a row cannot be used, or no question is left. The message names the line
            and the field.
        InputError: an option has a value that cannot be used, for example an id that is not in the data. The message
            names the value.
        MissingExtraError: the package `datasets`, which loads data from the Hub, is not installed.

    Example:
        >>> questions = load_questions(sample_questions_path())
        >>> len(questions), len(questions[0].passages), len(questions[0].gold)
        (12, 10, 2)
        >>> len(load_questions(sample_questions_path(), kinds=["comparison"]))
        4
    """
    names = [field.name for field in fields(Selection)]
    if unexpected := [repr(name) for name in selection if name not in names]:
        allowed = ", ".join(["split", "require", "skipped", *names])
        raise TypeError(f"load_questions() does not take {', '.join(unexpected)}. Its options are {allowed}")
    chosen = Selection(**selection)
    if unknown := set(require) - set(get_args(Required)):
        raise InputError(f"require can hold answer and gold, got {sorted(map(str, unknown))}")
    questions = _parse(read_rows(source, split), require, skipped)
    if not questions:
        reasons = "".join(f"; {count} rows left out: {reason}" for reason, count in (skipped or {}).items())
        raise DataError(f"{source}: holds no question{reasons}")
    return chosen.apply(questions, source)


def _parse(
    rows: Iterable[tuple[str, Any]], require: Collection[Required], skipped: Counter[str] | None
) -> list[Question]:
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
    return questions
