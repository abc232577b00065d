"""LlamaIndex, without a network: from documents through a retriever to the pruned nodes and the answer.

python examples/minimal_llama_index.py
AT2_PRUNE=off python examples/minimal_llama_index.py      # without pruning
"""

import math
import re
import zlib
from collections import Counter

from llama_index.core import VectorStoreIndex
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.schema import TextNode

from at2_prune import AT2Pruner, load_questions, sample_questions_path
from llama_index.postprocessor.at2_prune import AT2Postprocessor

sample = load_questions(sample_questions_path())  # some passages that come with at2-prune; take your own
nodes = [TextNode(text=p.text, metadata={"title": p.title}) for question in sample for p in question.passages]


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


seen = Counter(word for n in nodes for word in set(words(n.text)))


class Words(BaseEmbedding):
    """The TF-IDF of hashed words. Your embedding model takes its place."""

    def _get_text_embedding(self, text: str) -> list[float]:
        vector = [0.0] * 1024
        for word in words(text):
            vector[zlib.crc32(word.encode()) % 1024] += math.log(len(nodes) / seen.get(word, len(nodes)))
        return vector

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)


index = VectorStoreIndex(nodes, embed_model=Words())
retriever = index.as_retriever(similarity_top_k=10)
pruner = AT2Pruner.from_pretrained()  # Gemma 3 270M scores, and answers below
postprocessor = AT2Postprocessor(pruner=pruner, top_n=3)

# With your LLM: index.as_query_engine(similarity_top_k=10, node_postprocessors=[postprocessor]).query(question)
question = "The inventor of the saxophone was born in a town that stands on which river?"
kept = postprocessor.postprocess_nodes(retriever.retrieve(question), query_str=question)
answer = pruner.answer_from(question, [{"title": n.metadata["title"], "text": n.text} for n in kept])
print(*(node.metadata["title"] for node in kept), sep=", ")
print(answer)
