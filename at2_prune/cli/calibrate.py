"""The command `at2-prune calibrate`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..progress import shown
from .options import (
    add_learned_embedder,
    add_model_options,
    add_settings,
    data_name,
    load_model,
    method_of_scout,
    positive,
    read_passages,
    warn_of_few,
)

if TYPE_CHECKING:
    from ..datasets import Question
    from ..training import TrainingData

HELP = "Learn scout's coefficients for any model, without labels, and calibrate scout's probabilities."
EXAMPLES = """examples:
  at2-prune calibrate --model Qwen/Qwen3-0.6B
  at2-prune calibrate --model Qwen/Qwen3-0.6B --passages my_corpus.jsonl --out my-scout/
  at2-prune calibrate --questions my_questions.jsonl --out my-scout/

Without --passages, the coefficients are learned from 170 questions that come with at2-prune. With --passages, questions
are also made from your own texts. Without --out, the coefficients are saved in the cache, where
AT2Pruner.from_pretrained and all adapters find them. If at2-prune ships coefficients for the model, the cache is not
used, and --out must be given. With --out DIR, the coefficients are saved in DIR: to use them, pass coefficients=DIR.

With --questions, the coefficients do not change. Only the probabilities are fitted again, to your questions. Each
question must name its supporting passages. Give a hundred questions or more. With fewer questions, keep='recall>=R'
keeps more passages than are needed for the recall R.

If the command is interrupted, give the same command again: it continues where it stopped."""


_MEASURES = {
    "recall@1": "evidence found in the best passage",
    "recall@2": "evidence found among the best 2 passages",
    "recall@3": "evidence found among the best 3 passages",
    "ece": "calibration error of the probabilities",
    "auroc": "AUROC of the probability that evidence exists",
}
"""The description that the command prints for each measure."""


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
        help="your own questions, which name their supporting passages; the probabilities are fitted to these "
        "questions, and the coefficients do not change (default: none)",
    )
    parser.add_argument(
        "--limit", type=positive, metavar="N", help="use only the first N questions of --questions (default: all)"
    )
    parser.add_argument("--out", metavar="DIR", help="the folder for the coefficients (default: the cache)")
    add_learned_embedder(parser)
    add_settings(parser, "coefficients")
    add_model_options(parser, answers=False)


def run(args: argparse.Namespace) -> None:
    """Calibrate, and print the cross-validated measures."""
    from tqdm.auto import tqdm

    from ..calibration import cached_folder, calibrate, calibrate_in_cache, check_cache, check_enough, recalibrate
    from ..coefficients.shipped import shipped_coefficients, shipped_for_weights
    from ..encoders.embedder import Embedder
    from ..errors import InputError
    from ..files import check_folder
    from ..models.fingerprint import fingerprint
    from ..models.language_model import recorded_name
    from ..scorers.base import ScorerOptions
    from ..scorers.registry import check_scorer, load_scorer
    from ..scorers.scout import ScoutScorer
    from ..training import check_evidence

    if args.questions and args.passages:
        raise InputError("--questions cannot be used with --passages: leave out one of the two")
    if args.questions and not args.out:
        raise InputError("--questions needs --out, so that the coefficients in the cache are not replaced")
    if args.coefficients and not args.questions:
        raise InputError("--coefficients needs --questions: the probabilities are fitted to these questions")
    if args.limit and not args.questions:
        raise InputError("--limit works only with --questions: leave out --limit, or give --questions too")
    if args.embedder is not None:
        Embedder(args.embedder).check()
    method = method_of_scout(args.coefficients, args.embedder)
    if args.out:
        check_folder(args.out)
    else:
        check_cache()
        _check_not_shipped(shipped_coefficients().get(recorded_name(args.model), {}).get(method), method)
    options = ScorerOptions(embedder=args.embedder)
    data = _data(args)
    if args.questions:
        check_scorer(args.model, method, args.coefficients, options)
        for one in data:
            check_evidence(one.questions, one.name)
            check_enough(one.questions)
            warn_of_few(len(one.questions), "probabilities")
    language_model = load_model(args)
    if not args.out:
        _check_not_shipped(shipped_for_weights(fingerprint(language_model.model), method), method)
    total = sum(len(one.questions) for one in data)
    with tqdm(total=total, desc="reading", unit="question", smoothing=0.1, disable=shown() is False) as bar:
        if args.questions:
            scorer = load_scorer(language_model, method, args.coefficients, embedder=args.embedder)
            assert isinstance(scorer, ScoutScorer)
            found, one = scorer.coefficients, data[0]
            embedder = scorer.index(language_model).embedder
            report = recalibrate(language_model, found, one.questions, one.name, args.out, bar.update, embedder)
        elif args.out:
            report = calibrate(language_model, data, args.out, bar.update, args.embedder)
        else:
            report = calibrate_in_cache(language_model, data, bar.update, args.embedder)
    measured = report.measured
    print(f"{'fitted to' if args.questions else 'learned from'} {report.questions} questions")
    print("cross-validated measures:")
    for name, words in _MEASURES.items():
        if name in measured:
            print(f"  {words:<46}{measured[name]:.3f}")
    print(f"saved to {args.out or cached_folder(language_model, args.embedder)}")


def _check_not_shipped(folder: Path | None, method: str) -> None:
    """Raise `InputError` if the package has coefficients for the model. The cache is never used for such a model."""
    from ..errors import InputError

    if folder is not None:
        raise InputError(
            f"at2-prune ships coefficients of {method} for {folder.parent.name}, and uses these before the cache: give "
            "--out DIR, and pass coefficients=DIR to use the new coefficients"
        )


def _data(args: argparse.Namespace) -> list[TrainingData]:
    """Load the questions to learn from. With --questions, load the questions to fit the probabilities to.

    This needs no model, so wrong input raises an error before a model is loaded.
    """
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
