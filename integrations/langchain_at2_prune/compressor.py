"""Define AT2DocumentCompressor, a LangChain document compressor, which runs between a retriever and the answer."""

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
from pydantic.json_schema import SkipJsonSchema

from at2_prune.passages import Passage
from at2_prune.pipeline.items import as_items
from at2_prune.pipeline.results import Pruned
from at2_prune.pipeline.settings import PruneSettings
from at2_prune.pruning.selection import K

from .drafts import QA_PROMPT, as_writer, writer_input

if TYPE_CHECKING:
    from at2_prune import Draft

__all__ = ["AT2DocumentCompressor", "as_documents"]


class AT2DocumentCompressor(PruneSettings, BaseDocumentCompressor):
    """Keep the documents that the attention of the scoring model points to.

    The first call that needs scores loads the scoring model, by default Gemma 3 270M. Kept documents are copies with
    the same id and metadata. The metadata of a copy also has two scores. `relevance_score` is the probability that the
    document is evidence. `raw_score` is the method's score. If the method gives no probabilities, `relevance_score` is
    the method's score, and there is no `raw_score`. A single document is not scored, unless a setting such as
    `min_score` needs probabilities.

    Example:
        >>> from langchain_core.documents import Document
        >>> compressor = AT2DocumentCompressor(enabled=False)
        >>> documents = [Document("Dinant lies on the Meuse."), Document("Ghent is a city.")]
        >>> compressor.compress_documents(documents, "Which river?") == documents
        True
    """

    draft_llm: SkipJsonSchema[Runnable | None] = Field(default=None, exclude=True)
    """The model that writes the drafts: a chat model, an LLM, or a chain that takes `question` and `context`. The
    scoring model then reads each draft in one forward pass. With None, the reader writes the drafts; see the setting
    `reader`."""
    draft_prompt: SkipJsonSchema[BasePromptTemplate] = Field(default=QA_PROMPT, exclude=True)
    """The prompt for `draft_llm`, with `{context}` and `{question}`. The prompt is not used if `draft_llm` is a
    chain."""
    read: SkipJsonSchema[Callable[[Document], Passage] | None] = Field(default=None, exclude=True)
    """A function that turns a document into a passage. The default function reads `page_content`, the title and the
    retrieval score. The setting `granularity="sentence"` can drop sentences of a passage. The `page_content` of the
    returned copy is then the passage's kept sentences. If no sentence is dropped, `page_content` does not change."""
    score_key: str = "relevance_score"
    """The metadata key of the retrieval score. A higher score is better. Only some methods, for example `fusion`, read
    this score."""

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> Sequence[Document]:
        """Return copies of the documents to keep. With `enabled=False`, return `documents` unchanged."""
        if not self.enabled:
            return documents
        documents = as_documents(documents)
        return self.kept_documents(documents, self.prune(documents, query, callbacks))

    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> Sequence[Document]:
        """Do the same as `compress_documents`, but run the scoring model in a thread."""
        if not self.enabled:
            return documents
        documents = as_documents(documents)
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
        """Return the kept and the dropped documents, with the reasons for dropping.

        `print(compressor.prune(documents, query).explain())` shows this result.

        Args:
            documents: the retrieved documents.
            query: the question.
            callbacks: LangChain callbacks for the run of `draft_llm`.
            draft: a draft that was written from these documents. With None, `draft_llm` or the reader writes a draft if
                the method reads drafts.
            top_n: the number of documents (or sentences) to keep in this call. With None, the compressor's setting
                decides: `keep` or `max_tokens` if one of the two is set, else `top_n`.
        """
        documents, drafter = as_documents(documents), self.drafter if draft is None else None
        if drafter and (asked := self.draft_input(documents, query)):
            draft = drafter.invoke(asked, {"callbacks": callbacks})
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
        """Do the same as `prune`, but run the scoring model in a thread."""
        documents, drafter = as_documents(documents), self.drafter if draft is None else None
        if drafter and (asked := await run_in_executor(None, self.draft_input, documents, query)):
            draft = await drafter.ainvoke(asked, {"callbacks": callbacks})
        return await run_in_executor(None, self.step.run, query, self.passages(documents), draft, top_n)

    @property
    def drafter(self) -> Runnable[dict[str, Any], str] | None:
        """A Runnable that takes the result of `draft_input` and returns a draft as text. None without a `draft_llm`."""
        return None if self.draft_llm is None else as_writer(self.draft_llm, self.draft_prompt)

    def draft_input(self, documents: Sequence[Document], query: str) -> dict[str, Any] | None:
        """Return the input for the model that writes the draft, or None if no draft is needed.

        Duplicates are left out, unless `drop_duplicates` is False. If there are at least two documents to choose from,
        this loads the scoring model, because the method decides whether a draft is needed.
        """
        passages = self.passages(documents)
        indices = self.step.to_draft(passages, offered=self.draft_llm is not None)
        if not indices:
            return None
        return writer_input(query, [documents[i] for i in indices], [passages[i] for i in indices])

    def passages(self, documents: Sequence[Document]) -> list[Passage]:
        """Turn documents into passages, which the scoring model reads."""
        return [(self.read or self._read)(document) for document in as_documents(documents)]

    def kept_documents(self, documents: Sequence[Document], pruned: Pruned) -> list[Document]:
        """Return copies of the documents that `pruned` keeps. The metadata of the copies holds their scores."""
        kept = []
        for item in pruned.kept:
            document = documents[item.index]
            metadata = dict(document.metadata)
            if item.score is not None:
                metadata["relevance_score"] = item.relevance
            if item.probability is not None:
                metadata["raw_score"] = item.score
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


def as_documents(documents: Any) -> list[Document]:
    """Return the documents of a list, a generator or another iterable as a list.

    Raises:
        InputError: `documents` is not iterable, or an item is not a `Document`. The message names the index of the
            item.
    """
    return as_items(documents, Document, "document", "wrap a text as Document(text)")
