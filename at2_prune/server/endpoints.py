"""The endpoints. Each endpoint checks the limits, asks the service, and answers in the format that clients expect."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from ..passages import Passage, meant_key
from ..pruning.selection import top_k
from . import prune_schemas as prune
from . import rerank_schemas as rerank
from .metrics import Metrics
from .problems import RESPONSES, Problem, ProblemBody
from .service import Backend, Ranking

__all__ = ["health_routes", "work_routes"]


def work_routes(service: Backend) -> APIRouter:
    """Return the endpoints that need the model."""
    router = APIRouter(responses=RESPONSES)

    async def ranked(request: Request, body: rerank.RerankRequest, version: str) -> rerank.RerankResponse:
        passages = _documents(body)
        if body.max_tokens_per_doc is not None:
            passages = await service.first_tokens(request, passages, body.max_tokens_per_doc)
        _check(request, service, "documents", passages, ("query", body.query))
        _refuse_blank("documents", passages)
        ranking = await service.rank(request, body.query, passages)
        scores = relevance(ranking)
        results = [
            rerank.RerankResult(
                index=index,
                relevance_score=scores[index],
                document=rerank.RerankDocument(text=passages[index].text) if body.return_documents else None,
            )
            for index in top_k(ranking.scores, body.top_n or len(scores), "score")
        ]
        warnings = None if ranking.warning is None else [f"{ranking.warning}; the results are in the request's order"]
        meta = rerank.RerankMeta(api_version=rerank.ApiVersion(version=version), warnings=warnings)
        return rerank.RerankResponse(id=request.state.request_id, model=service.model, results=results, meta=meta)

    @router.post("/v2/rerank", tags=["rerank"], response_model_exclude_none=True)
    async def rerank_v2(request: Request, body: rerank.RerankRequest) -> rerank.RerankResponse:
        """Rank documents, as version 2 of Cohere's API does."""
        return await ranked(request, body, "2")

    @router.post("/v1/rerank", tags=["rerank"], response_model_exclude_none=True)
    async def rerank_v1(request: Request, body: rerank.RerankRequest) -> rerank.RerankResponse:
        """Rank documents, as version 1 of Cohere's API and Jina's API do."""
        return await ranked(request, body, "1")

    @router.post("/rerank", tags=["rerank"], response_model_exclude_none=True)
    async def rerank_texts(request: Request, body: rerank.TextsRequest) -> list[rerank.RankedText]:
        """Rank texts, as Text Embeddings Inference does."""
        passages = [Passage(text) for text in body.texts]
        _check(request, service, "texts", passages, ("query", body.query))
        _refuse_blank("texts", passages)
        ranking = await service.rank(request, body.query, passages)
        raw = ranking.scores
        scores = raw if body.raw_scores else relevance(ranking)
        return [
            rerank.RankedText(index=i, score=scores[i], text=passages[i].text if body.return_text else None)
            for i in top_k(raw, len(raw), "score")
        ]

    @router.post("/prune", tags=["prune"])
    async def prune_passages(request: Request, body: prune.PruneRequest) -> prune.PruneResponse:
        """Keep the best passages or sentences, and give the reason for each passage that is dropped."""
        _refuse_misspelt(body.passages)
        passages = prune.as_passages(body.passages)
        others = ("question", body.question), ("draft", body.draft or "")
        _check(request, service, "passages", passages, *others)
        pruned, answer = await service.prune(request, body, passages)
        kept = [
            prune.Kept(
                index=k.index,
                text=k.text,
                title=passages[k.index].title,
                id=passages[k.index].id,
                score=k.score,
                probability=k.probability,
            )
            for k in pruned.kept
        ]
        return prune.PruneResponse(
            pruned_text="\n\n".join(one.text for one in kept),
            kept=kept,
            dropped=[
                prune.Dropped(index=d.index, reason=d.reason, score=d.score, probability=d.probability)
                for d in pruned.dropped
            ],
            present=pruned.present,
            draft=pruned.draft,
            answer=answer,
            fallback=pruned.fallback,
            model=service.model,
            request_id=request.state.request_id,
        )

    @router.post("/attribute", tags=["prune"])
    async def attribute_draft(request: Request, body: prune.AttributeRequest) -> prune.AttributeResponse:
        """Score how much a draft used each passage or sentence. Any model may have written the draft."""
        _refuse_misspelt(body.passages)
        passages = prune.as_passages(body.passages)
        _check(request, service, "passages", passages, ("question", body.question), ("draft", body.draft))
        _refuse_blank("passages", passages)
        sources, method = await service.attribute(request, body, passages)
        return prune.AttributeResponse(
            sources=[
                prune.AttributedSource(passage=s.passage, text=s.text, score=s.score, rank=s.rank) for s in sources
            ],
            method=method,
            model=service.model,
            request_id=request.state.request_id,
        )

    return router


