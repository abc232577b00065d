"""The command `at2-prune train`."""

from __future__ import annotations

import argparse
import logging
from typing import TYPE_CHECKING

from ..files import check_folder
from ..progress import shown
from .options import add_model_options, add_thoughts_option, data_name, known_depth, load_model, positive, warn_of_few

if TYPE_CHECKING:
    from ..training import TrainingReport, TrainingSettings

logger = logging.getLogger(__name__)

HELP = "Train head coefficients for a model, by ablating passages."
EXAMPLES = """examples:
  at2-prune train --data train.jsonl --ablations 8 --out coefficients/
  at2-prune train --model Qwen/Qwen3-0.6B --data hotpotqa/hotpot_qa --split train --limit 300 --out qwen3/
  at2-prune train --model Qwen/Qwen3-0.6B --data hotpotqa/hotpot_qa --split train --limit 300 --thoughts own \\
      --max-new-tokens 1000 --out qwen3-thoughts/  (learns to attribute answers to the model's thoughts)
  at2-prune train --model M --data databricks/databricks-dolly-15k --granularity token --targets sentence \\
      --limit 4000 --out dolly/  (the settings with which AT2's authors trained their published coefficients)

If a run is interrupted, give the same command again: it continues where it stopped."""

_GRANULARITIES = ["passage", "sentence", "token"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    _add_data_options(parser)
    parser.add_argument("--out", required=True, metavar="DIR", help="the folder for examples and coefficients")
    _add_ablation_options(parser)
    parser.add_argument(
        "--learn-from",
        choices=["draft", "answer"],
        default="draft",
        help="the supervision. draft: ablations measure the log-odds of the draft, as in the AT2 paper. answer: "
        "ablations measure the log-odds of the known answer (default: draft)",
    )
    parser.add_argument(
        "--rows",
        nargs="+",
        metavar="NAME",
        default=["draft"],
        help="the tokens whose attention is read and weighted: draft, question or last (the prompt's last token); at "
        "least one name must begin with draft. The suffix -max takes the maximum over these tokens instead of the "
        "mean. By default, attention weights are read. The suffix -contribution reads the contribution of each token "
        "to the head's output. The suffix -effective reads only the part of attention that can affect this output "
        "(default: draft)",
    )
    parser.add_argument(
        "--examples",
        metavar="DIR",
        help="the folder of an earlier run. The examples in this folder are used, and new examples are added to the "
        "folder (default: the folder of --out)",
    )
    parser.add_argument(
        "--holdout",
        type=float,
        default=0.15,
        metavar="PART",
        help="the share of the questions that is held out, and on which the coefficients are measured (default: 0.15)",
    )
    parser.add_argument(
        "--steps",
        type=positive,
        default=1000,
        metavar="N",
        help="the number of steps of the fit. With a hundred questions or fewer, 1000 steps can overfit: try 30, and "
        "compare the held-out measures (default: 1000)",
    )
    parser.add_argument("--seed", type=int, default=0, help="the seed of the ablations and of the fit (default: 0)")
    add_model_options(parser)


def _add_data_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, metavar="FILE_OR_ID", help="questions: a file or a Hub data set")
    parser.add_argument(
        "--split", help="the split of a Hub data set (default: train, or validation for multi-hop data sets)"
    )
    parser.add_argument(
        "--ids",
        metavar="FILE",
        help="a file with one id on each line. Only the questions with these ids are used, in the order of the file "
        "(default: all questions)",
    )
    parser.add_argument("--limit", type=positive, metavar="N", help="use the first N questions (default: all)")
    parser.add_argument(
        "--shuffle-passages",
        type=int,
        metavar="S",
        help="shuffle each question's passages with this seed, so that the coefficients do not depend on the passages' "
        "positions (default: the order of the data)",
    )


