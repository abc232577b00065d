"""Read a run's `results.json`."""

from __future__ import annotations

import os
from typing import Any

from at2_prune.errors import DataError
from at2_prune.files import user_path
from at2_prune.parsing import parse_json

from .summary import FORMAT

__all__ = ["load_results"]


def load_results(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a `results.json`.

    Raises:
        DataError: the file cannot be read, or has a format that this version does not read.
    """
    try:
        results = parse_json(user_path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as results ({error})") from error
    if not isinstance(results, dict) or results.get("format") != FORMAT:
        found = results.get("format") if isinstance(results, dict) else type(results).__name__
        raise DataError(
            f"{path}: the results have format {found!r}, but this version reads format {FORMAT}: run the evaluation "
            "again"
        )
    return results
