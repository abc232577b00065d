"""`at2-prune eval`"""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING

from at2_prune.catalogue import METHODS, learned_methods, scoring_methods
from at2_prune.cli.options import add_model_options, k_or_auto, load_model, positive
from at2_prune.errors import InputError

if TYPE_CHECKING:
    from typing import Any

    from at2_prune.coefficients.head_coefficients import HeadCoefficients
    from at2_prune.datasets import Question
    from at2_prune.models.language_model import LanguageModel
    from at2_prune.passages import Granularity
    from at2_prune.scorers import Scorer
    from at2_prune_eval import CachedLoop, Processes

HELP = "Measure what pruning does to answers: methods x k, with 95 % intervals, figures and a report."
MAIN = ("at2", "scout")
"""Compared by default where there are coefficients for them; and their rivals."""
RIVALS = ("average_attention", "bm25", "retriever_order", "random")
EXAMPLES = """examples:
  at2-prune eval --out runs/sample                      (the dozen questions that come with at2-prune)
  at2-prune eval --data hotpot_dev_distractor_v1.json --limit 200 --methods all --k 1 2 3 4 5 7 --out runs/hotpotqa
  at2-prune eval --data hotpotqa/hotpot_qa --limit 100 --seed 0 --model Qwen/Qwen3-0.6B --coefficients qwen3/ \\
      --out runs/qwen3
  at2-prune eval --methods dense cross_encoder --cross-encoder BAAI/bge-reranker-base --out runs/rerankers
  torchrun --nproc_per_node 4 -m at2_prune eval --data musique_ans_v1.0_dev.jsonl --out runs/musique

No pruning (none) and the gold passages only (oracle) are always compared. Methods: at2, scout, fusion,
average_attention, last_layer_attention, contribution, effective_attention, contribution_learned,
effective_attention_learned, gradient_x_input, leave_one_out, surrogate_32, surrogate_64, bm25, dense, cross_encoder,
retriever_order, random; and every name given to --coefficients.
DIR gets questions.jsonl, a line a question as it is done; results.json; table.md; figures; and report.html.
An interrupted run goes on where it stopped when the same command is given again. Drafts, ablations, scores and answers
are remembered in --cache by content, so that another run with more methods pays for those only."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data",
        metavar="FILE_OR_ID",
        help="questions with answers and gold passages: a HotpotQA, 2WikiMultihopQA or MuSiQue file, or a Hub data set "
        "(default: the sample questions)",
    )
    data.add_argument("--split", help="of a Hub data set")
    data.add_argument("--ids", metavar="FILE", help="the questions with these ids, one a line, in this order")
    data.add_argument("--limit", type=positive, metavar="N", help="use the first N questions (default: all)")
    data.add_argument("--offset", type=int, default=0, metavar="N", help="leave out the first N questions")
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
        metavar="M",
        help=f"what to compare (default: what there are coefficients for, and {' '.join(RIVALS)}); all: what can run "
        "here",
    )
    methods.add_argument(
        "--k",
        type=k_or_auto,
        nargs="+",
        default=[1, 2, 3, 5],
        metavar="K",
        help="passages to keep (default: 1 2 3 5); auto takes the most confident of the answers from 1, 2, 3 and 5",
    )
    methods.add_argument(
        "--coefficients",
        nargs="+",
        default=[],
        metavar="[NAME=]DIR_OR_ID",
        help="head coefficients, and what the method they make is called; without a name at2 if they weigh the draft's "
        "attention, contribution_learned or effective_attention_learned if they weigh that, scout if they need no "
        "draft (default: those that come with the model)",
    )
    methods.add_argument("--embedder", metavar="ID_OR_PATH", help="of the method dense")
    methods.add_argument("--cross-encoder", metavar="ID_OR_PATH", help="of the method cross_encoder")
    faithfulness = parser.add_argument_group("faithfulness")
    faithfulness.add_argument(
        "--faithfulness",
        type=positive,
        metavar="N",
        help="measure on the first N questions how faithful scores are: LDS, top-k drop, and three tests",
    )
    faithfulness.add_argument(
        "--sentences",
        type=positive,
        metavar="N",
        help="the same with sentences as sources, on the first N questions",
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="where results go")
    parser.add_argument("--document", metavar="FILE", help="write the results as a Markdown page too, with its figures")
    parser.add_argument(
        "--cache", metavar="FILE", help="what is remembered between runs (default: in the user's cache)"
    )
    add_model_options(parser)


def run(args: argparse.Namespace) -> None:
    import logging
    from collections import Counter
    from pathlib import Path

    from at2_prune.datasets import load_questions, sample_questions_path
    from at2_prune.errors import MissingExtraError
    from at2_prune.models.compatibility import layer_types
    from at2_prune.models.default_model import cache_folder
    from at2_prune.scorers import LearnedScorer
    from at2_prune_eval import (
        CachedLoop,
        ModelCache,
        Processes,
        ProgressBar,
        add_faithfulness,
        evaluate,
        reading,
        text_table,
        too_long,
        write_document,
        write_figures,
        write_report,
    )

    source = sample_questions_path() if args.data is None else args.data
    skipped: Counter[str] = Counter()
    questions = load_questions(
        source,
        split=args.split,
        ids=args.ids,
        limit=args.limit,
        offset=args.offset,
        seed=args.seed,
        kinds=args.type,
        shuffle_passages=args.shuffle_passages,
        require=("answer", "gold"),
        skipped=skipped if args.skip_invalid else None,
    )
    processes = Processes()
    args.device = args.device or processes.device
    language_model = load_model(args)
    language_model.compatibility.measure()  # a probe's passes are not part of what a method costs
    if args.skip_invalid:
        fitting = [q for q in questions if too_long(language_model, q, args.max_new_tokens) is None]
        skipped["longer than the model's context"] += len(questions) - len(fitting)
        questions, skipped = fitting, +skipped
    scorers = _scorers(args, language_model)
    loop = CachedLoop(
        language_model, ModelCache(args.cache or cache_folder() / "evaluation.sqlite"), args.max_new_tokens
    )
    data = {
        "name": Path(source).name if Path(source).exists() else str(source),
        "split": args.split,
        "limit": args.limit,
        "offset": args.offset,
        "seed": args.seed,
        "types": args.type,
        "shuffle_passages": args.shuffle_passages,
        **({"ids": Path(args.ids).name} if args.ids else {}),
    }
    total = len(processes.share(questions))
    with ProgressBar(total, args.k, scorers[0].name, shown=processes.rank == 0) as bar:
        results = evaluate(
            loop, scorers, questions, args.k, args.out, data=data, skipped=skipped, processes=processes, progress=bar
        )
    measured: list[tuple[Granularity, int | None]] = [("passage", args.faithfulness), ("sentence", args.sentences)]
    for granularity, count in measured:
        if count:
            _faithfulness(loop, scorers, questions[:count], args.out, results["config"], granularity, processes)
    if processes.rank:
        return
    results = add_faithfulness(args.out)
    print(text_table(results))
    print(f"\n{reading(results)}")
    print("Means over questions, with 95 % bootstrap intervals.")
    for reason, count in results["skipped"].items():
        print(f"{count} rows left out: {reason}")
    if results["empty_drafts"]:
        print(
            f"The model drafted nothing for {results['empty_drafts']} questions; there methods that look at the draft "
            "kept the first k passages."
        )
    written = ["results.json", "questions.jsonl", "table.md"]
    coefficients = {scorer.name: scorer.coefficients for scorer in scorers if isinstance(scorer, LearnedScorer)}
    kinds = layer_types(language_model.model.config)
    try:
        write_figures(results, coefficients, Path(args.out) / "figures", kinds)
        write_report(args.out, coefficients, kinds)
        written += ["figures", "report.html"]
    except MissingExtraError as error:
        logging.getLogger(__name__).warning("without pictures: %s", error)
    print(f"saved to {args.out}: {', '.join(written)}")
    if args.document:
        write_document(Path(args.out) / "results.json", args.document)
        print(f"page: {args.document}")


def _faithfulness(
    loop: CachedLoop,
    scorers: list[Scorer],
    questions: list[Question],
    out: str,
    config: dict[str, Any],
    granularity: Granularity,
    processes: Processes,
) -> None:
    from tqdm.auto import tqdm

    from at2_prune_eval import run_faithfulness

    count = len(processes.share(questions))
    with tqdm(total=count, desc=f"faithfulness, {granularity}s", unit="question", disable=processes.rank > 0) as bar:
        run_faithfulness(
            loop,
            scorers,
            questions,
            out,
            config,
            granularity=granularity,
            processes=processes,
            progress=lambda record, resumed: bar.update(),
        )


def _scorers(args: argparse.Namespace, language_model: LanguageModel) -> list[Scorer]:
    """The methods asked for; `all` leaves out, aloud, what cannot run here."""
    import logging

    from at2_prune.coefficients.loading import load_coefficients, method_of
    from at2_prune.coefficients.shipped import shipped_coefficients
    from at2_prune.errors import CoefficientsError, MissingExtraError
    from at2_prune.scorers import ScorerOptions, make_scorer

    coefficients: dict[str, HeadCoefficients] = {}
    for entry in args.coefficients:
        named = re.fullmatch(r"([^=/\\]+)=(.+)", entry)  # a path with = in it may begin with ./
        path = named[2] if named else entry
        loaded = load_coefficients(language_model, path)
        name = named[1] if named else method_of(loaded)
        if name in coefficients:
            raise InputError(f"--coefficients {entry}: a second method called {name}; give it another: NAME={path}")
        coefficients[name] = loaded
    given = list(coefficients)
    learned = [name for name in MAIN if name in {*given, *shipped_coefficients().get(language_model.name, {})}]
    methods = args.methods or [*(learned or ["at2"]), *RIVALS]
    everything = methods == ["all"]
    wanted = {*methods, *(METHODS[name].coefficients for name in methods if name in METHODS)}
    for name in learned_methods():
        if name not in coefficients and (everything or name in wanted):
            try:
                coefficients[name] = load_coefficients(language_model, method=name)
            except CoefficientsError as error:
                if not everything:
                    raise CoefficientsError(f"{error}; or leave {name} out of --methods") from None
                logging.getLogger(__name__).warning("without %s: %s", name, error)
    options = ScorerOptions(coefficients, args.embedder, args.cross_encoder)
    available = [name for name in scoring_methods() if name in coefficients or name not in learned_methods()]
    names = [*coefficients, *available] if everything else [*methods]
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
