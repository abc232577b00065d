"""Write the page to a file, and check the path before a long computation."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import CacheError, InputError
from ..files import write_atomically

__all__ = ["check_report_path", "write_html_report"]


def check_report_path(path: str | os.PathLike[str]) -> Path:
    """Return the path if a report can be written there. Call this before a long computation.

    Raises:
        InputError: the path is a folder or holds a null character, or the folder to write in does not exist.
        CacheError: there is no permission to write there, or the system refuses the path.
    """
    place = Path(path)
    if "\0" in str(place):
        raise InputError(f"cannot write the report to {str(place)!r}: the path holds a null character; remove it")
    try:
        if place.is_dir():
            raise InputError(f"cannot write the report to {place}: it is a folder; name a file in it")
        if not place.parent.is_dir():
            raise InputError(f"cannot write the report to {place}: there is no folder {place.parent}; create it first")
    except OSError as error:  # the name is too long, or a folder on the way may not be entered
        raise CacheError(f"cannot write the report to {place}: {error.strerror}") from error
    if not os.access(place if _in_place(place) else place.parent, os.W_OK):
        raise CacheError(
            f"cannot write the report to {place}: no permission to write to {place.parent}; choose another folder"
        )
    return place


def write_html_report(path: str | os.PathLike[str], html: str) -> None:
    """Write the page. The file is replaced as a whole, so that no reader ever sees half a page.

    Raises:
        InputError: see `check_report_path`.
        CacheError: see `check_report_path`; also if writing fails, for example because the disk is full.
    """
    place = check_report_path(path)
    if not _in_place(place):
        write_atomically(place, html, f"the report to {place}")
        return
    try:
        place.write_bytes(html.encode("utf-8"))
    except OSError as error:
        raise CacheError(f"cannot write the report to {place}: {error.strerror or error}") from error


def _in_place(path: Path) -> bool:
    """Return whether to write to the path itself. A device, a pipe or a symbolic link must not be replaced."""
    return path.exists() and (path.is_symlink() or not path.is_file())
