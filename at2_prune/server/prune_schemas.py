"""The bodies of the endpoints that prune and attribute."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from .. import passages
from .rerank_schemas import BY_TYPE, NUMBER, OTHER_TAG, QUESTION, TEXT_TAG, TEXTS, Count, NotBlank

__all__ = [
    "AttributeRequest",
    "AttributeResponse",
    "AttributedSource",
    "Dropped",
    "Kept",
    "PassageBody",
    "PruneRequest",
    "PruneResponse",
    "as_passages",
]

Granularity = Literal["passage", "sentence"]


class PassageBody(BaseModel):
    """One retrieved text. A misspelling of a key is refused. All other unknown keys have no effect."""

    model_config = ConfigDict(extra="allow")  # the endpoints look for misspellings among the other keys

    text: str
    title: str | None = Field(None, description="The title, which the model reads before the text.")
    id: str | None = None
    score: Annotated[float, NUMBER] | None = Field(
        None,
        allow_inf_nan=False,
        description="The retrieval score. Only the methods `fusion` and `retriever_order` read it.",
    )


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")

    question: NotBlank
    passages: list[Annotated[Annotated[str, TEXT_TAG] | Annotated[PassageBody, OTHER_TAG], BY_TYPE]] = Field(
        min_length=1, description="Texts, or objects with a `text`."
    )
    granularity: Granularity | None = Field(
        None, description="The kind of source that is scored and kept. The default is the server's setting."
    )


class PruneRequest(_Request):
    """A request to prune passages."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"question": QUESTION, "passages": TEXTS, "k": 2},
                {
                    "question": QUESTION,
                    "passages": [{"text": text, "id": str(index)} for index, text in enumerate(TEXTS)],
                    "k": 1,
                    "answer": True,
                },
            ]
        }
    )

    k: Annotated[Annotated[Literal["auto"], TEXT_TAG] | Annotated[Count | None, OTHER_TAG], BY_TYPE] = Field(
        None, description="The number of passages or sentences to keep. The default is the server's setting."
    )
    draft: NotBlank | None = Field(None, description="A draft by any model, for methods that read a draft.")
    answer: bool = Field(
        False, strict=True, description="True if the server's reader should answer from the kept texts."
    )


class Kept(BaseModel):
    """A passage that is kept."""

    index: int = Field(description="The passage's index in the request.")
    text: str = Field(description="The kept text: the whole text, or the kept sentences.")
    title: str | None = None
    id: str | None = None
    score: float | None = Field(description="The method's score. Null if the passage was not scored.")
    probability: float | None = Field(
        None,
        description="The probability that the passage is evidence. Null if the passage was not scored, or if the "
        "method gives no probabilities.",
    )


class Dropped(BaseModel):
    """A passage that is dropped."""

    index: int
    reason: str
    score: float | None
    probability: float | None = None


class PruneResponse(BaseModel):
    """The kept passages, and the dropped passages with the reasons why they are dropped."""

    pruned_text: str = Field(description="The kept texts, with an empty line between them.")
    kept: list[Kept] = Field(description="The kept passages, in the order in which a prompt should show them.")
    dropped: list[Dropped]
    draft: str | None = Field(
        description="The draft that was given or written. Null if there is no draft, or if no passage was scored. "
        "Empty if nothing could be scored because the draft was empty."
    )
    answer: str | None = Field(None, description="The answer from the kept texts, if the request asks for an answer.")
    present: float | None = Field(
        None,
        description="The probability that at least one passage is evidence. Null if the method gives no probabilities, "
        "or if there are too few passages.",
    )
    fallback: str | None = Field(
        description="The reason why nothing could be scored. The first passages are then kept. Null otherwise."
    )
    model: str
    request_id: str


class AttributeRequest(_Request):
    """A draft, and the passages that it was written from."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"question": QUESTION, "passages": TEXTS, "draft": "The Meuse flows through Dinant."},
            ]
        }
    )

    draft: NotBlank = Field(description="A draft by any model, for example by the model of an API.")


class AttributedSource(BaseModel):
    """A passage or a sentence, with a score that says how much the draft used it."""

    passage: int = Field(description="The index of the passage in the request.")
    text: str
    score: float
    rank: int = Field(description="The rank by score. The highest score has rank 1.")


class AttributeResponse(BaseModel):
    """All sources, in the order of the request."""

    sources: list[AttributedSource]
    method: str
    model: str
    request_id: str


def as_passages(bodies: list[str | PassageBody]) -> list[passages.Passage]:
    """Return the passages of a request."""
    return [
        passages.Passage(body)
        if isinstance(body, str)
        else passages.Passage(body.text, title=body.title, id=body.id, score=body.score)
        for body in bodies
    ]
