"""The service behind the endpoints. It puts the work of a request into the queue, and waits for the result."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar, get_args

from fastapi import Request

from ..errors import AT2PruneError, EmptyDraftError
from ..passages import Passage
from ..pipeline.results import Pruned
from ..pipeline.step import PruneStep
from ..pruning.pruner import AT2Pruner
from ..pruning.results import ScoredSource
from .limits import Limits
from .metrics import Metrics
from .problems import Problem
from .prune_schemas import AttributeRequest, Granularity, PruneRequest
from .scoring_queue import QueueClosedError, QueueFullError, ScoringQueue

__all__ = ["Backend", "Ranking", "Service", "answer_of"]

logger = logging.getLogger(__name__)

T = TypeVar("T")
CLIENT_GONE = 499
"""The status that is logged if the client closed the connection. No client receives it."""


@dataclass(frozen=True)
class Ranking:
    """The scores of a request's documents."""

    scores: list[float]
    probabilities: list[float] | None = None
    """For each document, the probability that the document is evidence. It is None if the method gives no
    probabilities."""
    warning: str | None = None
    """The reason why nothing could be scored. All scores are then 0. It is None if the documents were scored."""


class Backend(Protocol):
    """The methods that the endpoints call.

    `Service` runs the model in the process of the endpoints. `RemoteService` sends the calls to replicas in other
    processes.
    """

    limits: Limits
    model: str

    async def rank(self, request: Request | None, question: str, passages: Sequence[Passage]) -> Ranking: ...

    async def prune(
        self, request: Request | None, body: PruneRequest, passages: Sequence[Passage]
    ) -> tuple[Pruned, str | None]: ...

    async def attribute(
        self, request: Request | None, body: AttributeRequest, passages: Sequence[Passage]
    ) -> tuple[list[ScoredSource], str]: ...

    async def first_tokens(self, request: Request | None, passages: Sequence[Passage], count: int) -> list[Passage]: ...

    async def state(self) -> tuple[bool, int]: ...


