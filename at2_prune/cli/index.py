"""The command `at2-prune index`."""

from __future__ import annotations

import argparse

from ..errors import InputError
from ..progress import shown
from .options import add_model_options, add_settings, load_model, method_of_scout, read_passages

HELP = "Read each passage once, and store its attention keys in a folder. The method scout then reuses the keys."
EXAMPLES = """examples:
  at2-prune index --passages corpus.json --out index/
  at2-prune answer "Who wrote Dracula?" --passages corpus.json --index index/
  torchrun --nproc_per_node 4 -m at2_prune index --passages corpus.json --out index/   (each process reads a share)
  at2-prune index --merge part-1/ part-2/ --out index/   (the parts that several machines made)

If the command is interrupted, give the same command again. Passages that are in the folder already are not read."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--merge",
        nargs="+",
        metavar="DIR",
        help="the folders of other indexes; their passages are copied into the index of --out (default: none)",
    )
    source.add_argument(
        "--passages",
        metavar="FILE",
        help="JSON Lines or a JSON list of strings or of {text, title?, id?, score?}; with -, a list from stdin "
        "(default: none)",
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="the folder of the index")
    parser.add_argument(
        "--embedder",
        metavar="FOLDER_OR_ID",
        help="also keep this embedder's embedding of each passage, for the method scout_dense (default: none)",
    )
    add_settings(parser, "coefficients")
    add_model_options(parser, answers=False)


def run(args: argparse.Namespace) -> None:
    """Merge indexes, or read the passages that the folder does not hold yet.

    If several processes run the command, each process reads a share of these passages.
    """
    if args.merge:
        for name in ("coefficients", "embedder", "model", "device", "dtype"):
            if getattr(args, name) is not None:
                raise InputError(f"--merge copies indexes and loads no model: leave out --{name}")
        from ..passage_index.stores import merge_folders

        copied, held = merge_folders(args.out, args.merge)
        print(f"copied {copied} passages; the index in {args.out} now has {held}")
        return
    from tqdm.auto import tqdm

    from ..files import check_folder
    from ..passages import check_some_text
    from ..processes import Processes
    from ..scorers.base import ScorerOptions
    from ..scorers.registry import check_scorer, load_scorer
    from ..scorers.scout import ScoutScorer

    check_folder(args.out)
    processes = Processes()
    if processes.count > 1 and args.passages == "-":
        raise InputError("with --passages -, only one process can read stdin, but several are running: name a file")
    method = method_of_scout(args.coefficients, args.embedder)
    check_scorer(args.model, method, args.coefficients, ScorerOptions(embedder=args.embedder, index=args.out))
    passages = read_passages(args.passages)
    check_some_text(passages)
    args.device = args.device or processes.device
    processes.wait()  # all processes must check the folder before the first one makes an index in it
    language_model = load_model(args)
    with processes.first_then_others():
        scorer = load_scorer(language_model, method, args.coefficients, index=args.out, embedder=args.embedder)
    assert isinstance(scorer, ScoutScorer)
    index = scorer.index(language_model)
    mine = processes.share(index.unique(passages))
    hidden = processes.rank > 0 or shown() is False
    with tqdm(total=len(mine), desc="reading", unit="passage", smoothing=0.1, disable=hidden) as bar:
        new = processes.sum(index.add(mine, bar.update))
    if processes.rank > 0:
        return
    print(f"read {new} new passages of {len(passages)}; the index is in {args.out}")
    kept = [record for records in index.records(passages[:100]) for record in records]
    if kept:
        print(f"{sum(r.nbytes for r in kept) / sum(r.tokens for r in kept):,.0f} bytes are kept for each token")