def health_routes(service: Backend, metrics: Metrics) -> APIRouter:
    """Return the endpoints for watching the server."""
    router = APIRouter(tags=["server"])

    @router.get("/health")
    async def health() -> dict[str, str]:
        """Answer while the process is running."""
        return {"status": "ok"}

    @router.get("/ready", responses={503: {"description": "The server does not accept requests now."}})
    async def ready() -> JSONResponse:
        """Return whether the server would accept a request now."""
        accepts, waiting = await service.state()
        body = {"status": "ready" if accepts else "busy", "model": service.model, "waiting": waiting}
        return JSONResponse(body, 200 if accepts else 503)

    @router.get("/metrics", response_class=Response, responses={401: {"model": ProblemBody}})
    async def numbers() -> Response:
        """Return counts and times in the text format of Prometheus."""
        return Response(metrics.page(), media_type=metrics.content_type)

    return router


def relevance(ranking: Ranking) -> list[float]:
    """Return the probabilities of a ranking's documents, or `relative` scores if the method gives no probabilities."""
    return relative(ranking.scores) if ranking.probabilities is None else ranking.probabilities


def relative(scores: Sequence[float]) -> list[float]:
    """Scale scores to the range from 0 to 1. If all scores are equal, they become 1.

    Example:
        >>> relative([2.0, -2.0, 1.0])
        [1.0, 0.0, 0.75]
    """
    lowest, highest = min(scores), max(scores)
    if highest == lowest:
        return [1.0] * len(scores)
    return [(score - lowest) / (highest - lowest) for score in scores]


def _documents(body: rerank.RerankRequest) -> list[Passage]:
    """Return the documents of a request as passages.

    Raises:
        Problem: `rank_fields` is not given, and a document is an object that has no text under the key `text` or has a
            misspelt key.
    """
    passages = []
    for index, document in enumerate(body.documents):
        if isinstance(document, dict) and body.rank_fields is None:
            _check_keys(document, document, f"documents.{index}", ("text", "title"))
        passage = rerank.as_passage(document, body.rank_fields)
        if passage is None:
            raise Problem(
                422,
                "documents: an object needs a text under the key `text`, unless `rank_fields` names the keys to read",
                f"documents.{index}",
            )
        passages.append(passage)
    return passages


def _refuse_misspelt(bodies: Sequence[str | prune.PassageBody]) -> None:
    """Raise a problem if a passage has a misspelt key."""
    for index, body in enumerate(bodies):
        if isinstance(body, prune.PassageBody):
            _check_keys(
                body.model_extra or (), body.model_fields_set, f"passages.{index}", prune.PassageBody.model_fields
            )


def _check_keys(keys: Iterable[str], known: Collection[str], where: str, read: Collection[str]) -> None:
    """Raise a problem if a key is the misspelling of a key that the server reads.

    Args:
        keys: the keys to check.
        known: all keys that the object has.
        where: the name of the object in the request.
        read: the keys that the server reads.
    """
    for key in keys:
        if (meant := meant_key(key, known)) in read:
            raise Problem(422, f"{where}: unknown key {key!r}, did you mean {meant!r}?", f"{where}.{key}")


def _check(
    request: Request, service: Backend, field: str, passages: Sequence[Passage], *others: tuple[str, str]
) -> None:
    """Check the size of a request, and store its number of documents and its texts for the log.

    Args:
        request: the request.
        service: the service, which holds the limits.
        field: the name of the field that holds the documents.
        passages: the documents.
        others: the names and the values of other fields with text.

    Raises:
        Problem: there are too many documents or characters.
    """
    limits = service.limits
    request.state.documents = len(passages)
    request.state.texts = {**dict(others), field: [passage.text for passage in passages]}
    if len(passages) > limits.max_documents:
        raise Problem(422, f"{field} holds {len(passages)} documents; this server takes {limits.max_documents}", field)
    sizes = {field: sum(len(passage.text) + len(passage.title or "") for passage in passages)}
    sizes |= {name: len(text) for name, text in others}
    total, longest = sum(sizes.values()), max(sizes, key=lambda name: sizes[name])
    if total > limits.max_characters:
        raise Problem(
            422,
            f"the request holds {total} characters, {sizes[longest]} of them in {longest}; this server takes "
            f"{limits.max_characters}",
            longest,
        )


def _refuse_blank(field: str, passages: Sequence[Passage]) -> None:
    """Raise a problem if no document has text.

    `/prune` does not call this function, because `/prune` always keeps passages that have no text.
    """
    if not any(passage.text.strip() for passage in passages):
        raise Problem(422, f"{field} are all blank: give at least one with text", field)
