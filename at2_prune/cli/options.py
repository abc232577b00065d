"""Define the options that several commands share, and load the models and passages that these options name."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import DataError, EmptyDraftError, need_package
from ..files import BYTE_ORDER_MARK, read_text, user_path
from ..parsing import ParseError, parse_json
from ..pipeline.config import SETTINGS, PruneConfig
from ..pipeline.kinds import Kind
from ..pruning.selection import AUTO, K

if TYPE_CHECKING:
    from ..models.language_model import LanguageModel
    from ..passages import Passage
    from ..pruning.pruner import AT2Pruner
    from ..scorers.base import ScorerOptions

__all__ = [
    "K_DEFAULT",
    "K_HELP",
    "add_method_options",
    "add_model_options",
    "add_pruner_options",
    "add_settings",
    "add_thoughts_option",
    "data_name",
    "k_or_auto",
    "known_depth",
    "load_model",
    "load_pruner",
    "positive",
    "read_input",
    "read_passages",
    "scorer_options",
    "warn_of_few",
]

FEW_QUESTIONS = 50
"""With fewer questions than this, training warns. With two kept passages, coefficients learned from 50 questions
reached a recall of 0.732, and coefficients learned from 200 questions 0.749 (docs/research.md, entry 3)."""
logger = logging.getLogger(__name__)

K_DEFAULT = PruneConfig.top_n
K_HELP = f"{SETTINGS['top_n'].metadata['help']} (default: {K_DEFAULT})"


def add_settings(parser: argparse._ActionsContainer, *names: str) -> None:
    """Add an option for each named setting of `PruneConfig`, with the setting's default, choices and help."""
    for name in names:
        field = SETTINGS[name]
        kind = field.metadata["kind"]
        default = "" if field.default is None else f" (default: {field.default})"
        parser.add_argument(
            "--" + name.replace("_", "-"),
            default=field.default,
            choices=kind.choices if kind.choices and field.default is not None else None,
            type=positive if isinstance(field.default, int) else _typed(kind),
            metavar=field.metadata["metavar"],
            help=field.metadata["help"].replace("%", "%%") + default,
        )


def _typed(kind: Kind) -> Callable[[str], Any]:
    """Return a function that parses a value of this kind, to pass to argparse as `type`."""

    def parse(text: str) -> Any:
        value = kind.parse(text)
        if not kind.choices and not kind.accepts(value):  # if there are choices, argparse or PruneConfig checks them
            raise argparse.ArgumentTypeError(f"must be {kind.words}, got {text!r:.80}")
        return value

    return parse


def add_model_options(parser: argparse.ArgumentParser, reader: bool = False, answers: bool = True) -> None:
    """Add the options that choose the model and its device.

    If `reader` is true, also add the option that chooses the reader. If `answers` is true, also add the option that
    limits the length of drafts and answers.
    """
    names = ("model", *(["reader"] if reader else []), "device", "dtype", *(["max_new_tokens"] if answers else []))
    add_settings(parser.add_argument_group("model"), *names)


