"""Stores records in memory, or in an SQLite file that several processes can read."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from filelock import FileLock

from ..errors import CacheError, InputError
from ..files import user_path
from .records import PieceRecord, pack, unpack

__all__ = ["INDEX_FILE", "NOT_COMPARED", "DiskStore", "MemoryStore", "Store", "merge_folders", "shared_memory"]

logger = logging.getLogger(__name__)

Key = tuple[str, str]
"""A digest of the index's identity, and a digest of the passage."""
INDEX_FILE = "passages.sqlite"
NOT_COMPARED = "model_name"
"""The entry of an identity that is not compared, because one model may have several names. Error messages show the
entry."""
DEFAULT_BYTES = 2**30


class Store(Protocol):
    """The interface of a store, which keeps the records of passages."""

    def get(self, key: Key) -> list[PieceRecord] | None: ...

    def add(self, records: Mapping[Key, list[PieceRecord]]) -> None: ...


class MemoryStore:
    """Keeps records in memory, up to a number of bytes. Threads may share a store.

    If the limit is exceeded, the records that have not been used for the longest time are dropped.

    Args:
        limit: the maximum number of bytes.
        tell: whether to log a warning when the limit is exceeded for the first time.
    """

    def __init__(self, limit: int = DEFAULT_BYTES, tell: bool = False) -> None:
        if limit < 0:
            raise InputError(f"the memory of a passage index must be at least 0 bytes, got {limit}")
        self.limit = limit
        self.nbytes = 0
        self._told = not tell
        self._lock = threading.Lock()
        self._records: OrderedDict[Key, list[PieceRecord]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._records)

    def get(self, key: Key) -> list[PieceRecord] | None:
        with self._lock:
            if key not in self._records:
                return None
            self._records.move_to_end(key)
            return self._records[key]

    def add(self, records: Mapping[Key, list[PieceRecord]]) -> None:
        with self._lock:
            for key, some in records.items():
                self._drop(key)
                self._records[key] = some
                self.nbytes += _size(some)
            full = self.nbytes > self.limit
            while self.nbytes > self.limit and self._records:
                self._drop(next(iter(self._records)))
        if full and not self._told:
            self._told = True
            logger.warning(
                "the passage index in memory is full (%.1f GiB): passages that were not used lately are dropped, and "
                "they are read again when they are needed; an index in a folder keeps all passages (index=DIR)",
                self.limit / 2**30,
            )

    def clear(self) -> None:
        """Remove every record."""
        with self._lock:
            self._records.clear()
            self.nbytes = 0

    def _drop(self, key: Key) -> None:
        if key in self._records:
            self.nbytes -= _size(self._records.pop(key))


shared_memory = MemoryStore(tell=True)
"""The store that all pruners and adapters of a process share by default."""


