"""Threads and coroutines that share one model get the same results as serial calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from at2_prune import AT2Pruner, Question

THREADS, QUERIES = 16, 64


@pytest.fixture
def requests(sample_questions: list[Question]) -> list[tuple[str, Question]]:
    """Combine questions with passages of other questions, so that no two requests are the same."""
    short = [replace(question, passages=question.passages[:4]) for question in sample_questions]
    pairs = [(asked.text, about) for asked in short for about in short]
    return pairs[:: len(pairs) // QUERIES][:QUERIES]


def langchain_compressor(pruner: AT2Pruner) -> tuple[Callable, Callable]:
    documents = pytest.importorskip("langchain_core.documents")
    from langchain_at2_prune import AT2DocumentCompressor

    compressor = AT2DocumentCompressor(pruner=pruner, granularity="sentence", neighbors=1)

    def given(request: tuple[str, Question]) -> tuple[list[Any], str]:
        return [documents.Document(p.text, metadata={"title": p.title}) for p in request[1].passages], request[0]

    return (
        lambda request: compressor.compress_documents(*given(request)),
        lambda request: compressor.acompress_documents(*given(request)),
    )


def langchain_retriever(pruner: AT2Pruner) -> tuple[Callable, Callable]:
    documents = pytest.importorskip("langchain_core.documents")
    from langchain_core.runnables import RunnableLambda

    from langchain_at2_prune import AT2DocumentCompressor, AT2PruneRetriever

    about: dict[str, Question] = {}

    def find(query: str) -> list[Any]:
        return [documents.Document(p.text, metadata={"title": p.title}) for p in about[query].passages]

    retriever = AT2PruneRetriever(
        base_retriever=RunnableLambda(find), compressor=AT2DocumentCompressor(pruner=pruner, order="score"), top_n=2
    )

    def given(request: tuple[str, Question]) -> str:
        query = f"{request[0]} ({request[1].id})"
        about[query] = request[1]
        return query

    return lambda request: retriever.invoke(given(request)), lambda request: retriever.ainvoke(given(request))


def langchain_chain(pruner: AT2Pruner) -> tuple[Callable, Callable]:
    documents = pytest.importorskip("langchain_core.documents")
    from langchain_core.runnables import RunnableLambda

    from langchain_at2_prune import AT2DocumentCompressor, create_prune_chain

    own = RunnableLambda(lambda asked: f"{asked['question'][:20]} {len(asked['context'])}")
    chain = create_prune_chain(own, AT2DocumentCompressor(pruner=pruner))

    def given(request: tuple[str, Question]) -> dict[str, Any]:
        found = [documents.Document(p.text, metadata={"title": p.title}) for p in request[1].passages]
        return {"question": request[0], "documents": found}

    return lambda request: chain.invoke(given(request)), lambda request: chain.ainvoke(given(request))


def llama_index_nodes(question: Question) -> list[Any]:
    from llama_index.core.schema import NodeWithScore, TextNode

    return [
        NodeWithScore(node=TextNode(text=p.text, id_=str(i), metadata={"title": p.title}))
        for i, p in enumerate(question.passages)
    ]


def llama_index_postprocessor(pruner: AT2Pruner) -> tuple[Callable, Callable]:
    pytest.importorskip("llama_index.core")
    from llama_index.postprocessor.at2_prune import AT2Postprocessor

    postprocessor = AT2Postprocessor(pruner=pruner)
    return (
        lambda request: postprocessor.postprocess_nodes(llama_index_nodes(request[1]), query_str=request[0]),
        lambda request: postprocessor.apostprocess_nodes(llama_index_nodes(request[1]), query_str=request[0]),
    )


def llama_index_synthesizer(pruner: AT2Pruner) -> tuple[Callable, Callable]:
    pytest.importorskip("llama_index.core")
    from llama_index.core.llms import MockLLM

    from llama_index.postprocessor.at2_prune import AT2Postprocessor, AT2Synthesizer

    synthesizer = AT2Synthesizer(postprocessor=AT2Postprocessor(pruner=pruner), llm=MockLLM(max_tokens=30))

    async def later(request: tuple[str, Question]) -> Any:
        return await synthesizer.asynthesize(request[0], llama_index_nodes(request[1]))

    return lambda request: synthesizer.synthesize(request[0], llama_index_nodes(request[1])), later


ADAPTERS = [
    langchain_compressor,
    langchain_retriever,
    langchain_chain,
    llama_index_postprocessor,
    llama_index_synthesizer,
]


@pytest.mark.slow
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_threads_and_coroutines_return_what_serial_calls_do(
    adapter: Callable[[AT2Pruner], tuple[Callable, Callable]],
    tiny_pruner: AT2Pruner,
    requests: list[tuple[str, Question]],
) -> None:
    now, later = adapter(tiny_pruner)
    serial = [now(request) for request in requests]
    assert len({repr(result) for result in serial}) == QUERIES
    with ThreadPoolExecutor(THREADS) as pool:
        assert list(pool.map(now, requests)) == serial

    async def gather() -> list[Any]:
        return await asyncio.gather(*(later(request) for request in requests))

    assert asyncio.run(gather()) == serial
