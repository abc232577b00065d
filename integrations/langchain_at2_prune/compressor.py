"""AT2DocumentCompressor: LangChain's place for what happens between a retriever and the answer."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.prompts import BasePromptTemplate
from langchain_core.runnables import Runnable
from langchain_core.runnables.config import run_in_executor
from pydantic import ConfigDict, Field, PrivateAttr, model_validator

from at2_prune.config import Method, Overflow, PruneConfig, Unit
from at2_prune.passages import Passage
from at2_prune.pipeline import Pruned, PruneStep
from at2_prune.selection import Order

from .drafts import QA_PROMPT, as_writer, writer_input

if TYPE_CHECKING:
    from at2_prune import Draft

__all__ = ["AT2DocumentCompressor"]


class AT2DocumentCompressor(BaseDocumentCompressor):
    """Keeps the documents that an answer drafted from all of them used.

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

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", protected_namespaces=())

    pruner: Any = Field(default=None, exclude=True)
    """An `AT2Pruner` that is loaded already; granularity, order and overflow are then its own if not given here."""
    draft_llm: Runnable | None = Field(default=None, exclude=True)
    """Writes the drafts: any chat model, or a chain that takes `question` and `context`. The scoring model only reads
    them, in one forward pass. Without one the scoring model drafts."""
    draft_prompt: BasePromptTemplate = Field(default=QA_PROMPT, exclude=True)
    """What a chat model is asked for a draft, with `{context}` and `{question}`."""
    title_key: str | None = "title"
    """Metadata key of a document's title, which is shown to the scoring model before the text."""
    read: Callable[[Document], Passage] | None = Field(default=None, exclude=True)
    """Reads a document, in place of its `page_content` and title; kept sentences are those of the passage's text."""

    # The fields of PruneConfig, see there.
    enabled: bool = PruneConfig.enabled
    method: Method = PruneConfig.method
    top_n: int = PruneConfig.top_n
    max_tokens: int | None = PruneConfig.max_tokens
    granularity: Unit = PruneConfig.granularity
    neighbors: int = PruneConfig.neighbors
    order: Order = PruneConfig.order
    min_documents: int = PruneConfig.min_documents
    drop_duplicates: bool = PruneConfig.drop_duplicates
    overflow: Overflow = PruneConfig.overflow
    model: str | None = PruneConfig.model
    coefficients: str | None = PruneConfig.coefficients
    device: str | None = PruneConfig.device
    dtype: str | None = PruneConfig.dtype
    max_new_tokens: int = PruneConfig.max_new_tokens

    _step: PruneStep = PrivateAttr()

    @model_validator(mode="before")
    @classmethod
    def _as_the_pruner(cls, values: Any) -> Any:
        pruner = values.get("pruner") if isinstance(values, dict) else None
        return values if pruner is None else {**PruneStep.options_of(pruner), **values}

    @model_validator(mode="after")
    def _start(self) -> AT2DocumentCompressor:
        self._step = PruneStep(PruneConfig.of(self), self.pruner)
        return self

    @classmethod
    def from_config(
        cls, config: PruneConfig | Mapping[str, Any] | str | os.PathLike[str] | None = None, **options: Any
    ) -> AT2DocumentCompressor:
        """A compressor that `config` sets up, and switches on and off.

        Args:
            config: as in `PruneConfig.load`: a ready one, what a file holds or the file's name, the environment on top;
                None for the environment alone.
            options: other fields of this class.
        """
        return cls(**{**PruneConfig.load(config).to_dict(), **options})

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
        top_n: int | None = None,
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
        top_n: int | None = None,
    ) -> Pruned:
        """As `prune`; the scoring model runs in a thread."""
        if draft is None and self.draft_llm is not None and (asked := self.draft_input(documents, query)):
            draft = await as_writer(self.draft_llm, self.draft_prompt).ainvoke(asked, {"callbacks": callbacks})
        return await run_in_executor(None, self.step.run, query, self.passages(documents), draft, top_n)

    def draft_input(self, documents: Sequence[Document], query: str) -> dict[str, Any] | None:
        """What a draft is to be written from: each document once. None if the choice takes no draft."""
        passages = self.passages(documents)
        indices = self.step.to_score(passages)
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

    @property
    def step(self) -> PruneStep:
        """What does the work, for the fields as they are now."""
        self._step = self._step.with_config(PruneConfig.of(self))
        return self._step

    def _read(self, document: Document) -> Passage:
        title = document.metadata.get(self.title_key) if self.title_key else None
        return Passage(document.page_content, title=title if isinstance(title, str) and title else None)
