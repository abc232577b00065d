"""The command `python -m at2_prune_eval.study RESULTS_JSON [RESULTS_JSON ...] OUT`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from at2_prune.errors import CacheError, DataError, InputError, MissingExtraError
from at2_prune.files import write_atomically

from .cells import as_json, read_cells
from .join import join_cells, only_parts
from .page import write_cells
from .short import END, START, key_of, write_short


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the Markdown page of a study's results, and the figures beside the page.

    Results of several runs with the same readers and questions are joined.
    """
    parser = argparse.ArgumentParser(prog="python -m at2_prune_eval.study", description=main.__doc__)
    parser.add_argument(
        "results", type=Path, nargs="+", metavar="RESULTS_JSON", help="the results.json of one or more studies"
    )
    parser.add_argument(
        "out",
        type=Path,
        metavar="OUT",
        help="the page, for example results.md. Figures go into figures/ beside the page",
    )
    parser.add_argument("--joined", type=Path, metavar="FILE", help="also write the joined results to this file")
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="READER/DATA",
        help="patterns of the parts to show, for example '*/nq'. By default, all results must have the same parts",
    )
    parser.add_argument(
        "--short",
        type=Path,
        metavar="FILE",
        help=f"also write a short table of pooled differences into this document, between its lines {START} and {END}",
    )
    parser.add_argument(
        "--columns",
        nargs="+",
        default=[],
        metavar="METHOD@K",
        help="the columns of the short table. By default, the study's subject at every k",
    )
    parsed = parser.parse_args(arguments)
    try:
        cells = join_cells([only_parts(read_cells(path), parsed.only) for path in parsed.results])
        write_cells(cells, parsed.out)
        if parsed.joined is not None:
            write_atomically(parsed.joined, as_json(cells))
        if parsed.short is not None:
            columns = [key_of(text, cells) for text in parsed.columns]
            write_short(cells, columns or [key for key in cells.keys if key[0] == cells.subject], parsed.short)
    except (DataError, InputError, CacheError, MissingExtraError) as error:
        parser.exit(2, f"{parser.prog}: error: {error}\n")


if __name__ == "__main__":
    main()
