"""The command `python -m at2_prune_eval.document RESULTS_JSON OUT`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from at2_prune.errors import CacheError, DataError, InputError

from .writing import write_document


def main(arguments: Sequence[str] | None = None) -> None:
    """Write a Markdown page with the results of a run, and copy the results and figures beside the page."""
    parser = argparse.ArgumentParser(prog="python -m at2_prune_eval.document", description=main.__doc__)
    parser.add_argument("results", metavar="RESULTS_JSON", help="the results.json of a run")
    parser.add_argument(
        "out", metavar="OUT", help="the page, for example results.md. Figures go into figures/ beside the page"
    )
    parsed = parser.parse_args(arguments)
    try:
        write_document(parsed.results, parsed.out)
    except (DataError, CacheError, InputError) as error:
        parser.exit(2, f"{parser.prog}: error: {error}\n")


if __name__ == "__main__":
    main()
