"""Make the records of many questions in one process or several. Records of an earlier run are kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from at2_prune.datasets import Question
from at2_prune.processes import Processes

from ..records import Record
from .store import RunStore

__all__ = ["Workers", "make_records"]


def _report_nothing(record: Record, resumed: bool) -> None:
    pass


@dataclass(frozen=True)
class Workers:
    """The processes that share a run's questions, and the function that reports their progress."""

    processes: Processes = field(default_factory=Processes)
    """The processes. By default these are the processes that `torchrun` started."""
    progress: Callable[[Record, bool], None] = _report_nothing
    """A function that is called for each record of this process. The second argument is True if an earlier run made the
    record."""


def make_records(
    store: RunStore, questions: Sequence[Question], make_record: Callable[[Question], Record], workers: Workers
) -> list[Record]:
    """Make the records of all questions. Each process makes the records of its share.

    Args:
        store: the run's folder, open for writing. A record is added as soon as it is made.
        questions: all questions of the run, the same in every process.
        make_record: the function that makes the record of a question.
        workers: the processes, and the function that reports progress.

    Returns:
        One record for each question, in the order of the questions. This function returns when every process is done.

    Raises:
        DataError: the folder is damaged, or some processes do not see it.
        CacheError: the folder cannot be written to.
    """
    processes = workers.processes
    done = store.load()
    processes.wait()  # no process may add a line before all processes have seen which questions are done
    for question in processes.share([question for question in questions if question.id in done]):
        workers.progress(done[question.id], True)
    for question in processes.share([question for question in questions if question.id not in done]):
        record = make_record(question)
        store.add(record)
        workers.progress(record, False)
    processes.wait()
    return store.records([question.id for question in questions])
