"""Join the results of studies that asked the same readers the same questions, with other methods or other values of k.

Answers take long, and a study may grow: a second run adds a method or a k. Each run has its own `results.json`, and the
joined results give one page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatch
from typing import TypeVar

from at2_prune.errors import DataError

from .cells import Cells, Key, Part

__all__ = ["join_cells", "only_parts"]

T = TypeVar("T")


def join_cells(results: Sequence[Cells]) -> Cells:
    """Return the cells of all results. The title, the subject and the file are those of the first.

    Args:
        results: the results of one or more studies. They must have the same readers and data sets.

    Raises:
        DataError: the results differ in their readers, in their questions or in a reader's settings. Or two results
            have the same method at the same k, but kept other passages. If the passages are the same, the answers are
            those of the first result.
    """
    first = results[0]
    parts, labels, devices = dict(first.parts), dict(first.labels), dict(first.devices)
    for other in results[1:]:
        if other.parts.keys() != parts.keys():
            raise DataError(
                f"results with {_named(parts)} and results with {_named(other.parts)} cannot be joined: readers and "
                "data sets must be the same"
            )
        labels = labels | {name: label for name, label in other.labels.items() if name not in labels}
        for name, where in other.devices.items():
            devices[name] = list(dict.fromkeys([*devices.get(name, []), *where]))
        parts = {pair: _joined(pair, part, other.parts[pair], list(labels)) for pair, part in parts.items()}
    baselines = list(dict.fromkeys(name for one in results for name in one.baselines))
    missing = {pair: counts for one in results for pair, counts in one.missing.items()}
    return Cells(first.title, parts, missing, labels, first.subject, baselines, devices, first.file)


def only_parts(cells: Cells, patterns: Sequence[str]) -> Cells:
    """Return the parts that match at least one of the patterns `READER/DATA`. Without patterns, return all parts.

    Raises:
        DataError: no part matches.
    """
    if not patterns:
        return cells

    def some(parts: Mapping[tuple[str, str], T]) -> dict[tuple[str, str], T]:
        return {pair: part for pair, part in parts.items() if any(fnmatch("/".join(pair), one) for one in patterns)}

    if not some(cells.parts):
        raise DataError(f"--only {' '.join(patterns)} matches none of {_named(cells.parts)}")
    return replace(cells, parts=some(cells.parts), missing=some(cells.missing))


def _joined(pair: tuple[str, str], part: Part, other: Part, methods: Sequence[str]) -> Part:
    where = "/".join(pair)
    if not part.digest or part.digest != other.digest:
        raise DataError(f"{where}: the results are of different questions, or do not say of which")
    if part.about != other.about:
        changed = sorted(name for name in part.about | other.about if part.about.get(name) != other.about.get(name))
        raise DataError(f"{where}: the readers' settings differ in {', '.join(changed)}")
    both = [key for key in other.cells if key in part.cells]
    if twice := next((key for key in both if part.cells[key].tokens != other.cells[key].tokens), None):
        raise DataError(f"{where}: both results have {twice[0]} at k = {twice[1]}, from other passages")
    cells = part.cells | {key: cell for key, cell in other.cells.items() if key not in part.cells}
    places = [*part.where, *(one for one in other.where if one not in part.where)]
    return replace(
        part,
        cells=dict(sorted(cells.items(), key=lambda item: _place(item[0], methods))),
        empty=part.empty + other.empty,
        answers=part.answers + other.answers,
        where=places,
    )


def _place(key: Key, methods: Sequence[str]) -> tuple[int, int]:
    """Return the sort key of a cell: its method's place, then its k."""
    return methods.index(key[0]), int(key[1]) if key[1].isdigit() else 0


def _named(parts: dict[tuple[str, str], Part]) -> str:
    return ", ".join("/".join(pair) for pair in parts)
