"""Adapters are checked again, copied and sent to other processes by the frameworks, and keep their model meanwhile."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langchain_core")
pytest.importorskip("llama_index.core")

from langchain_core.documents import Document
from langchain_core.language_models import FakeListChatModel
from langchain_core.runnables import ConfigurableField, RunnableLambda
from llama_index.core.schema import NodeWithScore, TextNode
from pydantic import BaseModel, ConfigDict

from at2_prune import AT2Pruner, LanguageModel, Question
from at2_prune.errors import InputError
from langchain_at2_prune import AT2DocumentCompressor, AT2PruneRetriever, create_prune_chain
from llama_index.postprocessor.at2_prune import AT2Postprocessor


@pytest.fixture
def settings(tiny_lm: LanguageModel, tmp_path: Path) -> dict[str, Any]:
    """The settings of a tiny model in a folder."""
    tiny_lm.model.save_pretrained(tmp_path)
    tiny_lm.tokenizer.save_pretrained(tmp_path)
    return {"model": str(tmp_path), "method": "average_attention", "max_new_tokens": 4}


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The models that were loaded."""
    seen: list[Any] = []
    load = LanguageModel.load

    def counted(*names: Any, **options: Any) -> LanguageModel:
        seen.append(names)
        return load(*names, **options)

    monkeypatch.setattr(LanguageModel, "load", counted)
    return seen


def documents_of(question: Question) -> list[Document]:
    return [Document(p.text, metadata={"title": p.title}) for p in question.passages]


def test_a_field_of_another_class_keeps_the_loaded_model(
    settings: dict[str, Any], question: Question, loads: list[Any]
) -> None:
    class Holder(BaseModel):
        model_config = ConfigDict(arbitrary_types_allowed=True)
        compressor: AT2DocumentCompressor
        postprocessor: AT2Postprocessor

    class Copying(BaseModel):
        model_config = ConfigDict(revalidate_instances="always")
        compressor: AT2DocumentCompressor

    compressor, postprocessor = AT2DocumentCompressor(**settings), AT2Postprocessor(**settings)
    documents = documents_of(question)
    expected = compressor.compress_documents(documents, question.text)
    warm = compressor.step
    holder = Holder(compressor=compressor, postprocessor=postprocessor)
    assert holder.compressor.step is warm
    assert AT2DocumentCompressor.model_validate(compressor).step is warm
    retriever = AT2PruneRetriever(base_retriever=RunnableLambda(lambda query: documents), compressor=compressor)
    assert retriever.compressor.step is warm
    assert Copying(compressor=compressor).compressor.compress_documents(documents, question.text) == expected
    assert retriever.invoke(question.text) == expected
    holder.postprocessor.prune([NodeWithScore(node=TextNode(text=d.page_content)) for d in documents], question.text)
    assert len(loads) == 1


def test_configured_calls_load_once(settings: dict[str, Any], question: Question, loads: list[Any]) -> None:
    base = RunnableLambda(lambda query: documents_of(question))
    pruned = (
        AT2PruneRetriever(base_retriever=base, top_n=3, **settings)
        .configurable_fields(top_n=ConfigurableField(id="top_n"))
        .configurable_alternatives(ConfigurableField(id="prune"), default_key="on", off=base)
    )
    for k in (1, 2, 4):
        assert len(pruned.invoke(question.text, {"configurable": {"top_n": k}})) == k
        assert len(asyncio.run(pruned.ainvoke(question.text, {"configurable": {"top_n": k}}))) == k
    assert len(pruned.invoke(question.text, {"configurable": {"prune": "off"}})) == 10
    assert len(loads) == 1
    for _ in range(2):  # retrievers that are made anew for each call
        AT2PruneRetriever(base_retriever=base, **settings).invoke(question.text)
    assert len(loads) == 1


def test_copies_share(settings: dict[str, Any], question: Question, loads: list[Any]) -> None:
    documents = documents_of(question)
    nodes = [NodeWithScore(node=TextNode(text=document.page_content)) for document in documents]
    for warm in (True, False):
        compressor, postprocessor = AT2DocumentCompressor(**settings), AT2Postprocessor(**settings)
        expected = compressor.compress_documents(documents, question.text) if warm else None
        for copied in (copy.deepcopy(compressor), compressor.model_copy(deep=True), copy.copy(compressor)):
            found = copied.compress_documents(documents, question.text)
            expected = expected or found
            assert found == expected
            copied.top_n = 1
            assert len(copied.compress_documents(documents, question.text)) == 1
        assert compressor.top_n == 3
        if warm:
            postprocessor.postprocess_nodes(nodes, query_str=question.text)
        for again in (copy.deepcopy(postprocessor), postprocessor.model_copy(deep=True)):
            assert len(again.postprocess_nodes(nodes, query_str=question.text)) == 3
    retriever = AT2PruneRetriever(base_retriever=RunnableLambda(lambda query: documents), **settings)
    assert copy.deepcopy(retriever).invoke(question.text) == expected
    assert len(loads) == 1


def test_copies_share_what_cannot_be_copied(tiny_pruner: AT2Pruner) -> None:
    class Locked(FakeListChatModel):
        def __deepcopy__(self, memo: Any = None) -> Any:
            raise TypeError("cannot pickle '_thread.lock' object")

    model = Locked(responses=["the Meuse"])
    copied = copy.deepcopy(AT2DocumentCompressor(pruner=tiny_pruner, draft_llm=model))
    assert (copied.pruner, copied.draft_llm) == (tiny_pruner, model)


