"""The queue of a server. One thread does all the work of the model, and scores waiting requests as one batch."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ..passages import Passage
from ..pruning.pruner import AT2Pruner
from ..pruning.results import ScoredSource

__all__ = ["QueueClosedError", "QueueFullError", "ScoringQueue"]

T = TypeVar("T")
_LONGEST_WAIT = 60
"""The longest `retry_after`, in seconds."""


class QueueClosedError(Exception):
    """The queue accepts no more jobs, because the server shuts down."""


class QueueFullError(Exception):
    """Too many jobs wait.

    Args:
        retry_after: the expected number of seconds until the jobs that wait now are done.
    """

    def __init__(self, retry_after: int) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after


@dataclass
class _Job:
    call: Callable[[], Any] | None
    """The function to call. With None, the question is scored."""
    question: str = ""
    passages: Sequence[Passage] = ()
    future: Future[Any] = field(default_factory=Future)


class ScoringQueue:
    """Runs jobs in the order in which they were added. Consecutive questions are scored as one batch.

    A job is skipped if its future is cancelled before the job starts.

    Args:
        pruner: the pruner that scores the questions.
        max_waiting: the maximum number of jobs that may wait.
        max_together: the maximum number of questions in a batch.
        on_batch: a function that is called with the number of questions in each batch.
    """

    def __init__(
        self,
        pruner: AT2Pruner,
        max_waiting: int,
        max_together: int,
        on_batch: Callable[[int], None] = lambda size: None,
    ) -> None:
        self.pruner = pruner
        self.max_waiting = max_waiting
        self.max_together = max_together
        self.on_batch = on_batch
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._seconds = 0.0  # the moving average of the time of a job
        self._thread = threading.Thread(target=self._work, name="at2-prune-scoring", daemon=True)

    def start(self) -> None:
        """Start the thread. Jobs may be added before the thread starts."""
        self._thread.start()

    def close(self) -> None:
        """Accept no more jobs, finish the jobs that wait, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join()

    @property
    def waiting(self) -> int:
        """The number of jobs that wait."""
        return len(self._jobs)

    @property
    def accepts(self) -> bool:
        """Return whether the thread is running and the queue would accept a job now."""
        return self._thread.is_alive() and not self._closed and len(self._jobs) < self.max_waiting

    def score(self, question: str, passages: Sequence[Passage]) -> Future[list[ScoredSource]]:
        """Add a question to score.

        Raises:
            QueueFullError, QueueClosedError: the queue does not accept the question.
        """
        return self._put(_Job(None, question, passages))

    def run(self, call: Callable[[], T]) -> Future[T]:
        """Add other work for the model.

        Raises:
            QueueFullError, QueueClosedError: the queue does not accept the work.
        """
        return self._put(_Job(call))

    def _put(self, job: _Job) -> Future[Any]:
        with self._changed:
            if self._closed:
                raise QueueClosedError
            if len(self._jobs) >= self.max_waiting:
                wait = math.ceil(len(self._jobs) * self._seconds)
                raise QueueFullError(min(max(wait, 1), _LONGEST_WAIT))
            self._jobs.append(job)
            self._changed.notify()
        return job.future

    def _work(self) -> None:
        while jobs := self._next():
            started = time.perf_counter()
            wanted = [job for job in jobs if job.future.set_running_or_notify_cancel()]
            if wanted and wanted[0].call is not None:
                _settle(wanted[0].future, wanted[0].call)
            elif wanted:
                self.on_batch(len(wanted))
                self._score(wanted)
            if wanted:
                share = (time.perf_counter() - started) / len(wanted)
                self._seconds = share if self._seconds == 0 else 0.9 * self._seconds + 0.1 * share

    def _next(self) -> list[_Job]:
        """Wait for jobs, and return the jobs to do next. The list is empty if the queue is closed and no job waits."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._closed)
            taken: list[_Job] = []
            while self._jobs and len(taken) < self.max_together and (not taken or self._jobs[0].call is None):
                taken.append(self._jobs.popleft())
                if taken[0].call is not None:
                    break
            return taken

    def _score(self, jobs: Sequence[_Job]) -> None:
        """Score questions as one batch.

        If this raises an error, score each question alone, so that only the requests at fault fail.
        """
        try:
            found = self.pruner.attribute_batch([job.question for job in jobs], [job.passages for job in jobs])
        except Exception as error:
            if len(jobs) == 1:
                jobs[0].future.set_exception(error)
                return
            for job in jobs:
                self._score([job])
        else:
            for job, sources in zip(jobs, found, strict=True):
                job.future.set_result(sources)


def _settle(future: Future[T], call: Callable[[], T]) -> None:
    try:
        result = call()
    except Exception as error:
        future.set_exception(error)
    else:
        future.set_result(result)
