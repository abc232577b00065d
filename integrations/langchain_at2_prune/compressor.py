"""AT2DocumentCompressor: LangChain's place for what happens between a retriever and the answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.prompts import BasePromptTemplate
from langchain_core.runnables import Runnable
from langchain_core.runnables.config import run_in_executor
from pydantic import Field

from at2_prune.passages import Passage
from at2_prune.pipeline.results import Pruned
from at2_prune.pipeline.settings import PruneSettings
from at2_prune.pruning.selection import K

from .drafts import QA_PROMPT, as_writer, writer_input

if TYPE_CHECKING:
    from at2_prune import Draft

__all__ = ["AT2DocumentCompressor"]


class AT2DocumentCompressor(PruneSettings, BaseDocumentCompressor):
    """Keeps the documents that the scoring model's attention says matter: to the question, or to a draft (`at2`).

    The first call loads the scoring model, Gemma 3 270M unless another is named. Kept documents are new ones with their
    id and metadata, and the score in `metadata["relevance_score"]`. A single document is handed on without a score: it
    takes no model to choose it.

    Example:
        >>> from langchain_core.documents import Document
        >>> compressor = AT2DocumentCompressor(enabled=False)
        >>> documents = [Document("Dinant lies on the Meuse."), Document("Ghent is a city.")]
        >>> compressor.compress_documents(documents, "Which river?") == documents
        True
    """

    draft_llm: Runnable | None = Field(default=None, exclude=True)
    """Writes the drafts: any chat model, or a chain that takes `question` and `context`. The scoring model only reads
    them, in one forward pass. Without one the scoring model drafts."""
    draft_prompt: BasePromptTemplate = Field(default=QA_PROMPT, exclude=True)
    """What a chat model is asked for a draft, with `{context}` and `{question}`."""
    read: Callable[[Document], Passage] | None = Field(default=None, exclude=True)
    """Reads a document, in place of its `page_content` and title; kept sentences are those of the passage's text."""
    score_key: str = "relevance_score"
    """Where documents hold their retriever's score, the higher the better; the method `fusion` adds it, others do not
    look at it."""

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> Sequence[Document]:
        """The documents to keep, as new documents; with `enabled=False` those that were given."""
        if not self.enabled:
            return documents
        return self.kept_documents(documents, self.prune(documents, query, callbacks))

    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> Sequence[Document]:
        """As `compress_documents`; the scoring model runs in a thread."""
        if not self.enabled:
            return documents
        return self.kept_documents(documents, await self.aprune(documents, query, callbacks))

    def prune(
        self,
        documents: Sequence[Document],
        query: str,
        callbacks: Callbacks | None = None,
        *,
        draft: str | Draft | None = None,
        top_n: K | None = None,
    ) -> Pruned:
        """What is kept, what is dropped and why; `print(compressor.prune(documents, query).explain())` shows it.

        Args:
            documents: what was retrieved.
            query: the question.
            callbacks: see the run of `draft_llm`.
            draft: written from these documents already; else `draft_llm` writes it, or the scoring model.
            top_n: instead of the compressor's.
        """
        if draft is None and self.draft_llm is not None and (asked := self.draft_input(documents, query)):
            draft = as_writer(self.draft_llm, self.draft_prompt).invoke(asked, {"callbacks": callbacks})
        return self.step.run(query, self.passages(documents), draft, top_n)

    async def aprune(
        self,
        documents: Sequence[Document],
        query: str,
        callbacks: Callbacks | None = None,
        *,
        draft: str | Draft | None = None,
        top_n: K | None = None,
    ) -> Pruned:
        """As `prune`; the scoring model runs in a thread."""
        if draft is None and self.draft_llm is not None:
            asked = await run_in_executor(None, self.draft_input, documents, query)
            if asked is not None:
                draft = await as_writer(self.draft_llm, self.draft_prompt).ainvoke(asked, {"callbacks": callbacks})
        return await run_in_executor(None, self.step.run, query, self.passages(documents), draft, top_n)

    def draft_input(self, documents: Sequence[Document], query: str) -> dict[str, Any] | None:
        """What a draft is to be written from: each document once. None if the choice takes no draft."""
        passages = self.passages(documents)
        indices = self.step.to_draft(passages, offered=self.draft_llm is not None)
        if not indices:
            return None
        return writer_input(query, [documents[i] for i in indices], [passages[i] for i in indices])

    def passages(self, documents: Sequence[Document]) -> list[Passage]:
        """The documents as the scoring model gets them."""
        return [(self.read or self._read)(document) for document in documents]

    def kept_documents(self, documents: Sequence[Document], pruned: Pruned) -> list[Document]:
        """What `pruned` keeps of the documents, as new documents."""
        kept = []
        for item in pruned.kept:
            document = documents[item.index]
            metadata = dict(document.metadata)
            if item.score is not None:
                metadata["relevance_score"] = item.score
            whole = item.text == pruned.passages[item.index].text
            content = document.page_content if whole else item.text
            kept.append(document.model_copy(update={"page_content": content, "metadata": metadata}))
        return kept

    def _read(self, document: Document) -> Passage:
        title = document.metadata.get(self.title_key) if self.title_key else None
        score = document.metadata.get(self.score_key)
        return Passage(
            document.page_content,
            title=title if isinstance(title, str) and title else None,
            score=float(score) if isinstance(score, Real) else None,
        )
