"""Run every method at every k on all questions, in one process or several. An interrupted run can be continued."""

from __future__ import annotations

import os
from typing import Any

from at2_prune.errors import ContextTooLongError

from ..k_values import check_ks
from ..loop.cached_loop import CachedLoop
from ..records import with_text
from ..results.summary import summarize
from ..tables.overview import about_costs, markdown_table
from ..tables.reading import reading
from .config import prompt_text, run_config
from .experiment import Experiment, check_questions, models_to_fit, too_long
from .methods import as_methods
from .question import answer_question
from .store import RunStore
from .workers import Workers, make_records

__all__ = ["evaluate"]


def evaluate(
    loop: CachedLoop, experiment: Experiment, out: str | os.PathLike[str], workers: Workers | None = None
) -> dict[str, Any]:
    """Answer every question from all passages, from the passages of each method at each k, and from the gold passages.

    This writes a line to `out/questions.jsonl` when a question is done, and `out/results.json` and `out/table.md` at
    the end. A call with the same arguments continues an interrupted run. With several processes (`torchrun`), each
    process answers a share of the questions, and the first process writes the results. A single process would give the
    same results, except for the measured seconds and memory.

    Args:
        loop: the pruning loop, which caches its results.
        experiment: the methods, questions and values of k.
        out: the folder for the files, which is the same for all processes. A folder that holds a run with another
            config is refused.
        workers: the processes, and how they report progress. The default is the processes that `torchrun` started,
            without reports.

    Returns:
        The results (see `at2_prune_eval.summarize`). They are the same in every process.

    Raises:
        InputError: a k is wrong, two methods have the same name, or the folder holds another run.
        DataError: a question has no answer or no gold passages, ids repeat, or the folder is damaged.
        ContextTooLongError: a question does not fit the context of a model that reads it. This error is raised before
            the first draft is written.
        CacheError: the folder cannot be written to.
    """
    workers = workers or Workers()
    processes = workers.processes
    ks = check_ks(experiment.ks)
    methods = as_methods(experiment.scorers)
    _check(loop, experiment)
    for scorer in experiment.scorers:  # prepare now, so that the seconds of no question include the preparation
        scorer.prepare(loop.language_model.device)
    config = run_config(loop, experiment)
    with processes.first_then_others():
        store = RunStore(out, config, part=processes.rank)
    with store.writing():
        records = make_records(
            store, experiment.questions, lambda question: answer_question(loop, methods, question, ks), workers
        )
        results = summarize(records, config, experiment.skipped)
        results["prompt"] = prompt_text(loop.reader.template)
        processes.wait()
        if processes.rank == 0:
            _write(store, experiment, results)
        processes.wait()
        return results


def _check(loop: CachedLoop, experiment: Experiment) -> None:
    check_questions(experiment)
    models = models_to_fit(loop.language_model, loop.reader, experiment.scorers)
    for question in experiment.questions:  # else a run could stop after hours, at a question that does not fit
        for model in models:
            if fault := too_long(model, question, loop.max_new_tokens):
                raise ContextTooLongError(fault)


def _write(store: RunStore, experiment: Experiment, results: dict[str, Any]) -> None:
    asked = {question.id: question for question in experiment.questions}
    store.merge([*asked], lambda record: with_text(record, asked[record["id"]]) if record["id"] in asked else record)
    store.write_results(results)
    store.write("table.md", f"{markdown_table(results)}\n\n{about_costs(results)}\n\n{reading(results)}\n")
