"""Write the page to a file, and check the path before a long computation."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import CacheError
from ..files import check_file, in_place, write_atomically

__all__ = ["check_report_path", "write_html_report"]


def check_report_path(path: str | os.PathLike[str]) -> Path:
    """Return the path if a report can be written there. Call this function before a long computation.

    Raises:
        InputError: the path is a folder or holds a null character, or the parent folder does not exist.
        CacheError: there is no permission to write there, or the system refuses the path.
    """
    return check_file(path, "the report")


def write_html_report(path: str | os.PathLike[str], html: str) -> None:
    """Write the page to a file.

    A regular file is replaced as a whole, so that no other program ever reads an incomplete page. If the path is a
    device, a pipe or a link, the page is written into it.

    Raises:
        InputError: see `check_report_path`.
        CacheError: see `check_report_path`. The error is also raised if the file cannot be written, for example because
            the disk is full.
    """
    place = check_report_path(path)
    if not in_place(place):
        write_atomically(place, html, f"the report to {place}")
        return
    try:
        place.write_bytes(html.encode("utf-8"))
    except OSError as error:
        raise CacheError(f"cannot write the report to {place}: {error.strerror or error}") from error
