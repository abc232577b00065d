from __future__ import annotations

import asyncio
import copy
import doctest
from pathlib import Path

import pytest

pytest.importorskip("haystack", reason='pip install "at2-prune[haystack]"')

from haystack import Document, Pipeline
from haystack.components.builders import PromptBuilder
from haystack.components.retrievers.in_memory import InMemoryBM25Retriever
from haystack.document_stores.in_memory import InMemoryDocumentStore

import haystack_at2_prune.pruner as module
from at2_prune import AT2Pruner, Question
from at2_prune.errors import InputError
from at2_prune.models.language_model import LanguageModel
from at2_prune.pipeline.config import PruneConfig
from at2_prune.scorers import make_scorer
from haystack_at2_prune import AT2DocumentPruner


def as_documents(question: Question) -> list[Document]:
    return [
        Document(id=f"doc-{i}", content=p.text, meta={"title": p.title, "page": i}, score=1 - i / 10)
        for i, p in enumerate(question.passages)
    ]


def ids(documents: list[Document]) -> list[str]:
    return [document.id for document in documents]


def test_examples_in_docstrings() -> None:
    assert doctest.testmod(module).failed == 0


def test_keeps_what_the_pruner_keeps(tiny_pruner: AT2Pruner, question: Question) -> None:
    documents = as_documents(question)
    before = copy.deepcopy(documents)
    kept = AT2DocumentPruner(pruner=tiny_pruner, top_n=3).run(question.text, documents)["documents"]
    result = tiny_pruner.answer(question.text, question.passages, k=3)
    assert ids(kept) == [f"doc-{i}" for i in result.kept]
    assert [document.score for document in kept] == pytest.approx([result.scores[i] for i in result.kept])
    assert documents == before
    for document, index in zip(kept, result.kept, strict=True):
        assert (document.content, document.meta) == (before[index].content, before[index].meta)


def test_top_k_of_a_call(tiny_pruner: AT2Pruner, question: Question) -> None:
    pruner = AT2DocumentPruner(pruner=tiny_pruner, max_tokens=10_000)
    documents = as_documents(question)
    assert len(pruner.run(question.text, documents)["documents"]) == len(documents)
    assert len(pruner.run(question.text, documents, top_k=2)["documents"]) == 2
    with pytest.raises(InputError, match="0"):
        pruner.run(question.text, documents, top_k=0)


def test_async_is_the_same(tiny_pruner: AT2Pruner, question: Question) -> None:
    pruner = AT2DocumentPruner(pruner=tiny_pruner, order="score")
    kept = asyncio.run(pruner.run_async(question.text, as_documents(question)))
    assert kept == pruner.run(question.text, as_documents(question))
    scores = [document.score or 0.0 for document in kept["documents"]]
    assert scores == sorted(scores, reverse=True)


def test_a_draft_of_ones_own_is_read(tiny_lm: LanguageModel, question: Question) -> None:
    pruner = AT2Pruner(tiny_lm, make_scorer("average_attention"))
    adapter = AT2DocumentPruner(pruner=pruner)
    documents = as_documents(question)
    scores = pruner.score(question.text, question.passages, draft="the river Meuse")
    found = adapter.prune(question.text, documents, draft="the river Meuse")
    assert found.draft == "the river Meuse"
    assert found.scores == pytest.approx(list(scores), abs=1e-6)
    kept = adapter.run(question.text, documents, draft="the river Meuse")["documents"]
    assert [document.score for document in kept] == [item.score for item in found.kept]


@pytest.mark.parametrize(
    "options", [{}, {"granularity": "sentence", "neighbors": 1}, {"max_tokens": 300, "order": "score"}]
)
def test_all_frameworks_keep_the_same(
    tiny_pruner: AT2Pruner, sample_questions: list[Question], options: dict[str, object]
) -> None:
    if "granularity" in options:
        pytest.importorskip("sentencex")
    langchain = pytest.importorskip("langchain_at2_prune")
    llama_index = pytest.importorskip("llama_index.postprocessor.at2_prune")
    from langchain_core.documents import Document as LangChainDocument
    from llama_index.core.schema import NodeWithScore, TextNode

    config = PruneConfig(**options)  # type: ignore[arg-type]
    pruner = AT2DocumentPruner.from_config(config, pruner=tiny_pruner)
    compressor = langchain.AT2DocumentCompressor.from_config(config, pruner=tiny_pruner)
    postprocessor = llama_index.AT2Postprocessor.from_config(config, pruner=tiny_pruner)
    for question in sample_questions[:4]:
        found = pruner.run(
            question.text, [Document(content=p.text, meta={"title": p.title}) for p in question.passages]
        )
        ours = [(document.content, document.score) for document in found["documents"]]
        documents = [LangChainDocument(p.text, metadata={"title": p.title}) for p in question.passages]
        kept = compressor.compress_documents(documents, question.text)
        assert [(one.page_content, one.metadata["relevance_score"]) for one in kept] == ours
        nodes = [NodeWithScore(node=TextNode(text=p.text, metadata={"title": p.title})) for p in question.passages]
        left = postprocessor.postprocess_nodes(nodes, query_str=question.text)
        assert [(node.text, node.score) for node in left] == ours


@pytest.fixture
def tiny_folder(tiny_lm: LanguageModel, tmp_path: Path) -> str:
    tiny_lm.model.save_pretrained(tmp_path / "model")
    tiny_lm.tokenizer.save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


