from __future__ import annotations

import asyncio
import copy
import doctest
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langchain_core")

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import BaseDocumentTransformer, Document
from langchain_core.language_models import FakeListChatModel, FakeListLLM, GenericFakeChatModel
from langchain_core.messages import AIMessage, BaseMessage, get_buffer_string
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda

import langchain_at2_prune.chain
import langchain_at2_prune.compressor
from at2_prune import AT2Pruner, Passage, Question
from at2_prune.errors import InputError
from at2_prune.pipeline.config import PruneConfig
from at2_prune.scorers import make_scorer
from langchain_at2_prune import AT2DocumentCompressor


def as_documents(question: Question) -> list[Document]:
    return [
        Document(passage.text, id=f"doc-{i}", metadata={"title": passage.title, "source": f"page {i}"})
        for i, passage in enumerate(question.passages)
    ]


class Fixed(BaseRetriever):
    """Returns the same documents for every question."""

    documents: list[Document]

    def _get_relevant_documents(self, query: str, *, run_manager: object) -> list[Document]:
        return self.documents


class Asked(BaseCallbackHandler):
    """Records the prompts of chat models."""

    def __init__(self) -> None:
        self.prompts: list[str] = []

    def on_chat_model_start(self, serialized: object, messages: list[list[BaseMessage]], **kwargs: object) -> None:
        self.prompts += [get_buffer_string(some) for some in messages]


class Upper(BaseDocumentTransformer):
    def transform_documents(self, documents: Sequence[Document], **kwargs: object) -> Sequence[Document]:
        return [document.model_copy(update={"page_content": document.page_content.upper()}) for document in documents]


def test_examples_in_docstrings() -> None:
    for module in (langchain_at2_prune.compressor, langchain_at2_prune.chain):
        assert doctest.testmod(module).failed == 0


def test_keeps_what_the_pruner_keeps(tiny_pruner: AT2Pruner, question: Question) -> None:
    documents = as_documents(question)
    before = copy.deepcopy(documents)
    kept = AT2DocumentCompressor(pruner=tiny_pruner, top_n=3).compress_documents(documents, question.text)
    result = tiny_pruner.answer(question.text, question.passages, k=3)
    assert [document.id for document in kept] == [f"doc-{i}" for i in result.kept]
    assert [document.page_content for document in kept] == [question.passages[i].text for i in result.kept]
    for document, index in zip(kept, result.kept, strict=True):
        expected = {**before[index].metadata, "relevance_score": pytest.approx(result.scores[index])}
        assert document.metadata == expected
        assert document is not documents[index]
    assert documents == before


def test_best_first(tiny_pruner: AT2Pruner, question: Question) -> None:
    kept = AT2DocumentCompressor(pruner=tiny_pruner, order="score", top_n=5).compress_documents(
        as_documents(question), question.text
    )
    scores = [document.metadata["relevance_score"] for document in kept]
    assert scores == sorted(scores, reverse=True)


def test_sentences(tiny_pruner: AT2Pruner, question: Question) -> None:
    documents = as_documents(question)
    compressor = AT2DocumentCompressor(pruner=tiny_pruner, granularity="sentence", top_n=2, neighbors=1)
    kept = compressor.compress_documents(documents, question.text)
    originals = {document.id: document for document in documents}
    assert 1 <= len(kept) <= 2
    for document in kept:
        assert len(document.page_content) <= len(originals[document.id].page_content)
        assert all(part in originals[document.id].page_content for part in document.page_content.split(". "))
        assert document.metadata["source"] == originals[document.id].metadata["source"]


def test_async_is_the_same(tiny_pruner: AT2Pruner, question: Question) -> None:
    compressor = AT2DocumentCompressor(pruner=tiny_pruner)
    documents = as_documents(question)
    kept = asyncio.run(compressor.acompress_documents(documents, question.text))
    assert kept == compressor.compress_documents(documents, question.text)


def test_in_langchains_own_retriever_and_pipeline(tiny_pruner: AT2Pruner, question: Question) -> None:
    retrievers = pytest.importorskip("langchain_classic.retrievers")
    compressors = pytest.importorskip("langchain_classic.retrievers.document_compressors")
    documents = as_documents(question)
    compressor = AT2DocumentCompressor(pruner=tiny_pruner, top_n=2)
    expected = list(compressor.compress_documents(documents, question.text))
    retriever = retrievers.ContextualCompressionRetriever(
        base_compressor=compressor, base_retriever=Fixed(documents=documents)
    )
    assert retriever.invoke(question.text) == expected
    assert asyncio.run(retriever.ainvoke(question.text)) == expected
    pipeline = compressors.DocumentCompressorPipeline(transformers=[compressor, Upper()])
    loud = [document.page_content.upper() for document in expected]
    assert [document.page_content for document in pipeline.compress_documents(documents, question.text)] == loud
    nothing = retrievers.ContextualCompressionRetriever(base_compressor=compressor, base_retriever=Fixed(documents=[]))
    assert nothing.invoke(question.text) == []


