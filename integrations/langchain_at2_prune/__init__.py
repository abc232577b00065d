"""at2-prune for LangChain: keep the retrieved documents that a model's attention points to.

    from langchain_at2_prune import AT2DocumentCompressor

    compressor = AT2DocumentCompressor(top_n=3)

Use the compressor wherever LangChain takes a document compressor, for example in `ContextualCompressionRetriever`.
`AT2PruneRetriever` wraps any retriever. `create_prune_chain` makes a chain that prunes the documents, and answers from
the kept documents. If the pruning method reads a draft, the chain first writes a draft.
"""

from __future__ import annotations

try:
    import langchain_core  # noqa: F401
except ModuleNotFoundError as error:
    from at2_prune.errors import MissingExtraError

    raise MissingExtraError("langchain-core", "langchain", "langchain_at2_prune") from error

from .chain import create_prune_chain
from .compressor import AT2DocumentCompressor
from .retriever import AT2PruneRetriever

__all__ = ["AT2DocumentCompressor", "AT2PruneRetriever", "create_prune_chain"]
