"""`at2-prune eval`"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..errors import InputError
from .options import add_model_options, load_model, positive

if TYPE_CHECKING:
    from ..model import LanguageModel
    from ..scorers import Scorer

HELP = "Measure what pruning does to answers: methods x k, with 95 % intervals, figures and a report."
METHODS = ("at2", "average_attention", "bm25", "retriever_order", "random")
EXAMPLES = """examples:
  at2-prune eval --out runs/sample                      (the dozen questions that come with at2-prune)
  at2-prune eval --data hotpot_dev_distractor_v1.json --limit 200 --methods all --k 1 2 3 4 5 7 --out runs/hotpotqa
  at2-prune eval --data hotpotqa/hotpot_qa --limit 100 --seed 0 --model Qwen/Qwen3-0.6B --coefficients qwen3/ \\
      --out runs/qwen3
  at2-prune eval --methods dense cross_encoder --cross-encoder BAAI/bge-reranker-base --out runs/rerankers
  torchrun --nproc_per_node 4 -m at2_prune eval --data musique_ans_v1.0_dev.jsonl --out runs/musique

No pruning (none) and the gold passages only (oracle) are always compared. Methods: at2, average_attention,
last_layer_attention, contribution, effective_attention, gradient_x_input, leave_one_out, surrogate_32, surrogate_64,
bm25, dense, cross_encoder, retriever_order, random; and every name given to --coefficients.
DIR gets questions.jsonl, a line a question as it is done; results.json; table.md; figures; and report.html.
An interrupted run goes on where it stopped when the same command is given again. Drafts, ablations and answers are
remembered in --cache by content, so that another run with more methods pays for those only."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data",
        metavar="FILE_OR_ID",
        help="questions with answers and gold passages: a HotpotQA, 2WikiMultihopQA or MuSiQue file, or a Hub data set "
        "(default: the sample questions)",
    )
    data.add_argument("--split", help="of a Hub data set")
    data.add_argument("--limit", type=positive, metavar="N", help="use the first N questions (default: all)")
    data.add_argument("--seed", type=int, metavar="S", help="shuffle the questions with it before --limit")
    data.add_argument("--type", nargs="+", metavar="T", help="of questions, bridge or comparison (default: all)")
    data.add_argument(
        "--shuffle-passages", type=int, metavar="S", help="shuffle each question's passages: their order matters"
    )
    data.add_argument("--skip-invalid", action="store_true", help="leave out rows that cannot be used, and count them")
    methods = parser.add_argument_group("methods")
    methods.add_argument(
        "--methods",
        nargs="+",
        default=list(METHODS),
        metavar="M",
        help=f"what to compare (default: {' '.join(METHODS)}); all: everything that can run here",
    )
    methods.add_argument(
        "--k", type=positive, nargs="+", default=[1, 2, 3, 5], metavar="K", help="passages to keep (default: 1 2 3 5)"
    )
    methods.add_argument(
        "--coefficients",
        nargs="+",
        default=[],
        metavar="[NAME=]DIR_OR_ID",
        help="head coefficients, and the method they make (default: at2, with those that come with the model)",
    )
    methods.add_argument("--embedder", metavar="ID_OR_PATH", help="of the method dense")
    methods.add_argument("--cross-encoder", metavar="ID_OR_PATH", help="of the method cross_encoder")
    parser.add_argument("--out", required=True, metavar="DIR", help="where results go")
    parser.add_argument(
        "--cache", metavar="FILE", help="what is remembered between runs (default: in the user's cache)"
    )
    add_model_options(parser)


def run(args: argparse.Namespace) -> None:
    from collections import Counter
    from pathlib import Path

    from at2_prune_eval import Bench, ModelCache, Processes, ProgressBar, evaluate, reading, text_table

    from ..embedded import cache_folder
    from ..questions import load_questions, sample_questions_path

    source = sample_questions_path() if args.data is None else args.data
    skipped: Counter[str] = Counter()
    questions = load_questions(
        source,
        split=args.split,
        limit=args.limit,
        seed=args.seed,
        kinds=args.type,
        shuffle_passages=args.shuffle_passages,
        require=("answer", "gold"),
        skipped=skipped if args.skip_invalid else None,
    )
    processes = Processes()
    args.device = args.device or processes.device
    language_model = load_model(args)
    scorers = _scorers(args, language_model)
    bench = Bench(language_model, ModelCache(args.cache or cache_folder() / "evaluation.sqlite"), args.max_new_tokens)
    data = {
        "name": Path(source).name if Path(source).exists() else str(source),
        "split": args.split,
        "limit": args.limit,
        "seed": args.seed,
        "types": args.type,
        "shuffle_passages": args.shuffle_passages,
    }
    total = len(processes.share(questions))
    with ProgressBar(total, args.k, scorers[0].name if scorers else "oracle", shown=processes.rank == 0) as bar:
        results = evaluate(
            bench, scorers, questions, args.k, args.out, data=data, skipped=skipped, processes=processes, progress=bar
        )
    if processes.rank:
        return
    print(text_table(results))
    print(f"\n{reading(results)}")
    print("Means over questions, with 95 % bootstrap intervals.")
    for reason, count in results["skipped"].items():
        print(f"{count} rows left out: {reason}")
    if results["empty_drafts"]:
        print(f"The model drafted nothing for {results['empty_drafts']} questions; there the first k were kept.")
    print(f"saved to {args.out}: results.json, questions.jsonl, table.md")


def _scorers(args: argparse.Namespace, language_model: LanguageModel) -> list[Scorer]:
    """The methods asked for; `all` leaves out, aloud, what cannot run here."""
    import logging

    from ..errors import CoefficientsError, MissingExtraError
    from ..pruner import load_coefficients
    from ..scorers import SCORERS, ScorerOptions, make_scorer

    everything = args.methods == ["all"]
    given = dict(entry.split("=", 1) if "=" in entry else ("at2", entry) for entry in args.coefficients)
    coefficients = {name: load_coefficients(language_model, path) for name, path in given.items()}
    if "at2" not in coefficients and (everything or "at2" in args.methods):
        try:
            coefficients["at2"] = load_coefficients(language_model)
        except CoefficientsError as error:
            if not everything:
                raise CoefficientsError(f"{error}; or leave at2 out of --methods") from None
            logging.getLogger(__name__).warning("without at2: %s", error)
    options = ScorerOptions(coefficients, args.embedder, args.cross_encoder)
    names = list(dict.fromkeys([*coefficients, *SCORERS])) if everything else [*args.methods]
    names += [name for name in given if name not in names]
    scorers = []
    for name in dict.fromkeys(names):
        try:
            scorers.append(make_scorer(name, options))
        except (MissingExtraError, InputError) as error:
            if not everything:
                raise
            logging.getLogger(__name__).warning("without %s: %s", name, error)
    return scorers
