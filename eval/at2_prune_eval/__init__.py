"""The HotpotQA pruning experiment: methods x k; answer F1 and EM, recall of gold passages, seconds, with intervals.

Importing this package loads neither torch nor transformers; its names are imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

_HOME = {
    "AnswerScores": "metrics",
    "CachedLoop": "loop.cached_loop",
    "Cost": "loop.cost",
    "HotpotQAMetric": "metrics",
    "METRIC_PATH": "metrics",
    "Method": "run.methods",
    "ModelCache": "loop.cache",
    "NoPruning": "run.methods",
    "Oracle": "run.methods",
    "Processes": "run.processes",
    "ProgressBar": "run.progress",
    "Pruning": "run.methods",
    "RunStore": "run.store",
    "SupportScores": "metrics",
    "add_faithfulness": "results.summary",
    "answer_question": "run.question",
    "answer_scores": "metrics",
    "both_gold": "metrics",
    "evaluate": "run.runner",
    "gold_precision": "metrics",
    "gold_recall": "metrics",
    "load_results": "document.page",
    "markdown_table": "tables.overview",
    "measure_faithfulness": "faithfulness",
    "normalize_answer": "metrics",
    "reading": "tables.overview",
    "results_document": "document.page",
    "run_faithfulness": "faithfulness",
    "short_table": "document.page",
    "summarize": "results.summary",
    "summarize_faithfulness": "faithfulness",
    "support_scores": "metrics",
    "text_table": "tables.overview",
    "too_long": "run.runner",
    "write_document": "document.page",
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
    from .document.page import load_results, results_document, short_table, write_document
    from .faithfulness import measure_faithfulness, run_faithfulness, summarize_faithfulness
    from .figures import write_figures
    from .loop.cache import ModelCache
    from .loop.cached_loop import CachedLoop
    from .loop.cost import Cost
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
    from .report import write_report
    from .results.summary import add_faithfulness, summarize
    from .run.methods import Method, NoPruning, Oracle, Pruning
    from .run.processes import Processes
    from .run.progress import ProgressBar
    from .run.question import answer_question
    from .run.runner import evaluate, too_long
    from .run.store import RunStore
    from .tables.overview import markdown_table, reading, text_table


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
