"""The command `at2-prune cite`."""

from __future__ import annotations

import argparse
import json
import sys

from ..catalogue import METHODS
from ..errors import InputError, need_package
from .options import add_pruner_options, add_thoughts_option, load_pruner, positive, read_input, scorer_options

HELP = "Show which passages each sentence of an answer came from."
EXAMPLES = """examples:
  at2-prune cite "Where was Adolphe Sax born?" --passages passages.json
  at2-prune cite "…" --passages passages.json --answer "He was born in Dinant. It lies on the Meuse." --html page.html
  at2-prune cite "…" --passages passages.json --answer "…" --ablations 32 --json
  at2-prune cite "…" --passages passages.json --thoughts own --model Qwen/Qwen3-0.6B --coefficients DIR \\
      --max-new-tokens 1000

The method must be one that reads an answer. The default is at2, or the method of --coefficients. Any model may have
written the answer. An attention method reads all sentences of the answer in one forward pass of the scoring model.
Without --answer, the reader writes an answer.

--json prints one object: question, answer, method, statements and sources. Each statement has its text, its place in
the answer (start, stop), the scores of all sources, and citations. The citations are the cited sources, best first,
each with its share of the positive scores. With --ablations, each citation also has an effect. The effect estimates how
much the log-odds of the statement, in nats, fall without the source. Each statement then has a correlation, which says
how well the scores agree with the ablations.

With --thoughts, the sources are the sentences that the model writes before its answer. --max-new-tokens limits the
thoughts and the answer together."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_pruner_options(parser)
    parser.add_argument(
        "--answer", dest="draft", metavar="TEXT", help="the answer to attribute (default: the reader writes one)"
    )
    parser.add_argument(
        "--ablations",
        type=positive,
        default=0,
        metavar="N",
        help="run N ablations (at least 3), and estimate the effect of each source from these ablations (default: 0, "
        "no ablations)",
    )
    add_thoughts_option(parser)
    parser.add_argument("--html", metavar="FILE", help="also write an HTML page")


def run(args: argparse.Namespace) -> None:
    """Attribute the answer, and print or write the reports."""
    from ..pruning.pruner import AT2Pruner
    from ..pruning.statements import check_ablations, check_reads_answers
    from ..report import check_report_path, html_citations, terminal_citations, write_html_report
    from ..scorers.registry import check_scorer

    if args.html:
        check_report_path(args.html)  # a wrong path must raise an error before the model runs
    if args.thoughts and args.draft is not None:
        raise InputError("--thoughts needs an answer that the model writes itself: leave out --answer")
    if args.method is None and args.coefficients is None:
        args.method = "at2"
    if args.thoughts and args.reader is not None:
        raise InputError("--thoughts needs an answer that the scoring model writes: leave out --reader")
    need_package("sentencex", "sentences", "Splitting answers into sentences")
    check_ablations(args.ablations)
    passages = read_input(args)
    method, scorer = check_scorer(args.model, args.method, args.coefficients, scorer_options(args))
    uses_draft = not METHODS[method].uses_index if scorer is None else scorer.uses_draft
    check_reads_answers(method, uses_draft)
    pruner = load_pruner(args, "granularity", "overflow")
    if args.thoughts:
        options = {name: getattr(args, name) for name in ("granularity", "overflow", "max_new_tokens")}
        pruner = AT2Pruner(pruner.language_model.reasoning(args.thoughts == "own"), pruner.scorer, **options)
        cited = pruner.attribute_thoughts(args.question, passages, ablations=args.ablations)
    else:
        cited = pruner.attribute(args.question, passages, args.draft, statements="sentence", ablations=args.ablations)
    print(json.dumps(cited.to_dict(), ensure_ascii=False) if args.json else terminal_citations(cited), flush=True)
    if args.html:
        write_html_report(args.html, html_citations(cited, model=pruner.language_model.name))
        if not args.json:
            print(f"The HTML page is in {args.html}.", file=sys.stderr)
