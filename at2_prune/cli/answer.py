"""`at2-prune answer`"""

from __future__ import annotations

import argparse
import json
import sys

from .options import K_HELP, add_pruner_options, k_or_auto, load_pruner, read_passages

HELP = "Keep the passages that the model's attention says matter, and answer from those."
EXAMPLES = """examples:
  at2-prune answer "Which river flows through the birthplace of Adolphe Sax?" --passages passages.json --k 2
  retrieve "…" | at2-prune answer "…" --passages - --json
  at2-prune answer "…" --passages passages.json --html report.html

--json prints question, draft, answer, k, kept (indices of passages in the order the model was shown them), scores (one
a passage, in input order) and seconds (by step)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_pruner_options(parser)
    parser.add_argument("--k", type=k_or_auto, default=3, metavar="N", help=K_HELP)
    parser.add_argument("--order", choices=["original", "score"], default="original", help="how to show what is kept")
    parser.add_argument("--draft", metavar="TEXT", help="a draft written elsewhere, for methods that read one")
    parser.add_argument("--html", metavar="FILE", help="write a page; with --method at2 it shows each token's worth")


def run(args: argparse.Namespace) -> None:
    from ..errors import ContextTooLongError
    from ..report import check_report_path, html_report, terminal_report, write_html_report

    if args.html:
        check_report_path(args.html)  # before the model runs
    passages = read_passages(args.passages)
    pruner = load_pruner(args, order=args.order)
    result = pruner.answer(args.question, passages, args.k, draft=args.draft)
    if args.html:
        try:
            draft = None if result.fallback else result.draft
            tokens = None if draft is None else pruner.token_scores(args.question, passages, draft)
        except ContextTooLongError:  # scored in windows: no one pass sees every token
            tokens = None
        page = html_report(result, tokens, model=pruner.language_model.name, scorer=pruner.scorer.name)
        write_html_report(args.html, page)
    if args.json:
        print(json.dumps(result.to_dict(), ensure_ascii=False))
    else:
        print(terminal_report(result))
        if args.html:
            print(f"page: {args.html}", file=sys.stderr)
