"""Make the application from the endpoints, the guard and the service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI
from fastapi.security import HTTPBearer
from starlette.types import Lifespan

from .. import __version__
from ..errors import InputError
from ..pipeline.config import PruneConfig
from ..pipeline.step import PruneStep
from .endpoints import health_routes, work_routes
from .guard import Guard
from .limits import Limits
from .metrics import Metrics
from .problems import HANDLERS
from .service import Backend, Service

__all__ = ["check_key", "create_app", "join"]

_DESCRIPTION = "Reranks, prunes and attributes retrieved passages by the attention of a language model."


def create_app(
    step: PruneStep | None = None,
    limits: Limits | None = None,
    api_key: str | None = None,
    log_texts: bool = False,
) -> FastAPI:
    """Make the application of a server, and load its model.

    Args:
        step: the prune step, which holds the settings. With None, the settings are read from the environment.
        limits: the limits of the server.
        api_key: the bearer key that clients must send. With None, clients need no key.
        log_texts: whether logs hold the texts of requests.

    Raises:
        InputError: the config turns pruning off, or the key is blank.
        CoefficientsError, ModelNotSupportedError, MissingExtraError: see `AT2Pruner.from_pretrained`.
    """
    step = PruneStep(PruneConfig.load()) if step is None else step
    limits = limits or Limits()
    if not step.config.enabled:
        raise InputError(
            "pruning is off (enabled=False or AT2_PRUNE=off), so there is nothing to serve: turn pruning on"
        )
    check_key(api_key)
    metrics = Metrics()
    service = Service(step, limits, metrics)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.queue.start()
        yield
        await asyncio.to_thread(service.queue.close)  # the queue first finishes the jobs that wait

    return join(service, metrics, api_key, log_texts, lifespan)


def check_key(api_key: str | None) -> None:
    """Raise `InputError` if the key of a server is blank."""
    if api_key is not None and not api_key.strip():
        raise InputError(f"the API key is blank ({api_key!r}): set a key that is not blank, or no key")


def join(
    service: Backend,
    metrics: Metrics,
    api_key: str | None,
    log_texts: bool,
    lifespan: Lifespan[FastAPI] | None = None,
) -> FastAPI:
    """Make the application for a service.

    Args:
        service: the service that does the work, in this process or in other processes.
        metrics: the metrics, which count the requests.
        api_key: see `create_app`.
        log_texts: see `create_app`.
        lifespan: the context manager that starts and ends the service together with the application.
    """
    # The guard checks the key before the body is read. These dependencies only make the OpenAPI page ask for a key.
    scheme = HTTPBearer(auto_error=False, description="The key of the server, if the server was started with a key.")
    dependencies = [] if api_key is None else [Depends(scheme)]
    app = FastAPI(
        title="at2-prune",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        redoc_url=None,
        exception_handlers=HANDLERS,
    )
    app.state.service = service
    app.include_router(work_routes(service), dependencies=dependencies)
    app.include_router(health_routes(service, metrics))
    app.add_middleware(Guard, limits=service.limits, metrics=metrics, api_key=api_key, log_texts=log_texts)
    return app
