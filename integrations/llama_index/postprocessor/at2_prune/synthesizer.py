"""Define AT2Synthesizer, a LlamaIndex response synthesizer that drafts, prunes, and answers from the kept nodes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import Any

from llama_index.core.base.response.schema import (
    RESPONSE_TYPE,
    AsyncStreamingResponse,
    PydanticResponse,
    Response,
    StreamingResponse,
)
from llama_index.core.callbacks import CallbackManager
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.llms import LLM
from llama_index.core.prompts.mixin import PromptDictType
from llama_index.core.response_synthesizers import BaseSynthesizer, get_response_synthesizer
from llama_index.core.schema import NodeWithScore, QueryBundle, QueryType
from llama_index.core.types import RESPONSE_TEXT_TYPE

from at2_prune.pipeline.results import Pruned

from .base import AT2Postprocessor, as_nodes

__all__ = ["AT2Synthesizer"]

dispatcher = get_dispatcher(__name__)

KEY = "at2_prune"
"""The key in a response's metadata that holds the details of pruning."""


class AT2Synthesizer(BaseSynthesizer):
    """Write a draft from all nodes with another synthesizer, prune the nodes, and answer from the kept nodes.

    The `source_nodes` of the response are the kept nodes. The `metadata["at2_prune"]` of the response holds four keys:
    `draft` (the text), `kept` (the ids of the kept nodes), `dropped` (the reasons for dropping) and `scores`. `dropped`
    and `scores` are dictionaries with node ids as keys.

    If every node is kept whole and in the same order, the draft is the answer. If the method reads no draft, no draft
    is written. If pruning is off, or if there is at most one node, the response of the other synthesizer is returned
    unchanged.

    Args:
        synthesizer: the other synthesizer, which writes the draft and the answer. The default is
            `get_response_synthesizer(llm=llm, **options)`.
        postprocessor: the postprocessor that selects the nodes. The default is `AT2Postprocessor()`.
        llm: the LLM of the default synthesizer.
        options: other arguments of `get_response_synthesizer`, such as `text_qa_template` or `streaming`.

    Example:
        >>> postprocessor = AT2Postprocessor(method="at2", top_n=3)  # doctest: +SKIP
        >>> synthesizer = AT2Synthesizer(postprocessor=postprocessor, llm=llm)  # doctest: +SKIP
        >>> query_engine = RetrieverQueryEngine(retriever, response_synthesizer=synthesizer)  # doctest: +SKIP
        >>> query_engine.query(question).metadata["at2_prune"]["draft"]  # doctest: +SKIP
    """

    def __init__(
        self,
        synthesizer: BaseSynthesizer | None = None,
        postprocessor: AT2Postprocessor | None = None,
        *,
        llm: LLM | None = None,
        **options: Any,
    ) -> None:
        self._inner = synthesizer or get_response_synthesizer(llm=llm, **options)
        self._postprocessor = postprocessor or AT2Postprocessor()
        super().__init__(
            llm=self._inner._llm, callback_manager=self._inner.callback_manager, streaming=self._inner._streaming
        )
        self._postprocessor.callback_manager = self._inner.callback_manager

    @dispatcher.span
    def synthesize(
        self,
        query: QueryType,
        nodes: list[NodeWithScore],
        additional_source_nodes: Sequence[NodeWithScore] | None = None,
        **response_kwargs: Any,
    ) -> RESPONSE_TYPE:
        """Write a draft, prune the nodes, and answer from the kept nodes.

        Args:
            query: the question.
            nodes: the retrieved nodes.
            additional_source_nodes: further nodes that the response lists as sources. These nodes are not pruned.
            response_kwargs: other arguments of the synthesizer that writes the draft and the answer.
        """
        nodes = as_nodes(nodes) if self._postprocessor.enabled else nodes
        if self._returns_all(nodes):
            return self._inner.synthesize(query, nodes, additional_source_nodes, **response_kwargs)
        read = self._postprocessor.to_draft_from(nodes)
        first = self._inner.synthesize(query, read, **response_kwargs) if read else None
        draft = first.get_response() if isinstance(first, StreamingResponse) else first
        question = _question(query)
        with self._postprocessor.events(nodes, question) as done:
            pruned = self._postprocessor.prune(nodes, question, draft=_text(draft))
            kept = done(pruned)
        response = _draft_as_answer(first, pruned)
        if response is None:
            response = self._inner.synthesize(query, kept, additional_source_nodes, **response_kwargs)
        return _with_details(response, nodes, kept, additional_source_nodes, pruned)

    @dispatcher.span
    async def asynthesize(
        self,
        query: QueryType,
        nodes: list[NodeWithScore],
        additional_source_nodes: Sequence[NodeWithScore] | None = None,
        **response_kwargs: Any,
    ) -> RESPONSE_TYPE:
        """Do the same as `synthesize`, but run the scoring model in a thread."""
        nodes = as_nodes(nodes) if self._postprocessor.enabled else nodes
        if self._returns_all(nodes):
            return await self._inner.asynthesize(query, nodes, additional_source_nodes, **response_kwargs)
        read = await asyncio.to_thread(self._postprocessor.to_draft_from, nodes)
        first = await self._inner.asynthesize(query, read, **response_kwargs) if read else None
        draft = await first.get_response() if isinstance(first, AsyncStreamingResponse) else first
        question = _question(query)
        with self._postprocessor.events(nodes, question) as done:
            pruned = await self._postprocessor.aprune(nodes, question, draft=_text(draft))
            kept = done(pruned)
        response = _draft_as_answer(first, pruned)
        if response is None:
            response = await self._inner.asynthesize(query, kept, additional_source_nodes, **response_kwargs)
        return _with_details(response, nodes, kept, additional_source_nodes, pruned)

    def _returns_all(self, nodes: Sequence[NodeWithScore]) -> bool:
        """Return whether there is nothing to prune. The other synthesizer then answers from all nodes."""
        return not self._postprocessor.enabled or len(nodes) < 2

    def get_response(self, query_str: str, text_chunks: Sequence[str], **response_kwargs: Any) -> RESPONSE_TEXT_TYPE:
        """Return the response of the other synthesizer to these texts. Texts are not pruned; only nodes are pruned."""
        return self._inner.get_response(query_str, text_chunks, **response_kwargs)

    async def aget_response(
        self, query_str: str, text_chunks: Sequence[str], **response_kwargs: Any
    ) -> RESPONSE_TEXT_TYPE:
        """Do the same as `get_response`, asynchronously."""
        return await self._inner.aget_response(query_str, text_chunks, **response_kwargs)

    @property
    def callback_manager(self) -> CallbackManager:
        """The callback manager of the other synthesizer. The postprocessor uses the same callback manager."""
        return self._inner.callback_manager

    @callback_manager.setter
    def callback_manager(self, callback_manager: CallbackManager) -> None:
        self._inner.callback_manager = callback_manager
        self._postprocessor.callback_manager = callback_manager

    def _get_prompts(self) -> PromptDictType:
        return self._inner.get_prompts()

    def _update_prompts(self, prompts: PromptDictType) -> None:
        self._inner.update_prompts(prompts)


