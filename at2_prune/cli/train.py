"""`at2-prune train`"""

from __future__ import annotations

import argparse

from .options import add_model_options, load_model, positive

HELP = "Train head coefficients for a model, by ablating passages or from supporting facts."
EXAMPLES = """examples:
  at2-prune train --data train.jsonl --ablations 8 --out coefficients/
  at2-prune train --model Qwen/Qwen3-0.6B --data hotpotqa/hotpot_qa --split train --limit 100 --learn-from evidence \\
      --out qwen3-scout/  (for the method scout: one forward pass over a third of the layers a question)
  at2-prune train --model Qwen/Qwen3-0.6B --data hotpotqa/hotpot_qa --split train --limit 300 --out qwen3/
  at2-prune train --model M --data databricks/databricks-dolly-15k --sources token --targets sentence --limit 4000 \\
      --out dolly/        (the recipe of the published estimators)

An interrupted run goes on where it stopped when the same command is given again."""


_TITLES = {"lds": "LDS", "gold_recall": "gold passages in the top 2", "both_gold": "all of them in the top 2"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, metavar="FILE_OR_ID", help="questions: a file or a Hub data set")
    parser.add_argument("--out", required=True, metavar="DIR", help="where examples and coefficients go")
    parser.add_argument("--split", help="of a Hub data set")
    parser.add_argument("--ids", metavar="FILE", help="the questions with these ids, one a line, in this order")
    parser.add_argument("--limit", type=positive, metavar="N", help="use the first N questions")
    parser.add_argument(
        "--shuffle-passages",
        type=int,
        metavar="S",
        help="shuffle each question's passages, so that no place is learned",
    )
    parser.add_argument("--ablations", type=positive, default=32, metavar="N", help="a question (default: 32)")
    parser.add_argument(
        "--sources", choices=["passage", "sentence", "token"], default="passage", help="what is scored and left out"
    )
    parser.add_argument(
        "--targets", choices=["draft", "sentence"], default="draft", help="the whole draft, or each of its sentences"
    )
    parser.add_argument(
        "--positions",
        choices=["kept", "closed"],
        default="kept",
        help="leave sources out by attention mask, positions kept (default, the paper's), or remove their text",
    )
    parser.add_argument(
        "--learn-from",
        choices=["draft", "answer", "evidence"],
        default="draft",
        help="ablations of the draft (default, the paper's), ablations of the known answer, or the supporting passages "
        "that the data names",
    )
    parser.add_argument(
        "--rows",
        nargs="+",
        metavar="NAME",
        help="what coefficients weigh: draft, question, last or sources (their own rows), with -max and -contribution "
        "or -effective (default: draft; to learn from evidence question, question-max, sources and sources-max)",
    )
    parser.add_argument(
        "--layers",
        type=int,
        nargs="+",
        metavar="L",
        help="to learn from evidence without a draft: which layers to read, counted from 0; none after the last of "
        "them runs (default: the first third)",
    )
    parser.add_argument("--examples", metavar="DIR", help="use the ablations of an earlier run, to fit other rows")
    parser.add_argument("--holdout", type=float, default=0.15, metavar="PART", help="to measure on (default: 0.15)")
    parser.add_argument("--seed", type=int, default=0, help="of ablations and fit (default: 0)")
    add_model_options(parser)


def run(args: argparse.Namespace) -> None:
    from pathlib import Path

    from tqdm.auto import tqdm

    from ..attention.rows import RowGroup
    from ..datasets import load_questions
    from ..training import CollectSettings, FitSettings, train

    row_groups = [RowGroup.from_name(name) for name in args.rows] if args.rows else None
    questions = load_questions(
        args.data, split=args.split, ids=args.ids, limit=args.limit, shuffle_passages=args.shuffle_passages
    )
    language_model = load_model(args)
    settings = CollectSettings(
        args.ablations,
        args.sources,
        args.targets,
        args.positions,
        args.max_new_tokens,
        args.seed,
        args.learn_from,
        None if args.layers is None else tuple(sorted(set(args.layers))),
    )
    path = Path(args.data).absolute()
    name = f"{path.parent.name}/{path.name}" if path.exists() else args.data  # the same wherever the folder lies
    bar = tqdm(
        total=len(questions),
        desc="reading" if args.learn_from == "evidence" else "ablating",
        unit="question",
        smoothing=0.1,
    )
    report = train(
        language_model,
        questions,
        args.out,
        data_name=name,
        selection={
            "split": args.split,
            "ids": args.ids and Path(args.ids).name,
            "limit": args.limit,
            "shuffle_passages": args.shuffle_passages,
        },
        collect=settings,
        fit_settings=FitSettings(seed=args.seed),
        row_groups=row_groups,
        holdout=args.holdout,
        examples=args.examples,
        progress=bar.update,
    )
    bar.close()
    for reason, count in report.skipped.items():
        print(f"left out {count} questions: {reason}")
    if report.curve:
        shown = report.curve[:: len(report.curve) // 4 or 1]
        print("correlation on the training questions by step: " + ", ".join(f"{s}: {c:.3f}" for s, c in shown))
    print(f"fitted to {report.fitted} questions; held out {report.held_out}:")
    for measure, estimates in report.held_out_measures.items():
        for who, value in estimates.items():
            print(f"  {_TITLES.get(measure, measure):<26}{who.replace('_', ' '):<18}{value}")
    print(f"saved to {args.out}")
