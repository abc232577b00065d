"""Writing files whole or not at all, and reading text files that a user wrote."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from .errors import CacheError, DataError

__all__ = ["BYTE_ORDER_MARK", "read_text", "write_atomically"]

BYTE_ORDER_MARK = "\ufeff"
"""Some editors write this character at the start of a UTF-8 file. It is not part of the text."""


def write_atomically(path: str | os.PathLike[str], content: bytes | str, name: str | None = None) -> None:
    """Write a file whole or not at all.

    The content goes to a temporary file in the same folder, which then replaces the old file. A reader finds the
    old file or the new one, even after a crash. If writing fails, the temporary file is removed.

    Args:
        path: the file to write. A symbolic link is replaced, not followed.
        content: bytes, or text, which is written as UTF-8 with its line ends unchanged.
        name: the name of the file in error messages; by default its path.

    Raises:
        CacheError: the file cannot be written, for example because the disk is full.
    """
    path = Path(path)
    data = content.encode("utf-8") if isinstance(content, str) else content
    # The name is short, so that a file name of the maximum length still works. It is random, so that two threads do not
    # share a temporary file.
    temporary = path.parent / f".at2-prune-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        try:
            temporary.write_bytes(data)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise CacheError(f"cannot write {name or path}: {error.strerror or error}") from error


def read_text(path: str | os.PathLike[str]) -> str:
    """Read a UTF-8 text file that a user wrote, with or without a byte order mark.

    A path may begin with `~`, the user's home folder. Every line end becomes a newline character.

    Raises:
        DataError: the file cannot be opened, or it is not UTF-8. The message names the file.
    """
    try:
        return Path(os.path.expanduser(path)).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: cannot be read ({error}); save it as UTF-8") from None
    except ValueError as error:  # the path holds a null character
        raise DataError(f"{str(path)!r}: cannot be read ({error})") from None
