"""Options that several commands share, and the models and passages that they name."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DataError, EmptyDraftError, need_package
from ..files import BYTE_ORDER_MARK, read_text
from ..pipeline.config import SETTINGS, PruneConfig
from ..pruning.selection import AUTO, K

if TYPE_CHECKING:
    from ..models.language_model import LanguageModel
    from ..passages import Passage
    from ..pruning.pruner import AT2Pruner

__all__ = [
    "K_DEFAULT",
    "K_HELP",
    "add_method_options",
    "add_model_options",
    "add_pruner_options",
    "add_settings",
    "data_name",
    "k_or_auto",
    "known_depth",
    "load_model",
    "load_pruner",
    "positive",
    "read_input",
    "read_passages",
    "warn_of_few",
]

FEW_QUESTIONS = 50
"""With fewer questions, training warns. Coefficients from 50 questions found nearly as much as from 200
(docs/research.md, entry 3)."""
logger = logging.getLogger(__name__)

K_DEFAULT = PruneConfig.top_n
K_HELP = f"{SETTINGS['top_n'].metadata['help']} (default: {K_DEFAULT})"


def add_settings(parser: argparse._ActionsContainer, *names: str) -> None:
    """Add an option for each of these settings of `PruneConfig`, with the setting's default, choices and help."""
    for name in names:
        field = SETTINGS[name]
        kind = field.metadata["kind"]
        default = "" if field.default is None else f" (default: {field.default})"
        parser.add_argument(
            "--" + name.replace("_", "-"),
            default=field.default,
            choices=kind.choices if kind.choices and field.default is not None else None,
            type=positive if isinstance(field.default, int) else str,
            metavar=field.metadata["metavar"],
            help=field.metadata["help"].replace("%", "%%") + default,
        )


def add_model_options(parser: argparse.ArgumentParser, reader: bool = False) -> None:
    """Add the options that choose the model and its device. If `reader` is true, also add the option that chooses the
    reader."""
    names = ("model", *(["reader"] if reader else []), "device", "dtype", "max_new_tokens")
    add_settings(parser.add_argument_group("model"), *names)


def add_pruner_options(parser: argparse.ArgumentParser) -> None:
    """Add the question, its passages and the options that a pruner takes."""
    parser.add_argument("question", metavar="QUESTION")
    parser.add_argument(
        "--passages",
        required=True,
        metavar="FILE",
        help="a JSON list of strings or of {text, title?, id?, score?}; with -, the list is read from stdin",
    )
    add_settings(parser, "granularity", "overflow")
    add_method_options(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else on stdout")
    add_model_options(parser, reader=True)


def add_method_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose the method, its coefficients, its index and its encoders."""
    add_settings(parser, "method", "coefficients", "index", "cross_encoder", "embedder")


def data_name(source: str) -> str:
    """Return the name under which a data set is recorded: a Hub id, or a file with its folder.

    Only the last folder is kept, so that the name does not depend on the machine.
    """
    path = Path(source).absolute()
    return f"{path.parent.name}/{path.name}" if path.exists() else source


def load_model(args: argparse.Namespace) -> LanguageModel:
    """Load the scoring model that the options name. The reader is checked before, if they name one."""
    from ..models.shared_models import shared_model
    from ..pruning.readers import check_reader

    check_reader(getattr(args, "reader", None), args.model)
    _hide_progress(args)
    return shared_model(args.model, args.device, args.dtype)


def warn_of_few(questions: int) -> None:
    """Warn if coefficients would be learned from few questions."""
    if questions < FEW_QUESTIONS:
        logger.warning(
            "%d questions are few: with fewer than %d, the coefficients depend much on the choice of questions",
            questions,
            FEW_QUESTIONS,
        )


def known_depth(args: argparse.Namespace) -> int | None:
    """Return the number of layers of the model that the options name, before it is loaded; None if it is not known.

    Raises:
        InputError, ModelNotSupportedError: there is no such model, or it cannot be used.
    """
    from ..models.compatibility import attention_shape
    from ..models.default_model import EMBEDDED_MODEL_ID
    from ..models.language_model import recorded_name
    from ..models.loading import load_config

    name = recorded_name(args.model)
    config = None if name == EMBEDDED_MODEL_ID else load_config(name, {})
    return None if config is None else attention_shape(config)[0]


def load_pruner(args: argparse.Namespace, *settings: str) -> AT2Pruner:
    """Load the models that the options name, with the method that they name.

    Args:
        args: the options of the command.
        settings: further settings to take from the options, such as `granularity`. Those of `add_method_options` and
            `add_model_options` are always taken.
    """
    from ..pruning.pruner import AT2Pruner

    # A value that cannot be used must fail before a model is loaded.
    names = ("method", "coefficients", "cross_encoder", "embedder", "dtype")
    PruneConfig(**{name: getattr(args, name) for name in names})
    _hide_progress(args)
    return AT2Pruner.from_pretrained(
        args.model,
        args.coefficients,
        method=args.method,
        index=args.index,
        cross_encoder=args.cross_encoder,
        embedder=args.embedder,
        reader=args.reader,
        device=args.device,
        dtype=args.dtype,
        max_new_tokens=args.max_new_tokens,
        **{name: getattr(args, name) for name in settings},
    )


def _hide_progress(args: argparse.Namespace) -> None:
    """Show no bar while weights are loaded, unless --verbose asks for it."""
    from transformers.utils import logging as transformers_logging

    if not args.verbose:
        transformers_logging.disable_progress_bar()


def read_input(args: argparse.Namespace) -> list[Passage]:
    """Check question, passages, draft and granularity before a model is loaded, and return the passages.

    Raises:
        DataError: see `read_passages`.
        InputError: the question or the draft is blank, or no passage has text.
        MissingExtraError: sentences need a package that is not installed.
    """
    from ..passages import check_question, check_some_text

    check_question(args.question)
    if args.draft is not None and not args.draft.strip():
        raise EmptyDraftError(f"the draft is empty ({args.draft!r}), so there is nothing to attribute; pass a text")
    passages = read_passages(args.passages)
    check_some_text(passages)
    if args.granularity == "sentence":
        need_package("sentencex", "sentences", "Splitting passages into sentences")
    return passages


def read_passages(name: str) -> list[Passage]:
    """Read the passages of a JSON file, or of stdin for `-`.

    Raises:
        DataError: the passages cannot be read. The message names the file and, for invalid JSON, the line.
    """
    from ..passages import passages_from_json

    where = "stdin" if name == "-" else name
    text = _stdin() if name == "-" else read_text(name)
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}, line {error.lineno}, column {error.colno}: not valid JSON ({error.msg})") from None
    except RecursionError:
        raise DataError(f"{where}: JSON nested too deeply") from None
    return passages_from_json(data, where)


def _stdin() -> str:
    try:
        return sys.stdin.read().removeprefix(BYTE_ORDER_MARK)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"stdin: cannot be read ({error})") from None


def k_or_auto(text: str) -> K:
    """Parse an integer of at least 1, or `auto`, as a type of argparse."""
    return AUTO if text == AUTO else positive(text, f" or {AUTO}")


def positive(text: str, otherwise: str = "") -> int:
    """Parse an integer of at least 1, as a type of argparse. `otherwise` ends the words of the error that say so."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be an integer of at least 1{otherwise}, got {text!r}")
    return value
