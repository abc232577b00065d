"""Run the pipeline snippets of the README and of docs/integrations.md, unchanged and in order."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langchain_classic")
pytest.importorskip("llama_index.core")
pytest.importorskip("haystack")

from haystack import Document as HaystackDocument
from haystack import Pipeline
from haystack.components.retrievers.in_memory import InMemoryBM25Retriever
from haystack.document_stores.in_memory import InMemoryDocumentStore
from langchain_core.documents import Document
from langchain_core.language_models import FakeListChatModel
from langchain_core.runnables import RunnableLambda
from llama_index.core import MockEmbedding, VectorStoreIndex
from llama_index.core.llms import MockLLM
from llama_index.core.schema import NodeWithScore, TextNode

from at2_prune import AT2Pruner, Question
from at2_prune.pipeline.config import SETTINGS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "integrations.md"


@pytest.fixture
def tiny_default(monkeypatch: pytest.MonkeyPatch, tiny_pruner: AT2Pruner) -> None:
    """Replace the embedded model by a tiny one."""
    monkeypatch.setattr(AT2Pruner, "from_pretrained", lambda *args, **options: tiny_pruner)


@pytest.fixture
def names(question: Question, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names that the snippets expect: a retriever, an index, models and a question."""
    documents = [Document(p.text, metadata={"title": p.title}) for p in question.passages]
    nodes = [TextNode(text=p.text, metadata={"title": p.title}) for p in question.passages]
    base = RunnableLambda(lambda query: documents)
    index = VectorStoreIndex(nodes, embed_model=MockEmbedding(embed_dim=2))
    monkeypatch.setattr(
        index, "as_query_engine", lambda **options: VectorStoreIndex.as_query_engine(index, llm=MockLLM(), **options)
    )
    store = InMemoryDocumentStore()
    store.write_documents([HaystackDocument(content=p.text, meta={"title": p.title}) for p in question.passages])
    pipeline = Pipeline()
    pipeline.add_component("retriever", InMemoryBM25Retriever(store, top_k=8))
    return {
        "pipeline": pipeline,
        "base": base,
        "retriever": base,
        "question": question.text,
        "documents": documents,
        "nodes": [NodeWithScore(node=node) for node in nodes],
        "index": index,
        "llm": MockLLM(),
        "chat_model": FakeListChatModel(responses=["the river Meuse"]),
    }


@pytest.mark.usefixtures("tiny_default")
def test_readme(names: dict[str, Any], tiny_pruner: AT2Pruner, question: Question) -> None:
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## In a pipeline")[1].split("\n## ")[0]
    snippets = re.findall(r"```python\n(.*?)```", section, re.S)
    assert len(snippets) == 3
    for snippet in snippets:
        exec(snippet, names)
    expected = [question.passages[i].text for i in tiny_pruner.answer(question.text, question.passages, 3).kept]
    assert [document.page_content for document in names["retriever"].invoke(question.text)] == expected
    nodes = names["query_engine"].query(question.text).source_nodes
    assert sorted(node.text for node in nodes) != sorted(node.text for node in names["nodes"])
    assert len(nodes) == 3
    given = {"retriever": {"query": question.text}, "pruner": {"query": question.text}}
    assert len(names["pipeline"].run(given)["pruner"]["documents"]) == 3


def test_the_readme_with_pruning_off(
    names: dict[str, Any], question: Question, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AT2_PRUNE", "off")
    monkeypatch.setenv("AT2_PRUNE_MODEL", "no/such-model")  # nothing is loaded
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## In a pipeline")[1].split("\n## ")[0]
    for snippet in re.findall(r"```python\n(.*?)```", section, re.S):
        exec(snippet, names)
    assert names["retriever"].invoke(question.text) == names["documents"]
    assert len(names["query_engine"].query(question.text).source_nodes) == 10


@pytest.mark.usefixtures("tiny_default")
def test_snippets(names: dict[str, Any], question: Question, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = DOCS.read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    Path("pipeline.yaml").write_text(re.findall(r"```yaml\n(.*?)```", text, re.S)[0])
    snippets = re.findall(r"```python\n(.*?)```", text, re.S)
    assert len(snippets) == 10  # test_minimal_examples.py runs the scripts that the site shows on this page
    for snippet in snippets:
        exec(snippet, names)
    assert len(names["retriever"].invoke(question.text)) == 3
    assert len(names["result"]["kept"]) == 3
    assert len(names["response"].source_nodes) == 3
    assert (names["compressor"].top_n, names["postprocessor"].top_n) == (3, 3)


def test_the_table_has_every_key_and_default() -> None:
    rows = re.findall(r"^\| (`.*?) \| ?(.*?) ?\|", DOCS.read_text(encoding="utf-8"), re.M)
    shown = {key: default.strip("`") for keys, default in rows for key in re.findall(r"`(\w+)`", keys)}
    usual = {name: field.default for name, field in SETTINGS.items()}
    wanted = {name: "" if value is None else str(value) for name, value in usual.items()}
    wanted |= {name: str(value).lower() for name, value in usual.items() if isinstance(value, bool)}
    assert list(shown.items()) == list(wanted.items())
