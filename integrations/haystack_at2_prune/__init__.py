"""at2-prune for Haystack: keep the retrieved documents that a model's attention points to.

    from haystack_at2_prune import AT2DocumentPruner

    pipeline.add_component("pruner", AT2DocumentPruner(top_n=3))
    pipeline.connect("retriever.documents", "pruner.documents")

Use the component instead of a ranker, between a retriever and a prompt builder. To load a stored pipeline that has this
component, allow this module: `Pipeline.loads(text, allowed_modules=["haystack_at2_prune"])`.
"""

from __future__ import annotations

try:
    import haystack  # noqa: F401
except ModuleNotFoundError as error:
    from at2_prune.errors import MissingExtraError

    raise MissingExtraError("haystack-ai", "haystack", "haystack_at2_prune") from error

from .pruner import AT2DocumentPruner

__all__ = ["AT2DocumentPruner"]
