"""A cache of drafts, ablation outcomes, scores and answers in one file.

A key is the digest of everything that the value depends on: the model's weights, precision and device, the library
versions, the token ids that the model read, and the code that decides the value (see the module `code`). All methods
therefore share one draft and one set of ablation outcomes. For a method that is added later, only the values of this
method are computed. After an edit of code, the values that depend on this code are computed again. Other values are
still found.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Sequence
from contextlib import nullcontext

import torch
import transformers
from filelock import FileLock

from at2_prune.errors import CacheError
from at2_prune.files import check_file
from at2_prune.models.language_model import LanguageModel

__all__ = ["ModelCache", "kernel_switches", "model_fingerprint"]

SWITCHES = ("TRANSFORMERS_SDPA_FORCE_GQA",)
"""Environment variables that make transformers use another kernel. They do so if they have the value 1. The other
kernel rounds differently."""
SAMPLES = 16
"""About this many values of each parameter go into the fingerprint of a model."""


def model_fingerprint(language_model: LanguageModel) -> str:
    """Return a digest of a model: config, precision, device, library versions, and a sample of every parameter."""
    model = language_model.model
    config = {
        key: value for key, value in model.config.to_dict().items() if key not in ("_name_or_path", "name_or_path")
    }
    state = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    state.update(f"{model.dtype} {model.device.type} {torch.__version__} {transformers.__version__}".encode())
    for name, parameter in model.named_parameters():
        flat = parameter.detach().flatten()
        some = flat[:: max(1, len(flat) // SAMPLES)].float().cpu()
        state.update(f"{name} {tuple(parameter.shape)}".encode() + some.numpy().tobytes())
    return state.hexdigest()[:32]


def kernel_switches() -> dict[str, str]:
    """Return the variables of `SWITCHES` that have the value 1."""
    return {name: os.environ[name] for name in SWITCHES if os.environ.get(name) == "1"}


class ModelCache:
    """A file of keys and values that the processes of one machine can share.

    Args:
        path: the path of the file, in a folder that exists. With None, everything is kept in the memory of this
            process.

    Raises:
        InputError: the path is a folder, or its folder does not exist.
        CacheError: the file cannot be opened, read or written.

    Example:
        >>> cache = ModelCache(None)
        >>> cache.put("a key", b"a value")
        >>> cache.get("a key"), cache.get("another")
        (b'a value', None)
    """

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        # `check_file` refuses a folder that does not exist. The lock would make such a folder.
        self.path = path = None if path is None else check_file(path, "the cache")
        try:
            with nullcontext() if path is None else FileLock(f"{os.fspath(path)}.lock"):  # one process makes the table
                self._file = sqlite3.connect(":memory:" if path is None else path, timeout=120, isolation_level=None)
                self._file.execute("PRAGMA journal_mode=WAL")
                self._file.execute("PRAGMA synchronous=NORMAL")
                self._file.execute("CREATE TABLE IF NOT EXISTS cache (key TEXT PRIMARY KEY, value BLOB NOT NULL)")
        except (OSError, sqlite3.Error) as error:
            raise CacheError(f"cannot use the cache {path}: {error}") from error

    def get(self, key: str) -> bytes | None:
        """Return the value of a key, or None if the key has no value."""
        try:
            row = self._file.execute("SELECT value FROM cache WHERE key = ?", (key,)).fetchone()
        except sqlite3.Error as error:
            raise CacheError(f"cannot read the cache {self.path}: {error}") from error
        return None if row is None else row[0]

    def put(self, key: str, value: bytes) -> None:
        """Store a value under a key. The value replaces an earlier value of the key."""
        try:
            self._file.execute("INSERT OR REPLACE INTO cache VALUES (?, ?)", (key, value))
        except sqlite3.Error as error:
            raise CacheError(f"cannot write the cache {self.path}: {error}") from error

    def many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the values of these keys, by key. Keys without a value are left out."""
        found = ((key, self.get(key)) for key in keys)
        return {key: value for key, value in found if value is not None}