def test_reading_documents(tiny_pruner: AT2Pruner, question: Question) -> None:
    documents = [
        Document("", metadata={"name": passage.title, "body": passage.text, "title": 3})
        for passage in question.passages
    ]
    compressor = AT2DocumentCompressor(
        pruner=tiny_pruner, read=lambda d: Passage(d.metadata["body"], title=d.metadata["name"])
    )
    kept = compressor.compress_documents(documents, question.text)
    expected = tiny_pruner.answer(question.text, question.passages, k=3).kept
    assert [document.metadata["name"] for document in kept] == [question.passages[i].title for i in expected]
    assert AT2DocumentCompressor().passages(documents)[0] == Passage("")
    assert AT2DocumentCompressor(title_key="name").passages(documents)[0].title == question.passages[0].title
    assert AT2DocumentCompressor(title_key=None).passages(as_documents(question))[0].title is None


def test_duplicates(tiny_pruner: AT2Pruner, question: Question) -> None:
    documents = as_documents(question)
    again = [document.model_copy(update={"id": f"{document.id}-again"}) for document in documents]
    compressor = AT2DocumentCompressor(pruner=tiny_pruner)
    kept = compressor.compress_documents([*documents, *again], question.text)
    assert kept == compressor.compress_documents(documents, question.text)


DRAFTERS = {
    "chat model": FakeListChatModel(responses=["the river Meuse"]),
    "llm": FakeListLLM(responses=["the river Meuse"]),
    "bound": FakeListChatModel(responses=["the river Meuse"]).bind(stop=["\n"]).with_retry(),
    "fallbacks": FakeListChatModel(responses=["the river Meuse"]).with_fallbacks([FakeListLLM(responses=["?"])]),
    "blocks": GenericFakeChatModel(
        messages=iter(
            [AIMessage([{"type": "reasoning", "reasoning": "hm"}, {"type": "text", "text": "the river Meuse"}])] * 2
        )
    ),
    "chain": ChatPromptTemplate.from_template("{context} {input}")
    | FakeListChatModel(responses=["the river Meuse"])
    | StrOutputParser(),
    "message": RunnableLambda(lambda values: AIMessage("the river Meuse")),
    "dictionary": RunnableLambda(lambda values: {"answer": "the river Meuse", "context": values["context"]}),
}


@pytest.mark.parametrize("drafter", DRAFTERS)
def test_drafts_of_other_models_are_scored(tiny_pruner: AT2Pruner, question: Question, drafter: str) -> None:
    compressor = AT2DocumentCompressor(pruner=tiny_pruner, draft_llm=DRAFTERS[drafter])
    documents = as_documents(question)
    kept = compressor.compress_documents(documents, question.text)
    scores = tiny_pruner.score(question.text, question.passages, "the river Meuse")
    assert [document.metadata["relevance_score"] for document in kept] == pytest.approx(
        [scores[int(str(document.id).removeprefix("doc-"))] for document in kept]
    )
    assert sorted(scores)[-3:] == pytest.approx(sorted(document.metadata["relevance_score"] for document in kept))
    assert asyncio.run(compressor.acompress_documents(documents, question.text)) == kept


def test_what_a_chat_model_is_asked(tiny_pruner: AT2Pruner, question: Question) -> None:
    seen = Asked()
    model = FakeListChatModel(responses=["Meuse"])
    compressor = AT2DocumentCompressor(pruner=tiny_pruner, draft_llm=model)
    documents = as_documents(question)
    compressor.compress_documents([*documents, documents[0]], question.text, callbacks=[seen])
    assert len(seen.prompts) == 1
    assert seen.prompts[0].endswith(f"Question: {question.text}")
    for passage in question.passages:
        assert seen.prompts[0].count(f"{passage.title}: {passage.text}") == 1
    prompt = ChatPromptTemplate.from_template("Q {question} D {context}")
    custom = AT2DocumentCompressor(pruner=tiny_pruner, draft_llm=model, draft_prompt=prompt)
    custom.compress_documents(documents, question.text, callbacks=[seen])
    assert seen.prompts[1].startswith(f"Human: Q {question.text} D Theobald Boehm:")


def test_a_draft_that_is_no_text(tiny_pruner: AT2Pruner, question: Question) -> None:
    compressor = AT2DocumentCompressor(pruner=tiny_pruner, draft_llm=RunnableLambda(lambda values: 3))
    with pytest.raises(InputError, match="got int: 3"):
        compressor.compress_documents(as_documents(question), question.text)


