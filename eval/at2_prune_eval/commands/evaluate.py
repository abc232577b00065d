"""The command `at2-prune eval`, which measures the effect of pruning on answers."""

from __future__ import annotations

import argparse
import logging
import textwrap
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from at2_prune.catalogue import scoring_methods
from at2_prune.cli.options import load_model
from at2_prune.errors import InputError, MissingExtraError, need_package
from at2_prune.files import check_file, check_folder, user_path

from ..tables.cells import main_method
from .evaluate_options import add_arguments
from .method_choice import MethodChoice, check_choice, choose_scorers

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

if TYPE_CHECKING:
    from at2_prune.datasets import Question
    from at2_prune.models.language_model import LanguageModel
    from at2_prune.passages import Granularity
    from at2_prune.scorers import Scorer
    from at2_prune_eval import CachedLoop, Experiment, Processes

HELP = "Measure the effect of pruning on answers, for methods x k, with 95 % intervals, figures and a report."
EXAMPLES = f"""examples:
  at2-prune eval --out runs/sample                      (the dozen questions that come with at2-prune)
  at2-prune eval --data hotpot_dev_distractor_v1.json --limit 200 --methods all --k 1 2 3 4 5 7 --out runs/hotpotqa
  at2-prune eval --data hotpotqa/hotpot_qa --limit 100 --seed 0 --model Qwen/Qwen3-0.6B --coefficients qwen3/ \\
      --out runs/qwen3
  at2-prune eval --methods dense cross_encoder --cross-encoder BAAI/bge-reranker-base --out runs/rerankers
  at2-prune eval --methods scout bm25 --reader Qwen/Qwen3-4B --out runs/reader   (the embedded model scores for Qwen3)
  torchrun --nproc_per_node 4 -m at2_prune eval --data musique_ans_v1.0_dev.jsonl --out runs/musique

methods:
{textwrap.fill(", ".join(scoring_methods()), 116, initial_indent="  ", subsequent_indent="  ")};
  and the methods that --coefficients names. Every run also compares none (no pruning) and oracle (gold passages only).

The command writes these files into DIR: questions.jsonl, with a line for each finished question; results.json;
table.md; figures; and report.html. To continue an interrupted run, give the same command again. The file of --cache
keeps drafts, ablations, scores and answers. A later run with more methods computes only the values that are not in this
file."""


def run(args: argparse.Namespace) -> None:
    from at2_prune.progress import shown
    from at2_prune.pruning.readers import load_reader
    from at2_prune_eval import CachedLoop, ModelCache, Processes, add_faithfulness

    choice = MethodChoice(args.methods or (), args.coefficients, args.embedder, args.cross_encoder)
    cache_file = _check_first(args, choice)
    questions, skipped = _load_questions(args)
    processes = Processes()
    args.device = args.device or processes.device
    announced = processes.rank == 0 and shown() is not False
    language_model = load_model(args, f"{len(questions)} questions; loading the model ..." if announced else "")
    scorers = choose_scorers(choice, language_model)
    reader = load_reader(args.reader, language_model, args.device, args.dtype)
    for model in (language_model, reader):
        model.compatibility.measure()  # this runs forward passes, which must not count as the work of a method
    loop = CachedLoop(language_model, ModelCache(cache_file), args.max_new_tokens, reader)
    if args.skip_invalid:
        questions = _only_fitting(questions, loop, scorers, skipped)
    experiment = _experiment(args, scorers, questions, skipped)
    _measure(args, loop, experiment, processes)
    if processes.rank == 0:
        results = add_faithfulness(args.out)
        _print_results(results)
        _write_pages(args, results, experiment, language_model)


def _check_first(args: argparse.Namespace, choice: MethodChoice) -> Path:
    """Check options, paths and packages before the model is loaded, and return the path of the cache.

    Raises:
        InputError: a method or a path cannot be used, or two options cannot be used together.
        CacheError: there is no permission to write to a path.
        MissingExtraError: a package is missing.
    """
    from at2_prune.models.default_model import cache_folder
    from at2_prune_eval import check_document

    if args.reader and (args.faithfulness or args.sentences):
        raise InputError(
            "--faithfulness and --sentences need one model that both drafts and scores: leave out --reader"
        )
    check_folder(args.out)
    if args.document:
        check_document(args.document)
    if args.faithfulness or args.sentences:
        need_package("scipy", "eval", "Measuring faithfulness")
    if args.sentences:
        need_package("sentencex", "sentences", "Splitting passages into sentences")
    check_choice(choice, args.model)
    if args.cache:
        return check_file(args.cache, "the cache")
    check_folder(cache_folder()).mkdir(parents=True, exist_ok=True)
    return cache_folder() / "evaluation.sqlite"


def _source(args: argparse.Namespace) -> str | Path:
    from at2_prune.datasets import sample_questions_path

    return sample_questions_path() if args.data is None else args.data