def _add_ablation_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--ablations", type=positive, default=32, metavar="N", help="the number of ablations per question (default: 32)"
    )
    parser.add_argument(
        "--granularity",
        choices=_GRANULARITIES,
        default="passage",
        help="the kind of source. Sources are scored, and ablations leave sources out (default: passage)",
    )
    add_thoughts_option(parser)
    parser.add_argument("--sources", choices=_GRANULARITIES, help=argparse.SUPPRESS)  # the old name of --granularity
    parser.add_argument(
        "--targets",
        choices=["draft", "sentence"],
        default="draft",
        help="the targets of the ablations. Each target gets its own log-odds. draft: the whole draft (or the known "
        "answer) is one target. sentence: each sentence of the draft is a target; this needs --learn-from draft "
        "(default: draft)",
    )
    parser.add_argument(
        "--positions",
        choices=["kept", "closed"],
        default="kept",
        help="how ablations leave sources out. kept: an attention mask hides the tokens of these sources, and all "
        "positions are kept, as in the AT2 paper. closed: the text of these sources is removed (default: kept)",
    )


def run(args: argparse.Namespace) -> None:
    from pathlib import Path

    from tqdm.auto import tqdm

    from ..datasets import load_questions
    from ..training import TrainingData, check_store, train

    # A wrong setting, or a missing package or folder, must raise an error before the model is loaded.
    settings = _settings(args)
    settings.check()
    known_depth(args)  # this raises an error if the model does not exist
    settings.check_packages()
    check_folder(args.out)
    if args.examples:
        check_store(args.examples)
    questions = load_questions(
        args.data, split=args.split, ids=args.ids, limit=args.limit, shuffle_passages=args.shuffle_passages
    )
    settings.check_questions(questions, args.data)
    warn_of_few(len(questions))
    language_model = load_model(args)
    if args.thoughts:
        language_model = language_model.reasoning(args.thoughts == "own")
    selection = {
        "split": args.split,
        "ids": args.ids and Path(args.ids).name,
        "limit": args.limit,
        "shuffle_passages": args.shuffle_passages,
    }
    data = TrainingData(questions, data_name(args.data), selection, args.examples)
    with tqdm(total=len(questions), desc="ablating", unit="question", smoothing=0.1, disable=shown() is False) as bar:
        report = train(language_model, data, args.out, settings, progress=bar.update)
    _print_report(report)
    print(f"saved to {args.out}")


def _settings(args: argparse.Namespace) -> TrainingSettings:
    from ..attention.rows import RowGroup
    from ..training import CollectSettings, FitSettings, TrainingSettings

    granularity = args.granularity
    if args.sources is not None:
        logger.warning("--sources is now called --granularity; the old name will be removed in the next release")
        granularity = args.sources
    collect = CollectSettings(
        ablations=args.ablations,
        granularity=granularity,
        targets=args.targets,
        positions=args.positions,
        max_new_tokens=args.max_new_tokens,
        seed=args.seed,
        learn_from=args.learn_from,
        thoughts=args.thoughts is not None,
    )
    row_groups = tuple(RowGroup.from_name(name) for name in args.rows)
    return TrainingSettings(
        collect, FitSettings(steps=args.steps, seed=args.seed), row_groups=row_groups, holdout=args.holdout
    )


def _print_report(report: TrainingReport) -> None:
    for reason, count in report.skipped.items():
        print(f"left out {count} questions: {reason}")
    if report.curve:
        shown = report.curve[:: len(report.curve) // 4 or 1]
        print(
            "correlation of scores and ablation outcomes on the training questions, by step: "
            + ", ".join(f"{s}: {c:.3f}" for s, c in shown)
        )
    measured = (
        f"held out {report.held_out}:"
        if report.held_out_measures
        else "no question is held out, so nothing is measured"
    )
    print(f"fitted to {report.fitted} questions; {measured}")
    for measure, estimates in report.held_out_measures.items():
        for who, value in estimates.items():
            print(f"  {'LDS' if measure == 'lds' else measure:<32}{who.replace('_', ' '):<18}{value}")
