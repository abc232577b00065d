"""Run the HotpotQA pruning experiment. It measures answer F1 and EM, recall of gold passages, and cost.

Each measure is given for every method at every k. Importing this package imports neither torch nor transformers: the
names of the package are imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # type checkers read these imports, the interpreter uses `_HOME`, and a test compares the two
    from at2_prune.processes import Processes as Processes

    from .document.page import results_document as results_document
    from .document.writing import check_document as check_document
    from .document.writing import write_document as write_document
    from .faithfulness.measure import measure_faithfulness as measure_faithfulness
    from .faithfulness.over_questions import add_faithfulness as add_faithfulness
    from .faithfulness.over_questions import run_faithfulness as run_faithfulness
    from .faithfulness.settings import FaithfulnessSettings as FaithfulnessSettings
    from .faithfulness.summary import summarize_faithfulness as summarize_faithfulness
    from .figures import write_figures as write_figures
    from .loop.cache import ModelCache as ModelCache
    from .loop.cached_loop import CachedLoop as CachedLoop
    from .loop.cost import Cost as Cost
    from .metrics import METRIC_PATH as METRIC_PATH
    from .metrics import AnswerScores as AnswerScores
    from .metrics import HotpotQAMetric as HotpotQAMetric
    from .metrics import SupportScores as SupportScores
    from .metrics import answer_scores as answer_scores
    from .metrics import both_gold as both_gold
    from .metrics import gold_precision as gold_precision
    from .metrics import gold_recall as gold_recall
    from .metrics import normalize_answer as normalize_answer
    from .metrics import support_scores as support_scores
    from .report import write_report as write_report
    from .results.loading import load_results as load_results
    from .results.summary import summarize as summarize
    from .run.experiment import Experiment as Experiment
    from .run.experiment import too_long as too_long
    from .run.methods import Method as Method
    from .run.methods import NoPruning as NoPruning
    from .run.methods import Oracle as Oracle
    from .run.methods import Pruning as Pruning
    from .run.progress import ProgressBar as ProgressBar
    from .run.question import answer_question as answer_question
    from .run.runner import evaluate as evaluate
    from .run.store import RunStore as RunStore
    from .run.workers import Workers as Workers
    from .tables.overview import markdown_table as markdown_table
    from .tables.overview import text_table as text_table
    from .tables.reading import reading as reading
    from .tables.short import short_table as short_table

_METRICS = (
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
)
_HOME = dict.fromkeys(_METRICS, "metrics") | {
    "CachedLoop": "loop.cached_loop",
    "Cost": "loop.cost",
    "Experiment": "run.experiment",
    "FaithfulnessSettings": "faithfulness",
    "Method": "run.methods",
    "ModelCache": "loop.cache",
    "NoPruning": "run.methods",
    "Oracle": "run.methods",
    "Processes": "run.workers",
    "ProgressBar": "run.progress",
    "Pruning": "run.methods",
    "RunStore": "run.store",
    "Workers": "run.workers",
    "add_faithfulness": "faithfulness",
    "answer_question": "run.question",
    "evaluate": "run.runner",
    "load_results": "results.loading",
    "markdown_table": "tables.overview",
    "measure_faithfulness": "faithfulness",
    "reading": "tables.reading",
    "results_document": "document",
    "run_faithfulness": "faithfulness",
    "short_table": "tables.short",
    "summarize": "results.summary",
    "summarize_faithfulness": "faithfulness",
    "text_table": "tables.overview",
    "too_long": "run.experiment",
    "check_document": "document",
    "write_document": "document",
    "write_figures": "figures",
    "write_report": "report",
}
"""The module from which each name is imported, relative to this package."""

__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
