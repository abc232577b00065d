"""A Haystack pipeline that needs no network: retrieve ten documents, prune them, and answer.

python examples/haystack_rag.py
AT2_PRUNE=off python examples/haystack_rag.py
python examples/haystack_rag.py --questions 50 --out runs/haystack      # measures F1 with pruning off and on
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from haystack import Document, Pipeline, component
from haystack.components.builders import PromptBuilder
from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever
from haystack.document_stores.in_memory import InMemoryDocumentStore
from measure import Answer, Ask, main
from offline import BM25, PROMPT, RETRIEVED, Corpus, HashedWords, complete

from at2_prune import AT2Pruner, PruneConfig
from haystack_at2_prune import AT2DocumentPruner

CONTEXT = (
    "{% for document in documents %}{{ document.meta.title }}: {{ document.content }}"
    "{% if not loop.last %}\n\n{% endif %}{% endfor %}"
)


@component
class LocalGenerator:
    """A generator that uses the weights of the scoring model, so that memory holds only one model."""

    def __init__(self, language_model: Any) -> None:
        self.language_model = language_model

    @component.output_types(replies=list[str])
    def run(self, prompt: str) -> dict[str, Any]:
        return {"replies": [complete(self.language_model, prompt)]}


@component
class BM25Retriever:
    """Retrieves with the keyword index of offline.py."""

    def __init__(self, documents: list[Document], index: BM25) -> None:
        self.documents, self.index = documents, index

    @component.output_types(documents=list[Document])
    def run(self, query: str) -> dict[str, Any]:
        return {"documents": [self.documents[i] for i, _ in self.index.search(query, RETRIEVED)]}


@component
class WordEmbedder:
    """The hashed words of offline.py as a text embedder."""

    def __init__(self, embed: HashedWords) -> None:
        self.embed = embed

    @component.output_types(embedding=list[float])
    def run(self, text: str) -> dict[str, Any]:
        return {"embedding": self.embed(text)}


def add_retriever(pipeline: Pipeline, index: str, corpus: Corpus) -> str:
    """Add the retriever of a pipeline without pruning, and return the input that takes the question."""
    documents = [Document(id=p.id, content=p.text, meta={"title": p.title}) for p in corpus.passages]
    if index == "bm25":
        pipeline.add_component("retriever", BM25Retriever(documents, BM25(corpus.passages)))
        return "retriever.query"
    embed = HashedWords([p.text for p in corpus.passages])
    documents = [replace(document, embedding=embed(document.content or "")) for document in documents]
    store = InMemoryDocumentStore(embedding_similarity_function="cosine")
    store.write_documents(documents)
    pipeline.add_component("embedder", WordEmbedder(embed))
    pipeline.add_component("retriever", InMemoryEmbeddingRetriever(store, top_k=RETRIEVED))
    pipeline.connect("embedder.embedding", "retriever.query_embedding")
    return "embedder.text"


def build(index: str, corpus: Corpus, pruner: AT2Pruner) -> Callable[[PruneConfig], Ask]:
    """Return a function that makes the pipeline for a config. Two such pipelines differ in their pruning only."""

    def pipeline(config: PruneConfig) -> Ask:
        rag = Pipeline()
        name, socket = add_retriever(rag, index, corpus).split(".")
        rag.add_component("pruner", AT2DocumentPruner.from_config(config, pruner=pruner))
        template = PROMPT.format(context=CONTEXT, question="{{ question }}")
        rag.add_component("prompt", PromptBuilder(template, required_variables=["documents", "question"]))
        rag.add_component("llm", LocalGenerator(pruner.language_model))
        rag.connect("retriever.documents", "pruner.documents")
        rag.connect("pruner.documents", "prompt.documents")
        rag.connect("prompt.prompt", "llm.prompt")

        def ask(question: str) -> Answer:
            inputs = {name: {socket: question}, "pruner": {"query": question}, "prompt": {"question": question}}
            output = rag.run(inputs, include_outputs_from={"pruner"})
            return Answer(output["llm"]["replies"][0], [document.id for document in output["pruner"]["documents"]])

        return ask

    return pipeline


if __name__ == "__main__":
    main("Haystack", build)
