"""Options that several commands share."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..model import LanguageModel

__all__ = ["add_model_options", "load_model", "positive"]


def add_model_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model", metavar="ID_OR_PATH", help="a causal language model, by Hub id or path (default: the embedded one)"
    )
    group.add_argument("--device", help="cpu, cuda, cuda:1, mps … (default: a GPU if there is one)")
    group.add_argument("--dtype", help="float32, bfloat16 or float16 (default: float32 on the CPU, else bfloat16)")


def load_model(args: argparse.Namespace) -> LanguageModel:
    from transformers.utils import logging as transformers_logging

    from ..model import LanguageModel

    if not args.verbose:
        transformers_logging.disable_progress_bar()
    return LanguageModel.load(args.model, device=args.device, dtype=args.dtype)


def positive(text: str) -> int:
    """An argparse type: an integer of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value
