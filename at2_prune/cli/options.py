"""Options that several commands share, and reading what they name."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from ..catalogue import DEFAULT_METHOD, configurable_methods
from ..errors import DataError
from ..files import BYTE_ORDER_MARK, read_text
from ..pruning.selection import AUTO, K

if TYPE_CHECKING:
    from ..models.language_model import LanguageModel
    from ..passages import Passage
    from ..pruning.pruner import AT2Pruner

__all__ = [
    "K_HELP",
    "add_method_options",
    "add_model_options",
    "add_pruner_options",
    "k_or_auto",
    "load_model",
    "load_pruner",
    "positive",
    "read_passages",
]

K_HELP = (
    "passages (or sentences) to keep (default: 3); auto answers from the best 1, 2, 3 and 5 and takes the answer that "
    "the model is most confident of"
)


def add_model_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model", metavar="ID_OR_PATH", help="a causal language model, by Hub id or path (default: the embedded one)"
    )
    group.add_argument("--device", help="cpu, cuda, cuda:1, mps … (default: a GPU if there is one)")
    group.add_argument("--dtype", help="float32, bfloat16 or float16 (default: float32 on the CPU, else bfloat16)")
    group.add_argument("--max-new-tokens", type=positive, default=48, metavar="N", help="of an answer (default: 48)")


def add_pruner_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("question", metavar="QUESTION")
    parser.add_argument(
        "--passages",
        required=True,
        metavar="FILE",
        help="a JSON list of strings or of {title, text, id?, score?}; - reads it from stdin",
    )
    parser.add_argument(
        "--granularity", choices=["passage", "sentence"], default="passage", help="what is scored (default: passage)"
    )
    parser.add_argument(
        "--overflow",
        choices=["error", "windows"],
        default="error",
        help="passages that do not fit the context: refuse (default), or score them in windows that fit",
    )
    add_method_options(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else on stdout")
    add_model_options(parser)


def add_method_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--method",
        choices=configurable_methods(),
        default=DEFAULT_METHOD,
        help=f"what scores passages (default: {DEFAULT_METHOD}); scout needs no draft, average_attention no training",
    )
    parser.add_argument(
        "--coefficients",
        metavar="DIR_OR_ID",
        help="the method's head coefficients (default: those that come with the model)",
    )


def load_model(args: argparse.Namespace) -> LanguageModel:
    from transformers.utils import logging as transformers_logging

    from ..models.language_model import LanguageModel

    if not args.verbose:
        transformers_logging.disable_progress_bar()
    return LanguageModel.load(args.model, device=args.device, dtype=args.dtype)


def load_pruner(args: argparse.Namespace, **options: str) -> AT2Pruner:
    from ..pruning.pruner import AT2Pruner

    return AT2Pruner.from_pretrained(
        load_model(args),
        args.coefficients,
        method=args.method,
        granularity=args.granularity,
        max_new_tokens=args.max_new_tokens,
        overflow=args.overflow,
        **options,  # type: ignore[arg-type]
    )


def read_passages(name: str) -> list[Passage]:
    """The passages of a JSON file, or of stdin for `-`.

    Raises:
        DataError: it cannot be read; the message names the file and the line.
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
    """An argparse type: an integer of at least 1, or `auto`."""
    return AUTO if text == AUTO else positive(text)


def positive(text: str) -> int:
    """An argparse type: an integer of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value
