"""A LlamaIndex pipeline that needs no network: retrieve ten nodes, prune them, and answer.

python examples/llama_index_rag.py
AT2_PRUNE=off python examples/llama_index_rag.py
python examples/llama_index_rag.py --questions 50 --out runs/llama_index      # measures F1 with pruning off and on
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llama_index.core import VectorStoreIndex
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.llms import CompletionResponse, CompletionResponseGen, CustomLLM, LLMMetadata
from llama_index.core.prompts import PromptTemplate
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from measure import Answer, Ask, main
from offline import BM25, PROMPT, RETRIEVED, Corpus, HashedWords, complete

from at2_prune import AT2Pruner, PruneConfig
from llama_index.postprocessor.at2_prune import AT2Postprocessor


class LocalLLM(CustomLLM):
    """An LLM that uses the weights of the scoring model, so that memory holds only one model."""

    language_model: Any

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(context_window=self.language_model.context_length, num_output=48, model_name="local")

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        return CompletionResponse(text=complete(self.language_model, prompt))

    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        text = self.complete(prompt).text
        return (CompletionResponse(text=text, delta=text) for _ in range(1))


class BM25Retriever(BaseRetriever):
    """Retrieves with the keyword index of offline.py."""

    def __init__(self, nodes: list[TextNode], index: BM25) -> None:
        super().__init__()
        self.nodes, self.index = nodes, index

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        found = self.index.search(query_bundle.query_str, RETRIEVED)
        return [NodeWithScore(node=self.nodes[i], score=score) for i, score in found]


class WordEmbedding(BaseEmbedding):
    """The hashed words of offline.py as a LlamaIndex embedding."""

    embed: Any

    def _get_text_embedding(self, text: str) -> list[float]:
        return self.embed(text)

    def _get_query_embedding(self, query: str) -> list[float]:
        return self.embed(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self.embed(query)


def find(index: str, corpus: Corpus) -> BaseRetriever:
    """Make the retriever of a pipeline without pruning."""
    nodes = [
        TextNode(
            text=p.text,
            id_=p.id,
            metadata={"title": p.title},
            metadata_template="{value}",
            text_template="{metadata_str}: {content}",
            excluded_embed_metadata_keys=["title"],
        )
        for p in corpus.passages
    ]
    if index == "bm25":
        return BM25Retriever(nodes, BM25(corpus.passages))
    embedding = WordEmbedding(embed=HashedWords([p.text for p in corpus.passages]))
    return VectorStoreIndex(nodes, embed_model=embedding).as_retriever(similarity_top_k=RETRIEVED)


def build(index: str, corpus: Corpus, pruner: AT2Pruner) -> Callable[[PruneConfig], Ask]:
    """Return a function that makes the pipeline for a config. Two such pipelines differ in their pruning only."""
    found = find(index, corpus)

    def pipeline(config: PruneConfig) -> Ask:
        engine = RetrieverQueryEngine.from_args(
            found,
            llm=LocalLLM(language_model=pruner.language_model),
            node_postprocessors=[AT2Postprocessor.from_config(config, pruner=pruner)],
            text_qa_template=PromptTemplate(PROMPT.format(context="{context_str}", question="{query_str}")),
        )

        def ask(question: str) -> Answer:
            response = engine.query(question)
            return Answer(str(response), [node.node_id for node in response.source_nodes])

        return ask

    return pipeline


if __name__ == "__main__":
    main("LlamaIndex", build)
