"""Faithfulness over questions, on one process or many; an interrupted run goes on."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from at2_prune.datasets import Question
from at2_prune.errors import DataError
from at2_prune.passages import Granularity
from at2_prune.scorers import Scorer

from ..loop.cached_loop import CachedLoop
from ..run.methods import as_methods, check_ks
from ..run.processes import Processes
from ..run.store import Record, RunStore
from .measure import measure_faithfulness
from .summary import summarize_faithfulness

__all__ = ["run_faithfulness"]


def run_faithfulness(
    loop: CachedLoop,
    scorers: Sequence[Scorer],
    questions: Sequence[Question],
    out: str | os.PathLike[str],
    config: Mapping[str, Any],
    *,
    granularity: Granularity = "passage",
    ablations: int = 32,
    ks: Sequence[int] = (1, 3, 5),
    permutation_k: int = 2,
    permutations: int = 3,
    order_for: Collection[str] = (),
    seed: int = 0,
    processes: Processes | None = None,
    progress: Callable[[Record, bool], None] = lambda record, resumed: None,
) -> dict[str, Any]:
    """Measure every method's scores on every question.

    Writes a line to `out/faithfulness_<granularity>.jsonl` as each question is done, and the summary to
    `out/faithfulness_<granularity>.json` at the end. Called again with the same arguments it goes on where it stopped.

    Args:
        loop: the pruning loop, with its memory.
        scorers: methods, of different names; leave out those that are too dear for the granularity.
        questions: of different ids.
        out: a folder, which may be that of the run whose table this belongs to.
        config: of that run; with it and the arguments below equal, a run is gone on with, else refused.
        granularity: see `measure_faithfulness`, as for the next six.
        ablations: see there.
        ks: see there.
        permutation_k: see there.
        permutations: see there.
        order_for: see there.
        seed: see there.
        processes: by default those that `torchrun` started.
        progress: called with each of this process's records, and whether an earlier run had made it.

    Returns:
        The summary (see `summarize_faithfulness`) with the `settings` above; the same in every process.

    Raises:
        InputError: as `measure_faithfulness`; two methods of one name, another run's folder.
        DataError: no questions, ids that repeat, a damaged folder.
        CacheError: the folder cannot be written to.
    """
    processes = processes or Processes()
    as_methods(scorers)
    if not questions or len({question.id for question in questions}) < len(questions):
        raise DataError("there are no questions to measure faithfulness on, or two of them have one id")
    settings: dict[str, Any] = {
        "granularity": granularity,
        "ablations": ablations,
        "ks": check_ks(ks),
        "permutation_k": permutation_k,
        "permutations": permutations,
        "order_for": sorted(order_for),
        "seed": seed,
    }
    own = {"methods": [scorer.name for scorer in scorers]}  # not which questions: more of them add to the folder
    with processes.first_then_others():
        store = _store(granularity)(out, {**config, "faithfulness": settings | own}, part=processes.rank)
    with store.writing():
        done = store.load()
        processes.wait()  # nobody adds a line before all have seen which questions are done
        for question in processes.share([question for question in questions if question.id in done]):
            progress(done[question.id], True)
        for question in processes.share([question for question in questions if question.id not in done]):
            record = measure_faithfulness(loop, scorers, question, **settings)
            store.add(record)
            progress(record, False)
        processes.wait()
        summary = summarize_faithfulness(store.records([question.id for question in questions])) | {
            "settings": settings
        }
        processes.wait()
        if processes.rank == 0:
            store.merge([question.id for question in questions])
            store.write_results(summary)
        processes.wait()
        return summary


def _store(granularity: Granularity) -> type[RunStore]:
    """A run's folder with files of this measurement's own names."""
    name = f"faithfulness_{granularity}"

    class FaithfulnessStore(RunStore):
        CONFIG_FILE = f"{name}.config.json"
        QUESTIONS_FILE = f"{name}.jsonl"
        RESULTS_FILE = f"{name}.json"

    return FaithfulnessStore
