"""Keep a run on disk: its config, a JSON line for each question that is done, and the results at the end."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from at2_prune.errors import CacheError, DataError, InputError
from at2_prune.files import user_path, write_atomically

from ..records import Record

__all__ = ["RunStore"]

logger = logging.getLogger(__name__)

EQUAL_RESULTS = ("0.1.0", "0.2.0")
"""The versions of at2-prune that give the same results. Each of these versions can continue a run of the others."""


class RunStore:
    """The folder of a run. An interrupted run can be continued in its folder.

    Args:
        folder: the run's folder. A folder that does not exist is made.
        config: everything that the results depend on. A folder that holds another config is refused.
        part: the number of the process that adds lines. Each process writes its own file until the files are merged.

    Raises:
        InputError: the folder holds another run. The message names every difference.
        DataError: a file of the folder cannot be read.
        CacheError: the folder cannot be written to.
    """

    CONFIG_FILE = "config.json"
    QUESTIONS_FILE = "questions.jsonl"
    RESULTS_FILE = "results.json"

    def __init__(self, folder: str | os.PathLike[str], config: Mapping[str, Any], part: int = 0) -> None:
        self.folder = user_path(folder)
        self.part = part
        config = json.loads(json.dumps(config))
        path = self.folder / self.CONFIG_FILE
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
        except ValueError as error:
            raise DataError(f"{path}: not valid JSON ({error}); remove the folder, or use another folder") from None
        except OSError as error:
            raise CacheError(f"cannot use {self.folder}: {error}") from error
        if known is None:
            if any(part.exists() for part in self._parts()):
                raise InputError(f"{self._questions} exists but {path} does not: use another folder")
            self.write(self.CONFIG_FILE, _json(config))
        elif _comparable(known) != _comparable(config):
            old, new = dict(_flat(known)), dict(_flat(config))
            differences = [
                f"{key}: {old.get(key)!r} there, {new.get(key)!r} now"
                for key in dict.fromkeys([*old, *new])
                if old.get(key) != new.get(key)
            ]
            raise InputError(
                f"{self.folder} holds a run with another config ({'; '.join(differences)}): use another folder"
            )

    @property
    def _questions(self) -> Path:
        return self.folder / self.QUESTIONS_FILE

    def _parts(self) -> list[Path]:
        """Return the file of the first process, and then the files of the other processes."""
        return [self._questions, *sorted(self.folder.glob(self.QUESTIONS_FILE.replace(".", ".*.")))]

    @property
    def _mine(self) -> Path:
        return self._questions if self.part == 0 else self._questions.with_suffix(f".{self.part}.jsonl")

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Lock this process's file while it adds lines, so that no other run writes to the same file.

        Raises:
            InputError: another run is writing to the file.
            CacheError: the folder cannot be written to.
        """
        path = self.folder / f".{self._mine.name}.lock"
        lock = FileLock(path, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise InputError(
                f"{self.folder}: another run is writing to this folder; wait for that run, or use another folder"
            ) from None
        except OSError as error:
            raise CacheError(f"cannot write {path}: {error}") from error
        try:
            yield
        finally:
            lock.release()  # the lock's file is not removed, because the next run may have opened it already

    def load(self) -> dict[str, Record]:
        """Read the records of the questions that are done. Return them by question id.

        A killed run may leave a last line that is not complete. Such a line is ignored.

        Raises:
            DataError: a line before the last line is damaged. The message names the line.
            CacheError: the folder cannot be read.
        """
        records: dict[str, Record] = {}
        for path in self._parts():
            records.update(self._load(path))
        return records

    def _load(self, path: Path) -> dict[str, Record]:
        try:
            data = path.read_bytes() if path.exists() else b""
        except OSError as error:
            raise CacheError(f"cannot read {path}: {error}") from error
        whole = data[: data.rfind(b"\n") + 1]
        records: dict[str, Record] = {}
        lines = whole.splitlines(keepends=True)
        for number, line in enumerate(lines, start=1):
            try:
                record = json.loads(line)
                records[record["id"]] = record
            except (ValueError, KeyError, TypeError) as error:
                if number < len(lines):
                    raise DataError(f"{path}, line {number}: not a record of this run ({error})") from None
                whole = whole[: -len(line)]
        if len(whole) < len(data) and path == self._mine:  # another process may be in the middle of its line
            logger.info("%s: the last line is not complete; the question of this line is answered again", path)
            try:
                os.truncate(path, len(whole))
            except OSError as error:
                raise CacheError(f"cannot write {path}: {error}") from error
        return records

    def add(self, record: Record) -> None:
        """Append a record as a line. If the run is killed meanwhile, at most this line is lost."""
        try:
            with open(self._mine, "ab") as file:
                file.write(_line(record))
        except OSError as error:
            raise CacheError(f"cannot write {self._mine}: {error}") from error

    def records(self, question_ids: Sequence[str]) -> list[Record]:
        """Read the records of these questions. Call this when all processes are done.

        Raises:
            DataError: a record is missing.
        """
        known = self.load()
        missing = [i for i in question_ids if i not in known]
        if missing:
            raise DataError(
                f"{self.folder}: {len(missing)} of {len(question_ids)} questions are missing in this folder "
                f"({missing[0]!r}, ...): if several machines share a run, all machines must see this folder"
            )
        return [known[i] for i in question_ids]

    def merge(self, question_ids: Sequence[str], complete: Callable[[Record], Record] = lambda record: record) -> Path:
        """Put the lines of all processes into one file, and return the path of this file.

        Args:
            question_ids: the ids of the run's questions. The records of these questions come first, in this order.
            complete: a function that adds missing keys to a record, such as the text that an archive leaves out.
        """
        records = {name: complete(record) for name, record in self.load().items()}
        ordered = dict.fromkeys([*(i for i in question_ids if i in records), *records])
        text = b"".join(_line(records[i]) for i in ordered).decode()
        path = self.write(self.QUESTIONS_FILE, text)
        for part in self._parts()[1:]:
            part.unlink()
        return path

    def write_results(self, results: Mapping[str, Any]) -> Path:
        """Write `results.json` completely or not at all, and return its path."""
        return self.write(self.RESULTS_FILE, _json(results))

    def write(self, name: str, text: str) -> Path:
        """Write a file of the run completely or not at all, and return its path."""
        path = self.folder / name
        write_atomically(path, text)
        return path


def _line(record: Record) -> bytes:
    return (json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _comparable(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config in the form in which configs are compared. All versions in `EQUAL_RESULTS` count as one."""
    versions = config.get("versions", {})
    if versions.get("at2-prune") not in EQUAL_RESULTS:
        return dict(config)
    return {**config, "versions": {**versions, "at2-prune": EQUAL_RESULTS[0]}}


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the name and value of each setting. The names of nested settings are joined with dots."""
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
