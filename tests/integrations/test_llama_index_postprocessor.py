from __future__ import annotations

import asyncio
import copy
import doctest
import hashlib
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("llama_index.core")

from llama_index.core import VectorStoreIndex
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload, LlamaDebugHandler
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events import BaseEvent
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.llms import MockLLM
from llama_index.core.prompts import PromptTemplate
from llama_index.core.schema import ImageNode, MetadataMode, NodeWithScore, QueryBundle, TextNode

import llama_index.postprocessor.at2_prune.base as module
from at2_prune import AT2Pruner, Question
from at2_prune.errors import InputError
from at2_prune.pipeline.config import PruneConfig
from at2_prune.scorers import make_scorer
from llama_index.postprocessor.at2_prune import AT2Postprocessor


class HashEmbedding(BaseEmbedding):
    """An embedding from a hash: the tests need a fixed order of the nodes, but no particular one."""

    def _get_text_embedding(self, text: str) -> list[float]:
        return [byte / 255 for byte in hashlib.sha256(text.encode()).digest()[:8]]

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)


class Events(BaseEventHandler):
    """Records reranking events."""

    seen: list[Any]

    @classmethod
    def class_name(cls) -> str:
        return "Events"

    def handle(self, event: BaseEvent, **kwargs: Any) -> None:
        if isinstance(event, (ReRankStartEvent, ReRankEndEvent)):
            self.seen.append(event)


@pytest.fixture
def events() -> Any:
    root = get_dispatcher()
    handler = Events(seen=[])
    root.add_event_handler(handler)
    yield handler.seen
    root.event_handlers.remove(handler)


def as_nodes(question: Question, **metadata: str) -> list[NodeWithScore]:
    return [
        NodeWithScore(
            node=TextNode(text=p.text, id_=f"node-{i}", metadata={"title": p.title, **metadata}), score=1 - i / 10
        )
        for i, p in enumerate(question.passages)
    ]


def ids(nodes: list[NodeWithScore]) -> list[str]:
    return [node.node_id for node in nodes]


def test_examples_in_docstrings() -> None:
    assert doctest.testmod(module).failed == 0


def test_keeps_what_the_pruner_keeps(tiny_pruner: AT2Pruner, question: Question) -> None:
    nodes = as_nodes(question)
    before = copy.deepcopy(nodes)
    kept = AT2Postprocessor(pruner=tiny_pruner, top_n=3).postprocess_nodes(nodes, QueryBundle(question.text))
    result = tiny_pruner.answer(question.text, question.passages, k=3)
    assert ids(kept) == [f"node-{i}" for i in result.kept]
    assert [node.score for node in kept] == pytest.approx([result.scores[i] for i in result.kept])
    assert nodes == before
    for node, index in zip(kept, result.kept, strict=True):
        assert node.get_content(MetadataMode.ALL) == before[index].get_content(MetadataMode.ALL)


def test_async_is_the_same(tiny_pruner: AT2Pruner, question: Question) -> None:
    postprocessor = AT2Postprocessor(pruner=tiny_pruner, order="score")
    nodes = as_nodes(question)
    kept = asyncio.run(postprocessor.apostprocess_nodes(nodes, query_str=question.text))
    assert kept == postprocessor.postprocess_nodes(nodes, query_str=question.text)
    assert [node.score for node in kept] == sorted((node.score for node in kept), reverse=True)


def test_langchain_keeps_the_same(tiny_pruner: AT2Pruner, sample_questions: list[Question]) -> None:
    langchain = pytest.importorskip("langchain_at2_prune")
    from langchain_core.documents import Document

    for options in ({}, {"granularity": "sentence", "neighbors": 1}, {"max_tokens": 300, "order": "score"}):
        config = PruneConfig(**options)
        compressor = langchain.AT2DocumentCompressor.from_config(config, pruner=tiny_pruner)
        postprocessor = AT2Postprocessor.from_config(config, pruner=tiny_pruner)
        for question in sample_questions[:4]:
            documents = [Document(p.text, metadata={"title": p.title}) for p in question.passages]
            left = compressor.compress_documents(documents, question.text)
            right = postprocessor.postprocess_nodes(as_nodes(question), query_str=question.text)
            assert [document.page_content for document in left] == [node.text for node in right]
            assert [document.metadata["relevance_score"] for document in left] == [node.score for node in right]


