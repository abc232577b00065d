"""Rows from files and from the Hub, each with where it stands."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..errors import DataError, MissingExtraError
from ..files import read_text
from .formats.row import Row, RowError

__all__ = ["file_rows", "hub_rows"]


def file_rows(path: Path) -> Iterator[tuple[str, Any]]:
    """The objects of a JSON list or of JSON lines; in the place of a line that is no JSON, the error."""
    text = read_text(path)
    if text.lstrip().startswith("["):
        try:
            rows = json.loads(text)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}, line {error.lineno}: not valid JSON ({error.msg})") from None
        for index, row in enumerate(rows):
            yield f"{path}, entry {index}", row
        return
    for number, line in enumerate(text.split("\n"), start=1):
        where = f"{path}, line {number}"
        if line.strip():
            try:
                yield where, json.loads(line)
            except json.JSONDecodeError as error:
                yield where, RowError(where, "not valid JSON", f" ({error.msg})")


def _dolly(row: Row) -> bool:
    """The rows AT2's authors trained their published estimators on."""
    return row["category"] in ("summarization", "closed_qa", "information_extraction") and len(row["context"]) < 20_000


_HUB: dict[str, tuple[str | None, str, Callable[[Row], bool]]] = {
    # id: configuration, split, which rows
    "hotpotqa/hotpot_qa": ("distractor", "validation", lambda row: True),
    "framolfese/2WikiMultihopQA": (None, "validation", lambda row: True),
    "dgslibisey/MuSiQue": (None, "validation", lambda row: True),
    "databricks/databricks-dolly-15k": (None, "train", _dolly),
}


def hub_rows(name: str, split: str | None) -> Iterator[tuple[str, Any]]:
    """The rows of a Hub data set."""
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
            yield f"{name}, row {index}", row