def test_methods_that_read_no_draft_ask_no_llm(tiny_pruner: AT2Pruner, question: Question) -> None:
    bm25 = AT2Pruner(tiny_pruner.language_model, make_scorer("bm25"))
    compressor = AT2DocumentCompressor(pruner=bm25, draft_llm=RunnableLambda(lambda values: 1 / 0))
    kept = compressor.compress_documents(as_documents(question), question.text)
    scores = bm25.score(question.text, question.passages)
    assert [d.metadata["relevance_score"] for d in kept] == [scores[int(d.id.removeprefix("doc-"))] for d in kept]
    assert sorted(scores)[-3:] == sorted(d.metadata["relevance_score"] for d in kept)
    assert asyncio.run(compressor.acompress_documents(as_documents(question), question.text)) == kept


@pytest.mark.parametrize("count", [0, 1])
def test_short_lists_take_no_model(question: Question, count: int) -> None:
    model = RunnableLambda(lambda values: 1 / 0)
    compressor = AT2DocumentCompressor(model="no/such-model", draft_llm=model)
    documents = as_documents(question)[:count]
    assert compressor.compress_documents(documents, question.text) == documents
    assert asyncio.run(compressor.acompress_documents(documents, question.text)) == documents


def test_off_hands_documents_on_untouched(question: Question) -> None:
    compressor = AT2DocumentCompressor.from_config({"enabled": False, "model": "no/such-model"})
    documents = as_documents(question)
    assert compressor.compress_documents(documents, question.text) is documents
    assert asyncio.run(compressor.acompress_documents(documents, question.text)) is documents


def test_off_does_not_import_torch() -> None:
    code = (
        "import sys; from langchain_at2_prune import AT2DocumentCompressor, AT2PruneRetriever\n"
        "from langchain_core.documents import Document\n"
        "from langchain_core.runnables import RunnableLambda\n"
        "documents = [Document('a'), Document('b')]\n"
        "compressor = AT2DocumentCompressor.from_config()\n"
        "assert compressor.compress_documents(documents, '?') is documents\n"
        "retriever = AT2PruneRetriever.from_config(base_retriever=RunnableLambda(lambda q: documents))\n"
        "assert retriever.invoke('?') == documents\n"
        "print('torch' in sys.modules, 'transformers' in sys.modules)"
    )
    environ = {"AT2_PRUNE": "off", "AT2_PRUNE_MODEL": "no/such", "PATH": "/usr/bin"}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environ)
    assert run.stdout == "False False\n", run.stderr


