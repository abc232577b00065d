"""The command `at2-prune calibrate`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..progress import shown
from .options import add_model_options, add_settings, data_name, load_model, positive, read_passages, warn_of_few

if TYPE_CHECKING:
    from ..datasets import Question
    from ..training import TrainingData

HELP = "Learn scout's coefficients for any model, without labels, and calibrate their probabilities."
EXAMPLES = """examples:
  at2-prune calibrate --model Qwen/Qwen3-0.6B
  at2-prune calibrate --model Qwen/Qwen3-0.6B --passages my_corpus.jsonl --out my-scout/
  at2-prune calibrate --questions my_questions.jsonl --out my-scout/

Without --passages, the coefficients are learned from 170 questions that come with at2-prune. With --passages, questions
are made from your own texts and added to them. Without --out, the coefficients are kept in the cache, where
AT2Pruner.from_pretrained and all adapters find them; with --out, pass them as coefficients=DIR.

With --questions, the coefficients stay as they are, and only their probabilities are fitted anew, to your questions.
These must name their supporting passages. Give a hundred or more: with few, the promised recall is far from sharp.

If the command is interrupted, give it again: it continues where it stopped."""


_MEASURES = {
    "recall@1": "evidence found among the best passage",
    "recall@2": "evidence found among the best 2 passages",
    "recall@3": "evidence found among the best 3 passages",
    "ece": "calibration error of the probabilities",
    "auroc": "AUROC of 'the passages hold evidence'",
}
"""The words for each measure that the command prints."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "--passages",
        metavar="FILE",
        help="your own texts: JSON Lines or a JSON list of strings or of {text, title?}; with -, a list from stdin "
        "(default: none)",
    )
    parser.add_argument(
        "--questions",
        metavar="FILE_OR_ID",
        help="your own questions with supporting passages, for the probabilities (default: none)",
    )
    parser.add_argument("--limit", type=positive, metavar="N", help="use the first N of --questions (default: all)")
    parser.add_argument("--out", metavar="DIR", help="the folder for the coefficients (default: the cache)")
    add_settings(parser, "coefficients")
    add_model_options(parser, answers=False)


def run(args: argparse.Namespace) -> None:
    """Calibrate, and print what was measured on held-out questions."""
    from tqdm.auto import tqdm

    from ..calibration import cached_folder, calibrate, calibrate_in_cache, check_cache, check_enough, recalibrate
    from ..errors import InputError
    from ..files import check_folder
    from ..scorers.registry import check_scorer, load_scorer
    from ..scorers.scout import ScoutScorer
    from ..training import TrainingSettings
    from ..training.collect import CollectSettings

    if args.questions and (args.passages or not args.out):
        raise InputError("--questions goes with --out, and not with --passages: your coefficients must not be replaced")
    if args.coefficients and not args.questions:
        raise InputError("--coefficients needs --questions, to which their probabilities are fitted")
    if args.limit and not args.questions:
        raise InputError("--limit goes with --questions only: leave it out, or give --questions too")
    if args.out:
        check_folder(args.out)
    else:
        check_cache()
    data = _data(args)
    if args.questions:
        check_scorer(args.model, "scout", args.coefficients)
        for one in data:
            TrainingSettings(CollectSettings(learn_from="evidence")).check_questions(one.questions, one.name)
            check_enough(one.questions)
            warn_of_few(len(one.questions), "probabilities")
    language_model = load_model(args)
    total = sum(len(one.questions) for one in data)
    with tqdm(total=total, desc="reading", unit="question", smoothing=0.1, disable=shown() is False) as bar:
        if args.questions:
            scorer = load_scorer(language_model, "scout", args.coefficients)
            assert isinstance(scorer, ScoutScorer)
            one = data[0]
            report = recalibrate(language_model, scorer.coefficients, one.questions, one.name, args.out, bar.update)
        elif args.out:
            report = calibrate(language_model, data, args.out, bar.update)
        else:
            report = calibrate_in_cache(language_model, data, bar.update)
    measured = report.measured
    print(f"{'fitted to' if args.questions else 'learned from'} {report.questions} questions")
    print("on questions that were held out, in turn:")
    for name, words in _MEASURES.items():
        if name in measured:
            print(f"  {words:<46}{measured[name]:.3f}")
    print(f"saved to {args.out or cached_folder(language_model)}")


def _data(args: argparse.Namespace) -> list[TrainingData]:
    """Return the questions of the calibration. They are checked before a model is loaded."""
    from ..calibration import pseudo_questions, shipped_data
    from ..datasets import load_questions
    from ..training import TrainingData

    if args.questions:
        questions: list[Question] = load_questions(args.questions, limit=args.limit)
        return [TrainingData(questions, data_name(args.questions), {"limit": args.limit})]
    data = [shipped_data()]
    if args.passages:
        name = "stdin" if args.passages == "-" else Path(args.passages).name
        data.append(TrainingData(pseudo_questions(read_passages(args.passages)), name, {"passages": name}))
    return data
