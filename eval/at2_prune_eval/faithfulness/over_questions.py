"""Measure faithfulness on many questions, in one process or several. An interrupted run can be continued."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from at2_prune.errors import DataError
from at2_prune.files import user_path
from at2_prune.passages import Granularity

from ..loop.cached_loop import CachedLoop
from ..run.experiment import Experiment
from ..run.methods import as_methods
from ..run.store import RunStore
from ..run.workers import Workers, make_records
from .measure import measure_faithfulness
from .settings import FaithfulnessSettings
from .summary import summarize_faithfulness

__all__ = ["add_faithfulness", "run_faithfulness"]


def run_faithfulness(
    loop: CachedLoop,
    experiment: Experiment,
    out: str | os.PathLike[str],
    config: Mapping[str, Any],
    settings: FaithfulnessSettings | None = None,
    workers: Workers | None = None,
) -> dict[str, Any]:
    """Measure how faithful the scores of every method are, on every question.

    This writes a line to `out/faithfulness_<granularity>.jsonl` when a question is done, and the summary to
    `out/faithfulness_<granularity>.json` at the end. A call with the same arguments continues an interrupted run.

    Args:
        loop: the pruning loop, which caches its results.
        experiment: the methods and questions. Leave out methods that cost too much at this granularity.
        out: the folder for the files. It may be the folder of an evaluation.
        config: the config of the evaluation. A folder that holds another config or other settings is refused.
        settings: the settings of the measures. The default is `FaithfulnessSettings()`.
        workers: the processes, and how they report progress. The default is the processes that `torchrun` started,
            without reports.

    Returns:
        The summary (see `summarize_faithfulness`), with the `settings` added. It is the same in every process.

    Raises:
        InputError: two methods have the same name, `order_for` names an unknown method, or the folder holds another
            run.
        DataError: there are no questions, ids repeat, or the folder is damaged.
        CacheError: the folder cannot be written to.
    """
    settings, workers = settings or FaithfulnessSettings(), workers or Workers()
    processes, questions, scorers = workers.processes, experiment.questions, experiment.scorers
    as_methods(scorers)  # raises an error if two methods have the same name
    if not questions or len({question.id for question in questions}) < len(questions):
        raise DataError("there are no questions to measure faithfulness on, or two questions have the same id")
    described = settings.as_json()
    methods = {"methods": [scorer.name for scorer in scorers]}  # no questions here: a later run may add questions
    with processes.first_then_others():
        kind = _store(settings.granularity)
        store = kind(out, {**config, "faithfulness": described | methods}, part=processes.rank)
    with store.writing():
        records = make_records(
            store, questions, lambda question: measure_faithfulness(loop, scorers, question, settings), workers
        )
        summary = summarize_faithfulness(records) | {"settings": described}
        processes.wait()
        if processes.rank == 0:
            store.merge([question.id for question in questions])
            store.write_results(summary)
        processes.wait()
        return summary


def add_faithfulness(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Add the faithfulness that was measured in a run's folder to the folder's `results.json`. Return the results."""
    path = user_path(folder) / RunStore.RESULTS_FILE
    results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    kinds: tuple[Granularity, ...] = ("passage", "sentence")
    measured = {kind: path.with_name(_store(kind).RESULTS_FILE) for kind in kinds}
    found = {kind: json.loads(file.read_text(encoding="utf-8")) for kind, file in measured.items() if file.exists()}
    results["faithfulness"] = found or None
    RunStore(folder, results["config"]).write_results(results)
    return results


def _store(granularity: Granularity) -> type[RunStore]:
    """Return a `RunStore` class for faithfulness. Its file names contain `faithfulness` and the granularity."""
    name = f"faithfulness_{granularity}"

    class FaithfulnessStore(RunStore):
        CONFIG_FILE = f"{name}.config.json"
        QUESTIONS_FILE = f"{name}.jsonl"
        RESULTS_FILE = f"{name}.json"

    return FaithfulnessStore
