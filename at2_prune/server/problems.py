"""Errors as clients see them. An error is one JSON object that the clients of three services can read.

Clients of Cohere read `message`, clients of Jina read `detail`, and clients of Text Embeddings Inference read `error`
and `error_type`. No error holds a text of the request, except the name of an unknown field. A message that may hold
such a text is replaced.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from ..errors import AT2PruneError, ContextTooLongError, EmptyDraftError, MissingExtraError

__all__ = ["HANDLERS", "RESPONSES", "Problem", "ProblemBody", "problem_of", "respond"]

_TYPES = {401: "Unauthorized", 413: "Validation", 422: "Validation", 429: "Overloaded", 503: "Unhealthy"}
_MEANINGS = {
    400: "The body cannot be read.",
    401: "The key is missing or wrong.",
    408: "The next part of the body did not arrive in time.",
    413: "The body is too large.",
    422: "A field is missing, wrong or too large. `field` names the field.",
    429: "Too many requests wait. Try again after the number of seconds in `Retry-After`.",
    500: "The server failed. Its log holds the request's id.",
    501: "The model or the installation of this server cannot do this.",
    503: "The server is shutting down, or no replica can answer.",
    504: "The answer took too long.",
}


_WORDS = {
    "model_attributes_type": "send a JSON object, with the header Content-Type: application/json",
    "extra_forbidden": "there is no such field; correct its name or leave it out",
}
"""Messages that are clearer than pydantic's own, by the type of pydantic's error."""


class ProblemBody(BaseModel):
    """An error. `message`, `detail` and `error` hold the same sentence, because clients read different fields."""

    message: str
    detail: str
    error: str
    error_type: str
    field: str | None = Field(None, description="The field that is wrong, such as `documents.2`.")
    request_id: str


RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": ProblemBody, "description": meaning} for status, meaning in _MEANINGS.items()
}
"""The errors of an endpoint, for the OpenAPI page."""


class Problem(HTTPException):
    """An error that the server answers with.

    Args:
        status: the HTTP status.
        message: a sentence. It must not quote the request, except for the name of an unknown field.
        field: the field of the request that is wrong. It is None if the error is not about a field.
        headers: headers of the response.
    """

    def __init__(
        self, status: int, message: str, field: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(status, message, headers)
        self.field = field


def problem_of(error: AT2PruneError) -> Problem:
    """Return the problem with which the server answers after an error of the package.

    Three types of errors keep their messages. The messages of all other types may quote a passage, so they are
    replaced.
    """
    if isinstance(error, MissingExtraError):
        return Problem(501, str(error))
    if isinstance(error, (ContextTooLongError, EmptyDraftError)):
        return Problem(422, str(error))
    return Problem(422, f"the model cannot read this request ({type(error).__name__})")


def respond(request: Request, problem: HTTPException) -> JSONResponse:
    """Return a problem as a response."""
    sentence = str(problem.detail)
    body = ProblemBody(
        message=sentence,
        detail=sentence,
        error=sentence,
        error_type=_TYPES.get(problem.status_code, "Backend" if problem.status_code >= 500 else "BadRequest"),
        field=getattr(problem, "field", None),
        request_id=request.state.request_id,
    )
    return JSONResponse(body.model_dump(), problem.status_code, problem.headers)


async def _on_problem(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return respond(request, error)


async def _on_wrong_field(request: Request, error: Exception) -> JSONResponse:
    """Answer with the names of the wrong fields. pydantic's own report would repeat the values of the fields."""
    assert isinstance(error, RequestValidationError)
    wrong = [(_field(one["loc"]), _WORDS.get(one["type"], one["msg"])) for one in error.errors()]
    sentence = "; ".join(f"{field}: {message}" for field, message in wrong[:3])
    more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
    return respond(request, Problem(422, sentence + more, wrong[0][0]))


def _field(place: Sequence[int | str]) -> str:
    """Return the name of a field from its location in an error of pydantic.

    For example, the location `("body", "documents", 2, "<other>")` gives the name `documents.2`. A long part of a name
    is cut, because an unknown field may have any name.
    """
    return ".".join(f"{part!s:.40}" for part in place[1:] if not str(part).startswith("<")) or "body"


async def _on_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, AT2PruneError)
    return respond(request, problem_of(error))


HANDLERS: dict[int | type[Exception], Any] = {
    AT2PruneError: _on_error,
    HTTPException: _on_problem,
    RequestValidationError: _on_wrong_field,
}
"""The application's handlers of exceptions."""
