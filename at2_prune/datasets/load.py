"""Load questions from a file or from the Hub."""

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
    """Return the path of the 170 questions from which at2-prune learns scout's coefficients for any model.

    The passages of the questions were written for this package. The file has this package's own format, which
    `load_questions` describes.
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

    A file is a JSON list or JSON Lines. Its rows have the format of HotpotQA, 2WikiMultihopQA, MuSiQue or Dolly, or
    this package's own format. The rows of HotpotQA and 2WikiMultihopQA have one structure on the Hub and another
    structure in the published files. Both structures can be read. The package's own format has the fields `question`
    and `passages`, and optionally `id`, `answer`, `aliases`, `gold` and `type`. On the Hub, these data sets are known:
    `hotpotqa/hotpot_qa`, `framolfese/2WikiMultihopQA`, `dgslibisey/MuSiQue` and `databricks/databricks-dolly-15k`. Any
    other data set whose rows have one of these formats works too.

    Args:
        source: a file, or the id of a data set on the Hub.
        split: the split of a Hub data set. The default is `validation` for HotpotQA, 2WikiMultihopQA and MuSiQue, and
            `train` for all other data sets.
        require: the fields that every question must have: `answer`, `gold` or both.
        skipped: a counter. A row that cannot be used is left out, and the counter counts such rows by reason. Without
            a counter, the first row that cannot be used raises an error.
        **selection: options that choose the questions to use:

            - `ids`: a text file with an id on each line. Only the questions with these ids are used, in the order of
              the file.
            - `kinds`: the types of question to keep, such as `bridge` or `comparison`; by default all.
            - `seed`: shuffle the questions with this seed.
            - `offset`: leave out this many questions at the start.
            - `limit`: use at most this many questions.
            - `shuffle_passages`: shuffle the passages of each question. The order depends on this seed and the
              question's id.

            The options apply in the order of this list.

    Raises:
        DataError: the source cannot be read, a row cannot be used, or the source holds no question. For a row, the
            message names the line and the field.
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
        raise InputError(f"require can hold only answer and gold, got {sorted(map(str, unknown))}")
    questions = _parse(read_rows(source, split), require, skipped)
    if not questions:
        reasons = "".join(f"; {count} rows were left out: {reason}" for reason, count in (skipped or {}).items())
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