def test_a_pipeline_that_was_stored_prunes(tiny_folder: str, question: Question) -> None:
    """Retriever, pruner and prompt builder; the pipeline goes through YAML, and runs in both ways."""
    store = InMemoryDocumentStore(shared=True)
    store.write_documents(as_documents(question))
    made = Pipeline()
    made.add_component("retriever", InMemoryBM25Retriever(store, top_k=8))
    settings = {"model": tiny_folder, "method": "average_attention", "top_n": 3, "max_new_tokens": 4}
    made.add_component("pruner", AT2DocumentPruner(**settings))
    template = "{% for document in documents %}{{ document.content }}|{% endfor %}{{ query }}"
    made.add_component("prompt", PromptBuilder(template, required_variables=["documents", "query"]))
    made.connect("retriever.documents", "pruner.documents")
    made.connect("pruner.documents", "prompt.documents")
    inputs = {name: {"query": question.text} for name in ("retriever", "pruner", "prompt")}
    stored = Pipeline.loads(made.dumps(), allowed_modules=["haystack_at2_prune"])
    pruner = stored.get_component("pruner")
    assert pruner.config == made.get_component("pruner").config == PruneConfig(**settings)  # type: ignore[arg-type]
    stored.warm_up()
    assert pruner.step._pruner is not None
    prompt = stored.run(inputs)["prompt"]["prompt"]
    texts = [p.text for p in question.passages]
    assert len(prompt.split("|")) == 4
    assert set(prompt.split("|")[:3]) < {*texts}
    assert asyncio.run(made.run_async(inputs))["prompt"]["prompt"] == prompt
    one = {**inputs, "pruner": {"query": question.text, "top_k": 1}}
    assert len(stored.run(one)["prompt"]["prompt"].split("|")) == 2


def test_stored_as_its_settings(tiny_pruner: AT2Pruner) -> None:
    data = AT2DocumentPruner(top_n=7, title_key=None).to_dict()
    assert data["type"] == "haystack_at2_prune.pruner.AT2DocumentPruner"
    assert data["init_parameters"] == PruneConfig(top_n=7, title_key=None).to_dict()
    again = AT2DocumentPruner.from_dict(data)
    assert again.config == PruneConfig(top_n=7, title_key=None)
    with pytest.raises(InputError, match="model="):
        AT2DocumentPruner(pruner=tiny_pruner).to_dict()


@pytest.mark.parametrize("count", [0, 1])
def test_short_lists_take_no_model(question: Question, count: int) -> None:
    documents = as_documents(question)[:count]
    assert AT2DocumentPruner(model="no/such-model").run(question.text, documents) == {"documents": documents}


def test_off_hands_documents_on_untouched(question: Question, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AT2_PRUNE", "off")
    pruner = AT2DocumentPruner.from_config({"model": "no/such-model"})
    documents = as_documents(question)
    pruner.warm_up()
    assert pruner.run(question.text, documents)["documents"] is documents
    assert asyncio.run(pruner.run_async(question.text, documents))["documents"] is documents


def test_a_generator_of_documents(tiny_pruner: AT2Pruner, question: Question) -> None:
    documents, pruner = as_documents(question), AT2DocumentPruner(pruner=tiny_pruner)
    kept = pruner.run(question.text, documents)
    assert pruner.run(question.text, (document for document in documents)) == kept
    assert asyncio.run(pruner.run_async(question.text, iter(documents))) == kept
    pruned = pruner.prune(question.text, iter(documents))
    assert [documents[item.index].id for item in pruned.kept] == ids(kept["documents"])


@pytest.mark.parametrize(
    ("documents", "says"),
    [
        (None, "documents must be a list of Document objects, got NoneType"),
        ("a text", "documents must be a list of Document objects, got str"),
        ({"content": "a"}, "documents must be a list of Document objects, got dict"),
        (Document(content="a"), "documents must be a list of Document objects, got Document"),
        (["a", "b"], r"document 0 must be a Document, got str: 'a'; wrap a text as Document\(content=text\)"),
        ([Document(content="a"), {"content": "b"}], "document 1 must be a Document, got dict"),
    ],
)
def test_what_is_no_list_of_documents(tiny_pruner: AT2Pruner, documents: object, says: str) -> None:
    pruner = AT2DocumentPruner(pruner=tiny_pruner)
    for call in (pruner.run, pruner.prune):
        with pytest.raises(InputError, match=f"^{says}"):
            call("Which river?", documents)


def test_documents_without_metadata_or_with_a_score_that_is_no_number(tiny_lm: LanguageModel) -> None:
    pruner = AT2DocumentPruner(pruner=AT2Pruner.from_pretrained(tiny_lm, method="retriever_order"), top_n=1)
    documents = [Document(content=text, meta=None, score="high") for text in ("Ghent is a city.", "Dinant is a town.")]
    assert ids(pruner.run("Which river?", documents)["documents"]) == [documents[0].id]


def test_from_config(tiny_pruner: AT2Pruner, tmp_path: Path) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text('[tool.at2-prune]\ntop_n = 5\norder = "score"\n')
    pruner = AT2DocumentPruner.from_config(path, pruner=tiny_pruner)
    assert pruner.config == PruneConfig(top_n=5, order="score")


def test_mistakes() -> None:
    with pytest.raises(InputError, match="top_n must be an integer of at least 1 or auto, got 0"):
        AT2DocumentPruner(top_n=0)
    with pytest.raises(InputError, match="unknown key 'topn'"):
        AT2DocumentPruner(topn=3)
