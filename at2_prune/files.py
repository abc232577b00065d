"""Functions that write files atomically, check output paths, and read text files of users.

A command creates the folder that its option `--out` names. An option for an output file, such as `--html`, needs a
folder that exists. If this folder is mistyped, the option is refused before the work begins.

Every path may begin with `~`; see `user_path`.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from .errors import CacheError, DataError, InputError

__all__ = [
    "BYTE_ORDER_MARK",
    "check_file",
    "check_folder",
    "in_place",
    "newest_change",
    "read_text",
    "user_path",
    "write_atomically",
]

BYTE_ORDER_MARK = "\ufeff"
"""Some editors write this character at the start of a UTF-8 file. It is not part of the text."""


def user_path(path: str | os.PathLike[str]) -> Path:
    """Return a path that a user gave, with `~` or `~name` at its start replaced by the home folder.

    A shell replaces `~` before a program sees it, but not in quotes, after `=`, or in a file. If the home folder is not
    known, the path is returned unchanged. `Path.expanduser` would raise an error instead.

    Example:
        >>> user_path("~nobody-of-this-name/a.json").as_posix()
        '~nobody-of-this-name/a.json'
    """
    return Path(os.path.expanduser(path))


def write_atomically(path: str | os.PathLike[str], content: bytes | str, name: str | None = None) -> None:
    """Write a file completely or not at all.

    The content is written to a temporary file in the same folder. The temporary file then replaces the old file. A
    reader finds either the old file or the new file, even if this process crashes. If writing fails, the temporary file
    is removed.

    Args:
        path: the file to write. A symbolic link is replaced, not followed.
        content: bytes or text. Text is written as UTF-8, and its line ends are not changed.
        name: the name of the file in error messages; by default the path.

    Raises:
        CacheError: the file cannot be written, for example because the disk is full.
    """
    path = user_path(path)
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


def check_file(path: str | os.PathLike[str], name: str) -> Path:
    """Return the path if a file can be written there. Call this function before a long computation.

    Args:
        path: the file.
        name: the words that errors use for the file, such as "the report".

    Raises:
        InputError: the path is a folder, the path holds a null character, or the parent folder does not exist.
        CacheError: there is no permission to write there, or the system refuses the path.
    """
    place = user_path(path)
    if "\0" in str(place):
        raise InputError(f"cannot write {name} to {str(place)!r}: the path holds a null character; remove it")
    try:
        if place.is_dir():
            raise InputError(f"cannot write {name} to {place}: it is a folder; name a file in it")
        if not place.parent.is_dir():
            raise InputError(f"cannot write {name} to {place}: there is no folder {place.parent}; create it first")
    except OSError as error:  # the name is too long, or there is no permission to enter a parent folder
        raise CacheError(f"cannot write {name} to {place}: {error.strerror}") from error
    written = place if in_place(place) else place.parent
    if not os.access(written, os.W_OK):
        raise CacheError(f"cannot write {name} to {place}: no permission to write to {written}; choose another folder")
    return place


def check_folder(path: str | os.PathLike[str]) -> Path:
    """Return the path if it is a writable folder, or if such a folder can be created there.

    Raises:
        InputError: the path or one of its parents is a file, or the path holds a null character.
        CacheError: there is no permission to write there, or the system refuses the path.
    """
    place = user_path(path)
    if "\0" in str(place):
        raise InputError(f"cannot write to {str(place)!r}: the path holds a null character; remove it")
    try:
        known = next(one for one in (place, *place.absolute().parents) if one.exists())
    except OSError as error:
        raise CacheError(f"cannot write to {place}: {error.strerror}") from error
    if not known.is_dir():
        raise InputError(f"cannot write to {place}: {known} is a file; name a folder")
    if not os.access(known, os.W_OK):
        raise CacheError(f"cannot write to {place}: no permission to write to {known}; choose another folder")
    return place


def in_place(path: Path) -> bool:
    """Return whether the path exists and is no regular file. Examples are links, and devices such as /dev/stdout.

    A caller must write to such a path itself. `write_atomically` would replace it by a new file.
    """
    return path.exists() and (path.is_symlink() or not path.is_file())


def read_text(path: str | os.PathLike[str]) -> str:
    """Read a UTF-8 text file that a user wrote, with or without a byte order mark.

    A path may begin with `~` for the user's home folder. Every line end becomes a newline character.

    Raises:
        DataError: the file cannot be opened, or it is not UTF-8. The message names the file.
    """
    try:
        return user_path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: cannot be read ({error}); save it as UTF-8") from None
    except ValueError as error:  # the path holds a null character
        raise DataError(f"{str(path)!r}: cannot be read ({error})") from None


def newest_change(folder: str | os.PathLike[str] | None) -> int | None:
    """Return the latest time, in nanoseconds, at which an entry of a folder changed.

    Return None if the folder is empty, or if the argument is not a folder on disk. A Hub id is not a folder on disk.
    """
    path = None if folder is None else user_path(folder)
    if path is None or not path.is_dir():
        return None
    with os.scandir(path) as entries:
        return max((entry.stat().st_mtime_ns for entry in entries), default=None)
