"""The command `python -m at2_prune_eval.study RESULTS_JSON OUT`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from at2_prune.errors import CacheError, DataError, MissingExtraError

from .cells import read_cells
from .page import write_cells


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the Markdown page of a study's results, and the figures beside the page."""
    parser = argparse.ArgumentParser(prog="python -m at2_prune_eval.study", description=main.__doc__)
    parser.add_argument("results", type=Path, metavar="RESULTS_JSON", help="the results.json of a study")
    parser.add_argument(
        "out",
        type=Path,
        metavar="OUT",
        help="the page, for example results.md. Figures go into figures/ beside the page",
    )
    parsed = parser.parse_args(arguments)
    try:
        write_cells(read_cells(parsed.results), parsed.out)
    except (DataError, CacheError, MissingExtraError) as error:
        parser.exit(2, f"{parser.prog}: error: {error}\n")


if __name__ == "__main__":
    main()
