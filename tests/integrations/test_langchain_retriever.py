from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("langchain_core")
pytest.importorskip("langchain_tests")

from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.runnables import ConfigurableField, RunnableLambda
from langchain_core.tracers import BaseTracer
from langchain_core.tracers.schemas import Run
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_tests.integration_tests import RetrieversIntegrationTests

from at2_prune import AT2Pruner, Question
from at2_prune.errors import InputError
from langchain_at2_prune import AT2DocumentCompressor, AT2PruneRetriever


class Runs(BaseTracer):
    """Records the name of every run with the name of its parent."""

    def __init__(self) -> None:
        super().__init__()
        self.pairs: list[tuple[str, str]] = []

    def _persist_run(self, run: Run) -> None:
        self._add("", run)

    def _add(self, parent: str, run: Run) -> None:
        self.pairs.append((parent, run.name))
        for child in run.child_runs:
            self._add(run.name, child)


@pytest.fixture
def base_retriever(question: Question) -> Any:
    store = InMemoryVectorStore(DeterministicFakeEmbedding(size=16))
    store.add_documents(
        [Document(p.text, id=f"doc-{i}", metadata={"title": p.title}) for i, p in enumerate(question.passages)]
    )
    return store.as_retriever(search_kwargs={"k": 8})


@pytest.fixture
def retriever(tiny_pruner: AT2Pruner, base_retriever: Any) -> AT2PruneRetriever:
    return AT2PruneRetriever(base_retriever=base_retriever, compressor=AT2DocumentCompressor(pruner=tiny_pruner))


@pytest.mark.asyncio  # one of LangChain's tests is a coroutine
@pytest.mark.filterwarnings("ignore:.*is marked with '@pytest.mark.asyncio':pytest.PytestWarning")
class TestAT2PruneRetrieverStandard(RetrieversIntegrationTests):
    """The tests that LangChain provides for retrievers."""

    @pytest.fixture(autouse=True)
    def _parts(self, tiny_pruner: AT2Pruner, base_retriever: Any) -> None:
        self._params = {
            "base_retriever": base_retriever,
            "compressor": AT2DocumentCompressor(pruner=tiny_pruner),
        }

    @property
    def retriever_constructor(self) -> type[AT2PruneRetriever]:
        return AT2PruneRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return self._params

    @property
    def retriever_query_example(self) -> str:
        return "The inventor of the saxophone was born in a town that stands on which river?"

    @property
    def num_results_arg_name(self) -> str:
        return "top_n"


def test_it_is_the_compressor_behind_the_retriever(
    retriever: AT2PruneRetriever, base_retriever: Any, question: Question
) -> None:
    found = base_retriever.invoke(question.text)
    expected = retriever.compressor.compress_documents(found, question.text)
    assert retriever.invoke(question.text) == expected
    assert asyncio.run(retriever.ainvoke(question.text)) == expected
    assert retriever.batch([question.text, question.text]) == [expected, expected]


def test_off(base_retriever: Any, question: Question) -> None:
    retriever = AT2PruneRetriever.from_config({"enabled": False, "model": "no/such"}, base_retriever=base_retriever)
    assert retriever.invoke(question.text) == base_retriever.invoke(question.text)
    assert asyncio.run(retriever.ainvoke(question.text)) == base_retriever.invoke(question.text)


def test_configured_at_run_time(retriever: AT2PruneRetriever, base_retriever: Any, question: Question) -> None:
    configurable = retriever.configurable_fields(top_n=ConfigurableField(id="top_n")).configurable_alternatives(
        ConfigurableField(id="prune"), default_key="on", off=base_retriever
    )
    assert len(configurable.invoke(question.text)) == 3
    assert len(configurable.invoke(question.text, {"configurable": {"top_n": 1}})) == 1
    off = {"configurable": {"prune": "off"}}
    assert configurable.invoke(question.text, off) == base_retriever.invoke(question.text)
    assert asyncio.run(configurable.ainvoke(question.text, off)) == base_retriever.invoke(question.text)
    assert retriever.compressor.step.pruner is not None


def test_any_runnable_can_be_the_base(tiny_pruner: AT2Pruner, question: Question) -> None:
    documents = [Document(passage.text) for passage in question.passages]
    retriever = AT2PruneRetriever.from_config(
        {"top_n": 1}, base_retriever=RunnableLambda(lambda query: documents), pruner=tiny_pruner
    )
    assert len(retriever.invoke(question.text)) == 1
    assert len(retriever.invoke(question.text, top_n=4)) == 4
    nothing = AT2PruneRetriever(base_retriever=RunnableLambda(lambda query: []))
    assert nothing.invoke(question.text) == []


def test_traces(retriever: AT2PruneRetriever, question: Question) -> None:
    runs = Runs()
    retriever.invoke(question.text, {"callbacks": [runs]})
    assert ("", "AT2PruneRetriever") in runs.pairs
    assert ("AT2PruneRetriever", "VectorStoreRetriever") in runs.pairs


def test_mistakes(retriever: AT2PruneRetriever, base_retriever: Any, question: Question) -> None:
    with pytest.raises(ValueError, match="top_n"):
        AT2PruneRetriever(base_retriever=base_retriever, top_n=0)
    with pytest.raises(InputError, match="at least 1"):
        retriever.invoke(question.text, top_n=-1)


def test_prune_says_what_is_kept_and_dropped(retriever: AT2PruneRetriever, question: Question) -> None:
    pruned = retriever.prune(question.text, top_n=2)
    kept = [document.page_content for document in retriever.invoke(question.text, top_n=2)]
    assert [pruned.passages[item.index].text for item in pruned.kept] == kept
    assert len(pruned.passages) == 8
