"""The command `at2-prune index`."""

from __future__ import annotations

import argparse

from ..progress import shown
from .options import add_model_options, add_settings, load_model, read_passages

HELP = "Read passages once and keep their keys in a folder, for the method scout."
EXAMPLES = """examples:
  at2-prune index --passages corpus.json --out index/
  at2-prune answer "Who wrote Dracula?" --passages corpus.json --index index/

If it is interrupted, give the same command again: passages that are in the folder are not read again."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "--passages",
        required=True,
        metavar="FILE",
        help="a JSON list of strings or of {text, title?, id?, score?}; with -, the list is read from stdin",
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="the folder of the index")
    add_settings(parser, "coefficients")
    add_model_options(parser)


def run(args: argparse.Namespace) -> None:
    """Read the passages that the folder does not hold."""
    from tqdm.auto import tqdm

    from ..files import check_folder
    from ..scorers.base import ScorerOptions
    from ..scorers.registry import check_scorer, load_scorer
    from ..scorers.scout import ScoutScorer

    check_folder(args.out)
    check_scorer(args.model, "scout", args.coefficients, ScorerOptions(index=args.out))
    passages = read_passages(args.passages)
    language_model = load_model(args)
    scorer = load_scorer(language_model, "scout", args.coefficients, index=args.out)
    assert isinstance(scorer, ScoutScorer)
    index = scorer.index(language_model)
    with tqdm(total=len(passages), desc="reading", unit="passage", smoothing=0.1, disable=shown() is False) as bar:
        new = index.add(passages, bar.update)
    print(f"read {new} new passages of {len(passages)}; the index is in {args.out}")
    kept = [record for records in index.records(passages[:100]) for record in records]
    if kept:
        print(f"{sum(r.nbytes for r in kept) / sum(r.tokens for r in kept):,.0f} bytes a token are kept")
