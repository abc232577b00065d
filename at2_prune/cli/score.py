"""`at2-prune score`"""

from __future__ import annotations

import argparse
import json

from .options import add_pruner_options, load_pruner, read_passages

HELP = "Score passages by their influence on a draft; nothing is pruned."
EXAMPLES = """examples:
  at2-prune score "Where was Adolphe Sax born?" --passages passages.json --draft "Dinant"
  at2-prune score "…" --passages - --granularity sentence --json < passages.json

The draft may come from any model: one forward pass of the local one scores it. Without --draft the local model drafts."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_pruner_options(parser)
    parser.add_argument("--draft", metavar="TEXT", help="the draft to attribute (default: the model writes one)")


def run(args: argparse.Namespace) -> None:
    from ..report import bars

    passages = read_passages(args.passages)
    pruner = load_pruner(args)
    sources = pruner.attribute(args.question, passages, args.draft)
    if args.json:
        rows = [{"passage": s.passage, "text": s.text, "score": s.score, "rank": s.rank} for s in sources]
        print(json.dumps({"question": args.question, "scores": rows}, ensure_ascii=False))
    else:
        print(bars(sources, passages))
