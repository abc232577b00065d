"""Haystack, without a network: from documents through a retriever to the pruned documents and the answer.

python examples/minimal_haystack.py
AT2_PRUNE=off python examples/minimal_haystack.py      # without pruning
"""

from haystack import Document, Pipeline, component
from haystack.components.retrievers.in_memory import InMemoryBM25Retriever
from haystack.document_stores.in_memory import InMemoryDocumentStore

from at2_prune import AT2Pruner, load_questions, sample_questions_path
from haystack_at2_prune import AT2DocumentPruner

sample = load_questions(sample_questions_path())  # some passages that come with at2-prune; take your own
store = InMemoryDocumentStore()
store.write_documents(
    [Document(content=p.text, meta={"title": p.title}) for question in sample for p in question.passages]
)
pruner = AT2Pruner.from_pretrained()  # Gemma 3 270M scores, and answers below


@component
class Reader:
    """Answers from the documents. A prompt builder and your generator take its place."""

    @component.output_types(answer=str)
    def run(self, query: str, documents: list[Document]) -> dict[str, str]:
        passages = [{"title": d.meta["title"], "text": d.content} for d in documents]
        return {"answer": pruner.answer_from(query, passages)}


pipeline = Pipeline()
pipeline.add_component("retriever", InMemoryBM25Retriever(store, top_k=10))
pipeline.add_component("pruner", AT2DocumentPruner(pruner=pruner, top_n=3))
pipeline.add_component("reader", Reader())
pipeline.connect("retriever.documents", "pruner.documents")
pipeline.connect("pruner.documents", "reader.documents")

question = "The inventor of the saxophone was born in a town that stands on which river?"
inputs = {name: {"query": question} for name in ("retriever", "pruner", "reader")}
result = pipeline.run(inputs, include_outputs_from={"pruner"})
print(*(document.meta["title"] for document in result["pruner"]["documents"]), sep=", ")
print(result["reader"]["answer"])
