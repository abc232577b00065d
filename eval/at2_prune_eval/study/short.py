"""Write a study's pooled differences as one short table into another document, such as a README."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from at2_prune.errors import DataError, InputError
from at2_prune.files import read_text, write_atomically

from ..k_values import ALL
from ..tables.cells import estimate, markdown
from .cells import Cells, Key

__all__ = ["END", "ROWS", "START", "key_of", "short_table", "write_short"]

START, END = "<!-- short table -->", "<!-- /short table -->"
"""The lines of the document between which the table stands."""
ROWS = 4
"""The largest number of baselines in the table, as in the forest plot."""


def key_of(text: str, cells: Cells) -> Key:
    """Return the method and k that `METHOD@K` names.

    Raises:
        InputError: the results have no such method and k.
    """
    method, _, k = text.partition("@")
    if (method, k) not in cells.keys:
        known = ", ".join("@".join(key) for key in cells.keys if key[1] != ALL)
        raise InputError(f"the results have no {text!r:.80}; use one of {known}")
    return method, k


def short_table(cells: Cells, columns: Sequence[Key]) -> str:
    """Return a Markdown table of F1 differences, pooled over the readers and the data sets that all readers answered.

    Args:
        cells: the results of the study.
        columns: the methods and values of k that are compared with the study's first baselines at the same k.
    """
    rows = [["answer F1, minus", *(f"`{method}`, k = {k}" for method, k in columns)]]
    data = cells.data_of(cells.readers)
    for baseline in cells.baselines[:ROWS]:
        found = [cells.difference(key, baseline, cells.readers, data) for key in columns]
        rows.append([cells.labels[baseline], *(estimate(asdict(one) if one else None, "+") for one in found)])
    return markdown(rows)


def write_short(cells: Cells, columns: Sequence[Key], file: Path) -> None:
    """Replace the table between the two marks of a document.

    Raises:
        DataError: the document cannot be read, or it does not have each mark once.
        CacheError: the document cannot be written.
    """
    text = read_text(file)
    if text.count(START) != 1 or text.count(END) != 1 or text.index(START) > text.index(END):
        raise DataError(f"{file}: needs the lines {START} and {END} once each, in this order")
    before, rest = text.split(START)
    after = rest.split(END)[1]
    write_atomically(file, f"{before}{START}\n\n{short_table(cells, columns)}\n\n{END}{after}")
