"""Prepare a run's results for publication in this repository.

    $ python eval/publish.py short-table docs/hotpotqa/results.json
    $ python eval/publish.py cards docs/hotpotqa/results.json at2_prune/data/coefficients/gemma-3-270m/at2
    $ python eval/publish.py cards-again at2_prune/data/coefficients/gemma-3-270m/*
    $ python eval/publish.py archive runs/hotpotqa docs/hotpotqa/run.tar.gz

`short-table` prints the table of docs/findings.md. `cards` writes the results at k = 3 into the cards of the head
coefficients that were evaluated. `cards-again` writes cards from the stored settings and results. `archive` packs a
run's folder into one file, without the text of the data set.

Maintainers run this script from a checkout. It is not part of the installed package.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from at2_prune.errors import AT2PruneError
from at2_prune_eval.document.model_cards import record_evaluation, write_card
from at2_prune_eval.results.loading import load_results
from at2_prune_eval.run.archive import write_archive
from at2_prune_eval.tables.short import short_table


def print_short_table(arguments: argparse.Namespace) -> None:
    print(short_table(load_results(arguments.results)))


def record_in_cards(arguments: argparse.Namespace) -> None:
    results = load_results(arguments.results)
    for folder in arguments.folders:
        record_evaluation(folder, results)


def write_cards(arguments: argparse.Namespace) -> None:
    for folder in arguments.folders:
        write_card(folder)


def pack_run(arguments: argparse.Namespace) -> None:
    print(write_archive(arguments.folder, arguments.out))


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python eval/publish.py", description="Prepare a run's results for publication in this repository."
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    table = commands.add_parser("short-table", help="print F1 by method and k, for docs/findings.md")
    table.add_argument("results", metavar="RESULTS_JSON", help="the results.json of a run")
    table.set_defaults(run=print_short_table)

    cards = commands.add_parser("cards", help="write the results at k = 3 into cards of head coefficients")
    cards.add_argument("results", metavar="RESULTS_JSON", help="the results.json of a run")
    cards.add_argument("folders", metavar="DIR", nargs="+", help="a folder of head coefficients that the run evaluated")
    cards.set_defaults(run=record_in_cards)

    again = commands.add_parser(
        "cards-again", help="write cards of coefficients again, from the stored settings and results"
    )
    again.add_argument("folders", metavar="DIR", nargs="+", help="a folder of coefficients, of any method")
    again.set_defaults(run=write_cards)

    archive = commands.add_parser("archive", help="pack a run's folder, without the text of the data set")
    archive.add_argument("folder", metavar="DIR", help="the folder that at2-prune eval --out wrote")
    archive.add_argument("out", metavar="FILE", help="the archive, for example docs/hotpotqa/run.tar.gz")
    archive.set_defaults(run=pack_run)
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    parser = make_parser()
    parsed = parser.parse_args(arguments)
    try:
        parsed.run(parsed)
    except AT2PruneError as error:
        parser.exit(2, f"{parser.prog}: error: {error}\n")


if __name__ == "__main__":
    main()