class DiskStore:
    """Keeps records in the file `passages.sqlite` of a folder. Many processes may read while one process writes.

    The records of a passage are written as a whole or not at all, and they have a checksum. Records with a wrong
    checksum count as missing.

    Args:
        folder: the folder. If it does not exist and `identity` is given, the folder is made.
        identity: everything that the records depend on, such as the model and the layers. If the index in the folder
            has another identity, an error is raised. With None, the index may have any identity.

    Raises:
        InputError: the index in the folder was made for another model or with other settings. The error is also raised
            if the folder holds no index and `identity` is None.
        CacheError: the file cannot be read or written.
    """

    def __init__(self, folder: str | os.PathLike[str], identity: Mapping[str, Any] | None = None) -> None:
        self.path = user_path(folder) / INDEX_FILE
        self._local = threading.local()
        if identity is None and not self.path.is_file():
            raise InputError(f"{folder} holds no passage index: make one with at2-prune index --out {folder}")
        with self._errors():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if identity is not None and not self._has_tables():
                # SQLite does not wait while another process sets the journal mode. The lock makes this process wait.
                with FileLock(f"{self.path}.lock"):
                    self._create(identity)
            self.identity: dict[str, Any] = json.loads(self._value("SELECT value FROM about WHERE name = 'identity'"))
        if identity is not None:
            self.check({**dict.fromkeys(self.identity), **identity})

    def check(self, wanted: Mapping[str, Any]) -> None:
        """Check that some entries of the identity have the wanted values.

        Raises:
            InputError: an entry other than `NOT_COMPARED` has a different value. The message names every difference.
        """
        wanted = json.loads(json.dumps(dict(wanted)))
        differing = sorted(name for name, value in wanted.items() if self.identity.get(name) != value)
        if {*differing} - {NOT_COMPARED}:
            difference = "; ".join(f"{k}: {self.identity.get(k)!r} there, {wanted[k]!r} now" for k in differing)
            raise InputError(
                f"{self.path.parent} is the passage index of another model or of other settings ({difference}); use "
                "another folder"
            )

    def __len__(self) -> int:
        with self._errors():
            return int(self._value("SELECT count(*) FROM records"))

    def get(self, key: Key) -> list[PieceRecord] | None:
        with self._errors():
            row = self._open().execute("SELECT data, digest FROM records WHERE key = ?", [key[1]]).fetchone()
        if row is None or hashlib.sha256(row[0]).digest() != row[1]:
            return None
        return unpack(row[0])

    def add(self, records: Mapping[Key, list[PieceRecord]]) -> None:
        rows = []
        for key, some in records.items():
            data = pack(some)
            rows.append((key[1], data, hashlib.sha256(data).digest()))
        with self._errors(), self._open() as connection:  # one transaction
            connection.executemany("INSERT OR REPLACE INTO records VALUES (?, ?, ?)", rows)

    def merge(self, other: DiskStore) -> int:
        """Copy the records that this store lacks from another store. Return the number of copied passages.

        Raises:
            InputError: the index in the other folder was made for another model or with other settings.
            CacheError: a file cannot be read or written.
        """
        other.check({**dict.fromkeys(other.identity), **self.identity})
        with self._errors():
            connection = self._open()
            connection.execute("ATTACH ? AS part", [f"{other.path.absolute().as_uri()}?mode={other._mode()}"])
            try:
                with connection:
                    copied = connection.execute("INSERT OR IGNORE INTO records SELECT * FROM part.records").rowcount
            finally:
                connection.execute("DETACH part")
        return copied

    def close(self) -> None:
        """Close this thread's connection."""
        if connection := self._local.__dict__.pop("connection", None):
            connection[1].close()

    def _open(self) -> sqlite3.Connection:
        """Return this thread's connection. SQLite requires that a forked process opens a new connection."""
        known = getattr(self._local, "connection", None)
        if known is None or known[0] != os.getpid():
            name = f"{self.path.absolute().as_uri()}?mode={self._mode()}"
            known = os.getpid(), sqlite3.connect(name, uri=True, timeout=60)
            self._local.connection = known
        return known[1]

    def _mode(self) -> str:
        """Return the mode in which SQLite opens the file.

        If there is no file yet, or if this process may write to the file and its folder, the mode is `rwc`. Otherwise,
        the mode is `ro` with the option `immutable=1`, which states that no process changes the file.

        The option is left out if SQLite's log beside the file is not empty. Such a log shows that another process is
        writing, or that a process was killed while it wrote. Without the option, SQLite also reads the records in the
        log.
        """
        if not self.path.is_file() or all(os.access(path, os.W_OK) for path in (self.path, self.path.parent)):
            return "rwc"
        log = self.path.with_name(f"{INDEX_FILE}-wal")
        return "ro" if log.is_file() and log.stat().st_size else "ro&immutable=1"

    def _has_tables(self) -> bool:
        return bool(self._value("SELECT count(*) FROM sqlite_master WHERE name = 'about'"))

    def _create(self, identity: Mapping[str, Any]) -> None:
        connection = self._open()
        connection.execute("PRAGMA journal_mode = WAL")
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT)")
            connection.execute("CREATE TABLE IF NOT EXISTS records (key TEXT PRIMARY KEY, data BLOB, digest BLOB)")
            connection.execute("INSERT OR IGNORE INTO about VALUES ('identity', ?)", [json.dumps(dict(identity))])

    def _value(self, query: str) -> Any:
        row = self._open().execute(query).fetchone()
        return None if row is None else row[0]

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, TypeError, json.JSONDecodeError) as error:
            raise CacheError(
                f"the passage index {self.path} cannot be read or written ({error}); {_advice(str(error))}"
            ) from error

    def __reduce__(self) -> tuple[Any, ...]:
        return DiskStore, (self.path.parent, self.identity)


def merge_folders(folder: str | os.PathLike[str], parts: Sequence[str | os.PathLike[str]]) -> tuple[int, int]:
    """Copy the records of several folders into one folder. No passage is read again.

    Args:
        folder: the folder that gets the records. If it does not exist, it is made.
        parts: the folders whose records are copied.

    Returns:
        The number of passages whose records were copied, and the number of passages in the folder now.

    Raises:
        InputError: a folder holds no index, or its index was made for another model or with other settings. In this
            case, nothing is copied.
        CacheError: a file cannot be read or written.
    """
    stores = [DiskStore(part) for part in parts]
    whole = DiskStore(folder, stores[0].identity)
    for store in stores:
        store.check({**dict.fromkeys(store.identity), **whole.identity})
    copied = sum(whole.merge(store) for store in stores)
    return copied, len(whole)


def _advice(problem: str) -> str:
    """Return advice for a problem that SQLite or the operating system reported."""
    if any(words in problem for words in ("is full", "I/O error", "No space", "too large")):
        return "make room and start again, since the passages that were stored are kept"
    if any(words in problem for words in ("readonly", "unable to open", "Permission denied", "Read-only")):
        return "choose a folder that can be written to"
    if "locked" in problem:
        return "wait until the process that writes to it has finished"
    return "if the file is damaged, remove it and index the passages again"


def _size(records: list[PieceRecord]) -> int:
    return sum(record.nbytes for record in records)
