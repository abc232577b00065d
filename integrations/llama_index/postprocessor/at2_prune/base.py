"""Define AT2Postprocessor, a LlamaIndex node postprocessor, which runs between a retriever and the answer."""

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
from pydantic.json_schema import SkipJsonSchema

from at2_prune.errors import InputError
from at2_prune.passages import Passage
from at2_prune.pipeline.items import as_items
from at2_prune.pipeline.results import Pruned
from at2_prune.pipeline.settings import PruneSettings
from at2_prune.pruning.selection import as_ks

if TYPE_CHECKING:
    from at2_prune import Draft

__all__ = ["AT2Postprocessor"]

dispatcher = get_dispatcher(__name__)


class AT2Postprocessor(PruneSettings, BaseNodePostprocessor):
    """Keep the nodes that the attention of the scoring model points to.

    The first call that scores nodes loads the scoring model, by default Gemma 3 270M. The scoring model reads the same
    text as the LLM: the text of the node, with the metadata that the LLM sees. With `granularity="sentence"`, the
    scoring model reads only the title and the text.

    `NodeWithScore.score` holds the probability that the node is evidence. If the method gives no probabilities, it
    holds the method's score. `prune` returns both numbers. A single node is not scored and keeps its retrieval score,
    unless a setting such as `min_score` needs probabilities. Only some methods, for example `fusion`, read retrieval
    scores.

    Example:
        >>> from llama_index.core.schema import NodeWithScore, TextNode
        >>> texts = ["Dinant lies on the Meuse.", "Ghent is a city."]
        >>> nodes = [NodeWithScore(node=TextNode(text=text)) for text in texts]
        >>> AT2Postprocessor(enabled=False).postprocess_nodes(nodes, query_str="Which river?") == nodes
        True
    """

    draft_llm: SkipJsonSchema[LLM | None] = Field(default=None, exclude=True)
    """The LLM that writes the drafts. The scoring model then reads each draft in one forward pass. With None, the
    reader writes the drafts; see the setting `reader`."""
    draft_prompt: SkipJsonSchema[BasePromptTemplate] = Field(default=DEFAULT_TEXT_QA_PROMPT_SEL, exclude=True)
    """The prompt for `draft_llm`, with `{context_str}` and `{query_str}`."""

    @classmethod
    def class_name(cls) -> str:
        """Return the name that LlamaIndex stores with the settings."""
        return "AT2Postprocessor"

    def prune(self, nodes: Sequence[NodeWithScore], query: str, *, draft: str | Draft | None = None) -> Pruned:
        """Return the kept and the dropped nodes, with the reasons for dropping.

        `print(postprocessor.prune(nodes, query).explain())` shows this result.

        Args:
            nodes: the retrieved nodes.
            query: the question.
            draft: a draft that was written from these nodes. With None, `draft_llm` or the reader writes a draft if the
                method reads drafts.
        """
        nodes, drafter = as_nodes(nodes), self.draft_llm if draft is None else None
        if drafter is not None and (read := self.to_draft_from(nodes)):
            draft = drafter.predict(self.draft_prompt, **_variables(read, query))
        return self.step.run(query, self.passages(nodes), draft)

    async def aprune(self, nodes: Sequence[NodeWithScore], query: str, *, draft: str | Draft | None = None) -> Pruned:
        """Do the same as `prune`, but run the scoring model in a thread."""
        nodes, drafter = as_nodes(nodes), self.draft_llm if draft is None else None
        if drafter is not None and (read := await asyncio.to_thread(self.to_draft_from, nodes)):
            draft = await drafter.apredict(self.draft_prompt, **_variables(read, query))
        return await asyncio.to_thread(self.step.run, query, self.passages(nodes), draft)

    def to_draft_from(self, nodes: Sequence[NodeWithScore]) -> list[NodeWithScore]:
        """Return the nodes to write a draft from. The list is empty if no draft is needed.

        Duplicates are left out, unless `drop_duplicates` is False. If there are at least two nodes to choose from, this
        loads the scoring model, because the method decides whether a draft is needed.
        """
        return [nodes[index] for index in self.step.to_draft(self.passages(nodes), self.draft_llm is not None)]

    def passages(self, nodes: Sequence[NodeWithScore]) -> list[Passage]:
        """Turn nodes into passages, which the scoring model reads.

        A node without text becomes a passage without text.
        """
        return [replace(self._read(node.node), score=node.score) for node in as_nodes(nodes)]

    def kept_nodes(self, nodes: Sequence[NodeWithScore], pruned: Pruned) -> list[NodeWithScore]:
        """Return the nodes that `pruned` keeps, with their scores."""
        kept = []
        for item in pruned.kept:
            node, score = nodes[item.index].node, nodes[item.index].score
            if item.text != pruned.passages[item.index].text:
                node = node.model_copy()
                node.set_content(item.text)
            kept.append(NodeWithScore(node=node, score=score if item.relevance is None else item.relevance))
        return kept

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        nodes = as_nodes(nodes) if self.enabled else nodes
        query = self._question(nodes, query_bundle)
        if query is None:
            return nodes
        with self.events(nodes, query) as done:
            return done(self.prune(nodes, query))

    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        nodes = as_nodes(nodes) if self.enabled else nodes
        query = self._question(nodes, query_bundle)
        if query is None:
            return nodes
        with self.events(nodes, query) as done:
            return done(await self.aprune(nodes, query))

    def _question(self, nodes: Sequence[NodeWithScore], query_bundle: QueryBundle | None) -> str | None:
        """Return the question for which nodes are pruned, or None if all nodes are to be returned unchanged."""
        if not self.enabled:
            return None
        if query_bundle is None:
            raise InputError("AT2Postprocessor needs the question: pass query_bundle or query_str")
        return query_bundle.query_str if nodes else None

    @contextmanager
    def events(self, nodes: list[NodeWithScore], query: str) -> Iterator[Callable[[Pruned], list[NodeWithScore]]]:
        """Send the events that LlamaIndex expects from a reranker, to LlamaIndex's dispatcher and to the callbacks.

        Yields:
            A function that takes the result of pruning, sends the closing events, and returns the kept nodes.
        """
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

            def done(pruned: Pruned) -> list[NodeWithScore]:
                kept = self.kept_nodes(nodes, pruned)
                event.on_end(payload={EventPayload.NODES: kept})
                dispatcher.event(ReRankEndEvent(nodes=kept))
                return kept

            yield done

    def _read(self, node: BaseNode) -> Passage:
        key = self.title_key
        title = node.metadata.get(key) if key and key not in node.excluded_llm_metadata_keys else None
        if not (isinstance(title, str) and title):
            title = None
        text = node.get_content(MetadataMode.NONE)
        # A node without text, such as an image, becomes a passage without text. Its metadata is not read as text.
        if self.granularity == "sentence" or not text.strip():
            return Passage(text, title=title)
        if title is not None:  # the prompt shows the title before the text, so the metadata must not repeat the title
            hidden = [*node.excluded_llm_metadata_keys, key]
            node = node.model_copy(update={"excluded_llm_metadata_keys": hidden})
        return Passage(node.get_content(MetadataMode.LLM), title=title)


def _variables(nodes: Sequence[NodeWithScore], query: str) -> dict[str, str]:
    """Return the values of the variables in `draft_prompt`."""
    context = "\n\n".join(node.get_content(MetadataMode.LLM) for node in nodes)
    return {"context_str": context, "query_str": query}


def as_nodes(nodes: Any) -> list[NodeWithScore]:
    """Return the nodes of a list, a generator or another iterable as a list.

    Raises:
        InputError: `nodes` is not iterable, or an item is not a `NodeWithScore`. The message names the index of the
            item.
    """
    return as_items(nodes, NodeWithScore, "node", "wrap a node as NodeWithScore(node=node)", single=(BaseNode,))
