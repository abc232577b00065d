"""A service for Ray Serve. Replicas in other processes do the work of the service."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError
from ray.serve.handle import DeploymentHandle

from ..passages import Passage
from ..pipeline.results import Pruned
from ..pruning.results import ScoredSource
from .limits import Limits
from .problems import Problem
from .prune_schemas import AttributeRequest, PruneRequest
from .service import Ranking, answer_of

__all__ = ["Outcome", "RemoteService"]

TRIES = 3
"""The maximum number of replicas that are asked for an answer. If a replica dies, another replica is asked."""
_READY_SECONDS = 5


@dataclass(frozen=True)
class Outcome:
    """The answer of a replica: a value, or a problem.

    A replica returns its errors and raises none, because Ray would log the message of a raised error. Such a message
    may quote a passage.
    """

    replica: str
    """The id of the replica."""
    value: Any = None
    problem: Problem | None = None


class RemoteService:
    """Sends the work of requests to the replicas of a deployment; see `at2_prune.server.service.Backend`.

    Args:
        handle: the handle of the deployment `Replica` of `at2_prune.server.ray_app`.
        model: the name of the scoring model.
        limits: the limits of the server.
    """

    def __init__(self, handle: DeploymentHandle, model: str, limits: Limits) -> None:
        self.handle = handle
        self.model = model
        self.limits = limits

    async def rank(self, request: Request | None, question: str, passages: Sequence[Passage]) -> Ranking:
        """Score documents."""
        ranking: Ranking = await self._ask(request, "rank", question=question, passages=passages)
        return ranking

    async def prune(
        self, request: Request | None, body: PruneRequest, passages: Sequence[Passage]
    ) -> tuple[Pruned, str | None]:
        """Choose the passages to keep, and answer from the kept texts if the request asks for an answer."""
        found: tuple[Pruned, str | None] = await self._ask(request, "prune", body=body, passages=passages)
        return found

    async def attribute(
        self, request: Request | None, body: AttributeRequest, passages: Sequence[Passage]
    ) -> tuple[list[ScoredSource], str]:
        """Return the sources of a draft with their scores, and the name of the method."""
        found: tuple[list[ScoredSource], str] = await self._ask(request, "attribute", body=body, passages=passages)
        return found

    async def first_tokens(self, request: Request | None, passages: Sequence[Passage], count: int) -> list[Passage]:
        """Cut each passage's text after `count` tokens of the model's tokenizer, and return the passages."""
        cut: list[Passage] = await self._ask(request, "first_tokens", count=count, passages=passages)
        return cut

    async def state(self) -> tuple[bool, int]:
        """Ask one replica whether it accepts a request now, and how many requests wait there."""
        try:
            outcome = await asyncio.wait_for(self._call("state", {}), _READY_SECONDS)
        except (asyncio.TimeoutError, Problem):
            return False, 0
        accepts, waiting = outcome.value
        return accepts, waiting

    async def _ask(self, request: Request | None, name: str, **arguments: Any) -> Any:
        """Ask a replica. Return the value of its answer, or raise the problem."""
        work = asyncio.ensure_future(self._call(name, arguments))
        outcome = await answer_of(request, work, self.limits.timeout)
        if request is not None:
            request.state.replica = outcome.replica
        if outcome.problem is not None:
            raise outcome.problem
        return outcome.value

    async def _call(self, name: str, arguments: dict[str, Any]) -> Outcome:
        """Call a method of a replica. If the replica dies, call another replica."""
        for _ in range(TRIES):
            response = self.handle.call.remote(name, **arguments)
            try:
                outcome: Outcome = await response
                return outcome
            except asyncio.CancelledError:
                response.cancel()
                raise
            except BackPressureError:
                waiting = self.limits.max_waiting
                raise Problem(
                    429, f"{waiting} requests are waiting already; try again later", None, {"Retry-After": "1"}
                ) from None
            except (RayActorError, ReplicaUnavailableError):
                continue
            except DeploymentUnavailableError:
                break
        raise Problem(503, "no replica could answer the request; try again later", None, {"Retry-After": "5"})
