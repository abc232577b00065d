"""The HotpotQA pruning experiment: methods x k; answer F1 and EM, recall of gold passages, seconds, with intervals.

Importing this package loads neither torch nor transformers; its names are imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

_HOME = {
    "AnswerScores": "metrics",
    "CachedLoop": "cached_loop",
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
    "add_faithfulness": "results",
    "answer_question": "question",
    "answer_scores": "metrics",
    "both_gold": "metrics",
    "evaluate": "runner",
    "gold_precision": "metrics",
    "gold_recall": "metrics",
    "load_results": "document",
    "markdown_table": "table",
    "measure_faithfulness": "faithfulness",
    "normalize_answer": "metrics",
    "reading": "table",
    "results_document": "document",
    "run_faithfulness": "faithfulness",
    "short_table": "document",
    "summarize": "results",
    "summarize_faithfulness": "faithfulness",
    "support_scores": "metrics",
    "text_table": "table",
    "too_long": "runner",
    "write_document": "document",
    "write_figures": "figures",
    "write_report": "report",
}

__all__ = [
    "METRIC_PATH",
    "AnswerScores",
    "CachedLoop",
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
    "add_faithfulness",
    "answer_question",
    "answer_scores",
    "both_gold",
    "evaluate",
    "gold_precision",
    "gold_recall",
    "load_results",
    "markdown_table",
    "measure_faithfulness",
    "normalize_answer",
    "reading",
    "results_document",
    "run_faithfulness",
    "short_table",
    "summarize",
    "summarize_faithfulness",
    "support_scores",
    "text_table",
    "too_long",
    "write_document",
    "write_figures",
    "write_report",
]

if TYPE_CHECKING:
    from .cache import ModelCache
    from .cached_loop import CachedLoop
    from .cost import Cost
    from .document import load_results, results_document, short_table, write_document
    from .faithfulness import measure_faithfulness, run_faithfulness, summarize_faithfulness
    from .figures import write_figures
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
    from .report import write_report
    from .results import add_faithfulness, summarize
    from .runner import evaluate, too_long
    from .store import RunStore
    from .table import markdown_table, reading, text_table


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
