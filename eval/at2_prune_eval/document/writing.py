"""Write a page of results, and copy the results and figures beside the page."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from at2_prune.errors import CacheError, InputError
from at2_prune.files import check_file, user_path

from ..results.loading import load_results
from .page import results_document

__all__ = ["check_document", "write_document"]


def check_document(path: str | os.PathLike[str]) -> Path:
    """Return the path if a page can be written there. Call this before a long computation.

    Raises:
        InputError: the path ends with .json, is a folder, or lies in a folder that does not exist.
        CacheError: there is no permission to write there.
    """
    out = user_path(path)
    if out.suffix == ".json":
        raise InputError(
            f"{out}: the page is Markdown, and a .json file beside the page holds the results; give the page a name "
            "that ends with .md"
        )
    return check_file(out, "the page")


def write_document(results_path: str | os.PathLike[str], out_path: str | os.PathLike[str]) -> Path:
    """Write the page of a run, and copy the run's results and its folder `figures/` beside the page.

    Args:
        results_path: the path of a `results.json`.
        out_path: the path of the page.

    Returns:
        The path of the page.

    Raises:
        DataError: the results cannot be read.
        InputError: the name of the page ends with .json, or its folder does not exist.
        CacheError: the page or the figures cannot be written.
    """
    out = check_document(out_path)
    results_path = user_path(results_path)
    results = load_results(results_path)
    data = out.with_suffix(".json")
    data_name, name = (path.name if path.is_absolute() else path.as_posix() for path in (data, out))
    command = f"python -m at2_prune_eval.document {data_name} {name}"
    try:
        if results_path.resolve() != data.resolve():
            shutil.copyfile(results_path, data)
        figures = _copy_figures(results_path.parent / "figures", out.parent / "figures")
        out.write_text(results_document(results, figures, command), encoding="utf-8")
    except OSError as error:
        raise CacheError(f"cannot write {out}: {error.strerror or error}") from error
    return out


def _copy_figures(source: Path, target: Path) -> list[str]:
    """Copy the PNG and SVG files. Return the paths of the PNG files, relative to the page."""
    figures = []
    for path in sorted(source.glob("*.*")):
        if path.suffix in (".png", ".svg"):
            target.mkdir(exist_ok=True)
            if path.parent.resolve() != target.resolve():
                shutil.copyfile(path, target / path.name)
            figures += [f"figures/{path.name}"] * (path.suffix == ".png")
    return figures
