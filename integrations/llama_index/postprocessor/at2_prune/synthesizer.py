"""AT2Synthesizer: the whole loop in a query engine, with its own LLM: draft, prune, answer again."""

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

from .base import AT2Postprocessor

__all__ = ["AT2Synthesizer"]

dispatcher = get_dispatcher(__name__)

KEY = "at2_prune"
"""Of what happened, in a response's metadata."""


class AT2Synthesizer(BaseSynthesizer):
    """Lets another synthesizer draft an answer from all nodes, and answer again from those the draft used.

    The response's `source_nodes` are the kept ones. Its `metadata["at2_prune"]` holds the `draft`, the ids `kept`, the
    reason why each other node was `dropped`, and the `scores`, all by node id. Where every node is kept in its place,
    the draft is the answer. There is no draft where the method reads none; where there is nothing to choose from or
    pruning is off, the other synthesizer's response is returned as it is.

    Args:
        synthesizer: writes draft and answer; by default `get_response_synthesizer` makes it.
        postprocessor: chooses; by default `AT2Postprocessor()`.
        llm: for the default synthesizer, like the options.
        options: of `get_response_synthesizer`: `text_qa_template`, `response_mode`, `streaming` …
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
        """Draft, prune, and answer again."""
        if not self._postprocessor.enabled or len(nodes) < 2:
            return self._inner.synthesize(query, nodes, additional_source_nodes, **response_kwargs)
        read = self._postprocessor.to_draft_from(nodes)
        draft = self._inner.synthesize(query, read, **response_kwargs) if read else None
        streamed = isinstance(draft, StreamingResponse)
        if isinstance(draft, StreamingResponse):
            draft = draft.get_response()
        with self._postprocessor.events(nodes, _question(query)) as done:
            pruned = self._postprocessor.prune(nodes, _question(query), draft=_text(draft))
            kept = done(self._postprocessor.kept_nodes(nodes, pruned))
        if draft is None or not pruned.unchanged:
            response = self._inner.synthesize(query, kept, additional_source_nodes, **response_kwargs)
        elif streamed:
            response = StreamingResponse(text for text in [pruned.draft or ""])
        else:
            response = draft
        return _with_story(response, nodes, kept, additional_source_nodes, pruned)

    @dispatcher.span
    async def asynthesize(
        self,
        query: QueryType,
        nodes: list[NodeWithScore],
        additional_source_nodes: Sequence[NodeWithScore] | None = None,
        **response_kwargs: Any,
    ) -> RESPONSE_TYPE:
        """As `synthesize`; the scoring model runs in a thread."""
        if not self._postprocessor.enabled or len(nodes) < 2:
            return await self._inner.asynthesize(query, nodes, additional_source_nodes, **response_kwargs)
        read = await asyncio.to_thread(self._postprocessor.to_draft_from, nodes)
        draft = await self._inner.asynthesize(query, read, **response_kwargs) if read else None
        streamed = isinstance(draft, AsyncStreamingResponse)
        if isinstance(draft, AsyncStreamingResponse):
            draft = await draft.get_response()
        with self._postprocessor.events(nodes, _question(query)) as done:
            pruned = await self._postprocessor.aprune(nodes, _question(query), draft=_text(draft))
            kept = done(self._postprocessor.kept_nodes(nodes, pruned))
        if draft is None or not pruned.unchanged:
            response = await self._inner.asynthesize(query, kept, additional_source_nodes, **response_kwargs)
        elif streamed:
            response = AsyncStreamingResponse(_stream(pruned.draft or ""))
        else:
            response = draft
        return _with_story(response, nodes, kept, additional_source_nodes, pruned)

    def get_response(self, query_str: str, text_chunks: Sequence[str], **response_kwargs: Any) -> RESPONSE_TEXT_TYPE:
        """The other synthesizer's: texts alone cannot be pruned into nodes."""
        return self._inner.get_response(query_str, text_chunks, **response_kwargs)

    async def aget_response(
        self, query_str: str, text_chunks: Sequence[str], **response_kwargs: Any
    ) -> RESPONSE_TEXT_TYPE:
        """The other synthesizer's, as `get_response`."""
        return await self._inner.aget_response(query_str, text_chunks, **response_kwargs)

    @property
    def callback_manager(self) -> CallbackManager:
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
    """What a finished response says; a structured one as JSON."""
    if draft is None:
        return None
    if isinstance(draft, PydanticResponse):
        draft = draft.get_response()
    return (draft.response if isinstance(draft, Response) else str(draft)) or ""


async def _stream(text: str) -> AsyncGenerator[str, None]:
    yield text


def _with_story(
    response: RESPONSE_TYPE,
    nodes: Sequence[NodeWithScore],
    kept: Sequence[NodeWithScore],
    additional: Sequence[NodeWithScore] | None,
    pruned: Pruned,
) -> RESPONSE_TYPE:
    """The response with its kept nodes and what happened."""
    ids = [node.node_id for node in nodes]
    story = {
        "draft": pruned.draft,
        "kept": [node.node_id for node in kept],
        "dropped": {ids[item.index]: item.reason for item in pruned.dropped},
        "scores": {node_id: score for node_id, score in zip(ids, pruned.scores, strict=True) if score is not None},
    }
    shown = {node.node_id: node.metadata for node in kept}
    return replace(response, source_nodes=[*kept, *(additional or ())], metadata={**shown, KEY: story})