def add_pruner_options(parser: argparse.ArgumentParser) -> None:
    """Add the question, its passages and the options that a pruner takes."""
    parser.add_argument("question", metavar="QUESTION")
    parser.add_argument(
        "--passages",
        required=True,
        metavar="FILE",
        help="JSON Lines or a JSON list of strings or of {text, title?, id?, score?}; with -, a list from stdin",
    )
    add_settings(parser, "granularity", "overflow")
    add_method_options(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else on stdout")
    add_model_options(parser, reader=True)


def add_method_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose the method, its coefficients, its index and its encoders."""
    add_settings(parser, "method", "coefficients", "index", "cross_encoder", "embedder")
    parser.add_argument(
        "--no-calibrate",
        action="store_false",
        dest="calibrate",
        help="do not learn scout's coefficients: if at2-prune ships no coefficients for the model, fail (default: "
        "learn the coefficients once)",
    )


def add_thoughts_option(parser: argparse._ActionsContainer) -> None:
    """Add the option that makes the model's thoughts the sources."""
    parser.add_argument(
        "--thoughts",
        choices=["own", "asked"],
        help="the sources are the sentences that the model writes before its answer. own: a reasoning model writes its "
        "thoughts between markers such as <think>. asked: the prompt asks any other chat model for the facts "
        "before it writes 'Answer:' (default: the sources are the passages)",
    )


def data_name(source: str) -> str:
    """Return the name under which a data set is recorded.

    For a Hub data set, the name is the Hub id. For a file, the name is `FOLDER/FILE`. It holds only the last folder of
    the path, so that the name does not depend on the machine.
    """
    path = user_path(source).absolute()
    return f"{path.parent.name}/{path.name}" if path.exists() else source


def load_model(args: argparse.Namespace, announcement: str = "") -> LanguageModel:
    """Load the scoring model that the options name. If the options name a reader, first check the reader.

    The announcement, if given, is written to stderr before the model is loaded.
    """
    from ..models.shared_models import shared_model
    from ..pruning.readers import check_reader

    check_reader(getattr(args, "reader", None), args.model)
    if announcement:
        print(announcement, file=sys.stderr, flush=True)
    _hide_progress(args)
    return shared_model(args.model, args.device, args.dtype)


def warn_of_few(questions: int, learned: str = "coefficients") -> None:
    """Warn if there are few questions to learn from. The warning uses `learned` as the name of the learned values."""
    if questions < FEW_QUESTIONS:
        logger.warning(
            "%d questions are few: with fewer than %d questions, the %s depend strongly on which questions are chosen",
            questions,
            FEW_QUESTIONS,
            learned,
        )


def known_depth(args: argparse.Namespace) -> int | None:
    """Return the number of layers of the model that the options name, without loading the model.

    Return None for the embedded model and for a PEFT adapter. Also return None if the model's config does not give the
    number.

    Raises:
        InputError, ModelNotSupportedError: the model does not exist, or the model cannot be used.
    """
    from ..models.compatibility import attention_shape
    from ..models.default_model import EMBEDDED_MODEL_ID
    from ..models.language_model import recorded_name
    from ..models.loading import load_config

    name = recorded_name(args.model)
    config = None if name == EMBEDDED_MODEL_ID else load_config(name, {})
    return None if config is None else attention_shape(config)[0]


def load_pruner(args: argparse.Namespace, *settings: str) -> AT2Pruner:
    """Load a pruner with the models and the method that the options name.

    Args:
        args: the options of the command.
        settings: the names of further settings to take from the options, such as `granularity`. The settings that
            `add_method_options` and `add_model_options` add are always taken.
    """
    from ..pruning.certainty import check_probabilities
    from ..pruning.pruner import AT2Pruner

    # A value that cannot be used must raise an error before a model is loaded.
    names = ("method", "coefficients", "cross_encoder", "embedder", "dtype", "min_score", "keep")
    config = PruneConfig(**{name: getattr(args, name) for name in names if hasattr(args, name)})
    if config.needing_probabilities:
        check_probabilities(
            config.needing_probabilities, args.model, args.method, args.coefficients, scorer_options(args)
        )
    _hide_progress(args)
    return AT2Pruner.from_pretrained(
        args.model,
        args.coefficients,
        method=args.method,
        index=args.index,
        cross_encoder=args.cross_encoder,
        embedder=args.embedder,
        reader=args.reader,
        calibrate=args.calibrate,
        device=args.device,
        dtype=args.dtype,
        max_new_tokens=args.max_new_tokens,
        **{name: getattr(args, name) for name in settings},
    )


def scorer_options(args: argparse.Namespace) -> ScorerOptions:
    """Return the `ScorerOptions` that a command's options give."""
    from ..scorers.base import ScorerOptions

    return ScorerOptions(
        embedder=args.embedder, cross_encoder=args.cross_encoder, index=args.index, calibrate=args.calibrate
    )


def add_learned_embedder(parser: argparse.ArgumentParser) -> None:
    """Add the option `--embedder` to a command that learns scout's coefficients."""
    parser.add_argument(
        "--embedder",
        metavar="FOLDER_OR_ID",
        help="also learn a weight of this embedder's cosine. The coefficients are then those of the method scout_dense "
        "(default: none)",
    )


def method_of_scout(coefficients: str | None, embedder: str | None) -> str:
    """Return the method of a command that works with scout.

    With an embedder, the method is scout_dense. If there is no embedder and the coefficients are those of scout, they
    determine the method. In all other cases, the method is scout.

    Raises:
        CoefficientsError: the coefficients cannot be read.
    """
    from ..coefficients.scout_coefficients import ScoutCoefficients, holds_scout

    if embedder is not None:
        return "scout_dense"
    if coefficients is not None and holds_scout(coefficients):
        return ScoutCoefficients.from_pretrained(coefficients).method
    return "scout"


def _hide_progress(args: argparse.Namespace) -> None:
    """Hide the progress bars that transformers shows while it loads weights, unless --verbose is given."""
    from transformers.utils import logging as transformers_logging

    if not args.verbose:
        transformers_logging.disable_progress_bar()


def read_input(args: argparse.Namespace) -> list[Passage]:
    """Check the question, passages, draft and granularity before a model is loaded, and return the passages.

    Raises:
        DataError: see `read_passages`.
        InputError: the question or the draft is blank or holds half a surrogate pair, or no passage has text.
        MissingExtraError: the granularity is `sentence`, and the package that splits sentences is not installed.
    """
    from ..passages import check_characters, check_question, check_some_text

    check_question(args.question)
    if args.draft is not None and not args.draft.strip():
        raise EmptyDraftError(f"the draft is empty ({args.draft!r}), so there is nothing to attribute; pass a text")
    check_characters(args.draft or "", "draft")
    passages = read_passages(args.passages)
    check_some_text(passages)
    if args.granularity == "sentence":
        need_package("sentencex", "sentences", "Splitting passages into sentences")
    return passages


def read_passages(name: str) -> list[Passage]:
    """Read passages from a JSON file, from a JSON Lines file (`.jsonl`), or, if the name is `-`, from stdin.

    Raises:
        DataError: the passages cannot be read. The message names the file and, for invalid JSON, the line.
    """
    from ..passages import passages_from_json

    where = "stdin" if name == "-" else name
    text = _stdin() if name == "-" else read_text(name)
    if where.lower().endswith(".jsonl"):
        lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
        return passages_from_json([_parsed(line, where, number) for number, line in lines], where)
    return passages_from_json(_parsed(text, where), where)


def _parsed(text: str, where: str, only_line: int | None = None) -> Any:
    """Parse JSON text. The text is a whole file, or one line of a file. `only_line` is the number of this line."""
    try:
        return parse_json(text)
    except ParseError as error:
        line = error.line if only_line is None else only_line
        place = f", line {line}" if line else ""
        place += f", column {error.column}" if error.column else ""
        raise DataError(f"{where}{place}: not valid JSON ({error.reason})") from None


def _stdin() -> str:
    try:
        return sys.stdin.read().removeprefix(BYTE_ORDER_MARK)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"stdin: cannot be read ({error})") from None


def k_or_auto(text: str) -> K:
    """Parse the value of an option that takes an integer of at least 1, or `auto`. Argparse calls this as a `type`."""
    return AUTO if text == AUTO else positive(text, f" or {AUTO}")


def positive(text: str, otherwise: str = "") -> int:
    """Parse the value of an option that takes an integer of at least 1. Argparse calls this as a `type`.

    The error message has the text `otherwise` after "an integer of at least 1".
    """
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be an integer of at least 1{otherwise}, got {text!r}")
    return value
