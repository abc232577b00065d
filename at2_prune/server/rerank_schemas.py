"""The bodies of the rerank endpoints, in the formats of Cohere, Jina and Text Embeddings Inference.

These services have further fields. Such fields are accepted and have no effect.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, JsonValue, Tag
from pydantic_core import PydanticCustomError

from ..passages import Passage

__all__ = [
    "BY_TYPE",
    "NUMBER",
    "OTHER_TAG",
    "QUESTION",
    "TEXTS",
    "TEXT_TAG",
    "Count",
    "NotBlank",
    "RankedText",
    "RerankDocument",
    "RerankRequest",
    "RerankResponse",
    "RerankResult",
    "TextsRequest",
    "as_passage",
]

QUESTION = "Which river flows through the birthplace of Adolphe Sax?"
TEXTS: list[JsonValue] = [
    "Ghent is a city in the Flemish Region of Belgium.",
    "Adolphe Sax was born in Dinant.",
    "Dinant lies on the river Meuse.",
]


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    return text


NotBlank = Annotated[str, AfterValidator(_not_blank), Field(json_schema_extra={"pattern": r"\S"})]
"""A text that is not blank."""


def _no_truth(value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticCustomError("number", "must be a number, not true or false")
    return value


NUMBER = BeforeValidator(_no_truth)
"""Refuses true and false where a number is expected. pydantic itself would accept them as 1 and 0."""
Count = Annotated[int, Field(ge=1), NUMBER]
"""An integer of at least 1."""


TEXT_TAG, OTHER_TAG = Tag("<text>"), Tag("<other>")
BY_TYPE = Discriminator(lambda value: "<text>" if isinstance(value, str) else "<other>")
"""Chooses the schema of a field by the type of the value, so that an error is about the schema that the client meant.
The tags begin with "<". Errors leave out such tags when they name a field."""


class RerankRequest(BaseModel):
    """A request to rerank, in the format of Cohere (versions 1 and 2) and Jina."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"query": QUESTION, "documents": TEXTS, "top_n": 2},
                {"query": QUESTION, "documents": [{"text": text} for text in TEXTS], "return_documents": True},
            ]
        }
    )

    model: str | None = Field(None, description="This field has no effect, because the server has one scoring model.")
    query: NotBlank
    documents: list[Annotated[Annotated[str, TEXT_TAG] | Annotated[dict[str, Any], OTHER_TAG], BY_TYPE]] = Field(
        min_length=1, description="Texts, or objects with a `text` and optionally a `title`."
    )
    top_n: Count | None = Field(None, description="The number of results. By default, all documents are returned.")
    return_documents: bool | None = Field(None, description="Whether each result holds the text of its document.")
    rank_fields: list[str] | None = Field(
        None,
        description="The keys of a document object to read. Each value is read as a separate line. By default, "
        "`text` and `title` are read.",
    )
    max_tokens_per_doc: Count | None = Field(
        None, description="The maximum number of tokens to read from each document."
    )


class RerankDocument(BaseModel):
    """The document of a result."""

    text: str


class RerankResult(BaseModel):
    """One document of the ranking."""

    index: int = Field(description="The document's index in the request.")
    relevance_score: float = Field(
        description="The probability that the document is evidence. If the server's method gives no probabilities, the "
        "scores are scaled: the lowest score of the request becomes 0, and the highest score becomes 1. If all scores "
        "are equal, they become 1."
    )
    document: RerankDocument | None = None


class ApiVersion(BaseModel):
    """The version of Cohere's API that the request used."""

    version: str


class BilledUnits(BaseModel):
    """Cohere's count of work. This server bills nothing."""

    search_units: int = 0


class RerankMeta(BaseModel):
    """The metadata of an answer, in Cohere's format."""

    api_version: ApiVersion
    billed_units: BilledUnits = BilledUnits()
    warnings: list[str] | None = Field(
        None,
        description="The reason why the documents could not be scored. This field is left out if they were scored.",
    )


class Usage(BaseModel):
    """Jina's count of work. This server bills nothing."""

    total_tokens: int = 0
    prompt_tokens: int = 0


class RerankResponse(BaseModel):
    """The ranking, in a format that clients of Cohere and clients of Jina can read."""

    id: str = Field(description="The request's id.")
    model: str = Field(description="The name of the model that scored.")
    results: list[RerankResult]
    meta: RerankMeta
    usage: Usage = Usage()


class TextsRequest(BaseModel):
    """A request to rerank, in the format of Text Embeddings Inference."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"query": QUESTION, "texts": TEXTS, "raw_scores": True, "return_text": True}]}
    )

    query: NotBlank
    texts: list[str] = Field(min_length=1)
    raw_scores: bool = Field(
        False, description="True to return the method's scores, false to return values as in `relevance_score`."
    )
    return_text: bool = Field(False, description="Whether each result holds the text that was ranked.")


class RankedText(BaseModel):
    """One text of the ranking."""

    index: int = Field(description="The text's index in the request.")
    score: float
    text: str | None = None


def as_passage(document: str | dict[str, Any], rank_fields: list[str] | None) -> Passage | None:
    """Return a document of a `RerankRequest` as a passage.

    Return None if the document is an object without a text under the key `text`, and no `rank_fields` are given.
    """
    if isinstance(document, str):
        return Passage(document)
    if rank_fields is not None:
        return Passage("\n".join(str(document[name]) for name in rank_fields if document.get(name) is not None))
    text, title = document.get("text"), document.get("title")
    return Passage(text, title if isinstance(title, str) else None) if isinstance(text, str) else None
