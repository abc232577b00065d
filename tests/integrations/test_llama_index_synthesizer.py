from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("llama_index.core")

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.response.schema import AsyncStreamingResponse, PydanticResponse, StreamingResponse
from llama_index.core.bridge.pydantic import BaseModel
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler
from llama_index.core.llms import CompletionResponse, CustomLLM, LLMMetadata
from llama_index.core.prompts import PromptTemplate
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.response_synthesizers import get_response_synthesizer
from llama_index.core.schema import ImageNode, NodeWithScore, QueryBundle, TextNode

from at2_prune import AT2Pruner, Question
from at2_prune.errors import InputError
from at2_prune.scorers import make_scorer
from llama_index.postprocessor.at2_prune import AT2Postprocessor, AT2Synthesizer


class Counting(CustomLLM):
    """Answers with the number of documents in its prompt, and records the prompts."""

    prompts: list[str]

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(context_window=100_000)

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        self.prompts.append(prompt)
        return CompletionResponse(text=f"from {prompt.count('title: ')} documents")

    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
        text = self.complete(prompt).text
        words = [word + " " for word in text.split()]
        return (CompletionResponse(text="".join(words[: i + 1]), delta=word) for i, word in enumerate(words))


class Fixed(BaseRetriever):
    def __init__(self, nodes: list[NodeWithScore]) -> None:
        super().__init__()
        self._nodes = nodes

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return self._nodes


@pytest.fixture
def nodes(question: Question) -> list[NodeWithScore]:
    return [
        NodeWithScore(node=TextNode(text=p.text, id_=f"node-{i}", metadata={"title": p.title}), score=0.5)
        for i, p in enumerate(question.passages)
    ]


def synthesizer(pruner: AT2Pruner, top_n: int = 3, **options: Any) -> AT2Synthesizer:
    return AT2Synthesizer(
        postprocessor=AT2Postprocessor(pruner=pruner, top_n=top_n), llm=Counting(prompts=[]), **options
    )


def test_draft_prune_answer(tiny_pruner: AT2Pruner, question: Question, nodes: list[NodeWithScore]) -> None:
    engine = RetrieverQueryEngine(Fixed(nodes), response_synthesizer=synthesizer(tiny_pruner))
    response = engine.query(question.text)
    scores = tiny_pruner.score(question.text, question.passages, "from 10 documents")
    best = sorted(sorted(range(10), key=lambda i: -scores[i])[:3])
    assert response.response == "from 3 documents"
    assert [node.node_id for node in response.source_nodes] == [f"node-{i}" for i in best]
    assert [node.score for node in response.source_nodes] == pytest.approx([scores[i] for i in best])
    details = response.metadata["at2_prune"]
    assert details["draft"] == "from 10 documents"
    assert details["kept"] == [f"node-{i}" for i in best]
    assert set(details["dropped"]) == {f"node-{i}" for i in range(10)} - set(details["kept"])
    assert details["scores"] == pytest.approx({f"node-{i}": score for i, score in enumerate(scores)})
    assert response.metadata[f"node-{best[0]}"] == nodes[best[0]].metadata
    assert {node.score for node in nodes} == {0.5}
    again = asyncio.run(engine.aquery(question.text))
    assert (again.response, again.metadata) == (response.response, response.metadata)
    assert again.source_nodes == response.source_nodes


def test_streaming(tiny_pruner: AT2Pruner, question: Question, nodes: list[NodeWithScore]) -> None:
    for top_n in (3, 10):
        streaming = synthesizer(tiny_pruner, top_n, streaming=True)
        response = streaming.synthesize(question.text, nodes)
        assert isinstance(response, StreamingResponse)
        assert "".join(response.response_gen).strip() == f"from {top_n} documents"
        assert len(response.source_nodes) == top_n
        assert response.metadata["at2_prune"]["draft"].strip() == "from 10 documents"

        async def collect(streaming: AT2Synthesizer = streaming) -> str:
            response = await streaming.asynthesize(question.text, nodes)
            assert isinstance(response, AsyncStreamingResponse)
            return "".join([text async for text in response.async_response_gen()])

        assert asyncio.run(collect()).strip() == f"from {top_n} documents"


def test_where_all_is_kept_the_draft_is_the_answer(
    tiny_pruner: AT2Pruner, question: Question, nodes: list[NodeWithScore]
) -> None:
    whole = synthesizer(tiny_pruner, top_n=10)
    response = whole.synthesize(question.text, nodes, additional_source_nodes=nodes[:1])
    assert (response.response, len(response.source_nodes)) == ("from 10 documents", 11)
    assert asyncio.run(whole.asynthesize(question.text, nodes)).response == "from 10 documents"
    assert len(whole._llm.prompts) == 2


def test_without_a_draft_where_the_method_reads_none(
    tiny_pruner: AT2Pruner, question: Question, nodes: list[NodeWithScore]
) -> None:
    bm25 = AT2Pruner(tiny_pruner.language_model, make_scorer("bm25"))
    one = synthesizer(bm25)
    response = one.synthesize(question.text, nodes)
    scores = bm25.score(question.text, question.passages)
    best = sorted(sorted(range(10), key=lambda i: -scores[i])[:3])
    assert response.response == "from 3 documents"
    assert [node.node_id for node in response.source_nodes] == [f"node-{i}" for i in best]
    assert response.metadata["at2_prune"]["draft"] is None
    assert len(one._llm.prompts) == 1
    assert asyncio.run(one.asynthesize(question.text, nodes)).source_nodes == response.source_nodes


