"""The HotpotQA pruning experiment: methods x k; answer F1 and EM, recall of gold passages, seconds, with intervals.

Importing this package loads neither torch nor transformers; its names are imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

_HOME = {
    "AnswerScores": "metrics",
    "Bench": "bench",
    "Cost": "cost",
    "HotpotQAMetric": "metrics",
    "METRIC_PATH": "metrics",
    "Method": "methods",
    "ModelCache": "cache",
    "NoPruning": "methods",
    "Oracle": "methods",
    "Processes": "processes",
    "ProgressBar": "progress",
    "Pruning": "methods",
    "RunStore": "store",
    "SupportScores": "metrics",
    "answer_question": "question",
    "answer_scores": "metrics",
    "both_gold": "metrics",
    "evaluate": "runner",
    "gold_precision": "metrics",
    "gold_recall": "metrics",
    "markdown_table": "table",
    "normalize_answer": "metrics",
    "reading": "table",
    "summarize": "results",
    "support_scores": "metrics",
    "text_table": "table",
}

__all__ = [
    "METRIC_PATH",
    "AnswerScores",
    "Bench",
    "Cost",
    "HotpotQAMetric",
    "Method",
    "ModelCache",
    "NoPruning",
    "Oracle",
    "Processes",
    "ProgressBar",
    "Pruning",
    "RunStore",
    "SupportScores",
    "answer_question",
    "answer_scores",
    "both_gold",
    "evaluate",
    "gold_precision",
    "gold_recall",
    "markdown_table",
    "normalize_answer",
    "reading",
    "summarize",
    "support_scores",
    "text_table",
]

if TYPE_CHECKING:
    from .bench import Bench
    from .cache import ModelCache
    from .cost import Cost
    from .methods import Method, NoPruning, Oracle, Pruning
    from .metrics import (
        METRIC_PATH,
        AnswerScores,
        HotpotQAMetric,
        SupportScores,
        answer_scores,
        both_gold,
        gold_precision,
        gold_recall,
        normalize_answer,
        support_scores,
    )
    from .processes import Processes
    from .progress import ProgressBar
    from .question import answer_question
    from .results import summarize
    from .runner import evaluate
    from .store import RunStore
    from .table import markdown_table, reading, text_table


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
