"""Read and write files of JSON lines, which a later run can continue after an interruption.

A line with the key `about` holds the settings of the lines that follow. All other lines are records.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from at2_prune.errors import CacheError, DataError, InputError

__all__ = ["Lines", "adding", "as_lines", "read_lines"]

Record = dict[str, Any]
Add = Callable[[Iterable[Record]], None]


@dataclass
class Lines:
    """The content of a file."""

    records: list[Record] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)
    """The settings that all records depend on."""
    where: list[dict[str, Any]] = field(default_factory=list)
    """The devices and batch sizes with which the records were written, without repetitions."""
    whole: int = 0
    """The number of bytes up to the end of the last complete line."""


def read_lines(path: Path, needed: Sequence[str] = ()) -> Lines:
    """Read a file of JSON lines. If the last line is not complete, it is left out.

    For a file that does not exist, the result has no records.

    Args:
        path: the file.
        needed: the keys that every record must have.

    Raises:
        DataError: a line before the last line is damaged, or the file has lines with different settings. The message
            names the line.
        CacheError: the file cannot be read.
    """
    try:
        data = path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise CacheError(f"cannot read {path}: {error.strerror or error}") from error
    found = Lines()
    lines = data.splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        last = number == len(lines)
        try:
            value = json.loads(line)
            if not isinstance(value, dict) or ("about" not in value and any(key not in value for key in needed)):
                raise ValueError(f"a line must have the keys {', '.join(needed)}")
        except ValueError as error:
            if last:
                break
            raise DataError(
                f"{path}, line {number}: damaged ({error}); delete this line, and the next run makes its record again"
            ) from None
        if last and not line.endswith(b"\n"):
            break  # without a line break at the end, a new record would be written on the same line
        found.whole += len(line)
        if "about" not in value:
            found.records.append(value)
            continue
        if found.about and value["about"] != found.about:
            raise DataError(f"{path}, line {number}: {_difference(found.about, value['about'])}; use another folder")
        found.about = value["about"]
        if value.get("where") not in (None, *found.where):
            found.where.append(value["where"])
    return found


@contextmanager
def adding(path: Path, about: Mapping[str, Any], where: Mapping[str, Any]) -> Iterator[Add]:
    """Open a file to add records, and yield the function that adds them.

    Args:
        path: the file.
        about: the settings that the records depend on. A file with records of other settings raises an error.
        where: the conditions that may differ between the records of a file, such as the device.

    Raises:
        InputError: the file has records of other settings, or another process is writing to it.
        DataError, CacheError: the file is damaged, or it cannot be written.
    """
    about, where = (json.loads(json.dumps(dict(value))) for value in (about, where))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.parent / f".{path.name}.lock", timeout=0):
            known = read_lines(path)
            if known.records and known.about != about:
                raise InputError(f"{path}: {_difference(known.about, about)}; use another folder, or remove the file")
            if path.exists():
                os.truncate(path, known.whole)
            with path.open("ab") as file:

                def add(records: Iterable[Record]) -> None:
                    file.write(as_lines(records))
                    file.flush()

                if known.where[-1:] != [where]:
                    add([{"about": about, "where": where}])
                yield add
    except Timeout:
        raise InputError(
            f"{path}: another process is writing this file; wait for that process, or choose another part with --only"
        ) from None
    except OSError as error:
        if isinstance(error, CacheError):
            raise
        raise CacheError(f"cannot write {path}: {error.strerror or error}") from error


def as_lines(records: Iterable[Record]) -> bytes:
    return b"".join(json.dumps(one, ensure_ascii=False, allow_nan=False).encode() + b"\n" for one in records)


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    keys = [key for key in dict.fromkeys([*old, *new]) if old.get(key) != new.get(key)]
    return "made with other settings: " + ", ".join(
        f"{key} {old.get(key)!r} there, {new.get(key)!r} now" for key in keys
    )
