"""A LangChain pipeline that needs no network: retrieve ten documents, prune them, and answer.

python examples/langchain_rag.py
AT2_PRUNE=off python examples/langchain_rag.py
python examples/langchain_rag.py --questions 50 --out runs/langchain      # measures F1 with pruning off and on
"""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import Any

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import LLM
from langchain_core.prompts import PromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from langchain_core.vectorstores import InMemoryVectorStore
from measure import Answer, Ask, main
from offline import BM25, PROMPT, RETRIEVED, Corpus, HashedWords, complete

from at2_prune import AT2Pruner, PruneConfig
from langchain_at2_prune import AT2PruneRetriever


class LocalLLM(LLM):
    """An LLM that uses the weights of the scoring model, so that memory holds only one model."""

    language_model: Any

    def _call(self, prompt: str, stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any) -> str:
        return complete(self.language_model, prompt)

    @property
    def _llm_type(self) -> str:
        return "local"


class BM25Retriever(BaseRetriever):
    """Retrieves with the keyword index of offline.py."""

    documents: list[Document]
    index: Any

    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        return [self.documents[i] for i, _ in self.index.search(query, RETRIEVED)]


class WordEmbeddings(Embeddings):
    """The hashed words of offline.py as a LangChain embedding."""

    def __init__(self, texts: list[str]) -> None:
        self.embed = HashedWords(texts)

    def embed_query(self, text: str) -> list[float]:
        return self.embed(text)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed(text) for text in texts]


def find(index: str, corpus: Corpus) -> BaseRetriever:
    """Make the retriever of a pipeline without pruning."""
    documents = [Document(p.text, id=p.id, metadata={"title": p.title}) for p in corpus.passages]
    if index == "bm25":
        return BM25Retriever(documents=documents, index=BM25(corpus.passages))
    store = InMemoryVectorStore(WordEmbeddings([p.text for p in corpus.passages]))
    store.add_documents(documents)
    return store.as_retriever(search_kwargs={"k": RETRIEVED})


def as_text(documents: list[Document]) -> str:
    """Format the documents for the prompt."""
    return "\n\n".join(f"{document.metadata['title']}: {document.page_content}" for document in documents)


def build(index: str, corpus: Corpus, pruner: AT2Pruner) -> Callable[[PruneConfig], Ask]:
    """Return a function that makes the pipeline for a config. Two such pipelines differ in their pruning only."""
    found = find(index, corpus)
    llm = LocalLLM(language_model=pruner.language_model)
    context = RunnableLambda(itemgetter("documents")) | as_text
    write = {"context": context, "question": itemgetter("question")} | PromptTemplate.from_template(PROMPT) | llm

    def pipeline(config: PruneConfig) -> Ask:
        retriever = AT2PruneRetriever.from_config(config, base_retriever=found, pruner=pruner)
        inputs = {"documents": retriever, "question": RunnablePassthrough()}
        chain = inputs | RunnablePassthrough.assign(answer=write)

        def ask(question: str) -> Answer:
            output = chain.invoke(question)
            return Answer(output["answer"], [document.id for document in output["documents"]])

        return ask

    return pipeline


if __name__ == "__main__":
    main("LangChain", build)