def _load_questions(args: argparse.Namespace) -> tuple[list[Question], Counter[str]]:
    """Return the questions, and for each reason the number of rows that are left out."""
    from at2_prune.datasets import load_questions

    skipped: Counter[str] = Counter()
    questions = load_questions(
        _source(args),
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
    return questions, skipped


def _only_fitting(
    questions: list[Question], loop: CachedLoop, scorers: list[Scorer], skipped: Counter[str]
) -> list[Question]:
    """Return the questions that fit the context of the models. Count the other questions in `skipped`."""
    from at2_prune_eval.run.experiment import models_to_fit, too_long

    models = models_to_fit(loop.language_model, loop.reader, scorers)
    fitting = [one for one in questions if not any(too_long(model, one, loop.max_new_tokens) for model in models)]
    if len(fitting) < len(questions):
        skipped["longer than the model's context"] += len(questions) - len(fitting)
    return fitting


def _experiment(
    args: argparse.Namespace, scorers: list[Scorer], questions: list[Question], skipped: Counter[str]
) -> Experiment:
    from at2_prune_eval import Experiment

    source = _source(args)
    data = {
        "name": Path(source).name if user_path(source).exists() else str(source),
        "split": args.split,
        "limit": args.limit,
        "offset": args.offset,
        "seed": args.seed,
        "types": args.type,
        "shuffle_passages": args.shuffle_passages,
        **({"ids": Path(args.ids).name} if args.ids else {}),
    }
    return Experiment(scorers, questions, args.k, data, skipped)


def _measure(args: argparse.Namespace, loop: CachedLoop, experiment: Experiment, processes: Processes) -> None:
    """Answer the questions. Measure faithfulness if the options ask for it."""
    from at2_prune_eval import ProgressBar, Workers, evaluate

    total = len(processes.share(experiment.questions))
    method = main_method(scorer.name for scorer in experiment.scorers)
    with ProgressBar(total, experiment.ks, method, shown=processes.rank == 0) as bar:
        results = evaluate(loop, experiment, args.out, Workers(processes, bar))
    if args.faithfulness:
        some = replace(experiment, questions=experiment.questions[: args.faithfulness])
        _measure_faithfulness(loop, some, args.out, results["config"], "passage", processes)
    if args.sentences:
        some = replace(experiment, questions=experiment.questions[: args.sentences])
        _measure_faithfulness(loop, some, args.out, results["config"], "sentence", processes)


def _measure_faithfulness(
    loop: CachedLoop,
    experiment: Experiment,
    out: str,
    config: Mapping[str, Any],
    granularity: Granularity,
    processes: Processes,
) -> None:
    from tqdm.auto import tqdm

    from at2_prune.progress import shown
    from at2_prune_eval import FaithfulnessSettings, Workers, run_faithfulness

    hidden = processes.rank > 0 or shown() is False
    total = len(processes.share(experiment.questions))
    title = f"faithfulness, {granularity}s"
    with tqdm(total=total, desc=title, unit="question", disable=hidden) as bar:
        workers = Workers(processes, lambda record, resumed: bar.update())
        run_faithfulness(loop, experiment, out, config, FaithfulnessSettings(granularity), workers)


def _print_results(results: Mapping[str, Any]) -> None:
    from at2_prune_eval import reading, text_table
    from at2_prune_eval.tables.overview import about_costs

    print(text_table(results))
    print(about_costs(results))
    print(f"\n{reading(results)}")
    print("The numbers are means over questions, with 95 % bootstrap intervals.")
    for reason, count in results["skipped"].items():
        print(f"{count} rows were left out: {reason}")
    if results["empty_drafts"]:
        print(
            f"The model wrote an empty draft for {results['empty_drafts']} questions. For these questions, methods "
            "that read the draft kept the first k passages."
        )


def _write_pages(
    args: argparse.Namespace, results: Mapping[str, Any], experiment: Experiment, language_model: LanguageModel
) -> None:
    """Write the figures, the report and the Markdown page, and print their paths."""
    from at2_prune.models.compatibility import layer_types
    from at2_prune.scorers import LearnedScorer
    from at2_prune_eval import write_document, write_figures, write_report

    written = ["results.json", "questions.jsonl", "table.md"]
    learned = [scorer for scorer in experiment.scorers if isinstance(scorer, LearnedScorer)]
    coefficients = {scorer.name: scorer.coefficients for scorer in learned}
    kinds = layer_types(language_model.model.config)
    try:
        write_figures(results, coefficients, Path(args.out) / "figures", kinds)
        write_report(args.out, coefficients, kinds)
        written += ["figures", "report.html"]
    except MissingExtraError as error:
        logging.getLogger(__name__).warning("figures and report.html are not written: %s", error)
    print(f"saved to {args.out}: {', '.join(written)}")
    if args.document:
        write_document(Path(args.out) / "results.json", args.document)
        print(f"page: {args.document}")
