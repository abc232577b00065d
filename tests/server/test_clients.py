"""Real clients of other services, which take this server for theirs.

The extra `dev` installs all of them. A client that is not installed is skipped, and the reason names its package.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from at2_prune import AT2Pruner, Question
from at2_prune.pruning.selection import top_k

KEY = "sesame"
Rank = Callable[[str, str, list[str], int], list[tuple[str, float]]]
"""Asks a server at a URL for the best n texts for a question. Returns texts and scores."""


def cohere_v2(url: str, question: str, texts: list[str], n: int) -> list[tuple[str, float]]:
    cohere = pytest.importorskip("cohere", reason="pip install cohere")
    client = cohere.ClientV2(KEY, base_url=url)
    results = client.rerank(
        model="rerank-v3.5", query=question, documents=texts, top_n=n, max_tokens_per_doc=4096
    ).results
    return [(texts[one.index], one.relevance_score) for one in results]


def cohere_v1(url: str, question: str, texts: list[str], n: int) -> list[tuple[str, float]]:
    cohere = pytest.importorskip("cohere", reason="pip install cohere")
    rows = [{"text": text} for text in texts]
    client = cohere.Client(KEY, base_url=url)
    results = client.rerank(model="m", query=question, documents=rows, top_n=n, return_documents=True).results
    return [(one.document.text, one.relevance_score) for one in results]


def langchain_cohere(url: str, question: str, texts: list[str], n: int) -> list[tuple[str, float]]:
    package = pytest.importorskip("langchain_cohere", reason="pip install langchain-cohere")
    from langchain_core.documents import Document

    compressor = package.CohereRerank(model="rerank-v3.5", base_url=url, cohere_api_key=KEY, top_n=n)
    kept = compressor.compress_documents([Document(text) for text in texts], question)
    return [(one.page_content, one.metadata["relevance_score"]) for one in kept]


def _llama_index(postprocessor: Any, question: str, texts: list[str]) -> list[tuple[str, float]]:
    from llama_index.core.schema import NodeWithScore, TextNode

    nodes = [NodeWithScore(node=TextNode(text=text)) for text in texts]
    return [(one.text, one.score) for one in postprocessor.postprocess_nodes(nodes, query_str=question)]


def llama_index_cohere(url: str, question: str, texts: list[str], n: int) -> list[tuple[str, float]]:
    name = "llama_index.postprocessor.cohere_rerank"
    package = pytest.importorskip(name, reason="pip install llama-index-postprocessor-cohere-rerank")
    return _llama_index(package.CohereRerank(top_n=n, api_key=KEY, base_url=url), question, texts)


def llama_index_jina(url: str, question: str, texts: list[str], n: int) -> list[tuple[str, float]]:
    name = "llama_index.postprocessor.jinaai_rerank"
    package = pytest.importorskip(name, reason="pip install llama-index-postprocessor-jinaai-rerank")
    return _llama_index(package.JinaRerank(top_n=n, api_key=KEY, base_url=f"{url}/v1"), question, texts)


def llama_index_tei(url: str, question: str, texts: list[str], n: int) -> list[tuple[str, float]]:
    name = "llama_index.postprocessor.tei_rerank"
    package = pytest.importorskip(name, reason="pip install llama-index-postprocessor-tei-rerank")
    postprocessor = package.TextEmbeddingInference(top_n=n, base_url=url, auth_token=f"Bearer {KEY}")
    return _llama_index(postprocessor, question, texts)


def _haystack(ranker: Any, question: str, texts: list[str]) -> list[tuple[str, float]]:
    from haystack import Document

    documents = ranker.run(query=question, documents=[Document(content=text) for text in texts])["documents"]
    return [(one.content, one.score) for one in documents]


def haystack_cohere(url: str, question: str, texts: list[str], n: int) -> list[tuple[str, float]]:
    name = "haystack_integrations.components.rankers.cohere"
    package = pytest.importorskip(name, reason="pip install cohere-haystack")
    from haystack.utils import Secret

    return _haystack(package.CohereRanker(top_k=n, api_key=Secret.from_token(KEY), api_base_url=url), question, texts)


def haystack_jina(url: str, question: str, texts: list[str], n: int) -> list[tuple[str, float]]:
    name = "haystack_integrations.components.rankers.jina"
    package = pytest.importorskip(name, reason="pip install jina-haystack")
    from haystack.utils import Secret

    ranker = package.JinaRanker(top_k=n, api_key=Secret.from_token(KEY), base_url=f"{url}/v1/rerank")
    return _haystack(ranker, question, texts)


def haystack_tei(url: str, question: str, texts: list[str], n: int) -> list[tuple[str, float]]:
    name = "haystack_integrations.components.rankers.huggingface_api"
    package = pytest.importorskip(name, reason="pip install huggingface-api-haystack")
    from haystack.utils import Secret

    ranker = package.HuggingFaceTEIRanker(url=url, top_k=n, token=Secret.from_token(KEY))
    return _haystack(ranker, question, texts)


def plain_httpx(url: str, question: str, texts: list[str], n: int) -> list[tuple[str, float]]:
    import httpx

    body = {"query": question, "documents": texts, "top_n": n}
    answer = httpx.post(f"{url}/v1/rerank", json=body, headers={"Authorization": f"Bearer {KEY}"})
    return [(texts[one["index"]], one["relevance_score"]) for one in answer.json()["results"]]


CLIENTS: dict[Rank, str] = {
    cohere_v2: "/v2/rerank",
    cohere_v1: "/v1/rerank",
    langchain_cohere: "/v2/rerank",
    llama_index_cohere: "/v2/rerank",
    llama_index_jina: "/v1/rerank",
    llama_index_tei: "/rerank",
    haystack_cohere: "/v2/rerank",
    haystack_jina: "/v1/rerank",
    haystack_tei: "/rerank",
    plain_httpx: "/v1/rerank",
}
"""Every client with the endpoint that it asks."""


@pytest.mark.parametrize(("rank", "endpoint"), CLIENTS.items(), ids=lambda value: getattr(value, "__name__", None))
def test_a_client_gets_the_pruners_ranking(
    rank: Rank, endpoint: str, serve, bm25: AT2Pruner, question: Question, texts: list[str]
) -> None:
    url, service = serve(bm25, api_key=KEY)
    ranked = rank(url, question.text, texts, 3)
    best = top_k(bm25.score(question.text, texts), 3, "score")
    assert [text for text, _ in ranked] == [texts[index] for index in best]
    assert ranked[0][1] == pytest.approx(1.0)
    assert sorted((score for _, score in ranked), reverse=True) == [score for _, score in ranked]
    deadline = time.monotonic() + 30
    while not (asked := _endpoints(service)):  # a request is counted after its answer is sent
        assert time.monotonic() < deadline
    assert asked == {endpoint}


def _endpoints(service: Any) -> set[str]:
    return {sample.labels["endpoint"] for one in service.metrics.requests.collect() for sample in one.samples}


def test_a_client_shows_why_it_was_refused(serve, bm25: AT2Pruner, texts: list[str]) -> None:
    from at2_prune.server.limits import Limits

    url, _ = serve(bm25, Limits(max_documents=2), api_key=KEY)
    cohere = pytest.importorskip("cohere", reason="pip install cohere")
    with pytest.raises(cohere.errors.UnprocessableEntityError, match="this server takes 2"):
        cohere_v2(url, "Where?", texts, 3)
    with pytest.raises(RuntimeError, match="this server takes 2"):
        llama_index_jina(url, "Where?", texts, 3)
    with pytest.raises(RuntimeError, match="this server takes 2"):
        haystack_tei(url, "Where?", texts, 3)
