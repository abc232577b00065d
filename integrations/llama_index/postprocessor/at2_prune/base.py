"""AT2Postprocessor: LlamaIndex's place for what happens between a retriever and the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llama_index.core.bridge.pydantic import Field
from llama_index.core.callbacks import CBEventType, EventPayload
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.llms import LLM
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.prompts import BasePromptTemplate
from llama_index.core.prompts.default_prompt_selectors import DEFAULT_TEXT_QA_PROMPT_SEL
from llama_index.core.schema import BaseNode, MetadataMode, NodeWithScore, QueryBundle

from at2_prune.errors import InputError
from at2_prune.passages import Passage
from at2_prune.pipeline.results import Pruned
from at2_prune.pipeline.settings import PruneSettings
from at2_prune.pruning.selection import as_ks

if TYPE_CHECKING:
    from at2_prune import Draft

__all__ = ["AT2Postprocessor"]

dispatcher = get_dispatcher(__name__)


class AT2Postprocessor(PruneSettings, BaseNodePostprocessor):
    """Keeps the nodes that the scoring model's attention says matter: to the question, or to a draft (`at2`).

    The first call loads the scoring model, Gemma 3 270M unless another is named. It reads what the LLM will be sent,
    metadata included; with `granularity="sentence"` title and text only. Scores are in `NodeWithScore.score` and
    nowhere else; a single node keeps its retriever's, as it takes no model to choose it. The method `fusion` adds the
    retriever's scores to its own.

    Example:
        >>> from llama_index.core.schema import NodeWithScore, TextNode
        >>> texts = ["Dinant lies on the Meuse.", "Ghent is a city."]
        >>> nodes = [NodeWithScore(node=TextNode(text=text)) for text in texts]
        >>> AT2Postprocessor(enabled=False).postprocess_nodes(nodes, query_str="Which river?") == nodes
        True
    """

    draft_llm: LLM | None = Field(default=None, exclude=True)
    """Writes the drafts, and the scoring model only reads them, in one forward pass; without one that model drafts."""
    draft_prompt: BasePromptTemplate = Field(default=DEFAULT_TEXT_QA_PROMPT_SEL, exclude=True)
    """What that LLM is asked, with `{context_str}` and `{query_str}`."""

    @classmethod
    def class_name(cls) -> str:
        return "AT2Postprocessor"

    def prune(self, nodes: Sequence[NodeWithScore], query: str, *, draft: str | Draft | None = None) -> Pruned:
        """What is kept, what is dropped and why; `print(postprocessor.prune(nodes, query).explain())` shows it.

        Args:
            nodes: what was retrieved.
            query: the question.
            draft: written from these nodes already; else `draft_llm` writes it, or the scoring model.
        """
        if draft is None and self.draft_llm is not None and (read := self.to_draft_from(nodes)):
            draft = self.draft_llm.predict(self.draft_prompt, context_str=_context(read), query_str=query)
        return self.step.run(query, self.passages(nodes), draft)

    async def aprune(self, nodes: Sequence[NodeWithScore], query: str, *, draft: str | Draft | None = None) -> Pruned:
        """As `prune`; the scoring model runs in a thread."""
        if (
            draft is None
            and self.draft_llm is not None
            and (read := await asyncio.to_thread(self.to_draft_from, nodes))
        ):
            draft = await self.draft_llm.apredict(self.draft_prompt, context_str=_context(read), query_str=query)
        return await asyncio.to_thread(self.step.run, query, self.passages(nodes), draft)

    def to_draft_from(self, nodes: Sequence[NodeWithScore]) -> list[NodeWithScore]:
        """The nodes that a draft is to be written from: each once; none if the choice takes no draft."""
        return [nodes[index] for index in self.step.to_draft(self.passages(nodes), self.draft_llm is not None)]

    def passages(self, nodes: Sequence[NodeWithScore]) -> list[Passage]:
        """The nodes as the scoring model gets them."""
        return [replace(self._read(node.node), score=node.score) for node in nodes]

    def kept_nodes(self, nodes: Sequence[NodeWithScore], pruned: Pruned) -> list[NodeWithScore]:
        """What `pruned` keeps of the nodes."""
        kept = []
        for item in pruned.kept:
            node, score = nodes[item.index].node, nodes[item.index].score
            if item.text != pruned.passages[item.index].text:
                node = node.model_copy()
                node.set_content(item.text)
            kept.append(NodeWithScore(node=node, score=score if item.score is None else item.score))
        return kept

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        if not self.enabled:
            return nodes
        query = _query(query_bundle)
        if not nodes:
            return []
        with self.events(nodes, query) as done:
            return done(self.kept_nodes(nodes, self.prune(nodes, query)))

    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        if not self.enabled:
            return nodes
        query = _query(query_bundle)
        if not nodes:
            return []
        with self.events(nodes, query) as done:
            return done(self.kept_nodes(nodes, await self.aprune(nodes, query)))

    @contextmanager
    def events(
        self, nodes: list[NodeWithScore], query: str
    ) -> Iterator[Callable[[list[NodeWithScore]], list[NodeWithScore]]]:
        """LlamaIndex's two kinds of events around a reranker; call what is yielded with the result."""
        model = self.step.model_name
        most = max(as_ks(self.top_n))
        dispatcher.event(ReRankStartEvent(query=query, nodes=nodes, top_n=most, model_name=model))
        payload: dict[str, Any] = {
            EventPayload.NODES: nodes,
            EventPayload.MODEL_NAME: model,
            EventPayload.QUERY_STR: query,
            EventPayload.TOP_K: most,
        }
        with self.callback_manager.event(CBEventType.RERANKING, payload=payload) as event:

            def done(kept: list[NodeWithScore]) -> list[NodeWithScore]:
                event.on_end(payload={EventPayload.NODES: kept})
                dispatcher.event(ReRankEndEvent(nodes=kept))
                return kept

            yield done

    def _read(self, node: BaseNode) -> Passage:
        key = self.title_key
        title = node.metadata.get(key) if key and key not in node.excluded_llm_metadata_keys else None
        if not (isinstance(title, str) and title):
            title = None
        if self.granularity == "sentence":
            return Passage(node.get_content(MetadataMode.NONE), title=title)
        if title is not None:  # it stands before the text already
            hidden = [*node.excluded_llm_metadata_keys, key]
            node = node.model_copy(update={"excluded_llm_metadata_keys": hidden})
        return Passage(node.get_content(MetadataMode.LLM), title=title)


def _query(query_bundle: QueryBundle | None) -> str:
    if query_bundle is None:
        raise InputError("AT2Postprocessor needs the question: pass query_bundle or query_str")
    return query_bundle.query_str


def _context(nodes: Sequence[NodeWithScore]) -> str:
    return "\n\n".join(node.get_content(MetadataMode.LLM) for node in nodes)
