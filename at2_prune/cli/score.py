"""The command `at2-prune score`."""

from __future__ import annotations

import argparse
import json

from .options import add_pruner_options, load_pruner, read_input

HELP = "Score passages without pruning them."
EXAMPLES = """examples:
  at2-prune score "Where was Adolphe Sax born?" --passages passages.json
  at2-prune score "Where was Adolphe Sax born?" --passages passages.json --method at2 --draft "Dinant"
  at2-prune score "…" --passages - --granularity sentence --json < passages.json

With a method that reads a draft, such as at2, a score says how much the draft used a passage. Any model may have
written the draft. An attention method reads the draft in one forward pass of the scoring model. Without --draft, the
reader writes a draft. The reader is the scoring model, unless --reader names another model."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_pruner_options(parser)
    parser.add_argument(
        "--draft",
        metavar="TEXT",
        help="the draft: a first answer, for methods that score passages by a draft (default: the reader writes the "
        "draft)",
    )


def run(args: argparse.Namespace) -> None:
    """Score the passages and print them, the best first."""
    from ..report.text import decimals_for, number, visible

    passages = read_input(args)
    pruner = load_pruner(args, "granularity", "overflow")
    sources = pruner.attribute(args.question, passages, args.draft)
    if args.json:
        rows = [{"passage": s.passage, "text": s.text, "score": s.score, "rank": s.rank} for s in sources]
        print(json.dumps({"question": args.question, "scores": rows}, ensure_ascii=False))
    else:
        decimals = decimals_for([source.score for source in sources])
        print("rank     score  passage")
        for source in sorted(sources, key=lambda source: source.rank):
            title = passages[source.passage].title
            shown = visible(" ".join(f"{title}: {source.text}".split() if title else source.text.split()))
            print(f"{source.rank:>4}  {number(source.score, decimals, '-'):>8}  [{source.passage}] {shown[:90]}")
