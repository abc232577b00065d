"""The queue by itself: order, batches, errors and shutdown."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any

import pytest

from at2_prune import AT2Pruner, Passage, Question
from at2_prune.errors import ContextTooLongError
from at2_prune.pruning.results import ScoredSource
from at2_prune.server.scoring_queue import QueueClosedError, QueueFullError, ScoringQueue


@pytest.fixture
def sizes() -> list[int]:
    return []


@pytest.fixture
def queue(tiny_pruner: AT2Pruner, sizes: list[int]) -> ScoringQueue:
    return ScoringQueue(tiny_pruner, max_waiting=6, max_together=3, on_batch=sizes.append)


def scores(future: Future[list[ScoredSource]]) -> list[float]:
    return [source.score for source in future.result(60)]


def few(question: Question) -> list[Passage]:
    return list(question.passages[:3])


def test_questions_that_wait_are_scored_together(
    queue: ScoringQueue, tiny_pruner: AT2Pruner, sample_questions: list[Question], sizes: list[int]
) -> None:
    asked = sample_questions[:5]
    futures = [queue.score(question.text, few(question)) for question in asked]
    queue.start()
    for question, future in zip(asked, futures, strict=True):
        assert scores(future) == pytest.approx(tiny_pruner.score(question.text, few(question)), abs=1e-6)
    assert sizes == [3, 2]
    queue.close()


def test_other_work_keeps_its_place(queue: ScoringQueue, question: Question, sizes: list[int]) -> None:
    done: list[str] = []

    def noted(name: str, future: Future[Any]) -> None:
        future.add_done_callback(lambda _: done.append(name))

    noted("score 1", queue.score(question.text, few(question)))
    noted("score 2", queue.score(question.text, few(question)))
    noted("work", queue.run(lambda: 5))
    noted("score 3", queue.score(question.text, few(question)))
    queue.start()
    queue.close()
    assert done == ["score 1", "score 2", "work", "score 3"]
    assert sizes == [2, 1]


def test_an_error_concerns_its_own_question_only(tiny_lm, tiny_pruner: AT2Pruner, question: Question) -> None:
    strict = AT2Pruner(tiny_lm, tiny_pruner.scorer, max_new_tokens=8, overflow="error")
    queue = ScoringQueue(strict, 6, 3)
    good = queue.score(question.text, few(question))
    long = queue.score(question.text, [Passage("word " * 9000)])
    also = queue.score(question.text, few(question))
    queue.start()
    with pytest.raises(ContextTooLongError):
        long.result(60)
    assert scores(good) == scores(also) == pytest.approx(strict.score(question.text, few(question)), abs=1e-6)
    queue.close()


def test_work_that_nobody_waits_for_is_left_out(queue: ScoringQueue, question: Question, sizes: list[int]) -> None:
    first, second = (queue.score(question.text, few(question)) for _ in range(2))
    work = queue.run(lambda: pytest.fail("this was cancelled"))
    assert first.cancel()
    assert work.cancel()
    queue.start()
    second.result(60)
    queue.close()
    assert sizes == [1]


def test_a_full_queue_takes_nothing(queue: ScoringQueue) -> None:
    assert not queue.accepts  # it has not started
    event = threading.Event()
    queue.start()
    begun = threading.Event()
    queue.run(lambda: (begun.set(), event.wait(30)))
    assert begun.wait(30)
    futures = [queue.run(lambda: 1) for _ in range(6)]
    with pytest.raises(QueueFullError) as caught:
        queue.run(lambda: 1)
    assert 1 <= caught.value.retry_after <= 60
    assert (queue.waiting, queue.accepts) == (6, False)
    event.set()
    assert [future.result(30) for future in futures] == [1] * 6
    assert queue.accepts
    queue.close()


def test_a_closed_queue_has_finished_what_it_took(queue: ScoringQueue, question: Question) -> None:
    futures = [queue.score(question.text, few(question)) for _ in range(4)]
    queue.start()
    queue.close()
    assert all(future.done() for future in futures)
    assert len(futures[-1].result()) == 3
    with pytest.raises(QueueClosedError):
        queue.score(question.text, few(question))