def test_from_config(tiny_pruner: AT2Pruner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "pipeline.yaml"
    path.write_text("at2-prune: {top_n: 5, granularity: sentence, order: score}\n")
    compressor = AT2DocumentCompressor.from_config(path, pruner=tiny_pruner, title_key="name")
    assert (compressor.top_n, compressor.granularity, compressor.order) == (5, "sentence", "score")
    assert compressor.step.config == PruneConfig(top_n=5, granularity="sentence", order="score", title_key="name")
    assert (compressor.pruner, compressor.title_key) == (tiny_pruner, "name")
    monkeypatch.setenv("AT2_PRUNE", "off")
    assert not AT2DocumentCompressor.from_config(path).enabled
    assert AT2DocumentCompressor.from_config(PruneConfig()).enabled


def test_fields_follow_the_pruner_and_can_be_set_later(tiny_pruner: AT2Pruner, question: Question) -> None:
    pruner = AT2Pruner(
        tiny_pruner.language_model, tiny_pruner.scorer, granularity="sentence", order="score", overflow="error"
    )
    compressor = AT2DocumentCompressor(pruner=pruner, order="original")
    assert (compressor.granularity, compressor.order, compressor.overflow) == ("sentence", "original", "error")
    compressor.granularity, compressor.top_n = "passage", 2
    assert len(compressor.compress_documents(as_documents(question), question.text)) == 2
    assert compressor.step.pruner.language_model is tiny_pruner.language_model


def test_mistakes(tiny_pruner: AT2Pruner) -> None:
    with pytest.raises(InputError, match="top_n must be an integer of at least 1 or auto, got 0"):
        AT2DocumentCompressor(pruner=tiny_pruner, top_n=0)
    with pytest.raises(InputError, match="top_k"):
        AT2DocumentCompressor(top_k=3)  # type: ignore[call-arg]
    with pytest.raises(InputError, match="'original' or 'score'"):
        AT2DocumentCompressor(order="best")
    with pytest.raises(InputError, match="unknown key 'topn'"):
        AT2DocumentCompressor.from_config({"topn": 3})


def test_explain(tiny_pruner: AT2Pruner, question: Question) -> None:
    pruned = AT2DocumentCompressor(pruner=tiny_pruner).prune(as_documents(question), question.text)
    assert pruned.explain().count("the top 3 are kept") == 7


def test_documents_without_text_are_handed_on_in_their_place(tiny_pruner: AT2Pruner, question: Question) -> None:
    documents = as_documents(question)
    blank = [Document("", id=name, metadata={"image": f"{name}.png"}) for name in ("first", "second")]
    mixed = [blank[0], *documents[:4], blank[1], *documents[4:]]
    compressor = AT2DocumentCompressor(pruner=tiny_pruner, top_n=2)
    kept = compressor.compress_documents(mixed, question.text)
    alone = compressor.compress_documents(documents, question.text)
    assert [document.id for document in kept if document.page_content] == [document.id for document in alone]
    assert [document for document in kept if not document.page_content] == blank
    assert kept == sorted(kept, key=lambda document: [d.id for d in mixed].index(document.id))


def test_any_iterable_of_documents(tiny_pruner: AT2Pruner, question: Question) -> None:
    compressor = AT2DocumentCompressor(pruner=tiny_pruner)
    documents = as_documents(question)
    expected = compressor.compress_documents(documents, question.text)
    assert compressor.compress_documents((d for d in documents), question.text) == expected
    assert asyncio.run(compressor.acompress_documents(iter(documents), question.text)) == expected
    assert compressor.prune(iter(documents), question.text) == compressor.prune(documents, question.text)


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        (["a text", "another"], r"document 0 must be a Document, got str: 'a text'; wrap a text as Document\(text\)"),
        ([Document("a"), None], "document 1 must be a Document, got NoneType"),
        ("a text", "documents must be a list of Document objects, got str"),
        (Document("a"), "documents must be a list of Document objects, got Document"),
        (None, "documents must be a list of Document objects, got NoneType"),
    ],
)
def test_what_is_no_list_of_documents(tiny_pruner: AT2Pruner, documents: Any, message: str) -> None:
    compressor = AT2DocumentCompressor(pruner=tiny_pruner)
    with pytest.raises(InputError, match=message):
        compressor.compress_documents(documents, "Which?")
    with pytest.raises(InputError, match=message):
        asyncio.run(compressor.acompress_documents(documents, "Which?"))


@pytest.mark.parametrize("values", [{"top_n": True}, {"top_n": "3"}, {"enabled": "off"}, {"max_tokens": 2.0}])
def test_values_are_not_turned_into_others(values: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(values))} must be"):
        AT2DocumentCompressor(**values)


def test_settings_that_contradict_the_pruner(tiny_pruner: AT2Pruner) -> None:
    with pytest.raises(InputError, match="method='scout' contradicts the given pruner, which has 'at2'"):
        AT2DocumentCompressor(pruner=tiny_pruner, method="scout")
    copied = AT2DocumentCompressor(method="scout").model_copy(update={"pruner": tiny_pruner})
    with pytest.raises(InputError, match="method='scout' contradicts"):
        copied.compress_documents([Document("a"), Document("b")], "Which?")
    with pytest.raises(InputError, match="pruner must be an AT2Pruner, got str: 'x'"):
        AT2DocumentCompressor(pruner="x")
    later = AT2DocumentCompressor(model="no/such-model")
    later.model, later.pruner = None, tiny_pruner
    assert later.step.pruner.language_model is tiny_pruner.language_model


def test_constructors_read_the_environment(monkeypatch: pytest.MonkeyPatch, tiny_pruner: AT2Pruner) -> None:
    monkeypatch.setenv("AT2_PRUNE", "off")
    monkeypatch.setenv("AT2_PRUNE_TOP_N", "7")
    monkeypatch.setenv("AT2_PRUNE_GRANULARITY", "sentence")
    assert not AT2DocumentCompressor().enabled
    compressor = AT2DocumentCompressor(top_n=2, enabled=True, pruner=tiny_pruner)
    assert (compressor.enabled, compressor.top_n, compressor.granularity) == (True, 2, "sentence")
    assert AT2DocumentCompressor.from_config(PruneConfig()).enabled  # a ready config is taken as it is
    monkeypatch.setenv("AT2_PRUNE", "perhaps")
    with pytest.raises(InputError, match="environment variable AT2_PRUNE must be true or false"):
        AT2DocumentCompressor()


def test_a_title_key_can_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "pipeline.yaml"
    path.write_text("at2-prune: {title_key: name}\n")
    compressor = AT2DocumentCompressor.from_config(path)
    assert compressor.passages([Document("a", metadata={"name": "A name"})])[0].title == "A name"
