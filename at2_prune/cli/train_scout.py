"""The command `at2-prune train-scout`."""

from __future__ import annotations

import argparse

from ..progress import shown
from .options import add_learned_embedder, add_model_options, data_name, known_depth, load_model, positive, warn_of_few

HELP = "Train scout's coefficients for a model, from questions with labelled supporting passages."
EXAMPLES = """examples:
  at2-prune train-scout --data train.jsonl --out coefficients/
  at2-prune train-scout --data hotpotqa.jsonl nq.jsonl --limit 300 100 --out coefficients/
  at2-prune train-scout --data hotpotqa.jsonl --embedder BAAI/bge-small-en --out scout-dense/
  at2-prune train-scout --model Qwen/Qwen3-0.6B --data hotpotqa/hotpot_qa --split train --limit 300 --out qwen3-scout/

If a run is interrupted, give the same command again: it continues where it stopped."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "--data",
        required=True,
        nargs="+",
        metavar="FILE_OR_ID",
        help="the questions: files or Hub data sets. The weight of a data set is the square root of its size",
    )
    parser.add_argument(
        "--split",
        help="the split of Hub data sets; files have no split (default: train, or validation for multi-hop data sets)",
    )
    parser.add_argument(
        "--limit",
        type=positive,
        nargs="+",
        metavar="N",
        help="use only the first N questions of a data set. Give one number for all data sets, or one number for each "
        "data set (default: all questions)",
    )
    parser.add_argument(
        "--add-shipped",
        action="store_true",
        help="also learn from the questions that come with at2-prune; the passages of these questions vary in length",
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="the folder for examples and coefficients")
    parser.add_argument(
        "--layers",
        type=int,
        nargs="+",
        metavar="L",
        help="the layers whose keys are kept (default: the middle and the last layer of the model's first third)",
    )
    parser.add_argument(
        "--link-layers",
        type=int,
        nargs="+",
        metavar="L",
        help="the layers of --layers from which links are computed. A link is the attention from one passage to "
        "another (default: the last layer of --layers)",
    )
    add_learned_embedder(parser)
    parser.add_argument(
        "--holdout",
        type=float,
        default=0.15,
        metavar="PART",
        help="the share of the questions that is held out, and on which the coefficients are measured (default: 0.15)",
    )
    add_model_options(parser, answers=False)


def run(args: argparse.Namespace) -> None:
    """Collect features, fit coefficients, and print the measures on held-out questions."""
    from tqdm.auto import tqdm

    from ..calibration import shipped_data
    from ..datasets import load_questions
    from ..encoders.embedder import Embedder
    from ..errors import InputError
    from ..files import check_folder, user_path
    from ..training import ScoutSettings, TrainingData, check_evidence, check_ids, train_scout

    settings = ScoutSettings(
        tuple(args.layers or ()), tuple(args.link_layers or ()), embedder=args.embedder, holdout=args.holdout
    )
    settings.resolved(None)
    if args.embedder is not None:
        Embedder(args.embedder).check()
    settings.resolved(known_depth(args))
    check_folder(args.out)
    limits = args.limit or [None]
    if len(limits) not in (1, len(args.data)):
        raise InputError(f"--limit takes one number or one for each of the {len(args.data)} data sets, got {limits}")
    limits = limits * len(args.data) if len(limits) == 1 else limits
    data = []
    for source, limit in zip(args.data, limits, strict=True):
        questions = load_questions(source, split=None if user_path(source).exists() else args.split, limit=limit)
        check_evidence(questions, source)
        data.append(TrainingData(questions, data_name(source), {"split": args.split, "limit": limit}))
    check_ids(data)
    warn_of_few(sum(len(one.questions) for one in data))
    if args.add_shipped:
        data.append(shipped_data())
    language_model = load_model(args)
    with tqdm(
        total=sum(len(one.questions) for one in data),
        desc="reading",
        unit="question",
        smoothing=0.1,
        disable=shown() is False,
    ) as bar:
        report = train_scout(language_model, data, args.out, settings, progress=bar.update)
    for reason, count in report.skipped.items():
        print(f"left out {count} questions: {reason}")
    measured = f"held out {report.held_out}:" if report.recall else "no question is held out, so nothing is measured"
    print(f"fitted to {report.fitted} questions; {measured}")
    for source, by in report.recall.items():
        for measure, value in by.items():
            print(f"  {source:<32}{measure:<10}{value}")
    print(f"saved to {args.out}")
