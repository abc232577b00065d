"""An application for Ray Serve, which runs the server on several machines.

    serve run at2_prune.server.ray_app:build method=scout index=/data/index max_replicas=8

The deployment `Api` answers HTTP requests, and the replicas of the deployment `Replica` do the work. Each replica holds
the model and a cache of the passage index. `PassageRouter` sends a request to the replica that keeps the keys of the
request's passages. The application needs the extra `ray`. docs/scale.md describes the application.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from fastapi import FastAPI
from ray import serve
from ray.serve import Application

from ..errors import AT2PruneError, InputError
from ..parsing import parse_switch
from ..passage_index.stores import shared_memory
from ..pipeline.config import SETTINGS, PruneConfig
from ..pipeline.step import PruneStep
from .app import check_key, join
from .limits import Limits
from .logs import use_json_logs
from .metrics import Metrics
from .problems import Problem, problem_of
from .remote import Outcome, RemoteService
from .service import Service

__all__ = ["Replica", "Replicas", "build"]

logger = logging.getLogger(__name__)

D = TypeVar("D")
REPLICA = "Replica"
KEY_VARIABLE = "AT2_PRUNE_API_KEY"
_METHODS = ("rank", "prune", "attribute", "first_tokens", "state")


@dataclass(frozen=True)
class Replicas:
    """The number of replicas, and the resources of each replica."""

    min_replicas: int = 1
    max_replicas: int = 4
    cpus: int = 1
    """The number of CPU cores for each replica."""
    gpus: float = 0
    """The number of GPUs for each replica. With a fraction, replicas share a GPU."""
    memory: int = 1024
    """The maximum size of the index that each replica keeps in memory, in MiB."""

    def __post_init__(self) -> None:
        if not 1 <= self.min_replicas <= self.max_replicas:
            raise InputError(
                f"min_replicas must be at least 1 and at most max_replicas, got min_replicas={self.min_replicas} and "
                f"max_replicas={self.max_replicas}"
            )


class Replica:
    """Holds a model and a cache of the passage index, and does the work for requests.

    Args:
        config: the settings of pruning.
        limits: the limits of the server.
        memory: the maximum size of the index in memory, in MiB.
        log_texts: whether logs hold the texts of requests.
    """

    def __init__(self, config: PruneConfig, limits: Limits, memory: int, log_texts: bool) -> None:
        _use_logs(log_texts)
        shared_memory.limit = memory * 2**20
        self.service = Service(PruneStep(config), limits, Metrics())
        self.service.queue.start()
        self.id: str = serve.get_replica_context().replica_id.unique_id
        self.requests = 0

    async def call(self, name: str, **arguments: Any) -> Outcome:
        """Call a method of `Service`, and return its result or the problem."""
        assert name in _METHODS
        self.requests += name in ("rank", "prune", "attribute")
        try:
            method = getattr(self.service, name)
            return Outcome(self.id, await (method() if name == "state" else method(None, **arguments)))
        except Problem as problem:
            return Outcome(self.id, problem=problem)
        except AT2PruneError as error:
            return Outcome(self.id, problem=problem_of(error))
        except Exception:
            logger.error("the request failed", exc_info=True, extra={"fields": {"replica": self.id}})
            return Outcome(self.id, problem=Problem(500, "the server failed; the replica's log has more"))

    def report(self) -> dict[str, Any]:
        """Return the replica's id, the number of its requests, and the number of passages in its memory."""
        return {"replica": self.id, "requests": self.requests, "passages": len(shared_memory)}


def build(args: Mapping[str, Any]) -> Application:
    """Return the application for `serve run` and `serve deploy`.

    This function reads the settings and passes them to all replicas. The settings in `args` override the environment.
    The environment overrides the file that `config` names. The environment variable `AT2_PRUNE_API_KEY` holds the key
    of the server. With `serve run`, the environment is the environment of the command. With `serve deploy`, the
    environment is the `runtime_env` of the application.

    Args:
        args: the settings of `PruneConfig`, the fields of `Limits` and `Replicas`, `config` and `log_texts`.

    Raises:
        InputError: a name is unknown, a setting or a limit is invalid, the key is blank, or pruning is off. A value of
            `log_texts` that means neither on nor off raises no error and counts as off.
    """
    given = dict(args)
    api_key = os.environ.get(KEY_VARIABLE)
    check_key(api_key)
    replicas, limits = _taken(Replicas, given), _taken(Limits, given)
    log_texts = parse_switch(str(given.pop("log_texts", False))) is True
    source = given.pop("config", None)
    kinds = {name: field.metadata["kind"] for name, field in SETTINGS.items()}
    parsed = {n: kinds[n].parse(v) if n in kinds and isinstance(v, str) else v for n, v in given.items()}
    config = PruneConfig.load(source, **parsed)
    if not config.enabled:
        raise InputError(
            "pruning is off (enabled=False or AT2_PRUNE=off), so there is nothing to serve: turn pruning on"
        )
    model = PruneStep(config).model_name
    worker = serve.deployment(
        name=REPLICA,
        autoscaling_config={
            "min_replicas": replicas.min_replicas,
            "max_replicas": replicas.max_replicas,
            "target_ongoing_requests": limits.max_together,
        },
        max_ongoing_requests=2 * limits.max_together,  # the batch that is being scored, and the next batch
        max_queued_requests=limits.max_waiting,
        request_router_config={"request_router_class": "at2_prune.server.ray_router:PassageRouter"},
        ray_actor_options={"num_cpus": replicas.cpus, "num_gpus": replicas.gpus},
    )(Replica)

    def application() -> FastAPI:
        _use_logs(log_texts)
        name = serve.get_replica_context().app_name
        service = RemoteService(serve.get_deployment_handle(REPLICA, name), model, limits)
        return join(service, Metrics(), api_key, log_texts)

    waiting = limits.max_waiting + 2 * limits.max_together * replicas.max_replicas
    api = serve.deployment(name="Api", max_ongoing_requests=waiting, ray_actor_options={"num_cpus": 0})
    handed = worker.bind(config, limits, replicas.memory, log_texts)
    return api(serve.ingress(application)()).bind(handed)


def _taken(kind: type[D], given: dict[str, Any]) -> D:
    """Return an object of the dataclass `kind`, with the values that `given` has for its fields.

    These values are removed from `given`.

    Raises:
        InputError: a value is not a number, or an integer field has a value that is not an integer. The error is also
            raised if a value is below the minimum: 0 for `gpus`, and 1 for all other fields.
    """
    values = {}
    for field in fields(kind):  # type: ignore[arg-type]
        if field.name not in given:
            continue
        text = str(given.pop(field.name))
        try:
            values[field.name] = float(text) if field.type == "float" else int(text)
        except ValueError:
            raise InputError(f"{field.name} must be a number, got {text!r}") from None
        least = 0 if field.name == "gpus" else 1
        if values[field.name] < least:
            raise InputError(f"{field.name} must be at least {least}, got {text}")
    return kind(**values)


def _use_logs(texts: bool) -> None:
    """Write the log of this process as JSON lines, as `at2-prune serve` does."""
    logging.basicConfig(level=logging.WARNING)
    logging.getLogger("at2_prune").setLevel(logging.INFO)
    use_json_logs(texts)