def test_sentences(tiny_pruner: AT2Pruner, question: Question) -> None:
    nodes = as_nodes(question)
    before = copy.deepcopy(nodes)
    postprocessor = AT2Postprocessor(pruner=tiny_pruner, granularity="sentence", top_n=2)
    kept = postprocessor.postprocess_nodes(nodes, query_str=question.text)
    assert nodes == before
    originals = {node.node_id: node for node in nodes}
    for node in kept:
        assert len(node.text) < len(originals[node.node_id].text)
        assert node.text in originals[node.node_id].text
        assert node.metadata == originals[node.node_id].metadata


def test_what_the_scoring_model_reads(question: Question) -> None:
    node = as_nodes(question, year="1814", secret="s")[0].node
    node.excluded_llm_metadata_keys = ["secret"]
    text = question.passages[0].text
    postprocessor = AT2Postprocessor()
    passage = postprocessor.passages([NodeWithScore(node=node)])[0]
    assert (passage.title, passage.text) == ("Theobald Boehm", f"year: 1814\n\n{text}")
    sentence = AT2Postprocessor(granularity="sentence").passages([NodeWithScore(node=node)])[0]
    assert (sentence.title, sentence.text) == ("Theobald Boehm", text)
    node.excluded_llm_metadata_keys = ["secret", "title"]
    assert postprocessor.passages([NodeWithScore(node=node)])[0].title is None
    other = AT2Postprocessor(title_key=None).passages([NodeWithScore(node=as_nodes(question)[0].node)])[0]
    assert (other.title, other.text) == (None, f"title: Theobald Boehm\n\n{text}")


def test_in_a_query_engine(tiny_pruner: AT2Pruner, question: Question) -> None:
    nodes = [node.node for node in as_nodes(question)]
    index = VectorStoreIndex(nodes, embed_model=HashEmbedding())
    postprocessor = AT2Postprocessor(pruner=tiny_pruner, top_n=2)
    debug = LlamaDebugHandler(print_trace_on_end=False)
    engine = index.as_query_engine(
        llm=MockLLM(),
        similarity_top_k=8,
        node_postprocessors=[postprocessor],
    )
    engine.callback_manager = postprocessor.callback_manager = CallbackManager([debug])
    response = engine.query(question.text)
    found = index.as_retriever(similarity_top_k=8).retrieve(question.text)
    expected = postprocessor.postprocess_nodes(found, query_str=question.text)
    assert ids(response.source_nodes) == ids(expected)
    assert len(expected) == 2
    for node in found:  # MockLLM answers with its prompt
        assert (node.text in response.response) == (node.node_id in ids(expected))
    assert "score" not in response.response
    assert ids(asyncio.run(engine.aquery(question.text)).source_nodes) == ids(expected)
    pairs = debug.get_event_pairs(CBEventType.RERANKING)
    asked = {EventPayload.NODES, EventPayload.MODEL_NAME, EventPayload.QUERY_STR, EventPayload.TOP_K}
    assert (set(pairs[0][0].payload), set(pairs[0][1].payload)) == (asked, {EventPayload.NODES})
    assert ids(pairs[0][0].payload[EventPayload.NODES]) == ids(found)
    payloads = [start.payload | end.payload for start, end in pairs]
    assert payloads[0][EventPayload.TOP_K] == 2
    assert payloads[0][EventPayload.MODEL_NAME] == "tiny-random-llama"
    assert ids(payloads[0][EventPayload.NODES]) == ids(expected)


