"""The guard in front of the endpoints. It gives each request an id, checks its key and body, and logs the request."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
import uuid
from collections.abc import Mapping

from fastapi import Request
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .limits import Limits
from .metrics import Metrics
from .problems import Problem, respond

__all__ = ["Guard"]

logger = logging.getLogger(__name__)

ID_HEADER = "x-request-id"
OPEN = frozenset({"/health", "/ready", "/docs", "/openapi.json"})
"""Paths that need no key."""
_PLAIN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Guard:
    """Gives every request an id, refuses some requests, and logs and counts all requests.

    A request is refused if its key is missing or wrong, if its body is too large, or if its body arrives too slowly. A
    client may send an id in `X-Request-ID`. This id is used if it has at most 64 characters and only letters, digits,
    dots, dashes and underscores.

    Args:
        app: the application.
        limits: the limits of the server. They include the maximum size of a body, and the maximum time to wait for the
            next part of a body.
        metrics: the metrics, which count the requests.
        api_key: the bearer key that clients must send. With None, clients need no key.
        log_texts: whether the log line of a request holds the texts of the request.
    """

    def __init__(
        self, app: ASGIApp, limits: Limits, metrics: Metrics, api_key: str | None, log_texts: bool = False
    ) -> None:
        self.app = app
        self.limits = limits
        self.metrics = metrics
        self.log_texts = log_texts
        self.expected = None if api_key is None else f"Bearer {api_key}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        request = Request(scope)
        request.state.request_id = _id_of(request.headers)
        status = 0  # the status of the response, once its first part is sent

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[ID_HEADER] = request.state.request_id
            await send(message)

        try:
            problem = self._refusal(request)
            if problem is None:
                await self.app(scope, self._limited(receive), send_with_id)
            else:
                await respond(request, problem)(scope, receive, send_with_id)
        except Exception:
            logger.error("the request failed", exc_info=True, extra={"fields": {"request_id": _id(request)}})
            if status:  # a part of the response is sent already
                raise ConnectionAbortedError("the response was cut off") from None
            await respond(request, Problem(500, "the server failed; its log has more about this request"))(
                scope, receive, send_with_id
            )
        finally:
            self._record(request, status, time.perf_counter() - started)

    def _refusal(self, request: Request) -> Problem | None:
        """Return the problem if a request is refused before its body is read, else None."""
        given = request.headers.get("authorization", "").encode()
        if self.expected is not None and request.url.path not in OPEN and not _same(given, self.expected):
            return Problem(
                401,
                "send the server's key in the header Authorization: Bearer KEY",
                None,
                {"WWW-Authenticate": "Bearer"},
            )
        size = request.headers.get("content-length", "")
        return self._too_large() if size.isdecimal() and int(size) > self.limits.max_body_bytes else None

    def _too_large(self) -> Problem:
        return Problem(
            413, f"the body is larger than {self.limits.max_body_bytes} bytes, the maximum of this server", "body"
        )

    def _limited(self, receive: Receive) -> Receive:
        """Return a `receive` function that enforces the limits on the body.

        The function raises a problem if the body is too large, or if the next part of the body does not arrive in time.
        """
        received = 0
        complete = False

        async def limited() -> Message:
            nonlocal received, complete
            if complete:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), self.limits.timeout)
            except asyncio.TimeoutError:
                raise Problem(408, f"no part of the body arrived for {self.limits.timeout:g} seconds") from None
            received += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if received > self.limits.max_body_bytes:
                raise self._too_large()
            return message

        return limited

    def _record(self, request: Request, status: int, seconds: float) -> None:
        route = request.scope.get("route")
        endpoint = getattr(route, "path", "none")
        documents = getattr(request.state, "documents", 0)
        self.metrics.answered(endpoint, status, seconds, documents)
        fields = {"request_id": _id(request), "endpoint": endpoint, "status": status, "seconds": round(seconds, 6)}
        if documents:
            fields["documents"] = documents
        if hasattr(request.state, "replica"):
            fields["replica"] = request.state.replica
        if self.log_texts:
            fields["texts"] = getattr(request.state, "texts", {})
        level = logging.DEBUG if endpoint in ("/health", "/ready", "/metrics") else logging.INFO
        logger.log(level, "answered", extra={"fields": fields})


def _id(request: Request) -> str:
    return str(request.state.request_id)


def _id_of(headers: Mapping[str, str]) -> str:
    given = headers.get(ID_HEADER, "")
    return given if _PLAIN_ID.fullmatch(given) else uuid.uuid4().hex


def _same(given: bytes, expected: bytes) -> bool:
    """Compare two headers in constant time, ignoring the case of the scheme."""
    scheme, _, key = given.partition(b" ")
    return secrets.compare_digest(scheme.capitalize() + b" " + key.strip(), expected)
