"""Scores of answers and of kept passages, and an `evaluate.Metric` of both.

Importing this package does not import `evaluate`, which only `HotpotQAMetric` needs.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from at2_prune.errors import MissingExtraError

from .answers import AnswerScores, answer_scores, normalize_answer
from .support import SupportScores, both_gold, gold_precision, gold_recall, support_scores

__all__ = [
    "METRIC_PATH",
    "AnswerScores",
    "HotpotQAMetric",
    "SupportScores",
    "answer_scores",
    "both_gold",
    "gold_precision",
    "gold_recall",
    "normalize_answer",
    "support_scores",
]

METRIC_PATH = str(Path(__file__).with_name("hotpotqa.py"))
"""The path for `evaluate.load(METRIC_PATH)`, which needs no network."""

if TYPE_CHECKING:
    from .hotpotqa import HotpotQAMetric


def __getattr__(name: str) -> object:
    if name != "HotpotQAMetric":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from .hotpotqa import HotpotQAMetric
    except ModuleNotFoundError as error:
        if error.name not in ("datasets", "evaluate"):
            raise
        raise MissingExtraError(error.name, "eval", "HotpotQAMetric") from None
    return HotpotQAMetric