def test_events(tiny_pruner: AT2Pruner, question: Question, events: list[Any]) -> None:
    postprocessor = AT2Postprocessor(pruner=tiny_pruner)
    nodes = as_nodes(question)
    kept = postprocessor.postprocess_nodes(nodes, query_str=question.text)
    asyncio.run(postprocessor.apostprocess_nodes(nodes, query_str=question.text))
    assert [type(event) for event in events] == [ReRankStartEvent, ReRankEndEvent] * 2
    assert (events[0].query, events[0].top_n, events[0].model_name) == (question.text, 3, "tiny-random-llama")
    assert (ids(events[0].nodes), ids(events[1].nodes)) == (ids(nodes), ids(kept))
    events.clear()
    assert postprocessor.postprocess_nodes([], query_str=question.text) == []
    with pytest.raises(ValueError, match="needs the question"):
        postprocessor.postprocess_nodes(nodes)
    assert events == []


def test_drafts_of_another_llm_are_scored(tiny_pruner: AT2Pruner, question: Question) -> None:
    prompt = PromptTemplate("{query_str}|{context_str}")
    postprocessor = AT2Postprocessor(pruner=tiny_pruner, draft_llm=MockLLM(), draft_prompt=prompt)
    nodes = as_nodes(question)
    pruned = postprocessor.prune([*nodes, nodes[0]], question.text)
    draft = f"{question.text}|" + "\n\n".join(node.get_content(MetadataMode.LLM) for node in nodes)
    assert pruned.draft == draft
    assert pruned.scores[:-1] == pytest.approx(tiny_pruner.score(question.text, question.passages, draft))
    assert asyncio.run(postprocessor.aprune([*nodes, nodes[0]], question.text)) == pruned


def test_methods_that_read_no_draft_ask_no_llm(tiny_pruner: AT2Pruner, question: Question) -> None:
    bm25 = AT2Pruner(tiny_pruner.language_model, make_scorer("bm25"))
    postprocessor = AT2Postprocessor(pruner=bm25, draft_llm=MockLLM())
    pruned = postprocessor.prune(as_nodes(question), question.text)
    assert pruned.draft is None
    assert pruned.scores == pytest.approx(bm25.score(question.text, question.passages))
    assert asyncio.run(postprocessor.aprune(as_nodes(question), question.text)) == pruned


@pytest.mark.parametrize("count", [0, 1])
def test_short_lists_take_no_model(question: Question, count: int) -> None:
    postprocessor = AT2Postprocessor(model="no/such-model")
    nodes = as_nodes(question)[:count]
    assert postprocessor.postprocess_nodes(nodes, query_str=question.text) == nodes
    assert asyncio.run(postprocessor.apostprocess_nodes(nodes, query_str=question.text)) == nodes


def test_off_hands_nodes_on_untouched(question: Question, events: list[Any]) -> None:
    postprocessor = AT2Postprocessor.from_config({"enabled": False, "model": "no/such-model"})
    nodes = as_nodes(question)
    assert postprocessor.postprocess_nodes(nodes) is nodes
    assert asyncio.run(postprocessor.apostprocess_nodes(nodes)) is nodes
    assert events == []


def test_off_does_not_import_torch() -> None:
    code = (
        "import sys; from llama_index.postprocessor.at2_prune import AT2Postprocessor, AT2Synthesizer\n"
        "from llama_index.core.llms import MockLLM; from llama_index.core.schema import NodeWithScore, TextNode\n"
        "nodes = [NodeWithScore(node=TextNode(text=text)) for text in 'abc']\n"
        "postprocessor = AT2Postprocessor.from_config()\n"
        "assert postprocessor.postprocess_nodes(nodes) is nodes\n"
        "response = AT2Synthesizer(postprocessor=postprocessor, llm=MockLLM()).synthesize('?', nodes)\n"
        "assert response.source_nodes == nodes\n"
        "print('torch' in sys.modules, 'at2_prune.pruning.pruner' in sys.modules)"
    )
    environ = {"AT2_PRUNE": "off", "AT2_PRUNE_MODEL": "no/such", "PATH": "/usr/bin"}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environ)
    assert run.stdout == "False False\n", run.stderr