class Service:
    """Scores, prunes and attributes with one model.

    `rank`, `prune` and `attribute` watch the connection of a request. If the client closes the connection, work that
    has not begun is cancelled. If the request is None, no connection is watched.

    Args:
        step: the prune step, which holds the settings. The constructor loads the step's model.
        limits: the limits of the server.
        metrics: the metrics, which count the batches.

    Raises:
        InputError, CoefficientsError, ModelNotSupportedError, MissingExtraError: see `AT2Pruner.from_pretrained`.
    """

    def __init__(self, step: PruneStep, limits: Limits, metrics: Metrics) -> None:
        config = step.config
        self.limits = limits
        self.metrics = metrics
        self.granularity = config.granularity
        self.model = step.pruner.language_model.name
        neighbors = {"passage": 0, "sentence": config.neighbors}
        self.steps = {
            name: step.with_config(replace(config, granularity=name, neighbors=neighbors[name]))
            for name in get_args(Granularity)
        }
        self.attributors: dict[str, AT2Pruner] = {}
        self.no_attribution = ""
        try:
            self.attributors = {name: _reading_drafts(some.pruner) for name, some in self.steps.items()}
        except AT2PruneError as error:
            self.no_attribution = str(error)
        ranker = self.steps["passage"].pruner
        ranker.scorer.prepare(ranker.language_model.device)  # an encoder that cannot be loaded raises its error now
        self.queue = ScoringQueue(ranker, limits.max_waiting, limits.max_together, metrics.batches.observe)
        metrics.watch(lambda: self.queue.waiting)

    async def rank(self, request: Request | None, question: str, passages: Sequence[Passage]) -> Ranking:
        """Score the documents of a request, as one batch with other waiting requests."""
        try:
            sources = await self._result(request, lambda: self.queue.score(question, passages))
        except EmptyDraftError as error:  # the model wrote an empty draft
            return Ranking([0.0] * len(passages), warning=str(error))
        known = [source.probability for source in sources if source.probability is not None]
        return Ranking([source.score for source in sources], known if len(known) == len(sources) else None)

    async def prune(
        self, request: Request | None, body: PruneRequest, passages: Sequence[Passage]
    ) -> tuple[Pruned, str | None]:
        """Choose the passages to keep, and answer from the kept texts if the request asks for an answer.

        The answer is None if the request asks for no answer, or if no kept passage has text.
        """
        step = self.steps[body.granularity or self.granularity]

        def work() -> tuple[Pruned, str | None]:
            pruned = step.run(body.question, passages, body.draft, body.k)
            if not body.answer or not any(one.text.strip() for one in pruned.kept):
                return pruned, None
            shown = [replace(passages[one.index], text=one.text, sentences=None) for one in pruned.kept]
            return pruned, step.pruner.answer_from(body.question, shown)

        return await self._result(request, lambda: self.queue.run(work))

    async def attribute(
        self, request: Request | None, body: AttributeRequest, passages: Sequence[Passage]
    ) -> tuple[list[ScoredSource], str]:
        """Return the sources of a draft with their scores, and the name of the method."""
        if self.no_attribution:
            raise Problem(501, f"this server cannot attribute: {self.no_attribution}")
        pruner = self.attributors[body.granularity or self.granularity]
        work = self.queue.run
        sources = await self._result(
            request, lambda: work(lambda: pruner.attribute(body.question, passages, body.draft))
        )
        return sources, pruner.scorer.name

    async def first_tokens(self, request: Request | None, passages: Sequence[Passage], count: int) -> list[Passage]:
        """Cut each passage's text after `count` tokens of the model's tokenizer, and return the passages."""
        return [replace(passage, text=self._cut(passage.text, count)) for passage in passages]

    async def state(self) -> tuple[bool, int]:
        """Return whether the queue would accept a request now, and the number of waiting requests."""
        return self.queue.accepts, self.queue.waiting

    def _cut(self, text: str, count: int) -> str:
        if len(text.encode()) <= count:
            return text
        _, offsets = self.steps["passage"].pruner.language_model.codec.plain(text)
        return text if len(offsets) <= count else text[: offsets[count - 1][1]]

    async def _result(self, request: Request | None, put: Callable[[], Future[T]]) -> T:
        """Put work into the queue and wait for the result; see `answer_of`.

        Raises:
            Problem: the queue is full or closed.
        """
        try:
            future = asyncio.wrap_future(put())
        except QueueFullError as error:
            headers = {"Retry-After": str(error.retry_after)}
            raise Problem(
                429, f"{self.queue.max_waiting} requests are waiting already; try again later", None, headers
            ) from None
        except QueueClosedError:
            raise Problem(503, "the server is shutting down", None, {"Retry-After": "5"}) from None
        return await answer_of(request, future, self.limits.timeout)


async def answer_of(request: Request | None, work: asyncio.Future[T], timeout: float) -> T:
    """Wait for the result of work.

    If the time runs out or the client closes the connection, work that has not begun is cancelled. Work that the queue
    has begun continues, but its result is dropped.

    Raises:
        Problem: the time ran out, or the client closed the connection.
        Exception: the error that the work raised.
    """
    gone = asyncio.ensure_future(_hung_up(request)) if request else None
    pending: set[asyncio.Future[Any]] = {work, gone} if gone else {work}
    try:
        await asyncio.wait(pending, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            return work.result()
        if gone and gone.done():
            raise Problem(CLIENT_GONE, "the client closed the connection")
        raise Problem(504, f"there was no answer within {timeout:g} seconds")
    finally:
        work.cancel()
        if gone:
            gone.cancel()


async def _hung_up(request: Request) -> None:
    """Return when the client has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _reading_drafts(pruner: AT2Pruner) -> AT2Pruner:
    """Return this pruner if its method reads drafts. Otherwise, return a pruner with its model and the method at2."""
    if pruner.scorer.uses_draft:
        return pruner
    return AT2Pruner.from_pretrained(
        pruner.language_model,
        method="at2",
        granularity=pruner.granularity,
        order=pruner.order,
        max_new_tokens=pruner.max_new_tokens,
        overflow=pruner.overflow,
    )