def test_duplicates_are_left_out_without_a_draft(nodes: list[NodeWithScore]) -> None:
    again = NodeWithScore(node=TextNode(text=nodes[0].text, id_="again", metadata=dict(nodes[0].metadata)))
    twins = AT2Synthesizer(postprocessor=AT2Postprocessor(model="no/such"), llm=Counting(prompts=[]))
    response = twins.synthesize("Which?", [nodes[0], again])
    assert (response.response, [node.node_id for node in response.source_nodes]) == ("from 1 documents", ["node-0"])
    assert response.metadata["at2_prune"]["dropped"] == {"again": "repeats passage 0"}


@pytest.mark.parametrize("count", [0, 1])
def test_short_lists_take_no_draft(question: Question, nodes: list[NodeWithScore], count: int) -> None:
    short = AT2Synthesizer(postprocessor=AT2Postprocessor(model="no/such"), llm=Counting(prompts=[]))
    response = short.synthesize(question.text, nodes[:count])
    assert response.response == ("from 1 documents" if count else "Empty Response")
    assert len(short._llm.prompts) == count


def test_off(question: Question, nodes: list[NodeWithScore]) -> None:
    off = AT2Synthesizer(postprocessor=AT2Postprocessor(enabled=False, model="no/such"), llm=Counting(prompts=[]))
    for response in (off.synthesize(question.text, nodes), asyncio.run(off.asynthesize(question.text, nodes))):
        assert (response.response, response.source_nodes) == ("from 10 documents", nodes)
        assert "at2_prune" not in response.metadata
    assert len(off._llm.prompts) == 2


def test_any_synthesizer_and_its_prompts(
    tiny_pruner: AT2Pruner, question: Question, nodes: list[NodeWithScore]
) -> None:
    llm = Counting(prompts=[])
    inner = get_response_synthesizer(llm=llm, response_mode="tree_summarize")
    engine = RetrieverQueryEngine(
        Fixed(nodes), response_synthesizer=AT2Synthesizer(inner, AT2Postprocessor(pruner=tiny_pruner))
    )
    assert engine.query(question.text).response == "from 3 documents"
    prompt = PromptTemplate("{context_str} {query_str} !")
    engine.update_prompts({"response_synthesizer:summary_template": prompt})
    engine.query(question.text)
    assert llm.prompts[-1].endswith(f"{question.text} !")
    assert inner.get_prompts()["summary_template"] == prompt


def test_callbacks_see_two_syntheses_and_a_reranking(
    tiny_pruner: AT2Pruner, question: Question, nodes: list[NodeWithScore]
) -> None:
    debug = LlamaDebugHandler(print_trace_on_end=False)
    pruning = synthesizer(tiny_pruner)
    pruning.callback_manager = CallbackManager([debug])
    pruning.synthesize(question.text, nodes)
    assert len(debug.get_event_pairs(CBEventType.SYNTHESIZE)) == 2
    assert len(debug.get_event_pairs(CBEventType.RERANKING)) == 1


class Answer(BaseModel):
    river: str


class Structured(Counting):
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        self.prompts.append(prompt)
        return CompletionResponse(text='{"river": "Meuse"}')


def test_structured_answers(tiny_pruner: AT2Pruner, question: Question, nodes: list[NodeWithScore]) -> None:
    llm = Structured(prompts=[]).as_structured_llm(Answer)
    structured = AT2Synthesizer(postprocessor=AT2Postprocessor(pruner=tiny_pruner), llm=llm)
    response = structured.synthesize(question.text, nodes)
    assert isinstance(response, PydanticResponse)
    assert response.response == Answer(river="Meuse")
    assert response.metadata["at2_prune"]["draft"] == '{"river":"Meuse"}'


def test_what_nodes_it_takes(tiny_pruner: AT2Pruner, question: Question, nodes: list[NodeWithScore]) -> None:
    expected = synthesizer(tiny_pruner).synthesize(question.text, nodes)
    assert synthesizer(tiny_pruner).synthesize(question.text, iter(nodes)) == expected  # type: ignore[arg-type]
    with pytest.raises(InputError, match="node 0 must be a NodeWithScore, got TextNode"):
        synthesizer(tiny_pruner).synthesize(question.text, [node.node for node in nodes])  # type: ignore[misc]


def test_nodes_without_text(tiny_pruner: AT2Pruner, question: Question, nodes: list[NodeWithScore]) -> None:
    images = [NodeWithScore(node=ImageNode(image_path=f"{n}.png", id_=f"image-{n}")) for n in range(2)]
    response = synthesizer(tiny_pruner, top_n=10).synthesize(question.text, [images[0], *nodes, images[1]])
    assert [node.node_id for node in response.source_nodes] == ["image-0", *(f"node-{n}" for n in range(10)), "image-1"]
    assert response.response == "from 10 documents"
    response = synthesizer(tiny_pruner).synthesize(question.text, [images[0], *nodes, images[1]])
    assert len(response.source_nodes) == 5
    assert set(response.metadata["at2_prune"]["scores"]) == {f"node-{n}" for n in range(10)}
