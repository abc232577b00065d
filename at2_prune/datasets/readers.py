"""Read rows from files and from the Hub. Each row is returned with its place, for error messages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import DataError, InputError, MissingExtraError, reason_of
from ..files import read_text, user_path
from ..models.hub import check_reachable
from ..parsing import ParseError, parse_json
from .formats.parse import FORMATS
from .formats.row import HubDataset, RowError

__all__ = ["read_rows"]

_HUB = {dataset.name: dataset for known in FORMATS for dataset in known.hub}


def read_rows(source: str | Path, split: str | None = None) -> Iterator[tuple[str, Any]]:
    """Yield the rows of a file or a Hub data set, each with its place, for example the file and line.

    Args:
        source: a file, or a Hub id of the form `owner/name`.
        split: the split of a Hub data set. The default is the split that `HubDataset` declares for the data set; for
            other data sets it is `train`.

    Raises:
        DataError: the source cannot be read.
        MissingExtraError: the package `datasets`, which loads data from the Hub, is not installed.
    """
    path = user_path(source)
    if path.is_file():
        return _file_rows(path)
    if len(Path(str(source)).parts) == 2 and not path.suffix and not path.is_absolute():
        return _hub_rows(str(source), split)
    raise DataError(f"{source}: there is no such file, and this is not a Hub id of the form owner/name")


def _file_rows(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the entries of a JSON list, or the rows of JSON Lines. For a line of invalid JSON, yield a `RowError`."""
    text = read_text(path)
    if text.lstrip().startswith("["):
        try:
            rows = parse_json(text)
        except ParseError as error:
            line = f", line {error.line}" if error.line else ""
            raise DataError(f"{path}{line}: not valid JSON ({error.reason})") from None
        for index, row in enumerate(rows):
            yield f"{path}, entry {index}", row
        return
    for number, line in enumerate(text.split("\n"), start=1):
        where = f"{path}, line {number}"
        if line.strip():
            try:
                yield where, parse_json(line)
            except ParseError as error:
                yield where, RowError(where, "not valid JSON", f" ({error.reason})")


def _hub_rows(name: str, split: str | None) -> Iterator[tuple[str, Any]]:
    try:
        from datasets import config, load_dataset
    except ImportError:
        raise MissingExtraError("datasets", "train", f"Loading {name} from the Hub") from None
    if not (Path(config.HF_DATASETS_CACHE) / name.replace("/", "___")).exists():
        try:
            check_reachable(name, ["README.md"], repo_type="dataset")
        except InputError as error:
            raise DataError(str(error)) from error
    known = _HUB.get(name, HubDataset(name))
    try:
        rows = load_dataset(name, known.configuration, split=split or known.split)
    except Exception as error:  # the Hub's client raises errors of many types
        raise DataError(
            f"{name}: there is no such file, and no data set can be loaded from the Hub ({reason_of(error)})"
        ) from error
    for index, row in enumerate(rows):
        if known.wanted(row):
            yield f"{name}, row {index}", row
