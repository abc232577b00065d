"""Define AT2PruneRetriever, a LangChain retriever that prunes the results of another retriever."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever, RetrieverLike
from pydantic import ConfigDict, Field, model_validator
from pydantic.json_schema import SkipJsonSchema

from at2_prune.errors import InputError
from at2_prune.pipeline.config import SETTINGS, PruneConfig
from at2_prune.pipeline.results import Pruned
from at2_prune.pipeline.settings import PlainErrors
from at2_prune.pipeline.sources import checked_values
from at2_prune.pruning.selection import K

from .compressor import AT2DocumentCompressor, as_documents

__all__ = ["AT2PruneRetriever"]


class AT2PruneRetriever(PlainErrors, BaseRetriever):
    """Retrieve with another retriever, and keep the documents that the scoring model's attention points to.

    The settings of a compressor, for example `method="at2"` or a `pruner`, can be given directly instead of
    `compressor`.

    LangChain's configurable fields and alternatives can turn pruning on and off at run time. With the retriever of the
    example, `retriever.invoke(question, {"configurable": {"prune": "off"}})` is the same as `base.invoke(question)`.

    Example:
        >>> retriever = AT2PruneRetriever(base_retriever=base, top_n=3)  # doctest: +SKIP
        >>> retriever = retriever.configurable_fields(top_n=ConfigurableField(id="top_n"))  # doctest: +SKIP
        >>> retriever = retriever.configurable_alternatives(  # doctest: +SKIP
        ...     ConfigurableField(id="prune"), default_key="on", off=base
        ... )
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    base_retriever: SkipJsonSchema[RetrieverLike]
    """The retriever that finds the documents."""
    compressor: AT2DocumentCompressor = Field(default_factory=AT2DocumentCompressor)
    """The compressor that selects the documents to keep."""
    top_n: Annotated[int, Field(ge=1, strict=True)] | Literal["auto"] | None = None
    """The number of documents to keep. With None, the compressor's `keep`, `max_tokens` or `top_n` decides.
    `invoke(question, top_n=2)` sets the number for one call."""

    if TYPE_CHECKING:  # a type checker must not refuse the settings of the compressor

        def __init__(self, **settings: Any) -> None: ...

    @model_validator(mode="before")
    @classmethod
    def _compressor_from_settings(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        if values.get("top_n") is not None:
            # Without this check, pydantic would report one problem for each type of the field.
            checked_values({"top_n": values["top_n"]}, SETTINGS)
        names = (AT2DocumentCompressor.model_fields.keys() - cls.model_fields.keys()) & values.keys()
        if not names:
            return values
        if "compressor" in values:
            raise InputError(
                f"{', '.join(sorted(names))} and a compressor were given: give these settings to the compressor, or "
                "give no compressor"
            )
        rest = {name: value for name, value in values.items() if name not in names}
        return {**rest, "compressor": AT2DocumentCompressor(**{name: values[name] for name in names})}

    @classmethod
    def _arguments(cls) -> list[str]:
        return list(dict.fromkeys([*cls.model_fields, *AT2DocumentCompressor.model_fields]))

    @classmethod
    def from_config(
        cls,
        config: PruneConfig | Mapping[str, Any] | str | os.PathLike[str] | None = None,
        *,
        base_retriever: RetrieverLike,
        **options: Any,
    ) -> AT2PruneRetriever:
        """Make a retriever from a config, which also turns pruning on and off.

        Args:
            config: see `AT2DocumentCompressor.from_config`.
            base_retriever: the retriever that finds the documents.
            options: fields of `AT2DocumentCompressor`. An option that is a setting overrides `config`.
        """
        return cls(base_retriever=base_retriever, compressor=AT2DocumentCompressor.from_config(config, **options))

    def prune(self, query: str, *, top_n: K | None = None) -> Pruned:
        """Retrieve documents, and return the kept and the dropped ones, with the reasons for dropping.

        `print(retriever.prune(query).explain())` shows this result.

        Args:
            query: the question.
            top_n: as in `AT2DocumentCompressor.prune`. With None, the retriever's `top_n` is used. If this is None too,
                the compressor's setting decides.
        """
        found = as_documents(self.base_retriever.invoke(query))
        return self.compressor.prune(found, query, top_n=self._how_many(top_n))

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, top_n: K | None = None
    ) -> list[Document]:
        found = self.base_retriever.invoke(query, {"callbacks": run_manager.get_child()})
        if not self.compressor.enabled:
            return found
        found = as_documents(found)
        pruned = self.compressor.prune(found, query, run_manager.get_child(), top_n=self._how_many(top_n))
        return self.compressor.kept_documents(found, pruned)

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, top_n: K | None = None
    ) -> list[Document]:
        found = await self.base_retriever.ainvoke(query, {"callbacks": run_manager.get_child()})
        if not self.compressor.enabled:
            return found
        found = as_documents(found)
        pruned = await self.compressor.aprune(found, query, run_manager.get_child(), top_n=self._how_many(top_n))
        return self.compressor.kept_documents(found, pruned)

    def _how_many(self, top_n: K | None) -> K | None:
        return self.top_n if top_n is None else top_n