def test_from_config_and_later_changes(tiny_pruner: AT2Pruner, question: Question, tmp_path: Path) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text('[tool.at2-prune]\ntop_n = 5\norder = "score"\n')
    postprocessor = AT2Postprocessor.from_config(path, pruner=tiny_pruner)
    assert postprocessor.step.config == PruneConfig(top_n=5, order="score")
    assert len(postprocessor.postprocess_nodes(as_nodes(question), query_str=question.text)) == 5
    postprocessor.top_n = 2
    assert len(postprocessor.postprocess_nodes(as_nodes(question), query_str=question.text)) == 2


def test_serialised_as_its_settings(tiny_pruner: AT2Pruner) -> None:
    postprocessor = AT2Postprocessor(pruner=tiny_pruner, draft_llm=MockLLM(), top_n=7)
    settings = {"top_n": 7, "title_key": "title", "class_name": "AT2Postprocessor"}
    assert settings.items() <= postprocessor.to_dict().items()
    assert AT2Postprocessor.from_dict(postprocessor.to_dict()).top_n == 7
    assert pickle.loads(pickle.dumps(AT2Postprocessor(top_n=7))).step.config.top_n == 7


def test_mistakes() -> None:
    with pytest.raises(InputError, match="top_n must be an integer of at least 1 or auto, got 0"):
        AT2Postprocessor(top_n=0)
    with pytest.raises(InputError, match="top_k"):
        AT2Postprocessor(top_k=3)
    with pytest.raises(InputError, match="unknown key 'topn'"):
        AT2Postprocessor.from_config({"topn": 3})


def test_nodes_without_text_are_handed_on_in_their_place(tiny_pruner: AT2Pruner, question: Question) -> None:
    images = [
        NodeWithScore(node=ImageNode(image_path=f"{n}.png", metadata={"file_name": f"{n}.png"}, id_=f"image-{n}"))
        for n in range(3)
    ]
    bare = NodeWithScore(node=ImageNode(image="aGk=", id_="image-3"), score=0.25)
    nodes = as_nodes(question)
    mixed = [images[0], *nodes[:4], images[1], images[2], *nodes[4:], bare]
    for granularity in ("passage", "sentence"):
        postprocessor = AT2Postprocessor(pruner=tiny_pruner, top_n=2, granularity=granularity)
        kept = postprocessor.postprocess_nodes(mixed, query_str=question.text)
        alone = postprocessor.postprocess_nodes(nodes, query_str=question.text)
        assert ids([node for node in kept if node.node_id.startswith("node")]) == ids(alone)
        assert [node for node in kept if node.node_id.startswith("image")] == [*images, bare]
        assert ids(kept) == [node_id for node_id in ids(mixed) if node_id in ids(kept)]
    drafted = AT2Postprocessor(pruner=tiny_pruner, draft_llm=MockLLM())
    assert drafted.to_draft_from(mixed) == mixed  # a model with eyes drafts from the images too


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([TextNode(text="a")] * 2, r"node 0 must be a NodeWithScore, got TextNode.*as NodeWithScore\(node=node\)"),
        (["a text"], "node 0 must be a NodeWithScore, got str: 'a text'"),
        (TextNode(text="a"), "nodes must be a list of NodeWithScore objects, got TextNode"),
        (None, "nodes must be a list of NodeWithScore objects, got NoneType"),
    ],
)
def test_what_is_no_list_of_nodes(tiny_pruner: AT2Pruner, nodes: Any, message: str, events: list[Any]) -> None:
    postprocessor = AT2Postprocessor(pruner=tiny_pruner)
    with pytest.raises(InputError, match=message):
        postprocessor.postprocess_nodes(nodes, query_str="Which?")
    with pytest.raises(InputError, match=message):
        asyncio.run(postprocessor.apostprocess_nodes(nodes, query_str="Which?"))
    assert events == []


def test_any_iterable_of_nodes(tiny_pruner: AT2Pruner, question: Question) -> None:
    postprocessor = AT2Postprocessor(pruner=tiny_pruner)
    nodes = as_nodes(question)
    expected = postprocessor.postprocess_nodes(nodes, query_str=question.text)
    assert postprocessor.postprocess_nodes((node for node in nodes), query_str=question.text) == expected
    assert postprocessor.prune(iter(nodes), question.text) == postprocessor.prune(nodes, question.text)
