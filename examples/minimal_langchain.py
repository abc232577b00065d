"""LangChain, without a network: from documents through a retriever to the pruned documents and the answer.

python examples/minimal_langchain.py
AT2_PRUNE=off python examples/minimal_langchain.py      # without pruning
"""

import math
import re
import zlib
from collections import Counter

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.runnables import RunnablePassthrough
from langchain_core.vectorstores import InMemoryVectorStore

from at2_prune import AT2Pruner, load_questions, sample_questions_path
from langchain_at2_prune import AT2PruneRetriever

sample = load_questions(sample_questions_path())  # some passages that come with at2-prune; take your own
documents = [Document(p.text, metadata={"title": p.title}) for question in sample for p in question.passages]


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


seen = Counter(word for d in documents for word in set(words(d.page_content)))


class Words(Embeddings):
    """The TF-IDF of hashed words. Your embedding model takes its place."""

    def embed_query(self, text: str) -> list[float]:
        vector = [0.0] * 1024
        for word in words(text):
            vector[zlib.crc32(word.encode()) % 1024] += math.log(len(documents) / seen.get(word, len(documents)))
        return vector

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]


store = InMemoryVectorStore(Words())
store.add_documents(documents)
pruner = AT2Pruner.from_pretrained()  # Gemma 3 270M scores, and answers below
retriever = AT2PruneRetriever(base_retriever=store.as_retriever(search_kwargs={"k": 10}), pruner=pruner, top_n=3)


def answer(state: dict) -> str:
    """Answer from the documents. A prompt and your chat model take its place: prompt | model | StrOutputParser()."""
    passages = [{"title": d.metadata["title"], "text": d.page_content} for d in state["documents"]]
    return pruner.answer_from(state["question"], passages)


chain = {"documents": retriever, "question": RunnablePassthrough()} | RunnablePassthrough.assign(answer=answer)
result = chain.invoke("The inventor of the saxophone was born in a town that stands on which river?")
print(*(document.metadata["title"] for document in result["documents"]), sep=", ")
print(result["answer"])
