"""`at2-prune eval`"""

from __future__ import annotations

import argparse

from .options import add_model_options, load_model, positive

HELP = "Measure what pruning does to answers: F1, EM, recall of gold passages and seconds, with 95 % intervals."
EXAMPLES = """examples:
  at2-prune eval --out runs/sample                      (the dozen questions that come with at2-prune)
  at2-prune eval --data hotpot_dev_distractor_v1.json --limit 200 --k 1 2 3 5 --out runs/hotpotqa
  at2-prune eval --data hotpotqa/hotpot_qa --limit 100 --seed 0 --model Qwen/Qwen3-0.6B --coefficients qwen3/ \\
      --out runs/qwen3

Compared on the same questions: no pruning (none), AT2 and average attention at each k, and the gold passages only
(oracle). DIR gets questions.jsonl, a line a question as it is done; results.json; and table.md.
An interrupted run goes on where it stopped when the same command is given again."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        metavar="FILE_OR_ID",
        help="questions with answers and gold passages: a file or a Hub data set (default: the sample questions)",
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="where results go")
    parser.add_argument("--split", help="of a Hub data set")
    parser.add_argument("--limit", type=positive, metavar="N", help="use the first N questions (default: all)")
    parser.add_argument("--seed", type=int, metavar="S", help="shuffle the questions with it before --limit")
    parser.add_argument(
        "--k", type=positive, nargs="+", default=[1, 2, 3, 5], metavar="K", help="passages to keep (default: 1 2 3 5)"
    )
    parser.add_argument(
        "--coefficients",
        metavar="PATH_OR_ID",
        help="head coefficients for AT2 (default: those that come with at2-prune for the model); `average`: without "
        "AT2, average attention only",
    )
    add_model_options(parser)


def run(args: argparse.Namespace) -> None:
    from pathlib import Path

    from at2_prune_eval import ProgressBar, evaluate, reading, text_table

    from ..pruner import load_coefficients
    from ..questions import load_questions, sample_questions_path
    from ..scorers import AT2Scorer, AverageAttentionScorer, Scorer

    source = sample_questions_path() if args.data is None else args.data
    questions = load_questions(source, split=args.split, limit=args.limit, seed=args.seed)
    language_model = load_model(args)
    scorers: list[Scorer] = [AverageAttentionScorer()]
    if args.coefficients != "average":
        scorers.insert(0, AT2Scorer(load_coefficients(language_model, args.coefficients)))
    with ProgressBar(len(questions), args.k, scorers[0].name) as bar:
        results = evaluate(
            language_model,
            scorers,
            questions,
            args.k,
            args.out,
            data_name=Path(source).name if Path(source).exists() else str(source),
            limit=args.limit,
            seed=args.seed,
            max_new_tokens=args.max_new_tokens,
            progress=bar,
        )
    print(text_table(results))
    print(f"\n{reading(results)}")
    print("Means over questions, with 95 % bootstrap intervals; recall is that of gold passages, seconds a question's.")
    if results["empty_drafts"]:
        print(f"The model drafted nothing for {results['empty_drafts']} questions; there the first k were kept.")
    print(f"saved to {args.out}: results.json, questions.jsonl, table.md")