def test_pickled_adapters_load_lazily(settings: dict[str, Any], question: Question, loads: list[Any]) -> None:
    documents = documents_of(question)
    nodes = [NodeWithScore(node=TextNode(text=document.page_content)) for document in documents]
    compressor, postprocessor = AT2DocumentCompressor(**settings, top_n=2), AT2Postprocessor(**settings, top_n=2)
    expected = compressor.compress_documents(documents, question.text)
    kept = postprocessor.postprocess_nodes(nodes, query_str=question.text)
    assert pickle.loads(pickle.dumps(compressor)).compress_documents(documents, question.text) == expected
    assert pickle.loads(pickle.dumps(postprocessor)).postprocess_nodes(nodes, query_str=question.text) == kept
    assert len(loads) == 1


def test_adapters_with_a_pruner_are_pickled_with_it(settings: dict[str, Any], question: Question) -> None:
    documents = documents_of(question)
    compressor = AT2DocumentCompressor(pruner=AT2Pruner.from_pretrained(**settings))
    expected = compressor.compress_documents(documents, question.text)
    assert pickle.loads(pickle.dumps(compressor)).compress_documents(documents, question.text) == expected


def test_joblib_carries_an_adapter(settings: dict[str, Any], question: Question) -> None:
    joblib = pytest.importorskip("joblib")
    compressor = AT2DocumentCompressor(**settings)
    documents = documents_of(question)
    expected = compressor.compress_documents(documents, question.text)
    calls = [joblib.delayed(compressor.compress_documents)(documents, question.text) for _ in range(2)]
    found = joblib.Parallel(n_jobs=2, timeout=300)(calls)
    assert [[d.page_content for d in some] for some in found] == [[d.page_content for d in expected]] * 2


@pytest.mark.parametrize("mode", ["validation", "serialization"])
def test_json_schemas(mode: Any) -> None:
    compressor = AT2DocumentCompressor.model_json_schema(mode=mode)
    retriever = AT2PruneRetriever.model_json_schema(mode=mode)
    for schema in (compressor, retriever):
        json.dumps(schema)
    assert {"enabled", "method", "top_n", "title_key", "score_key"} <= compressor["properties"].keys()
    assert "retrieved" in compressor["properties"]["order"]["description"]
    assert {"draft_llm", "read", "pruner"}.isdisjoint(compressor["properties"])
    assert "top_n" in retriever["properties"]
    if mode == "validation":  # LlamaIndex's own base class hides the fields of a serialised component
        assert {"enabled", "method", "top_n", "title_key"} <= AT2Postprocessor.model_json_schema()["properties"].keys()
    chain = create_prune_chain(FakeListChatModel(responses=[""]), AT2DocumentCompressor(enabled=False))
    json.dumps([chain.get_input_jsonschema(), chain.get_output_jsonschema()])


def test_a_retriever_takes_the_settings_of_its_compressor(tiny_pruner: AT2Pruner, question: Question) -> None:
    base = RunnableLambda(lambda query: documents_of(question))
    retriever = AT2PruneRetriever(base_retriever=base, pruner=tiny_pruner, order="score", top_n=2)
    compressor = AT2DocumentCompressor(pruner=tiny_pruner, order="score", top_n=2)
    assert retriever.invoke(question.text) == compressor.compress_documents(documents_of(question), question.text)
    with pytest.raises(ValueError, match="order, pruner and a compressor were given: give these settings to the"):
        AT2PruneRetriever(base_retriever=base, compressor=compressor, pruner=tiny_pruner, order="score")
    with pytest.raises(ValueError, match="method='bm25' contradicts the given pruner"):
        AT2PruneRetriever(base_retriever=base, pruner=tiny_pruner, method="bm25")
    with pytest.raises(ValueError, match="top_k"):
        AT2PruneRetriever(base_retriever=base, top_k=2)
    with pytest.raises(ValueError, match="top_n"):
        AT2PruneRetriever(base_retriever=base, top_n=True)
    with pytest.raises(InputError, match="at least 1"):
        retriever.invoke(question.text, top_n=True)


def test_a_base_that_returns_something_else(tiny_pruner: AT2Pruner, question: Question) -> None:
    documents = documents_of(question)
    lazy = AT2PruneRetriever(base_retriever=RunnableLambda(lambda query: tuple(documents)), pruner=tiny_pruner)
    assert len(lazy.invoke(question.text)) == 3
    texts = AT2PruneRetriever(base_retriever=RunnableLambda(lambda query: ["a", "b"]), pruner=tiny_pruner)
    with pytest.raises(InputError, match="document 0 must be a Document, got str"):
        texts.invoke(question.text)


def test_the_environment_switches_every_adapter(monkeypatch: pytest.MonkeyPatch, question: Question) -> None:
    monkeypatch.setenv("AT2_PRUNE", "off")
    monkeypatch.setenv("AT2_PRUNE_MODEL", "no/such-model")
    documents = documents_of(question)
    base = RunnableLambda(lambda query: documents)
    assert AT2PruneRetriever(base_retriever=base, top_n=3).invoke(question.text) == documents
    assert AT2DocumentCompressor(top_n=3).compress_documents(documents, question.text) is documents
    chain = create_prune_chain(FakeListChatModel(responses=["the Meuse"]))
    assert chain.invoke({"question": question.text, "documents": documents})["kept"] == documents
    nodes = [NodeWithScore(node=TextNode(text=document.page_content)) for document in documents]
    assert AT2Postprocessor(top_n=3).postprocess_nodes(nodes, query_str=question.text) is nodes
