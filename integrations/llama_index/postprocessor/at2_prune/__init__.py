"""at2-prune for LlamaIndex: keep the retrieved nodes that a model's attention points to.

    from llama_index.postprocessor.at2_prune import AT2Postprocessor

    query_engine = index.as_query_engine(similarity_top_k=10, node_postprocessors=[AT2Postprocessor(top_n=3)])

`AT2Synthesizer` lets the LLM of the query engine write a draft, prunes the nodes, and lets the LLM answer from the kept
nodes.
"""

from __future__ import annotations

try:
    import llama_index.core  # noqa: F401
except ModuleNotFoundError as error:
    from at2_prune.errors import MissingExtraError

    raise MissingExtraError("llama-index-core", "llama-index", "llama_index.postprocessor.at2_prune") from error

from .base import AT2Postprocessor
from .synthesizer import AT2Synthesizer

__all__ = ["AT2Postprocessor", "AT2Synthesizer"]
