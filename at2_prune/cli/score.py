"""`at2-prune score`"""

from __future__ import annotations

import argparse
import json

from .options import add_pruner_options, load_pruner, read_passages

HELP = "Score passages; nothing is pruned."
EXAMPLES = """examples:
  at2-prune score "Where was Adolphe Sax born?" --passages passages.json
  at2-prune score "Where was Adolphe Sax born?" --passages passages.json --method at2 --draft "Dinant"
  at2-prune score "…" --passages - --granularity sentence --json < passages.json

With a method that reads a draft, such as at2, scores say what that draft used. It may come from any model: one forward
pass of the local one reads it. Without --draft the local one drafts."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_pruner_options(parser)
    parser.add_argument("--draft", metavar="TEXT", help="to be attributed, by at2 say (default: the model drafts)")


def run(args: argparse.Namespace) -> None:
    from ..report.text import decimals_for, number, visible

    passages = read_passages(args.passages)
    pruner = load_pruner(args)
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
