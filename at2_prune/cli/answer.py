"""The command `at2-prune answer`."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from .options import K_DEFAULT, K_HELP, add_pruner_options, add_settings, k_or_auto, load_pruner, read_input

if TYPE_CHECKING:
    from ..passages import Passage
    from ..pruning.pruner import AT2Pruner
    from ..pruning.results import PruneResult

HELP = "Keep the passages that the model's attention points to, and answer from them."
EXAMPLES = """examples:
  at2-prune answer "Which river flows through the birthplace of Adolphe Sax?" --passages passages.json --k 2
  retrieve "…" | at2-prune answer "…" --passages - --json
  at2-prune answer "…" --passages passages.json --html report.html
  at2-prune answer "…" --passages passages.json --reader Qwen/Qwen3-4B   (the default model scores)

--json prints one object: question, draft, answer, k, kept, scores and seconds. kept holds the indices of the kept
passages, in the order of the prompt. scores holds one number for each passage, in input order. seconds holds the time
of each step. The time of the step "answer" is repeated under the old name "regenerate", which version 0.3 will drop.
If several values of k were tried, candidates holds the answer for each k. If scoring failed, fallback holds the reason.

A calibrated method, such as scout, adds three keys. probabilities: for each passage, the probability that the passage
is evidence. present: the probability that at least one passage is evidence, or null if there are too few passages.
confident: true if present is at least 0.5, else false; null if present is null."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_pruner_options(parser)
    parser.add_argument("--k", type=k_or_auto, default=K_DEFAULT, metavar="N", help=K_HELP)
    add_settings(parser, "min_score", "keep", "order")
    parser.add_argument(
        "--draft",
        metavar="TEXT",
        help="the draft: a first answer, for methods that score passages by a draft (default: the reader writes the "
        "draft)",
    )
    parser.add_argument(
        "--html",
        metavar="FILE",
        help="also write an HTML page; with a method that reads a draft, such as at2, the page shows token scores",
    )


def run(args: argparse.Namespace) -> None:
    """Answer the question, and print or write the reports."""
    from ..pruning.certainty import Bounds
    from ..report import check_report_path, html_report, terminal_report, write_html_report

    if args.html:
        check_report_path(args.html)  # a wrong path must raise an error before the model runs
    passages = read_input(args)
    pruner = load_pruner(args, "granularity", "overflow", "order")
    result = pruner.answer(args.question, passages, args.k, args.draft, Bounds(args.min_score, args.keep))
    # The answer is printed first, so that it is not lost if the page cannot be written.
    print(json.dumps(result.to_dict(), ensure_ascii=False) if args.json else terminal_report(result), flush=True)
    if args.html:
        tokens = _token_scores(pruner, passages, result)
        reader = pruner.reader.name if pruner.loop.two_models else None
        page = html_report(result, tokens, model=pruner.language_model.name, scorer=pruner.scorer.name, reader=reader)
        write_html_report(args.html, page)
        if not args.json:
            print(f"The HTML page is in {args.html}.", file=sys.stderr)


def _token_scores(
    pruner: AT2Pruner, passages: list[Passage], result: PruneResult
) -> list[list[tuple[str, float]]] | None:
    """Return the tokens of each passage with their scores.

    Return None without a draft, after a fallback, or if the passages do not fit into one forward pass.
    """
    from ..errors import ContextTooLongError

    if result.draft is None or result.fallback:
        return None
    try:
        return pruner.token_scores(result.question, passages, result.draft)
    except ContextTooLongError:  # the passages were scored in windows, so no forward pass reads all tokens
        return None
