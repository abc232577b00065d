"""Score answers and kept passages, with functions or with an `evaluate.Metric`.

Importing this package does not import `evaluate`, because only `HotpotQAMetric` needs `evaluate`.
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
"""The path of the file that defines the metric. `evaluate.load(METRIC_PATH)` needs no network."""

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