def _question(query: QueryType) -> str:
    return query.query_str if isinstance(query, QueryBundle) else query


def _text(draft: RESPONSE_TYPE | None) -> str | None:
    """Return the text of a finished response. The text of a structured response is JSON."""
    if draft is None:
        return None
    if isinstance(draft, PydanticResponse):
        draft = draft.get_response()
    return (draft.response if isinstance(draft, Response) else str(draft)) or ""


def _draft_as_answer(first: RESPONSE_TYPE | None, pruned: Pruned) -> RESPONSE_TYPE | None:
    """Return the response that holds the draft if every node is kept whole and in the same order, else None.

    Args:
        first: the response that holds the draft. A stream has been read already, so a new stream with the same text is
            returned.
        pruned: the result of pruning.
    """
    if first is None or not pruned.unchanged:
        return None
    if isinstance(first, StreamingResponse):
        return StreamingResponse(text for text in [pruned.draft or ""])
    if isinstance(first, AsyncStreamingResponse):
        return AsyncStreamingResponse(_stream(pruned.draft or ""))
    return first


async def _stream(text: str) -> AsyncGenerator[str, None]:
    yield text


def _with_details(
    response: RESPONSE_TYPE,
    nodes: Sequence[NodeWithScore],
    kept: Sequence[NodeWithScore],
    additional: Sequence[NodeWithScore] | None,
    pruned: Pruned,
) -> RESPONSE_TYPE:
    """Add the kept nodes and the details of pruning to the response."""
    ids = [node.node_id for node in nodes]
    details = {
        "draft": pruned.draft,
        "kept": [node.node_id for node in kept],
        "dropped": {ids[item.index]: item.reason for item in pruned.dropped},
        "scores": {node_id: score for node_id, score in zip(ids, pruned.scores, strict=True) if score is not None},
    }
    metadata = {node.node_id: node.metadata for node in kept}
    return replace(response, source_nodes=[*kept, *(additional or ())], metadata={**metadata, KEY: details})
